//! What is expected of a cell: that of a right kill of its fixture, changed by the faults its subject is known for.

use std::fmt;

use super::Cell;
use crate::group::{Backend, backend};
use crate::heartbeat::lab::Flavor;
use crate::kill::Outcome;

/// The runtimes of the suite.
pub const RUNTIMES: &[Flavor] = &[Flavor::CurrentThread, Flavor::MultiThread(1), Flavor::MultiThread(2)];

/// `current-thread`, `multi-thread-2`: as `--runtime` takes it.
pub fn runtime_name(flavor: Flavor) -> String {
    match flavor {
        Flavor::CurrentThread => "current-thread".into(),
        Flavor::MultiThread(workers) => format!("multi-thread-{workers}"),
    }
}

/// What a cell has to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Expected {
    /// What becomes of the group; `None` where it can be neither told nor observed.
    pub outcome: Option<Outcome>,
    /// How long the kill takes.
    pub timing: Timing,
    /// How many live members may be left in the group; always 0.
    pub leftover: usize,
    /// How many processes may have left the group and live on, out of a group kill's reach.
    pub escaped: usize,
    /// What the heartbeat says of the runtime meanwhile.
    pub pulse: ExpectedPulse,
}

/// How long a kill takes, told by the grace alone, never by the machine's speed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Timing {
    /// Back before the grace is over, and within half of it after the group is gone. If the group itself took all of it,
    /// nobody can say whether it was slow or asked late, and the cell is inconclusive.
    Prompt,
    /// Takes at least half of the grace, before which SIGKILL comes too early; of a known-bad subject, all of it.
    Grace,
}

/// What the heartbeat has to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum ExpectedPulse {
    /// No worker stood still.
    Steady,
    /// A worker stood still: the subject is known for it.
    Starved,
    /// Nothing: a program runs on no runtime.
    None,
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

impl fmt::Display for Timing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Timing::Prompt => "prompt",
            Timing::Grace => "grace",
        })
    }
}

impl fmt::Display for ExpectedPulse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            ExpectedPulse::Steady => "steady",
            ExpectedPulse::Starved => "starved",
            ExpectedPulse::None => "none",
        })
    }
}
