//! The kill implementations under test: the bug, the fix, the rejected alternative, and functions and programs of
//! others.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

use super::program::{KillerProgram, TemplateError};
use crate::kill::{KillError, KillPolicy, KillReport, KillThread, kill_in_pool};

/// What a subject reports of its kill; `None` if it returns nothing.
pub(super) type SelfReport = Option<Result<KillReport, KillError>>;
pub(super) type Killing = Pin<Box<dyn Future<Output = SelfReport> + Send>>;

/// A kill implementation under test.
#[derive(Clone)]
pub struct Subject {
    name: String,
    about: String,
    pub(super) implementation: Implementation,
    /// Whether the subject returns a report of what it did.
    pub(super) reports_itself: bool,
    pub(super) known_faults: KnownFaults,
}

pub(super) type KillFunction = Arc<dyn Fn(i32, KillPolicy) -> Killing + Send + Sync>;

/// How a subject is called.
#[derive(Clone)]
pub(super) enum Implementation {
    Function(KillFunction),
    Program(KillerProgram),
}

/// The ways in which a known-bad subject is bad. Each is expected to be seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct KnownFaults {
    /// It blocks the worker while it waits.
    pub(super) starves: bool,
    /// It takes `ESRCH` for gone, so an un-reaped leader holds the grace.
    pub(super) holds_the_grace: bool,
    /// It sends no SIGCONT.
    pub(super) leaves_stopped: bool,
}

impl Subject {
    /// A kill function that takes a pgid and returns nothing; what it did is observed from the fixture's end.
    pub fn new<F, Fut>(name: &str, kill: F) -> Subject
    where
        F: Fn(i32) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        Subject::calling(name, "", move |pgid, _| {
            let killing = kill(pgid);
            async move {
                killing.await;
                None
            }
        })
    }

    /// A program to judge: `template` is a command line for `/bin/sh -c`, in which `{pgid}` stands for the process
    /// group and `{grace}` for the grace that it is to give, in seconds.
    ///
    /// A program has no runtime and so no pulse. It has to exit with status 0, before the suite's
    /// [deadline](super::Suite::deadline). What it starts is killed when the cell is over.
    ///
    /// # Errors
    ///
    /// [`TemplateError`] for a template without `{pgid}`.
    pub fn program(name: &str, template: &str) -> Result<Subject, TemplateError> {
        let implementation = Implementation::Program(KillerProgram::new(template)?);
        let (name, about) = (name.to_owned(), template.to_owned());
        Ok(Subject { name, about, implementation, reports_itself: false, known_faults: KnownFaults::default() })
    }

    fn calling<F, Fut>(name: &str, about: &str, kill: F) -> Subject
    where
        F: Fn(i32, KillPolicy) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = SelfReport> + Send + 'static,
    {
        Subject {
            name: name.to_owned(),
            about: about.to_owned(),
            implementation: Implementation::Function(Arc::new(move |pgid, policy| Box::pin(kill(pgid, policy)))),
            reports_itself: false,
            known_faults: KnownFaults::default(),
        }
    }

    fn reporting_itself(mut self) -> Subject {
        self.reports_itself = true;
        self
    }

    fn known_bad(mut self, known_faults: KnownFaults) -> Subject {
        self.known_faults = known_faults;
        self
    }

    /// The subject under another name.
    #[cfg(feature = "conformance")]
    pub(super) fn called(mut self, name: &str) -> Subject {
        name.clone_into(&mut self.name);
        self
    }

    /// The subject's name, as `--subject` takes it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The subject in a few words; the template of a program; empty for a function of your own.
    pub fn about(&self) -> &str {
        &self.about
    }

    /// Whether the subject is expected to be caught.
    pub fn is_known_bad(&self) -> bool {
        self.known_faults != KnownFaults::default()
    }

    /// Whether the subject is a program, which runs on no runtime.
    pub fn is_program(&self) -> bool {
        matches!(self.implementation, Implementation::Program(_))
    }
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subject({})", self.name)
    }
}

/// The subjects that `deadbeat suite` judges by default.
pub fn built_in() -> Vec<Subject> {
    vec![
        Subject::calling("inline", "the bug: the naive body, on the worker", |pgid, policy| async move {
            naive_kill(pgid, &policy);
            None
        })
        .known_bad(KnownFaults { starves: true, holds_the_grace: true, leaves_stopped: true }),
        Subject::calling("spawn-blocking", "kill_process_group", |pgid, policy| async move {
            // What kill_process_group does, with the suite's grace and the report kept.
            Some(kill_in_pool(pgid, &policy.confirm(Duration::ZERO)).await)
        })
        .reporting_itself(),
        Subject::calling("kill-thread", "many kills on one thread", |pgid, policy| async move {
            let kill_thread = match KillThread::new(policy.confirm(Duration::ZERO)) {
                Ok(kill_thread) => kill_thread,
                Err(error) => return Some(Err(KillError::os(pgid, error))),
            };
            Some(kill_thread.kill(pgid).await)
        })
        .reporting_itself(),
        Subject::calling("async-sleep", "the rejected alternative: tokio's sleep", |pgid, policy| async move {
            naive_async_kill(pgid, &policy).await;
            None
        })
        .known_bad(KnownFaults { starves: false, holds_the_grace: true, leaves_stopped: true }),
    ]
}

fn first_signal(policy: &KillPolicy) -> Signal {
    Signal::try_from(policy.signal.as_raw()).unwrap_or(Signal::SIGTERM)
}

const NAIVE_POLL: Duration = Duration::from_millis(100);

/// The body that most people write first.
fn naive_kill(pgid: i32, policy: &KillPolicy) {
    let group = Pid::from_raw(pgid);
    if killpg(group, first_signal(policy)) == Err(Errno::ESRCH) {
        return;
    }
    let start = Instant::now();
    while start.elapsed() < policy.grace {
        #[expect(clippy::disallowed_methods, reason = "the known-bad subject: this is the bug")]
        std::thread::sleep(NAIVE_POLL);
        if killpg(group, None) == Err(Errno::ESRCH) {
            return;
        }
    }
    let _ = killpg(group, Signal::SIGKILL);
}

/// The naive body with an async sleep: it starves no worker, and waits as long in vain.
async fn naive_async_kill(pgid: i32, policy: &KillPolicy) {
    let group = Pid::from_raw(pgid);
    if killpg(group, first_signal(policy)) == Err(Errno::ESRCH) {
        return;
    }
    let start = Instant::now();
    while start.elapsed() < policy.grace {
        tokio::time::sleep(NAIVE_POLL).await;
        if killpg(group, None) == Err(Errno::ESRCH) {
            return;
        }
    }
    let _ = killpg(group, Signal::SIGKILL);
}
