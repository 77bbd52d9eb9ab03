//! The lab: a runtime under watch on a thread of its own, which ends even if the code in it never does.
//!
//! The runtime's hooks say when each worker goes idle and comes back; its metrics say from outside which worker is
//! stuck; `event_interval(1)` makes every poll of a task a return to the driver, so that neither has to guess. When
//! the deadline passes the lab says what it sees and leaves the stuck thread behind.

use std::fmt;
use std::future::Future;
use std::panic::resume_unwind;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvError, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

mod counters;
mod hung;
mod panic_payload;
mod runtime;
mod shutdown;
mod test_output;
mod thread;
mod time_budget;
mod unfinished;
mod worker;
mod workers;

pub use panic_payload::PanicPayload;
pub use test_output::TestOutput;

use runtime::WatchedRuntime;
use shutdown::ShutdownEnd;
use thread::LabMessage;
use time_budget::{TimeBudget, left};

use crate::heartbeat::config::{ConfigError, Flavor, Heartbeat};
use crate::heartbeat::lines::{self, LINES};
use crate::heartbeat::pulse::{Pulse, RuntimeShutdown, Watched};
use crate::heartbeat::teeth::with_teeth;
use crate::heartbeat::verdict::{Verdict, Why};
use crate::heartbeat::watch::UNDRIVEN;
use crate::heartbeat::watch::state::WatchState;

/// The report of what did not come back is there within this after the deadline: less than the second that is promised.
const REPORT: Duration = Duration::from_millis(850);
/// When nothing presses, what was seen is waited for so long: a bound for a machine that is hardly there.
const ANSWER: Duration = Duration::from_secs(10);

/// A later deadline is none.
const NO_DEADLINE: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What a future that panics only in a lab may depend on.
const OTHER_ORDER: &str = "a lab turns the runtime's driver after every poll, not after 61: if the future passes in \
    `#[tokio::test]`, it may depend on the order in which ready tasks are polled, which tokio does not promise";

/// Why a lab has nothing to show. `Debug` prints what `Display` does, so that `unwrap` shows a report.
#[non_exhaustive]
pub enum LabError {
    /// The code, or dropping its runtime, was not over at the deadline. Its thread is left behind; the process is as
    /// usable as before.
    Hung {
        /// What was seen until then; a thread that was stuck is its last stall, with its culprit. Without one it proves
        /// nothing ([`Why::Unfinished`]).
        pulse: Box<Pulse>,
    },
    /// The settings cannot be used.
    Config(ConfigError),
    /// The runtime, or a thread to run it on, could not be had.
    Runtime(std::io::Error),
    /// The future panicked. If it does so in a lab alone, see how a [`Lab`] orders polls.
    Panicked(PanicPayload),
}

impl fmt::Display for LabError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Hung { pulse } => match &pulse.shutdown {
                Some(shutdown) if !shutdown.cut_short => write!(f, "{}\n{pulse}", NotDropped(shutdown)),
                _ => write!(f, "the code under watch was not over after {:.1?}\n{pulse}", pulse.watched),
            },
            Self::Config(error) => error.fmt(f),
            Self::Runtime(error) => write!(f, "no runtime to watch could be started: {error}"),
            Self::Panicked(payload) => write!(f, "the future under watch panicked: {payload}\n{OTHER_ORDER}"),
        }
    }
}

impl fmt::Debug for LabError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The code was over; what came after it was not.
struct NotDropped<'a>(&'a RuntimeShutdown);

impl fmt::Display for NotDropped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the code under watch was over, but dropping its runtime had not ended after {:.1?}", self.0.took)?;
        match &self.0.behind {
            Some(behind) => write!(f, ", behind a thread {behind}"),
            None => f.write_str("; behind what, was not seen"),
        }
    }
}

impl std::error::Error for LabError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Config(error) => Some(error),
            Self::Runtime(error) => Some(error),
            Self::Hung { .. } | Self::Panicked(_) => None,
        }
    }
}

