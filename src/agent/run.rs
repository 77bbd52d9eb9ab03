//! One run in progress: its command is started and comes to an end, and what is left of it is killed.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::process::ExitStatus;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::process::{Child, Command};

use super::cleanup::Unfinished;
use super::end::{AgentError, AgentExit};
use super::exit::LeaderExit;
use super::options::{AgentOptions, Leftovers};
use super::start::{Preparation, StartError};
use crate::error::{KillError, KillErrorKind};
use crate::group::{Backend, ProcessGroup, backend};
use crate::guardian::GuardedChild;
use crate::kill::runner::{off_worker, off_worker_then};
use crate::kill::{KillReport, Outcome};
use crate::signal::Signal;

/// The result of killing what the leader left behind, if there was anything.
type Leftover = Option<Result<KillReport, KillError>>;

/// Why a run is over.
pub(super) enum AgentEnd {
    Exited,
    TimedOut(Duration),
    ShutdownRequested,
}

/// A run in progress.
pub(super) struct AgentRun<'a> {
    unfinished: Option<Unfinished>,
    group: ProcessGroup,
    exit: LeaderExit,
    options: &'a AgentOptions,
}

impl<'a> AgentRun<'a> {
    /// Starts the command, unless the shutdown was requested or all children were killed.
    pub(super) async fn start(mut command: Command, options: &'a AgentOptions) -> Result<AgentRun<'a>, AgentError> {
        if options.shutdown.is_requested() {
            return Err(AgentError::ShutdownRequested { kill: None, status: None });
        }
        if options.registry.has_swept(None) {
            return Err(AgentError::KilledWithAll { status: None });
        }
        // Before the child is started: with SIGCHLD ignored by inheritance the kernel would reap it at once.
        let unprepared = |error| AgentError::Spawn(StartError::in_preparation(error));
        let exit = LeaderExit::prepare().map_err(unprepared)?;
        command.process_group(0).kill_on_drop(false).stdin(options.stdin.stdio());
        let guarded = match &options.guardian {
            Some(guardian) => Some(guardian.announce_off_worker(&options.policy).await.map_err(unprepared)?),
            None => None,
        };
        if let Some((name, value)) = guarded.as_ref().map(GuardedChild::mark) {
            command.env(name, value);
        }
        let mut run = match command.spawn() {
            Ok(child) => AgentRun::begin(child, exit, guarded, options)?,
            Err(error) => {
                let own = Preparation { stdin: options.stdin, leads: true };
                let error = match options.escaped {
                    // Such a caller reaps each child of this process, on this thread: a child that another thread
                    // starts would be gone before that thread waits for it.
                    Some(_) => StartError::find_out(&mut command, error, own),
                    None => StartError::find_out_off_worker(command, error, own).await,
                };
                release(guarded).await;
                return Err(AgentError::Spawn(error));
            }
        };
        if let (Some(on_spawn), Some(child)) = (&options.on_spawn, run.child()) {
            on_spawn(child);
        }
        Ok(run)
    }

    fn begin(
        mut child: Child,
        mut exit: LeaderExit,
        mut guarded: Option<GuardedChild>,
        options: &'a AgentOptions,
    ) -> Result<AgentRun<'a>, AgentError> {
        let group = match ProcessGroup::led_by(&child) {
            Ok(group) => group,
            Err(error) => {
                let _ = child.start_kill();
                // The guarded child is not released: a process with its mark dies with this process at the latest.
                return Err(AgentError::Spawn(StartError::in_preparation(io::Error::other(error))));
            }
        };
        let (policy, registry) = (options.policy.clone(), Arc::clone(&options.registry));
        if let Some(guarded) = &mut guarded {
            guarded.guard_off_worker(group);
        }
        let escaped = options.escaped.clone();
        let unfinished = Unfinished { child: Some(child), group, guarded, escaped, policy, registry };
        options.registry.enter(group, &options.policy);
        exit.hold(group);
        Ok(AgentRun { unfinished: Some(unfinished), group, exit, options })
    }

    fn child(&mut self) -> Option<&mut Child> {
        self.unfinished.as_mut()?.child.as_mut()
    }

    /// Waits for what ends the run first. The leader is not reaped by that: it has to pin the pgid until all others are
    /// dead.
    pub(super) async fn until_it_ends(&mut self) -> AgentEnd {
        let (group, options) = (self.group, self.options);
        let mut exited = pin!(self.exit.of(group, options.policy.poll_interval));
        let mut timeout = pin!(async {
            match options.timeout {
                Some(timeout) => {
                    tokio::time::sleep(timeout).await;
                    timeout
                }
                None => std::future::pending().await,
            }
        });
        let mut request = pin!(options.shutdown.requested());
        // A command that has ended has ended, even if its time is over by now.
        poll_fn(|cx| {
            if exited.as_mut().poll(cx).is_ready() {
                return Poll::Ready(AgentEnd::Exited);
            }
            if let Poll::Ready(after) = timeout.as_mut().poll(cx) {
                return Poll::Ready(AgentEnd::TimedOut(after));
            }
            request.as_mut().poll(cx).map(|()| AgentEnd::ShutdownRequested)
        })
        .await
    }

