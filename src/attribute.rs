//! What a `#[deadbeat::test]` calls: runs the body in a lab, again if that proves nothing, and says what was seen.

use std::any::Any;
use std::future::{Future, poll_fn};
use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::process::{ExitCode, Termination};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::runtime::Builder;

use crate::date;
use crate::heartbeat::{Flavor, Heartbeat, Lab, LabError, Pulse, Verdict, Watched, proves_nothing_for_now};
use crate::retry::while_inconclusive;

mod report_line;
mod settings;
mod test_verdict;

use report_line::ReportEntry;
use settings::{Mode, Settings};
use test_verdict::{Consequence, KnownStall, TestVerdict};

/// A test, as the attribute describes it.
#[derive(Debug, Clone)]
#[must_use = "it does nothing until it is run"]
pub struct Test {
    module: &'static str,
    name: &'static str,
    heartbeat: Heartbeat,
    deadline: Option<Duration>,
    known: Option<KnownStall>,
    should_panic: bool,
}

/// A body that stays on one thread.
type Body = Pin<Box<dyn Future<Output = ExitCode>>>;
/// A body that any worker may poll.
type SendBody = Pin<Box<dyn Future<Output = ExitCode> + Send>>;

/// Makes the body, once for each run.
#[derive(Clone)]
enum Make {
    /// The root of a current_thread runtime.
    Root(Arc<dyn Fn() -> Body + Send + Sync>),
    /// A task of a runtime with so many workers.
    Task(usize, Arc<dyn Fn() -> SendBody + Send + Sync>),
}

/// How a body ended.
enum BodyEnd {
    Returned(ExitCode),
    Panicked(Box<dyn Any + Send>),
}

impl Test {
    /// In the module of that path. The times are those of [`Heartbeat::new`] and [`Lab::new`].
    pub const fn new(module: &'static str, name: &'static str) -> Self {
        Self { module, name, heartbeat: Heartbeat::new(), deadline: None, known: None, should_panic: false }
    }

    /// In milliseconds.
    pub const fn budget(mut self, budget: u64) -> Self {
        self.heartbeat = self.heartbeat.budget(Duration::from_millis(budget));
        self
    }

    /// In milliseconds.
    pub const fn interval(mut self, interval: u64) -> Self {
        self.heartbeat = self.heartbeat.interval(Duration::from_millis(interval));
        self
    }

    /// In milliseconds.
    pub const fn deadline(mut self, deadline: u64) -> Self {
        self.deadline = Some(Duration::from_millis(deadline));
        self
    }

    /// That it stalls, and why it stays so.
    pub const fn known(mut self, why: &'static str) -> Self {
        self.known = Some(KnownStall { why, until: None });
        self
    }

    /// The last day on which it may, `YYYY-MM-DD`.
    pub const fn until(mut self, day: &'static str) -> Self {
        if let Some(known) = &mut self.known {
            known.until = Some(day);
        }
        self
    }

    /// It passes if its body panics: then a failure must be no panic.
    pub const fn should_panic(mut self) -> Self {
        self.should_panic = true;
        self
    }

    /// Runs it as the root future of a current_thread runtime.
    ///
    /// # Panics
    ///
    /// With the payload of the body if that panics, or with the report if it starves its runtime.
    #[track_caller]
    pub fn run<F, Fut>(self, body: F) -> ExitCode
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Termination> + 'static,
    {
        let make = move || -> Body {
            let body = body();
            Box::pin(async move { body.await.report() })
        };
        self.conduct(&Make::Root(Arc::new(make)))
    }

    /// Runs it in a task of a multi_thread runtime.
    ///
    /// # Panics
    ///
    /// As [`run`](Self::run).
    #[track_caller]
    pub fn run_on_workers<F, Fut>(self, workers: Option<u32>, body: F) -> ExitCode
    where
        F: Fn() -> Fut + Send + Sync + 'static,
        Fut: Future<Output: Termination> + Send + 'static, // else `flavor = "current_thread"`
    {
        let make = move || -> SendBody {
            let body = body();
            Box::pin(async move { body.await.report() })
        };
        self.conduct(&Make::Task(workers.map_or_else(default_workers, |workers| workers as usize), Arc::new(make)))
    }

