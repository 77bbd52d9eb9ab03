//! The kill function: SIGTERM to the group, wait until it is gone, SIGKILL what is left.
//!
//! ```text
//!            ESRCH, or no member can run                 gone at any look
//!  look ────────────────────────────────► AlreadyGone   ┌──────────────────► Terminated
//!   │                                                   │
//!   └─► SIGTERM ─► SIGCONT ─► look, wait for an exit, look .. for the grace
//!                                                       │
//!                                                       └─► SIGKILL ─► look .. ─► Killed, or Survived
//! ```
//!
//! A member that ignores SIGTERM, or whose handler takes longer than the grace, is sent SIGKILL when the grace is over,
//! 5 s unless the [policy](KillPolicy::grace) says otherwise. The looks after it go on for the policy's
//! [`confirm`](KillPolicy::confirm), 1 s by default. A member that outlives even that, because it may not be signalled
//! or is stuck in the kernel, is reported as a survivor. A member that *can run* is any that is not a zombie.
//!
//! # Which call?
//!
//! | you have | call | it |
//! | --- | --- | --- |
//! | a `tokio::process::Child` | [`KillPolicy::kill_child`] | reaps the child too; awaited, it hits no other process |
//! | a pgid | [`KillPolicy::kill`] | reports what it did; any number of kills take one thread |
//! | a pgid and no runtime | [`KillPolicy::kill_blocking`] | blocks the thread that calls |
//! | a pgid, and no use for the report | [`kill_process_group`] | has the default policy, and logs what went wrong |
//! | kills to be waited for at the end | [`KillThread`] | can be shut down when the last of them has ended |
//! | children to be killed when the process ends | [`registry`](crate::registry) | kills all of them together |

// What follows from a look is decided in `kill/escalation.rs`, and which thread runs a kill in `kill/runner.rs`.

mod batch;
mod claim;
mod escalation;
mod in_progress;
mod kill_thread;
mod policy;
mod reaping;
mod report;
pub(crate) mod runner;
mod runtime_task;
pub(crate) mod target_batch;
#[cfg(test)]
pub(crate) mod testing;

use std::io;
use std::pin::pin;
use std::process::ExitStatus;
use std::time::Duration;

use nix::errno::Errno;

pub(crate) use self::batch::Batch;
use self::escalation::Next;
pub(crate) use self::in_progress::Kill;
pub use self::kill_thread::{KillThread, PendingKill};
pub use self::policy::KillPolicy;
pub(crate) use self::report::KillResult;
pub use self::report::{ChildKill, KillReport, Outcome, SentSignal};
pub use crate::error::{KillError, KillErrorKind};
use crate::group::ProcessGroup;

/// Runs one kill to its end, on a thread that may block. The kill thread, which makes many at a time, runs the same
/// steps in `kill/batch.rs`.
fn run(mut kill: Kill) -> KillResult {
    loop {
        // 1. The clock. It is read before the look, so that a group seen alive at the deadline was alive after it.
        let now = kill.elapsed();
        // 2. The group: can any member still run?
        let seen = kill.watch.look();
        // 3. What follows. SIGTERM and SIGKILL come right after a look that saw a member: the number was the group's.
        //    `is_leaving` is asked after SIGKILL alone: a member that is dying of it is waited for.
        let mut next = kill.escalation.next(now, seen, || kill.watch.is_leaving());
        loop {
            match next {
                // SIGTERM first, and right after it SIGCONT, for members that are stopped. When the grace is over,
                // SIGKILL. What follows a signal depends on whether it was delivered.
                Next::Send(signal) => next = kill.send(signal)?,
                // The group may be gone right after the signal.
                Next::Look => break,
                // For the time to the next deadline, or a poll interval if that is less; an exit ends the wait.
                Next::Wait(time) => break kill.watch.wait(time),
                // The group is gone; or it has survived SIGKILL and the time to confirm that. With no such time,
                // SIGKILL is the last step, and the outcome is `Killed`.
                Next::Done(end) => return kill.finish(end),
            }
        }
    }
}