    /// Ends a run whose leader has ended by itself: kills what it left behind, and reaps it.
    pub(super) async fn finish(mut self) -> Result<AgentExit, AgentError> {
        let with_all = self.options.registry.has_swept(Some(self.group));
        // If that fails, `self.unfinished` is dropped, and so handed to the kill thread.
        let leftovers = unless_undone(self.kill_leftovers().await)?;
        release(self.unfinished.as_mut().and_then(Unfinished::take_guarded)).await;
        let reaped = self.unfinished.take().map_or(Ok(None), |mut unfinished| unfinished.reap());
        let status = reaped.map_err(AgentError::Wait)?;
        let status = status.ok_or_else(|| AgentError::Wait(io::Error::other("it has not ended")))?;
        match with_all {
            true => Err(AgentError::KilledWithAll { status: Some(status) }),
            false => Ok(AgentExit { status, leftovers }),
        }
    }

    async fn kill_leftovers(&mut self) -> Leftover {
        if self.options.leftovers == Leftovers::Leave || self.has_no_descendants() {
            return None;
        }
        self.unfinished.as_mut().into_iter().for_each(Unfinished::kill_escaped);
        let policy = match backend() {
            Backend::Proc => self.options.policy.clone(),
            // The zombie of the leader looks alive to the end. Where the other members cannot be seen, there is nothing
            // to wait for.
            Backend::Probe => self.options.policy.clone().signal(Signal::KILL).confirm(Duration::ZERO),
        };
        match off_worker(self.options.registry.join_kill(self.group, &policy)).await {
            Ok(report) if report.outcome == Outcome::AlreadyGone || backend() == Backend::Probe => None,
            result => Some(result),
        }
    }

    /// Whether no descendant of this process runs any more, so that no thread is needed for a kill. The look blocks, so
    /// it is only taken for a caller that kills escaped processes itself: this program, whose one worker has nothing
    /// else to do.
    fn has_no_descendants(&self) -> bool {
        #[cfg(feature = "cli")]
        if self.options.escaped.is_some() {
            let guardian = self.options.guardian.as_ref().and_then(crate::guardian::Guardian::pid);
            return crate::group::descendants::has_died_out(&guardian.into_iter().collect::<Vec<_>>());
        }
        false
    }

    /// Has the group sent this signal first, instead of the policy's, if a shutdown request names one.
    pub(super) fn use_signal(&mut self, signal: Option<Signal>) {
        if let (Some(signal), Some(unfinished)) = (signal, &mut self.unfinished) {
            unfinished.policy = unfinished.policy.clone().signal(signal);
        }
    }

    /// Kills the group, then reaps its leader. From the first signal on both happen even if this future is dropped.
    pub(super) async fn kill(mut self) -> (Result<KillReport, KillError>, Option<ExitStatus>) {
        let Some(mut unfinished) = self.unfinished.take() else { unreachable!("only a run that is over has none") };
        // The guardian first: it knows an escaped child by its parent, which may die of the signal.
        unfinished.kill_escaped();
        let kill = unfinished.begin_kill();
        // If the closure is dropped, `unfinished` is dropped with it, and the group killed and reaped all the same.
        match off_worker_then(kill, move |result| (result, unfinished)).await {
            Ok((kill, unfinished)) => (kill, reap_off_worker(unfinished).await.unwrap_or(None)),
            // The kill never began, and `unfinished` was dropped.
            Err(error) => (Err(error), None),
        }
    }
}

/// If the kill of the leftovers failed, the kill thread tries again; except after `EPERM`, which would only repeat.
fn unless_undone(leftover: Leftover) -> Result<Leftover, AgentError> {
    match leftover {
        Some(Err(error)) if error.kind() != KillErrorKind::NotPermitted => Err(AgentError::Leftovers(error)),
        leftover => Ok(leftover),
    }
}

/// Reaps the leader after the kill. The release may have to wait for a guardian that does not read: not on a worker,
/// and not on the kill thread either, where other kills would wait for it too.
async fn reap_off_worker(mut unfinished: Unfinished) -> io::Result<Option<ExitStatus>> {
    if !unfinished.group.leader_has_exited() {
        unfinished.give_up();
        return Ok(None);
    }
    release(unfinished.take_guarded()).await;
    unfinished.reap()
}

