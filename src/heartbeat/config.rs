//! How to watch: how often a beat comes, how long a worker may stay away, and in which runtime.

use std::fmt;
use std::time::Duration;

use crate::heartbeat::reading::Reading;

/// How to watch: how often a beat should come, and how long a worker may be away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    pub(super) interval: Duration,
    pub(super) budget: Duration,
    pub(super) blocking_pool: Option<bool>,
    pub(super) schedstat: bool,
}

/// What cannot be watched with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigError {
    /// The interval between beats is zero.
    ZeroInterval,
    /// The budget is below the interval, so a stall could pass between two beats.
    BudgetBelowInterval {
        /// The budget.
        budget: Duration,
        /// The interval.
        interval: Duration,
    },
    /// A multi-thread runtime without workers was asked for.
    NoWorkers,
    /// There is no tokio runtime to watch here.
    NoRuntime,
    /// The runtime has no timer, so no beat can come. This is found out by catching tokio's panic: a program that was
    /// built with `panic = "abort"` ends instead.
    NoTimer,
    /// The interval or the budget is longer than a day.
    TooLong,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ZeroInterval => f.write_str("the interval between beats is zero; 5 ms is usual"),
            Self::BudgetBelowInterval { budget, interval } => write!(
                f,
                "the budget of {budget:?} is below the interval of {interval:?}; raise the one or lower the other"
            ),
            Self::NoWorkers => f.write_str("a multi-thread runtime needs at least one worker; ask for one or more"),
            Self::NoTimer => f.write_str("the runtime has no timer; build it with `enable_time` or `enable_all`"),
            Self::TooLong => f.write_str("the interval or the budget is longer than a day; lower it"),
            Self::NoRuntime => f.write_str("there is no tokio runtime here; watch inside one, or use a `Lab`"),
        }
    }
}

impl std::error::Error for ConfigError {}

/// Anything longer can hardly be meant, and clocks end somewhere.
const LONGEST_SETTING: Duration = Duration::from_secs(24 * 60 * 60);

impl Heartbeat {
    /// A beat every 5 ms and a budget of 50 ms.
    pub const fn new() -> Self {
        Self {
            interval: Duration::from_millis(5),
            budget: Duration::from_millis(50),
            blocking_pool: None,
            schedstat: true,
        }
    }

    /// The time between beats. tokio's timers have a resolution of one millisecond. A value that cannot be used makes
    /// [`watch`](Self::watch) inconclusive and is an error of [`try_watch`](Self::try_watch) and
    /// [`Lab::run`](crate::heartbeat::Lab::run).
    pub const fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// How long a worker may stay away from its scheduler, waits for a CPU excluded. Nothing shorter than the budget
    /// is a stall; what exceeds it by less than two intervals may be missed, and so may what waited for a CPU within
    /// two fifths of the budget before it. [`watch`](Self::watch) ends a stretch wherever the watched future is polled:
    /// of a task that joins it with another future, the polls of the two are not added up.
    pub const fn budget(mut self, budget: Duration) -> Self {
        self.budget = budget;
        self
    }

    /// Whether to take the blocking pool's pulse too, with a trivial `spawn_blocking` on every beat. A
    /// [`Lab`](crate::heartbeat::Lab) does unless told not to; [`watch`](Self::watch) does not unless told to, since it
    /// starts a thread in your runtime.
    ///
    /// Where no thread can be started, `spawn_blocking` panics; that is caught and reported. A program that was built
    /// with
    /// `panic = "abort"` would end, so there a lab does not unless told to either.
    pub const fn blocking_pool(mut self, blocking_pool: bool) -> Self {
        self.blocking_pool = Some(blocking_pool);
        self
    }

    /// [`interval`](Self::interval), checked.
    ///
    /// # Errors
    ///
    /// A zero interval, or one above the budget.
    pub fn try_interval(self, interval: Duration) -> Result<Self, ConfigError> {
        let changed = self.interval(interval);
        changed.check().map(|()| changed)
    }

    /// [`budget`](Self::budget), checked.
    ///
    /// # Errors
    ///
    /// A budget below the interval.
    pub fn try_budget(self, budget: Duration) -> Result<Self, ConfigError> {
        let changed = self.budget(budget);
        changed.check().map(|()| changed)
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let Self { interval, budget, .. } = *self;
        if interval.is_zero() {
            Err(ConfigError::ZeroInterval)
        } else if budget < interval {
            Err(ConfigError::BudgetBelowInterval { budget, interval })
        } else if budget > LONGEST_SETTING {
            // The interval is not above it.
            Err(ConfigError::TooLong)
        } else {
            Ok(())
        }
    }