    #[track_caller]
    fn conduct(&self, make: &Make) -> ExitCode {
        let settings = match Settings::of_environment() {
            Ok(settings) => settings,
            // A test that should panic fails of it too.
            Err(wrong) => return self.fail(&wrong),
        };
        if settings.mode == Mode::Off {
            return make.run_unwatched();
        }
        let run = while_inconclusive(|| self.watch(make), |run| self.is_worth_another(run));
        match run {
            Ok(Watched { output, pulse, .. }) => self.judge(output, &pulse, &settings),
            Err(LabError::Hung { ref pulse }) => {
                self.record(TestVerdict::Hung, pulse, &settings);
                self.fail(&self.report(TestVerdict::Hung, pulse))
            }
            // Not of the body, whose own is caught: of what was dropped when it was over.
            Err(LabError::Panicked(payload)) => resume_unwind(payload.into_inner()),
            // The body was not run, or not to an end.
            Err(error) => self.fail(&error.to_string()),
        }
    }

    fn watch(&self, make: &Make) -> Result<Watched<BodyEnd>, LabError> {
        let lab = |flavor, blocking_pool: Option<bool>| {
            let heartbeat = blocking_pool.map_or(self.heartbeat, |watch| self.heartbeat.blocking_pool(watch));
            let lab = Lab::new(flavor).heartbeat(heartbeat).thread_name(self.path().1);
            self.deadline.map_or(lab.clone(), |deadline| lab.deadline(deadline))
        };
        match make.clone() {
            // Its pool takes over no worker, and a full one is no stall.
            Make::Root(make) => lab(Flavor::CurrentThread, Some(false)).run_root(move || caught(make())),
            Make::Task(workers, make) => lab(Flavor::MultiThread(workers), None).run(move || caught(make())),
        }
    }

    /// Whether the body came to the end it should come to and the machine kept it from proving something.
    fn is_worth_another(&self, run: &Result<Watched<BodyEnd>, LabError>) -> bool {
        run.as_ref().is_ok_and(|run| self.is_fine(&run.output) && proves_nothing_for_now(&run.pulse))
    }

    /// Whether it would pass, were it not watched.
    fn is_fine(&self, end: &BodyEnd) -> bool {
        match end {
            BodyEnd::Returned(code) => !self.should_panic && *code == ExitCode::SUCCESS,
            BodyEnd::Panicked(_) => self.should_panic,
        }
    }

    #[track_caller]
    fn judge(&self, end: BodyEnd, pulse: &Pulse, settings: &Settings) -> ExitCode {
        let is_over = self.known.and_then(|known| known.until).is_some_and(date::is_over);
        let verdict = TestVerdict::of(&pulse.verdict(), self.known, is_over);
        if !self.is_fine(&end) {
            // It fails by itself; that it stalled may be why.
            if verdict == TestVerdict::Starved {
                self.record(verdict, pulse, settings);
                eprintln!("{}", self.report(verdict, pulse));
            }
            return end.hand_on();
        }
        match verdict.consequence(settings) {
            Consequence::Passes => end.hand_on(),
            Consequence::PassesWithNote => {
                self.record(verdict, pulse, settings);
                to_stderr(&format!("deadbeat: {}: {}\n", self.path().1, self.note(verdict, pulse)));
                end.hand_on()
            }
            Consequence::Fails => {
                self.record(verdict, pulse, settings);
                self.fail(&self.report(verdict, pulse))
            }
        }
    }

    #[track_caller]
    fn fail(&self, report: &str) -> ExitCode {
        if self.should_panic {
            eprintln!(
                "{report}\nit returns to fail: a panic with this report would be taken for the one it should end with"
            );
            return ExitCode::SUCCESS;
        }
        panic!("{report}")
    }

    fn record(&self, verdict: TestVerdict, pulse: &Pulse, settings: &Settings) {
        let Some(file) = &settings.report else { return };
        let (of_crate, test) = self.path();
        let entry = ReportEntry { of_crate, test: &test, verdict, known: self.known, pulse };
        if let Err(error) = entry.append_to(file) {
            to_stderr(&format!("deadbeat: {test}: cannot append to {}: {error}\n", file.display()));
        }
    }