/// Kills the process group `pgid`: SIGTERM, up to 5 s for it to be gone, then SIGKILL, and back at once.
///
/// The whole body runs in one `tokio::task::spawn_blocking`: no worker is ever blocked. If the blocking pool has not
/// begun after 20 ms, because its threads are taken, or can start none, the kill is made as [`KillPolicy::kill`] makes
/// it. The exit of the last member ends the wait; where the system reports no exits, the group is looked at every 100
/// ms. A group that is gone already returns at once. Nothing is returned, because callers of this function clean up and
/// go on whatever happened: a refused pgid, a panic, a runtime that shuts down and a call outside of one are logged as
/// warnings. [`KillPolicy::kill`] returns a report.
///
/// Dropping the future after its first poll does not stop the kill. The caller still has to wait for its child.
///
/// Where no thread can be started, `spawn_blocking` panics. So a thread is started first, to find out, which takes some
/// 50 us. A thread that is started elsewhere at the same moment can take the last place in between. Then the panic is
/// caught and the kill made all the same, unless the program was built with `panic = "abort"`: near its process limit
/// such a program is better off with [`KillPolicy::kill`], which does not use the pool.
///
/// ```no_run
/// # async fn example() -> std::io::Result<()> {
/// let mut child = tokio::process::Command::new("make").process_group(0).spawn()?;
/// let pgid = child.id().expect("not waited for yet") as i32;
/// deadbeat::kill_process_group(pgid).await;
/// child.wait().await?;
/// # Ok(())
/// # }
/// ```
pub async fn kill_process_group(pgid: i32) {
    // The rule is to return right after SIGKILL, so nothing is confirmed.
    let result = kill_in_pool(pgid, &KillPolicy::default().confirm(Duration::ZERO)).await;
    if let Some(warning) = warning(&result) {
        tracing::warn!(pgid, "kill_process_group: {warning}");
    }
}

/// Kills as [`kill_process_group`] does, by any policy and with a report.
pub(crate) async fn kill_in_pool(pgid: i32, policy: &KillPolicy) -> Result<KillReport, KillError> {
    runner::in_pool(Kill::of(pgid, policy)?, run).await
}

/// The warning to log after a kill that the group may have survived.
fn warning(result: &Result<KillReport, KillError>) -> Option<String> {
    match result {
        Ok(report) if report.outcome == Outcome::Survived => {
            Some(format!("members that may not be signalled live on: {:?}", report.survivors))
        }
        Ok(_) => None,
        Err(error) => Some(error.to_string()),
    }
}

impl KillPolicy {
    /// Kills the group, on one thread that makes all such kills of this process together: any number of them take one
    /// grace and no thread of tokio's. Needs no runtime, and works on any executor.
    ///
    /// Nothing happens before the first poll; after it, dropping the future does not stop the kill, nor does the end of
    /// the runtime. The end of the process does: a `main` that is about to return awaits it, or calls
    /// [`kill_blocking`](KillPolicy::kill_blocking).
    ///
    /// A number that no group has is [`Outcome::AlreadyGone`], also where a process has it that leads no group: by then
    /// it may be any process's. [`kill_child`](KillPolicy::kill_child) and the program refuse such a one.
    ///
    /// Where that thread cannot be started (the process limit, no descriptor left), a task of the current runtime looks
    /// at the group at least every 20 ms. If the runtime ends first, the group is sent SIGKILL then, should there still
    /// be no thread. With `panic = "abort"` that task waits by asking for its next turn at once, because tokio's timer
    /// panics where a runtime has none; the worker serves its other tasks, and a CPU is busy for as long as the kill
    /// takes.
    ///
    /// # Errors
    ///
    /// A refused pgid ([`InvalidGroup`](KillErrorKind::InvalidGroup)); `EPERM` on the first signal
    /// ([`NotPermitted`](KillErrorKind::NotPermitted)), at once; neither a thread to be had nor a runtime
    /// ([`NoRuntime`](KillErrorKind::NoRuntime): nothing was signalled); a panic.
    pub async fn kill(&self, pgid: i32) -> Result<KillReport, KillError> {
        runner::off_worker(Kill::of(pgid, self)?).await
    }

    /// Kills the group on this thread, which sleeps meanwhile: not for tokio workers. Needs no runtime.
    ///
    /// # Errors
    ///
    /// As [`kill`](KillPolicy::kill), without [`NoRuntime`](KillErrorKind::NoRuntime).
    pub fn kill_blocking(&self, pgid: i32) -> Result<KillReport, KillError> {
        run(Kill::of(pgid, self)?)
    }