async fn release(guarded: Option<GuardedChild>) {
    if let Some(guarded) = guarded {
        guarded.release_off_worker().await;
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;
    use std::path::{Path, PathBuf};

    use tokio::runtime::{Builder, Runtime};
    use tokio::time::timeout;

    use super::*;
    use crate::agent::run_subprocess_agent;
    use crate::guardian::Guardian;
    use crate::kill::KillPolicy;
    use crate::kill::testing::{SOON, eventually};
    use crate::registry::Registry;
    use crate::shutdown::Shutdown;

    // What a guardian is told, by the first byte of a message.
    const ANSWER: u8 = 0;
    const EXPECT: u8 = 1;
    const GUARD: u8 = 2;
    const RELEASE: u8 = 3;
    const KILL_ESCAPED: u8 = 4;
    /// The length of a message.
    const MESSAGE: usize = 40;

    fn runtime() -> Runtime {
        Builder::new_current_thread().enable_all().build().unwrap()
    }

    /// Options with a grace and a time to confirm that no run uses up, and with a registry and a shutdown of their own.
    fn options() -> AgentOptions {
        let policy = KillPolicy::default().grace(Duration::from_secs(60)).confirm(SOON);
        let (registry, shutdown) = (Arc::new(Registry::new(policy.clone())), Arc::new(Shutdown::new()));
        AgentOptions::default().policy(policy).registry(registry).shutdown(shutdown)
    }

    fn sh(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    /// A guardian that does nothing but write down what it is sent, and the file that it writes to.
    fn recorder(dir: &Path) -> (Guardian, PathBuf) {
        let program = dir.join("guardian");
        // Written by another process: a child that another test forks meanwhile would hold the file open, and what is
        // open to be written does not run (`ETXTBSY`).
        let write =
            r#"printf '%s\n' '#!/bin/sh' 'printf deadbeat >&0' 'exec cat >"$0.messages"' >"$0" && chmod 700 "$0""#;
        let written = std::process::Command::new("sh").args(["-c", write]).arg(&program).status();
        assert!(written.unwrap().success());
        (Guardian::start(&program).unwrap(), dir.join("guardian.messages"))
    }

    /// Checks that the guardian of this run is sent just these messages.
    #[track_caller]
    fn is_told(messages: &[u8], options: AgentOptions, run: impl FnOnce(&AgentOptions)) {
        let dir = tempfile::tempdir().unwrap();
        let (guardian, book) = recorder(dir.path());
        let options = options.guardian(guardian);
        run(&options);
        drop(options);
        eventually("the guardian is told", || {
            let told = std::fs::read(&book).unwrap_or_default();
            told.chunks(MESSAGE).map(|message| message[0]).eq(messages.iter().copied())
        });
    }

    #[test]
    fn a_guardian_is_told_of_a_run_before_it_and_released_after_it_however_it_ends() {
        let runtime = runtime();
        let run = |command: Command, options: &AgentOptions| runtime.block_on(run_subprocess_agent(command, options));
        is_told(&[ANSWER, EXPECT, GUARD, KILL_ESCAPED, RELEASE], options(), |options| {
            assert!(run(sh("exit 0"), options).is_ok());
        });
        is_told(&[ANSWER, EXPECT, GUARD, RELEASE], options().leftovers(Leftovers::Leave), |options| {
            assert!(run(sh("exit 0"), options).is_ok());
        });
        is_told(&[ANSWER, EXPECT, GUARD, KILL_ESCAPED, RELEASE], options().timeout(Duration::ZERO), |options| {
            let end = run(sh("exec sleep 60"), options);
            assert!(matches!(end, Err(AgentError::TimedOut { status: Some(_), .. })), "{end:?}");
        });
        is_told(&[ANSWER, EXPECT, GUARD, KILL_ESCAPED, RELEASE], options(), |options| {
            let dropped = async { timeout(Duration::ZERO, run_subprocess_agent(sh("exec sleep 60"), options)).await };
            assert!(runtime.block_on(dropped).is_err());
        });
        is_told(&[ANSWER, EXPECT, RELEASE], options(), |options| {
            let end = run(Command::new("/no/such/program"), options);
            assert!(matches!(end, Err(AgentError::Spawn(_))), "{end:?}");
        });
    }

    #[test]
    fn a_request_with_a_signal_ends_the_run_by_that_one() {
        let options = options();
        let asking = Arc::clone(&options.shutdown);
        // A grace in which nothing else ends it.
        let options = options.policy(KillPolicy::default()).on_spawn(move |_| asking.request_with(Signal::USR1));
        let end = runtime().block_on(run_subprocess_agent(sh("exec sleep 60"), &options));
        let Err(AgentError::ShutdownRequested { kill: Some(Ok(_)), status: Some(status) }) = end else {
            panic!("{end:?}")
        };
        assert_eq!(status.signal(), Some(Signal::USR1.as_raw()));
    }

    #[test]
    fn only_a_kill_that_another_could_do_better_is_left_to_another() {
        let failed = |kind| Some(Err(KillError::new(4242, kind)));
        assert!(matches!(unless_undone(None), Ok(None)));
        let report = KillReport {
            pgid: 4242,
            outcome: Outcome::Terminated,
            signals: Vec::new(),
            elapsed: Duration::ZERO,
            survivors: Vec::new(),
        };
        assert!(matches!(unless_undone(Some(Ok(report))), Ok(Some(Ok(_)))));
        assert!(matches!(unless_undone(failed(KillErrorKind::NotPermitted)), Ok(Some(Err(_)))));
        assert!(matches!(unless_undone(failed(KillErrorKind::Panicked)), Err(AgentError::Leftovers(_))));
    }
}