/// Builds a runtime, runs a future in it and watches every worker.
///
/// Its runtime turns the driver after every poll (`event_interval(1)`), so that one poll is told from the next. Timers
/// and sockets that are ready, and tasks in `yield_now`, come to their turn earlier for it than in `#[tokio::test]`,
/// where that is done after 61 polls. tokio promises neither order: a future that passes there and fails here depends
/// on it.
///
/// ```
/// use std::time::Duration;
/// use deadbeat::heartbeat::{Flavor, Lab, Verdict};
///
/// let lab = Lab::new(Flavor::MultiThread(2));
/// # for left in (0..5).rev() { // a busy machine may leave a doubt
/// let watched = lab.run(|| async { std::thread::park_timeout(Duration::from_millis(120)) });
/// # if left > 0 && matches!(watched.as_ref().unwrap().pulse.verdict(), Verdict::Inconclusive { .. }) { continue }
/// assert_eq!(watched.unwrap().pulse.verdict(), Verdict::Starved);
/// # break }
/// ```
#[derive(Debug, Clone)]
pub struct Lab {
    flavor: Flavor,
    heartbeat: Heartbeat,
    deadline: Duration,
    thread_name: Option<String>,
}

impl Lab {
    /// With [`Heartbeat::new`]'s settings and a deadline of 30 s.
    pub const fn new(flavor: Flavor) -> Self {
        Self { flavor, heartbeat: Heartbeat::new(), deadline: Duration::from_secs(30), thread_name: None }
    }

    /// How to watch.
    pub const fn heartbeat(mut self, heartbeat: Heartbeat) -> Self {
        self.heartbeat = heartbeat;
        self
    }

    /// How long the future and the shutdown of its runtime may take together, from when the lab is ready to run it.
    /// What does not keep to it is reported within a second more. What the lab itself takes to judge what was seen, and
    /// to read the symbols for source lines, is not counted.
    pub const fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// The name of the thread that the lab runs on: `deadbeat-lab` unless another is given.
    pub fn thread_name(mut self, name: impl Into<String>) -> Self {
        self.thread_name = Some(name.into());
        self
    }

    /// Runs the future that `f` makes as a task of a runtime on a new thread, and drops the runtime.
    ///
    /// The runtime is dropped when this returns, unless the machine had no CPU for the threads that were to end, and
    /// they had nothing else to wait for: after half a second they are left to end by themselves
    /// ([`RuntimeShutdown::over`]).
    ///
    /// Blocks the calling thread, so call it from a plain thread, a `#[test]` or `spawn_blocking`. What `f` does before
    /// it returns the future is watched as well.
    ///
    /// # Errors
    ///
    /// [`LabError::Hung`] if that is not over at the deadline. A thread that is stuck cannot be ended: it is left
    /// behind, and what it holds with it.
    pub fn run<F, Fut, T>(&self, f: F) -> Result<Watched<T>, LabError>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = T> + Send + 'static,
        T: Send + 'static,
    {
        self.run_root(move || async move {
            let task = tokio::spawn(async move { f().await });
            task.await.unwrap_or_else(|error| resume_unwind(error.into_panic()))
        })
    }

    /// Runs the future that `f` makes as the root of `block_on`, which need not be [`Send`]; else as
    /// [`run`](Self::run).
    ///
    /// On [`Flavor::MultiThread`] the root is polled on a thread that is no worker, so a block in it proves nothing
    /// ([`Why::RootBlocked`]): what is to be watched there goes into `tokio::spawn`.
    ///
    /// # Errors
    ///
    /// Those of [`run`](Self::run).
    pub fn run_root<F, Fut, T>(&self, f: F) -> Result<Watched<T>, LabError>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = T> + 'static,
        T: Send + 'static,
    {
        self.heartbeat.check().map_err(LabError::Config)?;
        if self.flavor == Flavor::MultiThread(0) {
            return Err(LabError::Config(ConfigError::NoWorkers));
        }
        let runtime = WatchedRuntime::new(self.flavor, self.heartbeat);
        let (sender, messages) = channel();
        let (stop, stopped) = oneshot::channel();
        let (lab, theirs) = (self.clone(), runtime.clone());
        let judged_by = move |began, done| lab.judged_by(began, done);
        let name = self.thread_name.clone().unwrap_or_else(|| "deadbeat-lab".to_owned());
        let thread = std::thread::Builder::new().name(name);
        let life = move || thread::run(&theirs, judged_by, f, stopped, &sender);
        thread.spawn(life).map_err(LabError::Runtime)?;
        // Whatever the lab itself takes to get ready, on a slow machine, is not the code's time.
        let state = beginning(messages.recv())?;
        let deadline = self.ends(state.began);
        Waiting { runtime, state, messages, stop: Some(stop), deadline }.wait()
    }

