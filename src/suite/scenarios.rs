//! What is expected of a cell: that of a right kill of its fixture, changed by the faults its subject is known for.

use super::Cell;
use crate::group::{Backend, backend};
use crate::heartbeat::lab::Flavor;
use crate::kill::Outcome;
use crate::report::{Expected, ExpectedPulse, Timing};

/// The runtimes of the suite.
pub const RUNTIMES: &[Flavor] = &[Flavor::CurrentThread, Flavor::MultiThread(1), Flavor::MultiThread(2)];

/// `current-thread`, `multi-thread-2`: as `--runtime` takes it.
pub fn runtime_name(flavor: Flavor) -> String {
    match flavor {
        Flavor::CurrentThread => "current-thread".into(),
        Flavor::MultiThread(workers) => format!("multi-thread-{workers}"),
    }
}

impl Cell {
    /// What this cell has to show.
    pub fn expected(&self) -> Expected {
        let (fixture, faults) = (&self.fixture, self.subject.faults);
        // All but one keep their leader un-reaped, which is in the process table to the end.
        let zombie_leader = fixture.outcome != Outcome::AlreadyGone || fixture.name == "zombie";
        let blind = backend() == Backend::Probe && zombie_leader;

        let mut outcome = Some(fixture.outcome);
        if faults.leaves_stopped && fixture.name == "stopped" {
            outcome = Some(Outcome::Killed);
        }
        if blind {
            // A subject that tells can only say what it did; one that does not cannot be observed either.
            outcome = self.subject.tells.then_some(Outcome::Killed);
        }
        let holds = (faults.holds_the_grace || backend() == Backend::Probe) && zombie_leader;
        let timing = if holds || outcome == Some(Outcome::Killed) { Timing::Grace } else { Timing::Prompt };
        let pulse = match self.runtime {
            None => ExpectedPulse::None,
            Some(_) if faults.starves && timing == Timing::Grace => ExpectedPulse::Starved,
            Some(_) => ExpectedPulse::Steady,
        };
        Expected { outcome, timing, leftover: 0, escaped: fixture.escapes, pulse }
    }
}
