//! Whether a stretch of a thread's time was a stall: a pure function of the stretch, of what was observed of it and of the
//! budget.

use std::time::{Duration, Instant};

use super::boundaries::{Bounds, bounds};
use super::doubt::{unwitnessed, weigh};
use super::observer::Testimony;
use super::stall::{Stall, Stretch};
use super::takeover::{free_since, looked_for, may_begin_late};
use super::verdict::Why;

#[cfg(any(test, deadbeat_record))]
pub(super) mod record;

/// With no more of a wait for a CPU than what the observer saw leaves room for.
pub(super) fn capped(excused: &[Stretch], heard: &[Testimony]) -> impl Iterator<Item = Stretch> {
    let given = |(stretch, testimony): (&Stretch, &Testimony)| Stretch {
        split: stretch.split.given(testimony.blocked()),
        ..*stretch
    };
    excused.iter().zip(heard).map(given)
}

pub(super) fn too_long(stretch: &Stretch, budget: Duration) -> bool {
    stretch.away() > budget
}

/// The root of a multi-thread runtime is no worker: that it was away starves nobody, and its beats prove nothing.
pub(super) fn root_blocked((stretch, testimony): (&Stretch, Testimony)) -> Why {
    Why::RootBlocked { charged: stretch.away(), culprit: testimony.culprit }
}

/// What is left of the stretches once the circumstances are weighed, with their culprits.
pub(super) fn stalls(found: &[Stretch], testimonies: Vec<Testimony>, began: Instant, budget: Duration) -> Vec<Stall> {
    let testimonies = testimonies.into_iter().chain(std::iter::repeat_with(Testimony::default));
    found.iter().zip(testimonies).filter_map(|(stretch, seen)| judge(stretch, seen, began, budget)).collect()
}

/// Whether a stretch is a stall of a watch that began at `began`, by what was observed of it. Pure: it asks no clock and
/// nothing of the system.
fn judge(stretch: &Stretch, seen: Testimony, began: Instant, budget: Duration) -> Option<Stall> {
    #[cfg(deadbeat_record)]
    let observed = seen.clone();
    let stall = charge(stretch, seen, began, budget);
    #[cfg(deadbeat_record)]
    record::keep(&record::stretch_judged(stretch, &observed, began, budget, stall.as_ref()));
    stall
}

fn charge(stretch: &Stretch, seen: Testimony, began: Instant, budget: Duration) -> Option<Stall> {
    let stall = Stall::new(stretch, began);
    let unexplained = stretch.split.unexplained();
    let mut stall = match &seen.circumstances {
        Some(circumstances) => weigh(stall, unexplained, budget, circumstances)?,
        None => unwitnessed(stall, unexplained, budget)?,
    };
    let (charged, late) = (stall.charged(), stretch.from + budget);
    let (free, workers) = (free_since(&seen.workers, stretch.to), &seen.workers);
    let briefly = looked_for(workers).is_some_and(|time| time < budget / 4);
    let of_workers = by_the_workers(free, late, briefly, || may_begin_late(workers, late));
    for finding in [by_the_tasks(bounds(stretch, &seen.tasks), budget), of_workers] {
        let why = match finding {
            Finding::Acquitted => return None,
            Finding::Upheld => continue,
            Finding::Undecided => Why::Undecided { charged },
            Finding::HandedOver => Why::HandedOver { waited: budget },
        };
        stall.doubt.get_or_insert(why);
    }
    stall.culprit = seen.culprit.or_else(|| stall.culprit_by_the_clocks());
    Some(stall)
}

/// What its runtime's public numbers make of a stall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Finding {
    /// It was none.
    Acquitted,
    /// It may be none.
    Undecided,
    /// Nor may it if a thread that begins was to take the worker over.
    HandedOver,
    Upheld,
}

fn by_the_tasks(bounds: Option<Bounds>, budget: Duration) -> Finding {
    match bounds {
        Some(bounds) if bounds.most <= budget => Finding::Acquitted,
        Some(bounds) if bounds.least <= budget => Finding::Undecided,
        _ => Finding::Upheld,
    }
}

/// `free`: from when on no worker can have been in that poll. At `late` it had been for as long as it may. `briefly`: they
/// were looked at for so short a time that one may just have seemed to stand still.
fn by_the_workers(free: Option<Instant>, late: Instant, briefly: bool, begins_late: impl FnOnce() -> bool) -> Finding {
    match free {
        Some(free) if free <= late => Finding::Acquitted,
        // It may have blocked before it handed its worker over.
        Some(_) => Finding::Undecided,
        None if begins_late() => Finding::HandedOver,
        None if briefly => Finding::Undecided,
        None => Finding::Upheld,
    }
}

#[cfg(test)]
mod tests;
