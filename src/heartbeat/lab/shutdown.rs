//! How dropping a runtime went: it waits for every closure that `spawn_blocking` has begun, for as long as that takes.

use std::fmt;
use std::time::{Duration, Instant};

use super::bench::Bench;
use super::patience::Patience;
use crate::heartbeat::culprit::{Culprit, Sample, majority};
use crate::heartbeat::pulse::Ms;

/// How dropping the runtime went.
#[derive(Debug, Clone)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Shutdown {
    /// How long it took, by the clock on the wall; if it was not over at the deadline, how long it had taken then.
    #[cfg_attr(feature = "serde", serde(rename = "took_ms", with = "crate::millis"))]
    pub took: Duration,
    /// Whether it was over.
    pub over: bool,
    /// Whether the future under watch was dropped half way before, since it was not over at the deadline.
    pub cut_short: bool,
    /// What the threads it waited for were in, if there was time to look.
    pub behind: Option<Culprit>,
}

impl fmt::Display for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let over = if self.over { "" } else { " and was not over" };
        write!(f, "shutdown     took {}{over}", Ms(self.took))?;
        match &self.behind {
            Some(behind) => write!(f, ", behind a thread {behind}"),
            None => Ok(()),
        }
    }
}

/// Waits for the end of a shutdown until `deadline` and looks meanwhile at the threads that it waits for, once at least.
/// What it waited behind has its name by the end of `patience`.
pub(super) fn follow(
    bench: &Bench,
    deadline: Instant,
    patience: Patience,
    mut over: impl FnMut(Instant) -> Option<Duration>,
) -> Shutdown {
    let begun = Instant::now();
    let mut pause = Duration::from_millis(1);
    let mut samples = Vec::new();
    loop {
        let took = over((Instant::now() + pause).min(deadline));
        if took.is_none() {
            let living = bench.living_threads();
            samples.extend(living.into_iter().filter_map(|thread| Sample::of(thread, true)));
        }
        if took.is_some() || Instant::now() >= deadline {
            let over = took.is_some();
            let took = took.unwrap_or_else(|| begun.elapsed());
            let behind = majority(samples.iter(), None).map(|suspect| suspect.named_by(patience.end()));
            return Shutdown { took, over, cut_short: false, behind };
        }
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}
