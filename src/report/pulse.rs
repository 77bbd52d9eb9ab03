//! A pulse as the report has it: what the heartbeat found, and its verdict, as data that can be read back.
//!
//! The heartbeat's own [`Pulse`] derives its verdict from what it saw. This one holds the verdict as data, since a cell
//! may have been judged in another process.

use std::fmt;
use std::time::Duration;

use crate::heartbeat::{BeatsOverTime, Culprit, Pulse, Stall, Verdict};

/// What the heartbeat proved, without its reasons.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum PulseVerdict {
    /// No worker stood still.
    Steady,
    /// A worker stood still, and the code caused it.
    Starved,
    /// Neither was proved.
    Inconclusive,
}

impl fmt::Display for PulseVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            PulseVerdict::Steady => "steady",
            PulseVerdict::Starved => "starved",
            PulseVerdict::Inconclusive => "inconclusive",
        })
    }
}

/// The heartbeat of a cell's runtime.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct PulseReport {
    /// What the heartbeat proved.
    pub verdict: PulseVerdict,
    /// Why the verdict is inconclusive, and what to do; `None` if it is not.
    pub why: Option<String>,
    /// The number of beats that came.
    pub beats: u64,
    /// The longest stretch that was charged to a worker, whether above the budget or not.
    #[cfg_attr(feature = "serde", serde(rename = "longest_ms", with = "crate::millis"))]
    pub longest: Duration,
    /// The longest a beat waited behind other tasks; not charged.
    #[cfg_attr(feature = "serde", serde(rename = "queue_delay_ms", with = "crate::millis"))]
    pub queue_delay: Duration,
    /// How long the watch lasted.
    #[cfg_attr(feature = "serde", serde(rename = "watched_ms", with = "crate::millis"))]
    pub watched: Duration,
    /// What a stretch may be charged before it is a stall.
    #[cfg_attr(feature = "serde", serde(rename = "budget_ms", with = "crate::millis"))]
    pub budget: Duration,
    /// The time between beats.
    #[cfg_attr(feature = "serde", serde(rename = "interval_ms", with = "crate::millis"))]
    pub interval: Duration,
    /// When the beats came, roughly.
    pub rhythm: BeatsOverTime,
    /// Every stretch that was charged more than the budget, in order.
    pub stalls: Vec<StallReport>,
}

/// One stretch in which a worker did not return to its scheduler.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct StallReport {
    /// When the stretch began, from the start of the watch.
    #[cfg_attr(feature = "serde", serde(rename = "at_ms", with = "crate::millis"))]
    pub at: Duration,
    /// How long the stretch took by the clock on the wall.
    #[cfg_attr(feature = "serde", serde(rename = "wall_ms", with = "crate::millis"))]
    pub wall: Duration,
    /// How much of it the worker was on a CPU.
    #[cfg_attr(feature = "serde", serde(rename = "on_cpu_ms", with = "crate::millis"))]
    pub on_cpu: Duration,
    /// How much of it the worker waited for a CPU, which is not charged; `None` where the kernel does not say.
    #[cfg_attr(feature = "serde", serde(rename = "run_queue_ms", default, with = "crate::millis::maybe"))]
    pub run_queue: Option<Duration>,
    /// The rest; `None` where it cannot be told from `run_queue`.
    #[cfg_attr(feature = "serde", serde(rename = "blocked_ms", default, with = "crate::millis::maybe"))]
    pub blocked: Option<Duration>,
    /// What the worker was doing, where it was seen.
    pub culprit: Option<Culprit>,
    /// Why the code may not have caused it, if so.
    pub doubt: Option<String>,
}

impl From<&Pulse> for PulseReport {
    fn from(pulse: &Pulse) -> PulseReport {
        let (verdict, why) = match pulse.verdict() {
            Verdict::Steady => (PulseVerdict::Steady, None),
            Verdict::Starved => (PulseVerdict::Starved, None),
            Verdict::Inconclusive { why } => (PulseVerdict::Inconclusive, Some(why.to_string())),
        };
        PulseReport {
            verdict,
            why,
            beats: pulse.beats,
            longest: pulse.longest,
            queue_delay: pulse.queue_delay,
            watched: pulse.watched,
            budget: pulse.budget,
            interval: pulse.interval,
            rhythm: pulse.rhythm.clone(),
            stalls: pulse.stalls.iter().map(StallReport::from).collect(),
        }
    }
}

impl From<&Stall> for StallReport {
    fn from(stall: &Stall) -> StallReport {
        StallReport {
            at: stall.at,
            wall: stall.wall,
            on_cpu: stall.on_cpu,
            run_queue: stall.run_queue,
            blocked: stall.blocked,
            culprit: stall.culprit.clone(),
            doubt: stall.doubt.as_ref().map(ToString::to_string),
        }
    }
}
