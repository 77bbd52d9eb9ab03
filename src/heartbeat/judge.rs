//! Whether a stretch of a thread's time was a stall: a pure function of the stretch, of what was observed of it and of
//! the budget. No clock is read here and no system call made, so each case can be written down and judged again.
//!
//! A stretch begins when a worker leaves its scheduler and ends when it is back: one poll where each is seen, else what
//! lies between two turns of the driver, or a busy period of a worker (`Origin`). Only those that lasted longer than
//! the budget come here, and a *look* is one sample that the observer, a thread beside the runtime, took of the worker
//! or of the runtime's metrics meanwhile.
//!
//! By the kernel's own account a stretch divides: wall = on-CPU + run-queue wait + blocked. On-CPU and blocked time are
//! what the code did, and they are charged. The run-queue wait is time in which the thread was ready and got no CPU:
//! that is the machine's doing and never charged. So a machine that has no CPU to spare cannot turn short code into a
//! stall, and it excuses no long one: a sleep of 120 ms is 120 ms blocked, however long the thread then waits for a
//! CPU, and above a budget of 50 ms it is a stall.
//!
//! The steps:
//!
//! 1. *Cap*, before this is called ([`Stretch::capped_at`]). Since Linux 6.12 the kernel books some sleeps as run-queue
//!    waits. A thread that was seen blocked for `b` cannot have waited for a CPU for more than `wall - b`; the rest is
//!    blocked.
//! 2. *Charge and doubt* ([`machine`]): on-CPU and blocked, against the budget; within it there is no stall, and `None`
//!    is returned. Blocked time that the machine may have caused (a stopped process, stolen time, a page fault, a lock
//!    whose holder had no CPU) makes a doubt if the charge would be within the budget without it. A stretch that the
//!    observer did not look at is a doubt too.
//! 3. *Divide* ([`one_poll_or_many`], [`handover`]): many short polls are no stall, and nor is a poll whose worker
//!    another thread took over before the budget was used up. The polls of a busy period were told apart before this is
//!    called ([`busy_period`]).
//! 4. *Name* the culprit: the system call that the thread was in at most of the looks.
//!
//! A stall without a doubt is certain. Of several doubts the first is kept.

use std::time::{Duration, Instant};

use crate::heartbeat::evidence::Observed;
use crate::heartbeat::judge::handover::{free_since, looked_for, may_begin_late};
use crate::heartbeat::judge::machine::{blame_machine, unobserved};
use crate::heartbeat::judge::one_poll_or_many::{Bounds, bounds};
use crate::heartbeat::stall::Stall;
use crate::heartbeat::stretch::{Origin, PollDoubt, Stretch};
use crate::heartbeat::verdict::Why;

pub(super) mod busy_period;
mod handover;
mod machine;
mod one_poll_or_many;
#[cfg(any(test, deadbeat_record))]
pub(super) mod record;

/// Why a watch proves nothing whose future is the root of a multi-thread runtime and blocked there: the root's thread
/// is no worker, so no worker was starved, and nothing is known of the workers.
pub(super) fn root_blocked((stretch, observed): (&Stretch, Observed)) -> Why {
    Why::RootBlocked { charged: stretch.away(), culprit: observed.culprit }
}

/// Those of the stretches that are stalls. `answers` are in their order; a stretch without one was not observed.
pub(super) fn stalls(found: &[Stretch], answers: Vec<Observed>, began: Instant, budget: Duration) -> Vec<Stall> {
    let answers = answers.into_iter().chain(std::iter::repeat_with(Observed::default));
    found.iter().zip(answers).filter_map(|(stretch, seen)| judge(stretch, seen, began, budget)).collect()
}

/// The stall that a stretch is, if it is one, of a watch that began at `began`.
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
    // The polls of a stretch between two turns of the driver can be told apart by the tasks that ended in it, and a
    // poll that handed its worker over by the metrics of all workers. Without a look at those, the stretch is taken for
    // one poll. `late` is by the wall clock: a worker that was free by then cannot have been kept for the whole budget.
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
    // The polls of a busy period were told apart before, see `busy_period`; what was unclear there is a doubt.
    let before = match stretch.origin {
        Origin::BusyPeriod(Some(PollDoubt::OneOrMany)) => Some(Why::Undecided { charged }),
        Origin::BusyPeriod(Some(PollDoubt::HandedOver)) => Some(Why::HandedOver { waited: charged }),
        Origin::BusyPeriod(None) | Origin::Poll | Origin::DriverTurns => None,
    };
    stall.doubt = stall.doubt.or(before);
    stall.culprit = seen.culprit.or_else(|| stall.culprit_by_the_clocks());
    Some(stall)
}

/// What the public metrics of a runtime say of a stall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Finding {
    /// It was many short polls, or the worker was handed over in time.
    NotAStall,
    /// The stall may not be real: the looks cannot tell.
    Undecided,
    /// `block_in_place` may have given the worker to a thread that was still being started, so no worker may have been
    /// kept.
    HandedOver,
    /// They leave the stall as it is.
    Stall,
}

fn by_the_tasks(bounds: Option<Bounds>, budget: Duration) -> Finding {
    match bounds {
        Some(bounds) if bounds.most <= budget => Finding::NotAStall,
        Some(bounds) if bounds.least <= budget => Finding::Undecided,
        _ => Finding::Stall,
    }
}

/// `free`: the moment from which no worker can still have been in this poll. `late`: the stretch's start and the
/// budget. `briefly`: the looks span too short a time to tell a stuck worker from a slow one.
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
