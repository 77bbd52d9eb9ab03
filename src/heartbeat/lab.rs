//! The lab: a runtime under watch on a thread of its own, which ends even if the code in it never does.
//!
//! The runtime's hooks say when each worker goes idle and comes back; its metrics say from outside which worker is
//! stuck; `event_interval(1)` makes every poll of a task a return to the driver, so that neither has to guess. When
//! the deadline passes the lab says what it sees and leaves the stuck thread behind.

use std::any::Any;
use std::cell::OnceCell;
use std::fmt;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvError, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use super::journal::Journal;
use super::lines::{self, LINES};
use super::pulse::{Pulse, Watched};
use super::verdict::Why;
use super::watch::{Stage, UNDRIVEN, observe};
use super::{ConfigError, Heartbeat};

mod bench;
pub(super) mod episode;
pub(super) mod fleet;
mod hung;
mod open;
mod patience;
mod sampler;
mod shutdown;

pub use shutdown::Shutdown;

use patience::{Patience, left};
use shutdown::End;

/// The report of what did not come back is there within this after the deadline: less than the second that is promised.
const REPORT: Duration = Duration::from_millis(850);
/// When nothing presses, what was seen is waited for so long: a bound for a machine that is hardly there.
const ANSWER: Duration = Duration::from_secs(10);

/// A later deadline is none.
const FOREVER: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// What a future that panics only in a lab may depend on.
const OTHER_ORDER: &str = "a lab turns the runtime's driver after every poll, not after 61: if the future passes in `#[tokio::test]`, \
    it may depend on the order in which ready tasks are polled, which tokio does not promise";

/// Which runtime a [`Lab`] builds.
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
    Panicked {
        /// With what, if that was a text.
        message: String,
    },
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
            Self::Panicked { message } => write!(f, "the future under watch panicked: {message}\n{OTHER_ORDER}"),
        }
    }
}

impl fmt::Debug for LabError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The code was over; what came after it was not.
struct NotDropped<'a>(&'a Shutdown);

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
            Self::Hung { .. } | Self::Panicked { .. } => None,
        }
    }
}

/// Builds a runtime, runs a future in it and watches every worker.
///
/// Its runtime turns the driver after every poll (`event_interval(1)`), so that one poll is told from the next. Timers and
/// sockets that are ready, and tasks in `yield_now`, come to their turn earlier for it than in `#[tokio::test]`, where that
/// is done after 61 polls. tokio promises neither order: a future that passes there and fails here depends on it.
///
/// ```
/// use std::time::Duration;
/// use deadbeat::heartbeat::{Flavor, Lab, Verdict};
///
/// let lab = Lab::new(Flavor::MultiThread(2));
/// # for left in (0..5).rev() { // a busy machine may leave a doubt
/// let watched = lab.run(|| async {
///     let blocks = tokio::spawn(async { std::thread::park_timeout(Duration::from_millis(120)) });
///     blocks.await.unwrap();
/// });
/// # if left > 0 && matches!(watched.as_ref().unwrap().pulse.verdict(), Verdict::Inconclusive { .. }) { continue }
/// assert_eq!(watched.unwrap().pulse.verdict(), Verdict::Starved);
/// # break }
/// ```
#[derive(Debug, Clone)]
pub struct Lab {
    flavor: Flavor,
    heartbeat: Heartbeat,
    deadline: Duration,
}

impl Lab {
    /// With [`Heartbeat::new`]'s settings and a deadline of 30 s.
    pub const fn new(flavor: Flavor) -> Self {
        Self { flavor, heartbeat: Heartbeat::new(), deadline: Duration::from_secs(30) }
    }

    /// How to watch.
    pub const fn heartbeat(mut self, heartbeat: Heartbeat) -> Self {
        self.heartbeat = heartbeat;
        self
    }

