//! Where a stretch of a thread's time went: wall = on-CPU + run-queue wait + blocked, and the sum always holds.
//!
//! Run-queue wait is the machine's fault. The other two are the code's, and only they are charged.

use std::time::{Duration, Instant};

use crate::heartbeat::culprit::Culprit;
use crate::heartbeat::ms::InMs;
use crate::heartbeat::stretch::Stretch;
use crate::heartbeat::verdict::Why;
use std::fmt;

/// One stretch in which a thread did not return to its scheduler for longer than the budget.
#[derive(Debug, Clone)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Stall {
    /// When it began, counted from the start of the watch.
    #[cfg_attr(feature = "serde", serde(rename = "at_ms", with = "crate::millis"))]
    pub at: Duration,
    /// How long it took by the clock on the wall, without what the process was certainly stopped of it.
    #[cfg_attr(feature = "serde", serde(rename = "wall_ms", with = "crate::millis"))]
    pub wall: Duration,
    /// How much of it the thread spent on a CPU: a computation, a spin (`CLOCK_THREAD_CPUTIME_ID`).
    #[cfg_attr(feature = "serde", serde(rename = "on_cpu_ms", with = "crate::millis"))]
    pub on_cpu: Duration,
    /// How much of it the thread was ready to run and waited for a CPU: the machine was busy. Never charged.
    /// `None` where the kernel does not say (no `/proc/thread-self/schedstat`). Where it says more than the thread was
    /// seen to leave room for, it is what there was room for.
    #[cfg_attr(feature = "serde", serde(rename = "run_queue_ms", with = "crate::millis::maybe"))]
    pub run_queue: Option<Duration>,
    /// The rest: asleep, or waiting for a lock, a child, a file. `None` where it cannot be told from `run_queue`.
    #[cfg_attr(feature = "serde", serde(rename = "blocked_ms", with = "crate::millis::maybe"))]
    pub blocked: Option<Duration>,
    /// What it was doing or waiting for, as far as it could be seen from outside.
    pub culprit: Option<Culprit>,
    /// Why it may not have been the code's doing, if so: then it proves nothing.
    pub doubt: Option<Why>,
}

impl Stall {
    /// What counts against the budget: `on_cpu` + `blocked`, the latter where known.
    pub fn charged(&self) -> Duration {
        self.on_cpu + self.blocked.unwrap_or_default()
    }

    /// The culprit where there were no looks: the clocks can still tell a computation from a wait.
    pub(super) fn culprit_by_the_clocks(&self) -> Option<Culprit> {
        (self.on_cpu > self.wall / 2 || self.on_cpu > self.blocked?).then(Culprit::running_by_the_clocks)
    }

    pub(super) fn new(stretch: &Stretch, began: Instant) -> Self {
        let split = stretch.split;
        Self {
            at: stretch.from.saturating_duration_since(began),
            wall: split.wall,
            on_cpu: split.on_cpu,
            run_queue: split.run_queue,
            blocked: split.blocked(),
            culprit: None,
            doubt: None,
        }
    }
}

impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = |part: Option<Duration>| part.map_or_else(|| "unknown".to_owned(), |part| InMs(part).to_string());
        let (wall, on_cpu) = (InMs(self.wall), InMs(self.on_cpu));
        writeln!(f, "               {wall} of wall time: {on_cpu} on a CPU, {} blocked,", known(self.blocked))?;
        writeln!(f, "               {} waiting for a CPU (not charged)", known(self.run_queue))?;
        match &self.culprit {
            Some(culprit) => writeln!(f, "  culprit      {culprit}")?,
            None => writeln!(f, "  culprit      not seen: it was over before it could be looked at")?,
        }
        match &self.doubt {
            Some(doubt) => writeln!(f, "  doubt        {doubt}"),
            None => Ok(()),
        }
    }
}
