//! What is expected of a cell, as the report has it beside what was seen.

use std::fmt;

use crate::kill::Outcome;

/// What a cell has to show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Expected {
    /// What becomes of the group; `None` where it is neither reported nor observed.
    pub outcome: Option<Outcome>,
    /// How long the kill takes.
    pub timing: Timing,
    /// How many live members may be left in the group; always 0.
    pub leftover: usize,
    /// How many processes may have left the group and live on, out of a group kill's reach.
    pub escaped: usize,
    /// What the heartbeat says of the runtime.
    pub pulse: ExpectedPulse,
}

/// How long a kill takes, in terms of the grace alone, never of the machine's speed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Timing {
    /// Returns before the grace is over, and within half of it after the group is gone. If the group itself took all of
    /// it, a slow group cannot be told from one that was asked late, and the cell is inconclusive.
    Prompt,
    /// Takes at least half of the grace, before which SIGKILL comes too early. A known-bad subject takes all of it.
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