    /// How long the future and the shutdown of its runtime may take together, from when the lab is ready to run it.
    /// What does not keep to it is reported within a second more. What the lab itself takes to judge what was seen, and to
    /// read the symbols for source lines, is not counted.
    pub const fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Runs the future that `f` makes as the root of `block_on`, on a new thread, and drops the runtime.
    ///
    /// The runtime is dropped when this returns, unless the machine had no CPU for the threads that were to end, and they
    /// had nothing else to wait for: after half a second they are left to end by themselves ([`Shutdown::over`]).
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
        Fut: Future<Output = T> + 'static,
        T: Send + 'static,
    {
        self.heartbeat.check().map_err(LabError::Config)?;
        if self.flavor == Flavor::MultiThread(0) {
            return Err(LabError::Config(ConfigError::NoWorkers));
        }
        let bench = bench::Bench::new(self.flavor, self.heartbeat);
        let (report, reports) = channel();
        let (stop, stopped) = oneshot::channel();
        let (lab, theirs) = (self.clone(), bench.clone());
        let thread = std::thread::Builder::new().name("deadbeat-lab".to_owned());
        thread.spawn(move || theirs.run(&lab, f, stopped, &report)).map_err(LabError::Runtime)?;
        // Whatever the lab itself takes to get ready, on a slow machine, is not the code's time.
        let journal = beginning(reports.recv())?;
        let deadline = self.ends(journal.began);
        Waiting { bench, journal, reports, stop: Some(stop), deadline }.wait()
    }

    fn ends(&self, began: Instant) -> Instant {
        began + self.deadline.min(FOREVER)
    }

    /// When the lab's thread has judged what was seen of a future that was done at `done`: in time, which the judging is
    /// not counted to, or too late, and then it is listened to for a while after the deadline.
    fn judged_by(&self, began: Instant, done: Instant) -> Patience {
        let ends = self.ends(began);
        Patience::until(if done <= ends { Instant::now() + ANSWER } else { ends + REPORT / 2 })
    }
}

/// What the lab's thread has to say, in this order.
enum Report<T> {
    /// The runtime is there, and the code is about to run.
    Begins(Arc<Journal>),
    /// The future is done, or was dropped half way because the deadline passed.
    Done(Instant),
    /// No code of theirs keeps this thread from judging what was seen.
    Judging,
    /// What was seen.
    Finished(Box<Watched<Option<T>>>),
    /// It panicked.
    Panicked(String),
    NoRuntime(std::io::Error),
    /// The runtime is gone.
    ShutDown(Duration),
}

/// What the lab's thread says first.
fn beginning<T>(said: Result<Report<T>, RecvError>) -> Result<Arc<Journal>, LabError> {
    match said {
        Ok(Report::Begins(journal)) => Ok(journal),
        Ok(Report::NoRuntime(error)) => Err(LabError::Runtime(error)),
        _ => Err(vanished()),
    }
}

impl bench::Bench {
    /// The life of the lab's thread. Nobody may be listening any more.
    fn run<F, Fut, T>(self, lab: &Lab, f: F, stopped: oneshot::Receiver<()>, report: &Sender<Report<T>>)
    where
        F: FnOnce() -> Fut,
        Fut: Future<Output = T>,
    {
        let runtime = match self.runtime() {
            Ok(runtime) => runtime,
            Err(error) => return drop(report.send(Report::NoRuntime(error))),
        };
        let finished = catch_unwind(AssertUnwindSafe(|| self.watch(lab, &runtime, until(stopped, f), report)));
        let _ = report.send(match finished {
            Ok(watched) => Report::Finished(Box::new(watched)),
            Err(panic) => Report::Panicked(message(&*panic)),
        });
        let begun = Instant::now();
        drop(runtime);
        let _ = report.send(Report::ShutDown(begun.elapsed()));
    }

