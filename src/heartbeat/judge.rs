//! Whether a stretch of a thread's time was a stall: a pure function of the stretch, of what was observed of it and of the
//! budget.

use std::time::{Duration, Instant};

use crate::heartbeat::evidence::Observed;
use crate::heartbeat::judge::handover::{free_since, looked_for, may_begin_late};
use crate::heartbeat::judge::machine::{blame_machine, unobserved};
use crate::heartbeat::judge::one_poll_or_many::{Bounds, bounds};
use crate::heartbeat::stall::Stall;
use crate::heartbeat::stretch::Origin;
use crate::heartbeat::stretch::PollDoubt;
use crate::heartbeat::stretch::Stretch;
use crate::heartbeat::verdict::Why;

pub(super) mod busy_period;
mod handover;
mod machine;
mod one_poll_or_many;
#[cfg(any(test, deadbeat_record))]
pub(super) mod record;

/// The root of a multi-thread runtime is no worker: that it was away starves nobody, and its beats prove nothing.
pub(super) fn root_blocked((stretch, observed): (&Stretch, Observed)) -> Why {
    Why::RootBlocked { charged: stretch.away(), culprit: observed.culprit }
}

/// What is left of the stretches once the circumstances are weighed, with their culprits.
pub(super) fn stalls(found: &[Stretch], answers: Vec<Observed>, began: Instant, budget: Duration) -> Vec<Stall> {
    let answers = answers.into_iter().chain(std::iter::repeat_with(Observed::default));
    found.iter().zip(answers).filter_map(|(stretch, seen)| judge(stretch, seen, began, budget)).collect()
}

/// Whether a stretch is a stall of a watch that began at `began`, by what was observed of it. Pure: it asks no clock and
/// nothing of the system.
fn judge(stretch: &Stretch, seen: Observed, began: Instant, budget: Duration) -> Option<Stall> {
    #[cfg(deadbeat_record)]
    let observed = seen.clone();
    let stall = charge(stretch, seen, began, budget);
    #[cfg(deadbeat_record)]
    record::keep(&record::stretch_judged(stretch, &observed, began, budget, stall.as_ref()));
    stall
}

fn charge(stretch: &Stretch, seen: Observed, began: Instant, budget: Duration) -> Option<Stall> {
    let stall = Stall::new(stretch, began);
    let unexplained = stretch.split.unexplained();
    let mut stall = match &seen.machine {
        Some(machine) => blame_machine(stall, unexplained, budget, machine)?,
        None => unobserved(stall, unexplained, budget)?,
    };
    let (charged, late) = (stall.charged(), stretch.from + budget);
    let (free, workers) = (free_since(&seen.workers, stretch.to), &seen.workers);
    let briefly = looked_for(workers).is_some_and(|time| time < budget / 4);
    let of_workers = by_the_workers(free, late, briefly, || may_begin_late(workers, late));
    for finding in [by_the_tasks(bounds(stretch, &seen.tasks), budget), of_workers] {
        let why = match finding {
            Finding::NotAStall => return None,
            Finding::Stall => continue,
            Finding::Undecided => Why::Undecided { charged },
            Finding::HandedOver => Why::HandedOver { waited: budget },
        };
        stall.doubt.get_or_insert(why);
    }
    match stretch.origin {
        Origin::BusyPeriod(Some(PollDoubt::OneOrMany)) => drop(stall.doubt.get_or_insert(Why::Undecided { charged })),
        Origin::BusyPeriod(Some(PollDoubt::HandedOver)) => {
            stall.doubt.get_or_insert(Why::HandedOver { waited: charged });
        }
        Origin::BusyPeriod(None) | Origin::Poll | Origin::DriverTurns => {}
    }
    stall.culprit = seen.culprit.or_else(|| stall.culprit_by_the_clocks());
    Some(stall)
}

/// What its runtime's public numbers make of a stall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Finding {
    /// It was none.
    NotAStall,
    /// It may be none.
    Undecided,
    /// Nor may it if a thread that begins was to take the worker over.
    HandedOver,
    Stall,
}

fn by_the_tasks(bounds: Option<Bounds>, budget: Duration) -> Finding {
    match bounds {
        Some(bounds) if bounds.most <= budget => Finding::NotAStall,
        Some(bounds) if bounds.least <= budget => Finding::Undecided,
        _ => Finding::Stall,
    }
}

/// `free`: from when on no worker can have been in that poll. At `late` it had been for as long as it may. `briefly`: they
/// were looked at for so short a time that one may just have seemed to stand still.
fn by_the_workers(free: Option<Instant>, late: Instant, briefly: bool, begins_late: impl FnOnce() -> bool) -> Finding {
    match free {
        Some(free) if free <= late => Finding::NotAStall,
        // It may have blocked before it handed its worker over.
        Some(_) => Finding::Undecided,
        None if begins_late() => Finding::HandedOver,
        None if briefly => Finding::Undecided,
        None => Finding::Stall,
    }
}

#[cfg(test)]
mod tests;