    /// Runs a control that is known to block and then the subject, each as [`run`](Self::run) does, and returns the
    /// subject's pulse. Where the machine left a doubt, the one concerned is run again, three times in all.
    ///
    /// ```
    /// use std::time::Duration;
    /// use deadbeat::heartbeat::{Flavor, Lab};
    ///
    /// async fn old_shutdown() {
    ///     std::thread::park_timeout(Duration::from_millis(120)); // waits on the worker
    /// }
    /// async fn shutdown() {
    ///     tokio::time::sleep(Duration::from_millis(120)).await;
    /// }
    ///
    /// Lab::new(Flavor::MultiThread(2)).with_teeth(old_shutdown, shutdown);
    /// ```
    ///
    /// # Panics
    ///
    /// With the panic of the control or of the subject, if it panics. If the control was not caught: a test that cannot
    /// fail proves nothing. If the subject was not steady, or returned an `Err`, or did not end.
    #[track_caller]
    pub fn with_teeth<C, CFut, S, SFut>(&self, control: C, subject: S) -> Pulse
    where
        C: FnOnce() -> CFut + Clone + Send + 'static,
        CFut: Future<Output: TestOutput> + Send + 'static,
        S: FnOnce() -> SFut + Clone + Send + 'static,
        SFut: Future<Output: TestOutput> + Send + 'static,
    {
        let control = || match self.run(control.clone()) {
            // A control that is caught has done its part, whatever it returns.
            Ok(watched) if watched.pulse.verdict() == Verdict::Starved => watched.pulse,
            Ok(watched) => passed("control", watched),
            Err(LabError::Hung { pulse }) => *pulse,
            Err(error) => error.fail(),
        };
        let subject = || self.run(subject.clone()).map_or_else(LabError::fail, |watched| passed("subject", watched));
        with_teeth(control, subject)
    }

    fn ends(&self, began: Instant) -> Instant {
        began + self.deadline.min(NO_DEADLINE)
    }

    /// When the lab's thread has judged what was seen of a future that was done at `done`: in time, which the judging
    /// is not counted to, or too late, and then it is listened to for a while after the deadline.
    fn judged_by(&self, began: Instant, done: Instant) -> TimeBudget {
        let ends = self.ends(began);
        TimeBudget::until(if done <= ends { Instant::now() + ANSWER } else { ends + REPORT / 2 })
    }
}

/// The pulse of what returned no error.
#[track_caller]
fn passed(what: &str, watched: Watched<impl TestOutput>) -> Pulse {
    match watched.output.error() {
        None => watched.pulse,
        Some(error) => panic!("the {what} failed: {error}\n{}", watched.pulse),
    }
}

impl LabError {
    /// Fails the test that the lab runs in: with the future's own panic, if it panicked.
    #[track_caller]
    fn fail(self) -> Pulse {
        match self {
            Self::Panicked(payload) => resume_unwind(payload.into_inner()),
            error => panic!("{error}"),
        }
    }
}

/// What the lab's thread says first.
fn beginning<T>(said: Result<LabMessage<T>, RecvError>) -> Result<Arc<WatchState>, LabError> {
    match said {
        Ok(LabMessage::Begins(journal)) => Ok(journal),
        Ok(LabMessage::NoRuntime(error)) => Err(LabError::Runtime(error)),
        _ => Err(vanished()),
    }
}

struct Waiting<T> {
    runtime: WatchedRuntime,
    state: Arc<WatchState>,
    messages: Receiver<LabMessage<T>>,
    stop: Option<oneshot::Sender<()>>,
    deadline: Instant,
}

impl<T> Waiting<T> {
    fn wait(self) -> Result<Watched<T>, LabError> {
        match self.next(self.deadline) {
            Ok(LabMessage::Done(at)) => self.judged(at),
            Ok(LabMessage::Panicked(payload)) => Err(LabError::Panicked(payload)),
            Err(RecvTimeoutError::Timeout) => self.stop(),
            _ => Err(vanished()),
        }
    }