    /// The crate, and the test's path within it, as a harness names it.
    fn path(&self) -> (&'static str, String) {
        match self.module.split_once("::") {
            Some((of_crate, module)) => (of_crate, format!("{module}::{}", self.name)),
            None => (self.module, self.name.to_owned()),
        }
    }

    /// For a test that fails.
    fn report(&self, verdict: TestVerdict, pulse: &Pulse) -> String {
        match verdict {
            TestVerdict::Hung => {
                let deadline = self.deadline.map_or_else(String::new, |deadline| format!(" {deadline:?}"));
                let error = LabError::Hung { pulse: Box::new(pulse.clone()) };
                format!("{error}  or           give it more time than{deadline}: `deadline = \"..\"`\n")
            }
            TestVerdict::NoLongerStalls => self.note(verdict, pulse),
            TestVerdict::Starved => format!("the runtime was starved\n{pulse}"),
            _ => format!("{}\n{pulse}", self.note(verdict, pulse)),
        }
    }

    /// In one line.
    fn note(&self, verdict: TestVerdict, pulse: &Pulse) -> String {
        let known = self.known.map_or("", |known| known.why);
        let until = self.known.and_then(|known| known.until).unwrap_or_default();
        match verdict {
            TestVerdict::Known => format!("a known stall ({known}): {}", worst(pulse)),
            TestVerdict::NoLongerStalls => {
                let both = if until.is_empty() { "`known`" } else { "`known` and `until`" };
                format!("the known stall did not happen: remove {both} from the attribute ({known})")
            }
            TestVerdict::Expired if pulse.verdict() == Verdict::Starved => {
                format!(
                    "it was known to stall until {until}, which is over ({known}): mend it, or move `until`: {}",
                    worst(pulse)
                )
            }
            TestVerdict::Expired if pulse.verdict() == Verdict::Steady => {
                format!("it was known to stall until {until}, which is over ({known}), and does no longer: remove both")
            }
            TestVerdict::Expired => {
                let run = pulse.verdict();
                format!("it was known to stall until {until}, which is over ({known}); whether it still does: {run}")
            }
            TestVerdict::Inconclusive if proves_nothing_for_now(pulse) => {
                format!("three runs prove nothing; {}", pulse.verdict())
            }
            TestVerdict::Inconclusive => format!("it proves nothing; {}", pulse.verdict()),
            TestVerdict::Steady | TestVerdict::Starved | TestVerdict::Hung => {
                format!("the runtime was starved: {}", worst(pulse))
            }
        }
    }
}

impl Make {
    /// As `#[tokio::test]` does.
    fn run_unwatched(&self) -> ExitCode {
        let (mut builder, body) = match self {
            Self::Root(make) => (Builder::new_current_thread(), make()),
            Self::Task(workers, make) => {
                let mut builder = Builder::new_multi_thread();
                builder.worker_threads(*workers);
                (builder, make() as Body)
            }
        };
        builder.enable_all().build().expect("no runtime could be started").block_on(body)
    }
}

impl BodyEnd {
    fn hand_on(self) -> ExitCode {
        match self {
            Self::Returned(code) => code,
            Self::Panicked(payload) => resume_unwind(payload),
        }
    }
}

/// What the body ends with, a panic included: what was seen until then is not lost with it.
async fn caught(mut body: impl Future<Output = ExitCode> + Unpin) -> BodyEnd {
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| Pin::new(&mut body).poll(cx))) {
        Ok(polled) => polled.map(BodyEnd::Returned),
        Err(payload) => Poll::Ready(BodyEnd::Panicked(payload)),
    })
    .await
}

/// As many as tokio takes.
fn default_workers() -> usize {
    let wished = std::env::var("TOKIO_WORKER_THREADS").ok().and_then(|wished| wished.parse().ok());
    let wished = wished.filter(|wished| *wished > 0);
    wished.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from))
}