    pub(super) fn reading(&self) -> Reading {
        self.blinkered(Reading::here())
    }

    /// A reading that may be so old.
    pub(super) fn reading_within(&self, age: Duration) -> Reading {
        self.blinkered(Reading::within(age))
    }

    /// A thread away for so long is looked at.
    pub(super) fn overdue_after(&self) -> Duration {
        self.interval.saturating_add(self.budget / 8)
    }

    /// While all is well, the observer comes by so often: no stall is over before it was looked at.
    pub(super) fn check_every(&self) -> Duration {
        self.budget / 2
    }

    /// A reading younger than this need not be taken again.
    pub(super) fn fresh(&self) -> Duration {
        self.interval / 10
    }

    /// Nor need one younger than this, when the thread was just seen to be punctual.
    pub(super) fn reusable(&self) -> Duration {
        self.budget / 5 * 2
    }

    /// Tests see with this what a kernel without schedstat would show.
    fn blinkered(&self, mut reading: Reading) -> Reading {
        reading.run_queue = reading.run_queue.filter(|_| self.schedstat);
        reading
    }
}

impl Default for Heartbeat {
    fn default() -> Self {
        Self::new()
    }
}

/// Which runtime a [`Lab`](crate::heartbeat::Lab) builds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Flavor {
    /// One thread does everything: the root future of `block_on` and every task.
    CurrentThread,
    /// So many workers. The root future is polled on a thread that is none of them: what is to be watched goes into
    /// `tokio::spawn`.
    MultiThread(usize),
}

impl fmt::Display for Flavor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CurrentThread => f.write_str("current_thread"),
            Self::MultiThread(workers) => write!(f, "multi_thread:{workers}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn what_cannot_be_watched_with_is_refused_and_what_can_is_kept() {
        let a_little = Duration::from_nanos(1);
        for (interval, budget, error) in [
            (Duration::ZERO, MS, Some(ConfigError::ZeroInterval)),
            (a_little, a_little, None),
            (MS * 50, MS * 50, None),
            (
                MS * 50 + a_little,
                MS * 50,
                Some(ConfigError::BudgetBelowInterval { budget: MS * 50, interval: MS * 50 + a_little }),
            ),
            (MS, DAY, None),
            (MS, DAY + a_little, Some(ConfigError::TooLong)),
            (DAY + a_little, DAY + a_little, Some(ConfigError::TooLong)),
        ] {
            let heartbeat = Heartbeat { interval, budget, ..Heartbeat::new() };
            let asked = error.map_or(Ok(heartbeat), Err);
            assert_eq!(Heartbeat::new().budget(budget).try_interval(interval), asked);
            assert_eq!(Heartbeat::new().interval(interval).try_budget(budget), asked);
        }
        let told = Heartbeat::new().blocking_pool(true).budget(MS * 7);
        assert_eq!(told, Heartbeat { blocking_pool: Some(true), budget: MS * 7, ..Heartbeat::new() });
    }

    #[test]
    fn an_error_says_what_to_change() {
        let below = ConfigError::BudgetBelowInterval { budget: MS * 4, interval: MS * 5 };
        for (error, words) in [
            (ConfigError::ZeroInterval, ["zero", "5 ms is usual"]),
            (below, ["budget of 4ms is below the interval of 5ms", "raise the one"]),
            (ConfigError::NoWorkers, ["at least one worker", "ask for one"]),
            (ConfigError::NoTimer, ["no timer", "enable_time"]),
            (ConfigError::TooLong, ["longer than a day", "lower it"]),
            (ConfigError::NoRuntime, ["no tokio runtime here", "watch inside one"]),
        ] {
            let message = error.to_string();
            assert!(words.iter().all(|word| message.contains(word)), "{message}");
        }
    }

    #[test]
    fn a_watch_is_refused_where_no_beat_can_come_and_runs_where_one_can() {
        let watch = |builder: &mut tokio::runtime::Builder| {
            let runtime = builder.build().unwrap();
            runtime.block_on(Heartbeat::new().try_watch(async { 7 })).map(|watched| watched.output)
        };
        assert_eq!(watch(&mut tokio::runtime::Builder::new_current_thread()), Err(ConfigError::NoTimer));
        assert_eq!(watch(tokio::runtime::Builder::new_current_thread().enable_time()), Ok(7));
    }
}
