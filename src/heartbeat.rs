//! The heartbeat: a task that has to come round on time, on the same runtime as the code under watch.
//!
//! In this version a gap on the wall clock counts as a stall, so a budget has to be far above what a busy machine does
//! to an innocent program.

pub mod lab;

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How often to beat and how long a worker may stand still.
#[derive(Clone, Debug)]
pub struct Heartbeat {
    interval: Duration,
    budget: Duration,
}

/// The output of a watched future and what the heartbeat saw.
#[derive(Debug)]
#[non_exhaustive]
pub struct Watched<T> {
    /// What the future gave.
    pub output: T,
    /// What the heartbeat saw.
    pub pulse: Pulse,
}

/// One stretch in which a worker did not return to its scheduler.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stall {
    /// When it began, from the start of the watch.
    pub at: Duration,
    /// How long it took by the clock on the wall.
    pub wall: Duration,
}

/// What the heartbeat saw.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Pulse {
    /// How many beats came.
    pub beats: u64,
    /// The stretches above the budget, in order.
    pub stalls: Vec<Stall>,
    /// The longest stretch.
    pub longest: Duration,
    /// How long the watch took.
    pub watched: Duration,
    budget: Duration,
    interval: Duration,
}

/// What a pulse proves.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// No worker stood still for longer than the budget.
    Steady,
    /// Some worker did.
    Starved,
    /// Nothing.
    Inconclusive {
        /// Why not, and what to do.
        why: String,
    },
}

impl Default for Heartbeat {
    fn default() -> Heartbeat {
        Heartbeat::new()
    }
}

impl Heartbeat {
    /// A beat every 5 ms, a budget of 50 ms.
    pub fn new() -> Heartbeat {
        Heartbeat { interval: Duration::from_millis(5), budget: Duration::from_millis(50) }
    }

    /// The time between two beats.
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Heartbeat {
        self.interval = interval;
        self
    }

    /// How long a worker may stand still.
    #[must_use]
    pub fn budget(mut self, budget: Duration) -> Heartbeat {
        self.budget = budget;
        self
    }

    /// Runs the future with a heartbeat beside it.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime with its timer enabled.
    pub async fn watch<F: Future>(&self, future: F) -> Watched<F::Output> {
        let track = Arc::new(Mutex::new(Track::new()));
        let (beating, interval) = (Arc::clone(&track), self.interval);
        let beats = tokio::spawn(async move {
            loop {
                tokio::time::sleep(interval).await;
                lock(&beating).beat();
            }
        });
        let output = future.await;
        lock(&track).beat();
        beats.abort();
        let pulse = lock(&track).pulse(self);
        Watched { output, pulse }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[derive(Debug)]
struct Track {
    start: Instant,
    last: Instant,
    beats: u64,
    gaps: Vec<(Duration, Duration)>,
}

impl Track {
    fn new() -> Track {
        let now = Instant::now();
        // One beat comes before the first poll.
        Track { start: now, last: now, beats: 1, gaps: Vec::new() }
    }

    fn beat(&mut self) {
        let now = Instant::now();
        self.gaps.push((self.last - self.start, now - self.last));
        self.last = now;
        self.beats += 1;
    }

    fn pulse(&self, heartbeat: &Heartbeat) -> Pulse {
        let mut pulse = Pulse {
            beats: self.beats,
            stalls: Vec::new(),
            longest: Duration::ZERO,
            watched: self.last - self.start,
            budget: heartbeat.budget,
            interval: heartbeat.interval,
        };
        for (at, wall) in &self.gaps {
            pulse.add(*at, *wall);
        }
        pulse
    }
}

impl Pulse {
    fn add(&mut self, at: Duration, wall: Duration) {
        self.longest = self.longest.max(wall);
        if wall > self.budget + self.interval {
            self.stalls.push(Stall { at, wall });
        }
    }

    /// Any stall is `Starved`; a watch shorter than the budget and one with enough beats are `Steady`.
    pub fn verdict(&self) -> Verdict {
        if !self.stalls.is_empty() {
            Verdict::Starved
        } else if self.watched < self.budget
            || u128::from(self.beats) > self.watched.as_nanos() / self.budget.as_nanos()
        {
            Verdict::Steady
        } else {
            Verdict::Inconclusive { why: format!("only {} beats came in {:?}", self.beats, self.watched) }
        }
    }

    /// # Panics
    ///
    /// If the verdict is not `Steady`.
    #[track_caller]
    pub fn assert_steady(&self) {
        assert_eq!(self.verdict(), Verdict::Steady, "{self:#?}");
    }
}

#[cfg(feature = "serde")]
mod wire {
    use serde::ser::{Serialize, SerializeStruct, Serializer};

    use super::{Pulse, Stall, Verdict};
    use crate::report::millis;

    impl Serialize for Stall {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut object = serializer.serialize_struct("Stall", 2)?;
            object.serialize_field("at_ms", &millis(self.at))?;
            object.serialize_field("wall_ms", &millis(self.wall))?;
            object.end()
        }
    }

    impl Serialize for Pulse {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let verdict = match self.verdict() {
                Verdict::Steady => "steady",
                Verdict::Starved => "starved",
                Verdict::Inconclusive { .. } => "inconclusive",
            };
            let mut object = serializer.serialize_struct("Pulse", 4)?;
            object.serialize_field("verdict", verdict)?;
            object.serialize_field("beats", &self.beats)?;
            object.serialize_field("longest_ms", &millis(self.longest))?;
            object.serialize_field("stalls", &self.stalls)?;
            object.end()
        }
    }
}