    fn watch<T>(
        &self,
        lab: &Lab,
        runtime: &Runtime,
        future: impl Future<Output = Option<T>>,
        report: &Sender<Report<T>>,
    ) -> Watched<Option<T>> {
        runtime.block_on(async {
            self.muster(runtime).await;
            let journal = self.open_journal();
            let _ = report.send(Report::Begins(Arc::clone(&journal)));
            let (began, done) = (journal.began, OnceCell::new());
            let at = |stage| {
                let _ = report.send(match stage {
                    Stage::Done => Report::Done(*done.get_or_init(Instant::now)),
                    Stage::Judging => Report::Judging,
                });
            };
            let mut watched = observe(journal, future, at).await;
            let done = *done.get_or_init(Instant::now);
            self.close(&mut watched.pulse, lab.judged_by(began, done));
            watched
        })
    }
}

/// Runs what `f` makes until it is done or told to stop.
async fn until<F, Fut, T>(mut stopped: oneshot::Receiver<()>, f: F) -> Option<T>
where
    F: FnOnce() -> Fut,
    Fut: Future<Output = T>,
{
    use std::pin::{Pin, pin};
    use std::task::Poll;

    let mut future = pin!(f());
    std::future::poll_fn(|cx| match Pin::new(&mut stopped).poll(cx) {
        Poll::Ready(Ok(())) => Poll::Ready(None),
        Poll::Ready(Err(_)) | Poll::Pending => future.as_mut().poll(cx).map(Some),
    })
    .await
}

struct Waiting<T> {
    bench: bench::Bench,
    journal: Arc<Journal>,
    reports: Receiver<Report<T>>,
    stop: Option<oneshot::Sender<()>>,
    deadline: Instant,
}

impl<T> Waiting<T> {
    fn wait(self) -> Result<Watched<T>, LabError> {
        match self.next(self.deadline) {
            Ok(Report::Done(at)) => self.judged(at),
            Ok(Report::Panicked(message)) => Err(LabError::Panicked { message }),
            Err(RecvTimeoutError::Timeout) => self.stop(),
            _ => Err(vanished()),
        }
    }

    /// The future was done in time. The clock stands still while what was seen is judged; until that begins, other tasks of
    /// its thread can keep it from the last beat.
    fn judged(self, done: Instant) -> Result<Watched<T>, LabError> {
        let last_beat = self.deadline.max(done + UNDRIVEN + REPORT);
        let said = match self.next(last_beat) {
            Ok(Report::Judging) => self.next(Instant::now() + ANSWER + REPORT),
            said => said,
        };
        let watched = match said {
            Ok(Report::Finished(watched)) => *watched,
            Ok(Report::Panicked(message)) => return Err(LabError::Panicked { message }),
            Err(RecvTimeoutError::Timeout) => return Err(self.described(reported_by(Instant::now()))),
            _ => return Err(vanished()),
        };
        let Watched { output: Some(output), mut pulse } = watched else {
            return Err(vanished());
        };
        let deadline = self.deadline + done.elapsed();
        let (shutdown, end) = self.shutdown(deadline);
        pulse.shutdown = Some(shutdown);
        self.bench.reconsider(&mut pulse);
        let in_time = end != End::Late;
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
        let patience = reported_by(self.deadline);
        let mut said = self.next(patience.half());
        while let Ok(Report::Done(_) | Report::Judging) = said {
            match said {
                Ok(Report::Done(at)) if at <= self.deadline => return self.judged(at),
                _ => said = self.next(patience.half()),
            }
        }
        // It has come to its end and judges what was seen, slowly. No other thread can.
        if matches!(said, Err(RecvTimeoutError::Timeout)) && self.bench.is_closed() {
            said = self.next(patience.half());
        }
        let Ok(Report::Finished(watched)) = said else { return Err(self.described(patience)) };
        let mut pulse = watched.pulse;
        let (shutdown, _) = self.shutdown(patience.half());
        pulse.shutdown = Some(Shutdown { cut_short: true, ..shutdown });
        Err(self.hung(pulse, patience))
    }

    /// What is stuck, seen from outside.
    fn described(&self, patience: Patience) -> LabError {
        self.hung(hung::describe(&self.bench, &self.journal, patience), patience)
    }

    fn hung(&self, mut pulse: Pulse, patience: Patience) -> LabError {
        self.bench.reconsider(&mut pulse);
        lines::add_by(&mut pulse, patience.end());
        hung(pulse)
    }