    /// The future was done in time. The clock stands still while what was seen is judged; until that begins, other
    /// tasks of its thread can keep it from the last beat.
    fn judged(self, done: Instant) -> Result<Watched<T>, LabError> {
        let last_beat = self.deadline.max(done + UNDRIVEN + REPORT);
        let said = match self.next(last_beat) {
            Ok(LabMessage::Judging) => self.next(Instant::now() + ANSWER + REPORT),
            said => said,
        };
        let watched = match said {
            Ok(LabMessage::Finished(watched)) => *watched,
            Ok(LabMessage::Panicked(payload)) => return Err(LabError::Panicked(payload)),
            Err(RecvTimeoutError::Timeout) => return Err(self.described(reported_by(Instant::now()))),
            _ => return Err(vanished()),
        };
        let Watched { output: Some(output), mut pulse } = watched else {
            return Err(vanished());
        };
        let deadline = self.deadline + done.elapsed();
        let (shutdown, end) = self.shutdown(deadline);
        pulse.shutdown = Some(shutdown);
        self.runtime.doubt_late_handovers(&mut pulse);
        let in_time = end != ShutdownEnd::Late;
        let until = if in_time { Instant::now() + LINES } else { reported_by(deadline).end() };
        lines::add_by(&mut pulse, until);
        if in_time { Ok(Watched { output, pulse }) } else { Err(hung(pulse)) }
    }

    /// The deadline has passed. A future that is merely waiting can be dropped and its pulse had; one that is stuck
    /// cannot, and is described from outside. One that was done before it is neither, though that is heard only now.
    fn stop(mut self) -> Result<Watched<T>, LabError> {
        if let Some(stop) = self.stop.take() {
            let _ = stop.send(());
        }
        let time = reported_by(self.deadline);
        let mut said = self.next(time.half());
        while let Ok(LabMessage::Done(_) | LabMessage::Judging) = said {
            match said {
                Ok(LabMessage::Done(at)) if at <= self.deadline => return self.judged(at),
                _ => said = self.next(time.half()),
            }
        }
        // It has come to its end and judges what was seen, slowly. No other thread can.
        if matches!(said, Err(RecvTimeoutError::Timeout)) && self.runtime.is_closed() {
            said = self.next(time.half());
        }
        let Ok(LabMessage::Finished(watched)) = said else { return Err(self.described(time)) };
        let mut pulse = watched.pulse;
        let (shutdown, _) = self.shutdown(time.half());
        pulse.shutdown = Some(RuntimeShutdown { cut_short: true, ..shutdown });
        Err(self.hung(pulse, time))
    }

    /// What is stuck, seen from outside.
    fn described(&self, time: TimeBudget) -> LabError {
        self.hung(hung::describe(&self.runtime, &self.state, time), time)
    }

    fn hung(&self, mut pulse: Pulse, time: TimeBudget) -> LabError {
        self.runtime.doubt_late_handovers(&mut pulse);
        lines::add_by(&mut pulse, time.end());
        hung(pulse)
    }

    fn shutdown(&self, deadline: Instant) -> (RuntimeShutdown, ShutdownEnd) {
        shutdown::follow(&self.runtime, deadline, |until| match self.next(until) {
            Ok(LabMessage::ShutDown(took)) => Some(took),
            _ => None,
        })
    }

    fn next(&self, until: Instant) -> Result<LabMessage<T>, RecvTimeoutError> {
        self.messages.recv_timeout(left(until))
    }
}

/// Of what was not over the end was not seen, so it is not steady.
fn hung(mut pulse: Pulse) -> LabError {
    pulse.uncovered.get_or_insert(Why::Unfinished);
    LabError::Hung { pulse: Box::new(pulse) }
}

/// When all is said of what was not over at `deadline`.
fn reported_by(deadline: Instant) -> TimeBudget {
    TimeBudget::until(deadline + REPORT)
}

/// The thread ended without a word, which only a panic while it dropped things can make it do.
fn vanished() -> LabError {
    LabError::Panicked(PanicPayload::new(Box::new("the lab's thread ended early")))
}

#[cfg(test)]
mod tests;
