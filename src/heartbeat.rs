//! The stall detector: a watch proves that a runtime was steady, proves that it was starved, or says why it proves
//! nothing.
//!
//! # What goes wrong without it
//!
//! A test that guards against a blocked worker times a ticker and compares with a clock on the wall. On a multi-thread
//! runtime the ticker runs on another worker and sees nothing. On a slow machine it is late though nobody blocked. A
//! detector that counts CPU time instead is blind to everything that sleeps.
//!
//! # What is done instead
//!
//! A stretch of a worker's time is on-CPU + run-queue wait + blocked. The kernel knows the first two, so the third is
//! known too. Waiting for a CPU is the machine's fault and is never charged; the other two are.
//!
//! ```
//! use deadbeat::heartbeat::Heartbeat;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! # for left in (0..5).rev() { // a busy machine may leave a doubt
//! let watched = Heartbeat::new().watch(async { tokio::time::sleep(std::time::Duration::from_millis(80)).await }).await;
//! # if left > 0 && matches!(watched.pulse.verdict(), deadbeat::heartbeat::Verdict::Inconclusive { .. }) { continue }
//! watched.pulse.assert_steady();
//! # break } }
//! ```
//!
//! # What is charged, and what is not
//!
//! - A wait for a child, a lock or a channel is charged. Of a wait for another thread of this process (a lock, a channel, a
//!   join, without a time limit) so much may be the machine's doing as any one of them waited for a CPU or for memory
//!   meanwhile: where that decides, the stall is a doubt.
//! - A wait for memory is not held against anybody, since no code can avoid it: a page fault, `mmap`, glibc's own lock in
//!   `malloc`. If it is what makes a stall too long, the stall is a doubt. Pages of mapped files and the C library's other locks
//!   (stdio, `getpwnam`) cannot be told from it, so a stall there is a doubt too, never [`Verdict::Steady`].
//! - Many polls are not one. In a [`Lab`] each is followed by a turn of the driver, or by news of the worker's busy time,
//!   and is told from the next. In a current_thread runtime of yours
//!   the driver is turned every 61 polls, and what lies between two turns is told apart by the tasks that end in it. If
//!   none ends, and each takes a good part of the budget, they are taken for one: use a [`Lab`].
//! - A task that spins on `tokio::task::yield_now` is back in its scheduler at each turn. It makes others queue, which is
//!   [`Pulse::queue_delay`], and stalls nobody.
//! - A full blocking pool starves no worker: see [`PoolPulse::is_starved`].
//! - A beat on time vouches for the thread that it came on: its clocks are then not read anew for up to two fifths of the
//!   budget. Some of what it waited for a CPU meanwhile can excuse the stall that follows, at most that much.
//!
//! [`Heartbeat::watch`] works inside a runtime you have. Where that has several workers it can prove that the watched
//! future blocked, never that nothing did: for that there is [`Lab`]. A test of this kind is worth what it catches, so
//! run it on a known-bad implementation too: [`with_teeth`].

use std::fmt;
use std::future::Future;
use std::time::Duration;

mod beacon;
mod beat;
mod boundaries;
mod control;
mod culprit;
mod doubt;
mod histogram;
mod journal;
mod judge;
pub mod lab;
mod lines;
mod observer;
mod others;
mod pool;
mod pulse;
mod reading;
mod rhythm;
mod stall;
mod takeover;
mod task_waker;
mod teeth;
#[cfg(test)]
mod testing;
mod track;
mod verdict;
mod watch;

#[cfg(fuzzing)]
pub(crate) mod fuzzing {
    pub use super::culprit::system_call;
    pub use super::reading::thread::schedstat;
}

#[cfg(any(feature = "cli", feature = "conformance"))]
pub(crate) use culprit::what_its_threads_do;
pub use culprit::{Culprit, NoLine};
pub use histogram::Lateness;
#[doc(inline)]
pub use lab::{Flavor, Lab, LabError};
pub use pool::PoolPulse;
pub use pulse::{Pulse, Watched};
pub(crate) use reading::machine::{Machine, Meanwhile};
pub use rhythm::Rhythm;
pub use stall::Stall;
pub use teeth::with_teeth;
pub use verdict::{Verdict, Why};