/// How long the worst stall was, and behind what.
fn worst(pulse: &Pulse) -> String {
    let Some(stall) = pulse.worst() else { return format!("no stall above the budget of {:.1?}", pulse.budget) };
    let (charged, budget) = (stall.charged(), pulse.budget);
    let culprit = stall.culprit.as_ref().map_or_else(String::new, |culprit| format!(", {culprit}"));
    let more = match pulse.stalls.len() {
        1 => String::new(),
        all => format!(", the worst of {all}"),
    };
    format!("{charged:.1?} charged of a budget of {budget:.1?}{culprit}{more}")
}

/// To the descriptor itself: a harness keeps what a test prints, and drops it if the test passes.
fn to_stderr(line: &str) {
    let _ = std::io::stderr().write_all(line.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heartbeat::Why;

    const PLAIN: Test = Test::new("ours::net", "connects");

    fn run(end: BodyEnd, doubt: Option<Why>) -> Result<Watched<BodyEnd>, LabError> {
        let mut watched = Lab::new(Flavor::CurrentThread).run(|| async {}).unwrap();
        watched.pulse.uncovered = doubt;
        Ok(Watched { output: end, pulse: watched.pulse })
    }

    fn panicked() -> BodyEnd {
        BodyEnd::Panicked(Box::new("mine"))
    }

    #[test]
    fn only_what_passes_and_the_machine_kept_in_doubt_is_run_again() {
        let doubt = || Some(Why::Memory);
        for (test, end, doubt, again) in [
            (PLAIN, BodyEnd::Returned(ExitCode::SUCCESS), doubt(), true),
            (PLAIN, BodyEnd::Returned(ExitCode::SUCCESS), None, false),
            (PLAIN, BodyEnd::Returned(ExitCode::SUCCESS), Some(Why::PausedClock), false),
            (PLAIN, BodyEnd::Returned(ExitCode::FAILURE), doubt(), false),
            (PLAIN, panicked(), doubt(), false),
            (PLAIN.should_panic(), panicked(), doubt(), true),
            (PLAIN.should_panic(), BodyEnd::Returned(ExitCode::SUCCESS), doubt(), false),
        ] {
            let should_panic = test.should_panic;
            assert_eq!(
                test.is_worth_another(&run(end, doubt.clone())),
                again,
                "{doubt:?}, should panic: {should_panic}"
            );
        }
    }

    #[test]
    fn a_doubt_that_stays_says_that_three_runs_had_it() {
        let pulse = run(panicked(), Some(Why::Memory)).unwrap().pulse;
        let report = PLAIN.report(TestVerdict::Inconclusive, &pulse);
        assert!(report.starts_with("three runs prove nothing; inconclusive: the worker waited for memory"), "{report}");
        assert!(report.contains("  verdict      inconclusive"), "{report}");
    }

    #[test]
    fn a_known_stall_is_called_gone_only_by_a_run_that_proves_it() {
        let known = PLAIN.known("issue 12").until("2020-02-29");
        let note = |verdict, doubt| known.note(verdict, &run(panicked(), doubt).unwrap().pulse);
        let gone = note(TestVerdict::NoLongerStalls, None);
        assert!(gone.contains("remove `known` and `until` from the attribute (issue 12)"), "{gone}");
        let over = |doubt| note(TestVerdict::Expired, doubt);
        // Where this run proves nothing by itself, the machine was too busy for the control too.
        let proven = over(None);
        assert!(proven.contains("remove both") || proven.contains("inconclusive"), "{proven}");
        let unproven = over(Some(Why::Memory));
        assert!(unproven.contains("whether it still does: inconclusive") && !unproven.contains("remove"), "{unproven}");
    }

    #[test]
    fn a_test_is_called_as_its_harness_calls_it() {
        assert_eq!(PLAIN.path(), ("ours", "net::connects".to_owned()));
        assert_eq!(Test::new("ours", "connects").path(), ("ours", "connects".to_owned()));
    }

    #[test]
    fn a_body_runs_unwatched_as_in_plain_tokio() {
        let make = || Make::Root(Arc::new(|| Box::pin(async { ExitCode::FAILURE })));
        assert_eq!(make().run_unwatched(), ExitCode::FAILURE);
        let workers = Make::Task(
            3,
            Arc::new(|| Box::pin(async { (tokio::runtime::Handle::current().metrics().num_workers() as u8).into() })),
        );
        assert_eq!(workers.run_unwatched(), ExitCode::from(3));
    }
}