    fn shutdown(&self, deadline: Instant) -> (Shutdown, End) {
        shutdown::follow(&self.bench, deadline, |until| match self.next(until) {
            Ok(Report::ShutDown(took)) => Some(took),
            _ => None,
        })
    }

    fn next(&self, until: Instant) -> Result<Report<T>, RecvTimeoutError> {
        self.reports.recv_timeout(left(until))
    }
}

/// Of what was not over the end was not seen, so it is not steady.
fn hung(mut pulse: Pulse) -> LabError {
    pulse.uncovered.get_or_insert(Why::Unfinished);
    LabError::Hung { pulse: Box::new(pulse) }
}

/// When all is said of what was not over at `deadline`.
fn reported_by(deadline: Instant) -> Patience {
    Patience::until(deadline + REPORT)
}

/// The thread ended without a word, which only a panic while it dropped things can make it do.
fn vanished() -> LabError {
    LabError::Panicked { message: "the lab's thread ended early".to_owned() }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_else(|| "(no text)".to_owned())
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::future::pending;
    use std::io;

    use super::*;
    use crate::heartbeat::Culprit;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_report_has_less_time_than_the_documentation_promises() {
        let promised = crate::promised::time(include_str!("lab.rs"), "is reported within {} more. What");
        assert!((promised / 2..promised).contains(&REPORT), "{REPORT:?}");
    }

    #[test]
    fn a_flavor_is_called_by_its_name_and_how_many_workers_it_has() {
        assert_eq!(Flavor::CurrentThread.to_string(), "current_thread");
        assert_eq!(Flavor::MultiThread(3).to_string(), "multi_thread:3");
    }

    #[test]
    fn what_hangs_is_said_to_be_the_code_or_the_drop_of_its_runtime() {
        let hung = |shutdown| {
            let pulse = Pulse { shutdown, ..Pulse::empty(Heartbeat::new(), Instant::now()) };
            let said = LabError::Hung { pulse: Box::new(pulse) }.to_string();
            assert!(said.contains("  verdict  "), "the pulse comes with it: {said}");
            said.lines().next().unwrap().to_owned()
        };
        let shutdown = |cut_short, behind| Some(Shutdown { took: MS * 70, over: false, cut_short, behind });
        let code = "the code under watch was not over after ";
        for told in [hung(None), hung(shutdown(true, None))] {
            assert!(told.starts_with(code), "{told}");
        }
        let drop = "the code under watch was over, but dropping its runtime had not ended after 70.0ms";
        assert_eq!(hung(shutdown(false, None)), format!("{drop}; behind what, was not seen"));
        let running = Culprit::running_by_the_clocks();
        assert_eq!(hung(shutdown(false, Some(running.clone()))), format!("{drop}, behind a thread {running}"));
    }

    #[test]
    fn a_panic_is_told_with_what_is_different_in_a_lab() {
        let said = LabError::Panicked { message: "mine".to_owned() }.to_string();
        let lines: Vec<_> = said.lines().collect();
        assert_eq!(lines[0], "the future under watch panicked: mine");
        assert!(lines[1].contains("`#[tokio::test]`") && lines[1].contains("order") && lines.len() == 2, "{said}");
    }

    /// What the docs of a lab say: with tokio's own interval both are put off until there is nothing else to poll.
    #[test]
    fn a_task_that_yields_is_polled_again_in_another_order_than_by_tokios_own_interval() {
        async fn order() -> Vec<u32> {
            let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
            for task in 0..3 {
                let sender = sender.clone();
                tokio::spawn(async move {
                    for round in 0..2 {
                        sender.send(round * 10 + task).unwrap();
                        tokio::task::yield_now().await;
                    }
                });
            }
            drop(sender);
            let mut order = Vec::new();
            while let Some(polled) = receiver.recv().await {
                order.push(polled);
            }
            order
        }
        let plain = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(order());
        let lab = Lab::new(Flavor::CurrentThread).run(order).unwrap().output;
        assert_eq!(lab, [0, 1, 2, 10, 11, 12], "each yields behind the others");
        assert_ne!(lab, plain, "then there is nothing to explain");
    }

    #[test]
    fn an_error_that_has_a_cause_names_it() {
        let causes = [
            (LabError::Config(ConfigError::NoWorkers), Some("at least one worker")),
            (LabError::Runtime(io::Error::from(io::ErrorKind::OutOfMemory)), Some("out of memory")),
            (LabError::Panicked { message: "mine".to_owned() }, None),
            (LabError::Hung { pulse: Box::new(Pulse::empty(Heartbeat::new(), Instant::now())) }, None),
        ];
        for (error, cause) in causes {
            let source = error.source().map(ToString::to_string);
            assert_eq!(source.is_some(), cause.is_some(), "{source:?}");
            if let (Some(source), Some(cause)) = (source, cause) {
                assert!(source.contains(cause) && error.to_string().contains(&source), "{error}");
            }
        }
    }

    #[test]
    fn a_runtime_that_cannot_be_had_is_not_taken_for_a_panic() {
        let refused = beginning::<()>(Ok(Report::NoRuntime(io::Error::from(io::ErrorKind::OutOfMemory))));
        assert!(matches!(refused, Err(LabError::Runtime(error)) if error.kind() == io::ErrorKind::OutOfMemory));
        let nothing = beginning::<()>(Err(RecvError));
        assert!(matches!(nothing, Err(LabError::Panicked { message }) if message.contains("ended early")));
    }

    #[test]
    fn a_deadline_of_months_is_kept_and_one_beyond_all_clocks_is_as_good_as_none() {
        let began = Instant::now();
        let ends = |deadline| Lab::new(Flavor::CurrentThread).deadline(deadline).ends(began);
        let months = Duration::from_secs(17_000_000);
        assert_eq!(ends(months), began + months);
        assert!(ends(Duration::MAX) > began + months);
    }

    #[test]
    fn the_labs_thread_judges_while_it_is_listened_to() {
        let began = Instant::now();
        let judged_by =
            |done| Lab::new(Flavor::CurrentThread).deadline(MS * 5).judged_by(began, began + MS * done).end();
        assert!(judged_by(5) >= began + ANSWER, "it was done in time");
        let due = judged_by(6);
        assert!(due > began + MS * 5 && due < reported_by(began + MS * 5).end(), "{:?}", due - began);
    }

    #[test]
    fn a_report_is_due_after_the_deadline_and_within_a_second_of_it() {
        let deadline = Instant::now();
        let due = reported_by(deadline).end();
        assert!(due > deadline && due < deadline + Duration::from_secs(1));
    }

    #[test]
    fn a_panic_is_told_in_its_own_words_if_it_has_any() {
        assert_eq!(message(&"of a literal"), "of a literal");
        assert_eq!(message(&String::from("of a format")), "of a format");
        assert_eq!(message(&7), "(no text)");
    }

    #[test]
    fn what_the_code_returns_comes_back_with_the_end_of_its_runtime_or_why_it_never_ran() {
        for flavor in [Flavor::CurrentThread, Flavor::MultiThread(2)] {
            let watched = Lab::new(flavor).run(|| async { 7 }).unwrap();
            assert_eq!(watched.output, 7, "{flavor}");
            let shutdown = watched.pulse.shutdown.unwrap();
            assert!(shutdown.over && !shutdown.cut_short, "{shutdown}");
        }
        let refused = Lab::new(Flavor::MultiThread(0)).run(|| async { 7 });
        assert!(matches!(refused, Err(LabError::Config(ConfigError::NoWorkers))));
    }

    /// On a machine that is hardly there it may say it too late even so, or in time though it does not judge yet.
    #[test]
    fn a_thread_that_is_late_because_it_judges_is_waited_for_and_no_other() {
        let shutdown_if_it = |judges: bool| {
            let bench = bench::Bench::new(Flavor::MultiThread(1), Heartbeat::new());
            let journal = bench.open_journal();
            let mut pulse = journal.so_far().0;
            if judges {
                bench.close(&mut pulse, Patience::of(Duration::ZERO));
            }
            let (report, reports) = channel();
            let deadline = Instant::now();
            std::thread::scope(|scope| {
                scope.spawn(move || {
                    crate::group::pause(left(deadline + REPORT * 6 / 10));
                    let _ = report.send(Report::Finished(Box::new(Watched { output: None::<()>, pulse })));
                    let _ = report.send(Report::ShutDown(MS * 7));
                });
                let Err(LabError::Hung { pulse }) = (Waiting { bench, journal, reports, stop: None, deadline }).stop()
                else {
                    panic!("it was over")
                };
                pulse.shutdown.map(|shutdown| shutdown.took)
            })
        };
        assert!((0..10).any(|_| shutdown_if_it(true) == Some(MS * 7)));
        assert!((0..10).any(|_| shutdown_if_it(false).is_none()));
    }

    /// What the lab's thread says of a future that was done so long before the deadline or after it, `late` after it.
    fn said_late(late: Duration, done: impl FnOnce(Instant) -> Instant) -> Result<Watched<u8>, LabError> {
        let bench = bench::Bench::new(Flavor::CurrentThread, Heartbeat::new());
        let journal = bench.open_journal();
        let pulse = journal.so_far().0;
        let (report, reports) = channel();
        let deadline = Instant::now();
        let done = done(deadline);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                crate::group::pause(left(deadline + late));
                let finished = Report::Finished(Box::new(Watched { output: Some(7), pulse }));
                for said in [Report::Done(done), Report::Judging, finished, Report::ShutDown(MS)] {
                    let _ = report.send(said);
                }
            });
            Waiting { bench, journal, reports, stop: None, deadline }.wait()
        })
    }

    /// On a machine that is hardly there it may be heard too late even so.
    #[test]
    fn a_future_that_was_done_in_time_is_not_hung_though_that_is_heard_after_the_deadline() {
        let in_time = || said_late(MS * 20, |deadline| deadline);
        assert!((0..10).any(|_| in_time().is_ok_and(|watched| watched.output == 7)));
        for _ in 0..3 {
            let late = said_late(MS * 20, |deadline| deadline + MS);
            assert!(matches!(late, Err(LabError::Hung { .. })), "it was not over at the deadline");
        }
    }

    #[test]
    fn the_clock_stands_still_while_what_was_seen_is_judged() {
        let bench = bench::Bench::new(Flavor::CurrentThread, Heartbeat::new());
        let journal = bench.open_journal();
        let pulse = journal.so_far().0;
        let (report, reports) = channel();
        let done = Instant::now();
        // What is left for the shutdown when all is judged.
        let deadline = done + REPORT;
        let _ = (report.send(Report::Done(done)), report.send(Report::Judging));
        let watched = std::thread::scope(|scope| {
            scope.spawn(move || {
                // Longer than a report takes of what is hung.
                crate::group::pause(left(deadline + REPORT * 3 / 2));
                let _ = report.send(Report::Finished(Box::new(Watched { output: Some(7), pulse })));
                let _ = report.send(Report::ShutDown(MS));
            });
            Waiting { bench, journal, reports, stop: None, deadline }.wait().unwrap()
        });
        assert!(watched.pulse.shutdown.unwrap().over);
    }

    /// On a machine that is hardly there the thread may answer too late; then nothing is known of its runtime's end.
    #[test]
    fn code_that_merely_waits_is_dropped_at_the_deadline_so_its_shutdown_is_called_cut_short() {
        let lab = Lab::new(Flavor::CurrentThread).deadline(MS * 5);
        let cut_short = || {
            let Err(LabError::Hung { pulse }) = lab.run(pending::<()>) else { panic!("it was over") };
            pulse.shutdown.inspect(|shutdown| assert!(shutdown.cut_short, "{shutdown}"))
        };
        assert!((0..20).any(|_| cut_short().is_some_and(|shutdown| shutdown.over)));
    }
}