use journal::Journal;
use reading::Reading;

/// How to watch: how often a beat should come, and how long a worker may be away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    interval: Duration,
    budget: Duration,
    blocking_pool: Option<bool>,
    schedstat: bool,
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
    /// The runtime has no timer, so no beat can come. This is found out by catching tokio's panic: a program that was built
    /// with `panic = "abort"` ends instead.
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
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

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
    /// [`watch`](Self::watch) inconclusive and is an error of [`try_watch`](Self::try_watch) and [`Lab::run`].
    pub const fn interval(mut self, interval: Duration) -> Self {
        self.interval = interval;
        self
    }

    /// How long a worker may stay away from its scheduler, waits for a CPU excluded. Nothing shorter than the budget
    /// is a stall; what exceeds it by less than two intervals may be missed, and so may what waited for a CPU within two fifths of the
    /// budget before it. [`watch`](Self::watch) ends a stretch wherever the watched future is polled: of a task that joins
    /// it with another future, the polls of the two are not added up.
    pub const fn budget(mut self, budget: Duration) -> Self {
        self.budget = budget;
        self
    }

    /// Whether to take the blocking pool's pulse too, with a trivial `spawn_blocking` on every beat. A [`Lab`] does
    /// unless told not to; [`watch`](Self::watch) does not unless told to, since it starts a thread in your runtime.
    ///
    /// Where no thread can be started, `spawn_blocking` panics; that is caught and reported. A program that was built with
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

    /// Runs `future` and watches the runtime it runs in. Its output comes back beside the pulse; a panic passes through.
    ///
    /// A poll that hands its worker over (`block_in_place`) is not charged if the worker was seen to be free. If an idle thread of the
    /// pool is to take it over and gets no CPU for longer than the budget, nobody can tell: the poll is charged. A [`Lab`]
    /// can tell.
    ///
    /// On a current_thread runtime everything is covered: the future, its siblings, the root of `block_on`. On a
    /// multi-thread one only the future's own polls are, and the verdict is never [`Verdict::Steady`]. Outside any
    /// runtime, in one without a timer, with tokio's clock paused, or with settings that cannot be used, the future runs all the same and the
    /// verdict is [`Verdict::Inconclusive`], unless the future blocked in its own polls.
    ///
    /// If a stall was found, the future returns only when the observer has said what it saw of it: some milliseconds
    /// later.
    pub async fn watch<F: Future>(self, future: F) -> Watched<F::Output> {
        watch::watch(Journal::new(self, false, None), future).await
    }

    /// [`watch`](Self::watch), or the reason why it could prove nothing, before anything runs.
    ///
    /// # Errors
    ///
    /// Settings that cannot be used, no runtime, or one without a timer. In the last case tokio's own panic is caught, so
    /// a program built with `panic = "abort"` ends here, and in [`watch`](Self::watch).
    pub async fn try_watch<F: Future>(self, future: F) -> Result<Watched<F::Output>, ConfigError> {
        self.check()?;
        match tokio::runtime::Handle::try_current() {
            Ok(_) if !beat::has_timer() => Err(ConfigError::NoTimer),
            Ok(_) => Ok(self.watch(future).await),
            Err(_) => Err(ConfigError::NoRuntime),
        }
    }

    fn check(&self) -> Result<(), ConfigError> {
        let Self { interval, budget, .. } = *self;
        if interval.is_zero() {
            Err(ConfigError::ZeroInterval)
        } else if budget < interval {
            Err(ConfigError::BudgetBelowInterval { budget, interval })
        } else if budget > LONGEST {
            // The interval is not above it.
            Err(ConfigError::TooLong)
        } else {
            Ok(())
        }
    }

    fn reading(&self) -> Reading {
        self.blinkered(Reading::here())
    }

    /// A reading that may be so old.
    fn reading_within(&self, age: Duration) -> Reading {
        self.blinkered(Reading::within(age))
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

/// Where a watched future is polled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// In a current_thread runtime, whose one worker does everything.
    CurrentThread,
    /// In a task of a multi-thread runtime: on a worker, now this one and now that.
    Task,
    /// As the root of a multi-thread `block_on`: on a thread that is no worker.
    Root,
    /// Outside any runtime.
    Nowhere,
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