    /// Kills the group that `child` leads, and reaps the child.
    ///
    /// On Linux 6.9 and later every signal goes through the leader's pidfd: a stranger is out of its reach. So the
    /// child is reaped as soon as it exits, and from then on the kernel says when its group is empty, at once and
    /// without a walk through the process table.
    ///
    /// Elsewhere the child is reaped when its group is gone. While this is awaited it can hit no stranger: no other
    /// code can wait for the child, so its pid stays taken. If the future is dropped and the child reaped in the
    /// middle, the pid can become a stranger's. What protects a stranger then:
    ///
    /// - With an older pidfd, the signals go by number, while the leader is un-reaped or a member that was seen is
    ///   there.
    /// - Without a pidfd, because the kernel has none or all kills together hold half of the descriptors that this
    ///   process may open (`RLIMIT_NOFILE`), the start of the leader is noted at the beginning and compared before each
    ///   signal. The kernel counts starts in clock ticks, 10 ms as a rule: a stranger that got the number within the
    ///   tick in which the leader was started would be hit, and one that gets it between the comparison and the signal.
    ///   If not even that can be read, the kill is refused.
    /// - On the portable [back-end](crate::group::Backend) nothing does. There, await the future.
    ///
    /// A leader that SIGKILL does not end (in a frozen cgroup, in uninterruptible sleep) is not waited for: `status` is
    /// `None` then. It is `None`, too, of a leader that the system reaped itself: where this process had inherited an
    /// ignored SIGCHLD when the child was started.
    ///
    /// # Errors
    ///
    /// [`NotLeader`](KillErrorKind::NotLeader) for a child in another process's group, as `Command` starts them by
    /// default; [`AlreadyReaped`](KillErrorKind::AlreadyReaped); [`NoRuntime`](KillErrorKind::NoRuntime) outside of
    /// one, since tokio reaps the child; `EMFILE` ([`Os`](KillErrorKind::Os)) where the leader can be neither held nor
    /// read for want of a descriptor, and then nothing was signalled; else as [`kill`](KillPolicy::kill).
    pub async fn kill_child(&self, child: &mut tokio::process::Child) -> Result<ChildKill, KillError> {
        let group = ProcessGroup::led_by(child)?;
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(KillError::new(group.pgid(), KillErrorKind::NoRuntime));
        }
        // While it listens, SIGCHLD is not ignored, and a leader that dies stays until it is waited for.
        let _children = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::child());
        let mut kill = Kill::new(group, self).if_identified()?.wait_for_leader(self.reap_within());
        let may_reap = kill.expect_leader_reaped();
        let kill = pin!(runner::off_worker(kill));
        let (report, status) = match may_reap {
            // Once the leader is reaped the kernel says when the group is empty, so the process table is not walked.
            true => reaping::until(kill, child).await,
            false => (kill.await, None),
        };
        let report = report?;
        let status = match status {
            Some(status) => status.map(Some),
            None if group.leader_has_exited() => child.wait().await.map(Some),
            None => child.try_wait(),
        };
        match unless_collected(status) {
            Ok(status) => Ok(ChildKill { report, status }),
            Err(error) => Err(KillError::os(group.pgid(), error)),
        }
    }
}

/// The status of a child, or `None` where it was collected elsewhere: that is not an error of the kill.
fn unless_collected(status: io::Result<Option<ExitStatus>>) -> io::Result<Option<ExitStatus>> {
    match status {
        Err(error) if error.raw_os_error() == Some(Errno::ECHILD as i32) => Ok(None),
        status => status,
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::testing::{kill_of_no_group, start};
    use super::*;
    use crate::group::{Backend, Member, backend};
    use crate::signal::Signal;

    #[test]
    fn the_report_says_what_was_sent_to_which_group_and_when() {
        let running = start("fast-exit");
        // Nothing is waited for where its zombie holds the grace.
        let grace = if backend() == Backend::Proc { Duration::from_secs(3600) } else { Duration::ZERO };
        let policy = KillPolicy::default().grace(grace).confirm(Duration::ZERO);
        let report = run(Kill::new(running.group(), &policy)).unwrap();
        assert_eq!(report.pgid, running.pgid());
        let [term, cont, ..] = report.signals[..] else { panic!("{report:?}") };
        assert_eq!((term.signal, cont.signal), (Signal::TERM, Signal::CONT));
        assert!(term.at <= cont.at && cont.at <= report.elapsed && !report.elapsed.is_zero(), "{report:?}");
        assert_eq!(run(kill_of_no_group()).unwrap().outcome, Outcome::AlreadyGone);
    }

    #[test]
    fn only_a_group_that_may_live_is_worth_a_warning() {
        let member = Member { pid: 4242, state: 'S', command: "sleep 60".into(), signalable: false };
        let report = |outcome| {
            let survivors = vec![member.clone()];
            Ok(KillReport { pgid: 4242, outcome, signals: Vec::new(), elapsed: Duration::ZERO, survivors })
        };
        for outcome in [Outcome::AlreadyGone, Outcome::Terminated, Outcome::Killed] {
            assert_eq!(warning(&report(outcome)), None);
        }
        let survived = warning(&report(Outcome::Survived)).expect("no warning");
        assert!(survived.contains("sleep 60"), "{survived}");
        let refused = warning(&Err(KillError::new(1, KillErrorKind::InvalidGroup))).expect("no warning");
        assert!(refused.contains("refused to signal process group 1"), "{refused}");
    }

    #[test]
    fn an_exit_that_was_collected_elsewhere_is_none_and_any_other_error_is_one() {
        let status = ExitStatus::from_raw(0x0700);
        assert_eq!(unless_collected(Ok(Some(status))).unwrap(), Some(status));
        assert_eq!(unless_collected(Ok(None)).unwrap(), None);
        assert_eq!(unless_collected(Err(Errno::ECHILD.into())).unwrap(), None);
        let error = unless_collected(Err(Errno::EINVAL.into())).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::EINVAL as i32));
    }
}
