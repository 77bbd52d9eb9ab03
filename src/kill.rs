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
//! A [`KillThread`] takes any number of groups up this ladder on a single thread, and one such thread makes all kills of
//! async callers; where it cannot be started, a task of the runtime makes them. Only [`kill_process_group`] goes to tokio's
//! blocking pool.

// What happens when is decided in `kill/escalation.rs`, a pure state machine; `kill/climb.rs` takes one group up it.
// `kill/kill_thread.rs`, `kill/between_sleeps.rs` and `kill/pool.rs` are the three drivers.

mod batch;
mod claim;
mod escalation;
mod in_progress;
mod kill_thread;
mod pool;
mod probe;
mod report;
pub(crate) mod runner;
mod runtime_task;

use std::io;
use std::process::ExitStatus;
use std::time::{Duration, Instant};

use nix::errno::Errno;

pub use crate::error::{KillError, KillErrorKind};
pub use crate::group::Member;
use crate::group::ProcessGroup;
pub use crate::signal::Signal;
pub(crate) use batch::Batch;
pub(crate) use in_progress::Kill;
pub use kill_thread::{KillThread, PendingKill};
pub use report::{ChildKill, KillReport, Outcome, SentSignal};

/// Kills the process group `pgid`: SIGTERM, up to 5 s for it to be gone, then SIGKILL, and back at once.
///
/// The whole body runs in one `tokio::task::spawn_blocking`: no worker is ever blocked. If the blocking pool has not
/// begun after 20 ms, because its threads are taken, or can start none, the kill is made as [`KillPolicy::kill`] makes it.
/// The exit of the last member ends the wait; where the system cannot wake us, the group is looked at every 100 ms. A
/// group that is gone already returns at once. Nothing is returned, because the callers of this function clean up and go
/// on whatever happened: a refused pgid, a panic, a runtime that shuts down and a call outside of one are logged as
/// warnings. [`KillPolicy::kill`] tells.
///
/// Dropping the future after its first poll does not stop the kill. The caller still has to wait for its child.
///
/// Where no thread can be started, `spawn_blocking` panics; so that is found out first, by starting one. It takes some
/// 50 us. A thread that is started elsewhere at the same moment can take the last place in between. OnDone the panic is
/// caught and the kill made all the same, unless the program was built with `panic = "abort"`: such a one, near its
/// process limit, is better off with [`KillPolicy::kill`], which never asks the pool.
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

/// What [`kill_process_group`] does, by any policy and with its report.
pub(crate) async fn kill_in_pool(pgid: i32, policy: &KillPolicy) -> Result<KillReport, KillError> {
    pool::in_pool(Kill::of(pgid, policy)?).await
}

/// What is to be said of a kill after which the group may live.
fn warning(result: &Result<KillReport, KillError>) -> Option<String> {
    match result {
        Ok(report) if report.outcome == Outcome::Survived => {
            Some(format!("members that may not be signalled live on: {:?}", report.survivors))
        }
        Ok(_) => None,
        Err(error) => Some(error.to_string()),
    }
}

/// How to kill: which signal, how long to wait, how often to look.
///
/// ```
/// use std::time::Duration;
/// use deadbeat::{KillPolicy, Signal};
///
/// let policy = KillPolicy::default().signal(Signal::INT).grace(Duration::from_secs(30));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KillPolicy {
    pub(crate) signal: Signal,
    pub(crate) continue_stopped: bool,
    pub(crate) grace: Duration,
    pub(crate) poll_interval: Duration,
    pub(crate) confirm: Duration,
}

impl Default for KillPolicy {
    /// SIGTERM then SIGCONT, 5 s of grace, a look at least every 100 ms, 1 s to confirm a SIGKILL.
    fn default() -> KillPolicy {
        KillPolicy {
            signal: Signal::TERM,
            continue_stopped: true,
            grace: Duration::from_secs(5),
            poll_interval: Duration::from_millis(100),
            confirm: Duration::from_secs(1),
        }
    }
}

impl KillPolicy {
    /// The first signal; SIGTERM by default. SIGKILL here means that there is no grace.
    #[must_use]
    pub fn signal(mut self, signal: Signal) -> KillPolicy {
        self.signal = signal;
        self
    }

    /// Whether to follow the first signal with SIGCONT, on by default: a stopped member keeps every other signal
    /// pending until it is continued.
    #[must_use]
    pub fn continue_stopped(mut self, yes: bool) -> KillPolicy {
        self.continue_stopped = yes;
        self
    }

    /// How long the group has from the first signal until SIGKILL; 5 s by default. Zero: SIGKILL follows at once.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> KillPolicy {
        self.grace = grace;
        self
    }

    /// The longest time between two looks at the group; 100 ms by default, at least 1 ms. An upper bound, not a
    /// quantum: where the kernel tells of exits, the exit ends the wait.
    #[must_use]
    pub fn poll_interval(mut self, interval: Duration) -> KillPolicy {
        self.poll_interval = interval.max(Duration::from_millis(1));
        self
    }

    /// How long after SIGKILL to look until the members are gone; 1 s by default, and up to 10 s more while the one seen
    /// is on its way out and only waits for a CPU. Zero: do not look, and report [`Outcome::Killed`] on the strength of
    /// the signal alone.
    #[must_use]
    pub fn confirm(mut self, confirm: Duration) -> KillPolicy {
        self.confirm = confirm;
        self
    }

    /// Kills the group, on one thread that makes all such kills of this process together: any number of them take one
    /// grace and no thread of tokio's. Needs no runtime, and works on any executor.
    ///
    /// Nothing happens before the first poll; after it, dropping the future does not stop the kill, nor does the end of
    /// the runtime. The end of the process does: a `main` that is about to return awaits it, or calls
    /// [`kill_blocking`](KillPolicy::kill_blocking).
    ///
    /// A number that no group has is [`Outcome::AlreadyGone`], also where a process has it that leads no group: by then it
    /// may be any process's. [`kill_child`](KillPolicy::kill_child) and the program refuse such a one.
    ///
    /// Where that thread cannot be started (the process limit, no descriptor left), a task of the current runtime looks at
    /// the group at least every 20 ms. If the runtime ends first, the group is sent SIGKILL then, should there still be no
    /// thread. With `panic = "abort"` that task waits by asking for its next turn at once, because tokio's timer
    /// panics where a runtime has none; the worker serves its other tasks, and a CPU is busy for as long as the kill takes.
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
        runner::run(Kill::of(pgid, self)?)
    }

    /// Kills the group that `child` leads, and reaps the child.
    ///
    /// While it is awaited it can hit no stranger: nothing else can wait for the child, so its pid stays taken. If the
    /// future is dropped and the child reaped in the middle, the pid can become a stranger's, and what tells is this:
    ///
    /// - On Linux 6.9 and later every signal goes through the leader's pidfd: a stranger is out of its reach.
    /// - With an older pidfd, the signals go by number, while the leader is un-reaped or a member that was seen is there.
    /// - Without a pidfd, because the kernel has none or all kills together hold half of the descriptors that this process
    ///   may open (`RLIMIT_NOFILE`), the start of the leader is noted at the beginning and compared before each signal.
    ///   The kernel counts starts in clock ticks, 10 ms as a rule: a stranger that got the number within the tick in which
    ///   the leader was started would be hit, and one that gets it between the comparison and the signal. If not even
    ///   that can be read, the kill is refused.
    /// - On the portable [back-end](crate::group::Backend) nothing tells. There, await it.
    ///
    /// A leader that SIGKILL does not end (in a frozen cgroup, in uninterruptible sleep) is not waited for: `status`
    /// is `None` then. It is `None`, too, of a leader that the system reaped itself: where this process had inherited an
    /// ignored SIGCHLD when the child was started.
    ///
    /// # Errors
    ///
    /// [`NotLeader`](KillErrorKind::NotLeader) for a child in somebody else's group, as `Command` starts them by
    /// default; [`AlreadyReaped`](KillErrorKind::AlreadyReaped); [`NoRuntime`](KillErrorKind::NoRuntime) outside of one,
    /// since tokio reaps the child; `EMFILE` ([`Os`](KillErrorKind::Os)) where the leader can be neither held nor read for
    /// want of a descriptor, and then nothing was signalled; else as [`kill`](KillPolicy::kill).
    pub async fn kill_child(&self, child: &mut tokio::process::Child) -> Result<ChildKill, KillError> {
        let group = ProcessGroup::led_by(child)?;
        if tokio::runtime::Handle::try_current().is_err() {
            return Err(KillError::new(group.pgid(), KillErrorKind::NoRuntime));
        }
        // While it listens, SIGCHLD is not ignored, and a leader that dies stays until it is waited for.
        let _children = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::child());
        let kill = Kill::new(group, self).if_identified()?.wait_for_leader(self.reap_within());
        let report = runner::off_worker(kill).await?;
        let status = match group.leader_has_exited() {
            true => child.wait().await.map(Some),
            false => child.try_wait(),
        };
        match unless_collected(status) {
            Ok(status) => Ok(ChildKill { report, status }),
            Err(error) => Err(KillError::os(group.pgid(), error)),
        }
    }

    /// How long a leader may take to become waitable after the ladder has ended; longer while it is on its way out and only
    /// waits for a CPU.
    pub(crate) fn reap_within(&self) -> Duration {
        self.confirm.max(Duration::from_secs(1))
    }

    /// What is left of it for a group that was sent its signal at `since`, and is to be sent no other but SIGKILL.
    pub(crate) fn rest(&self, since: Instant) -> KillPolicy {
        match self.signal {
            Signal::KILL => self.clone(),
            _ => self.clone().signal(Signal::CONT).grace(self.grace.saturating_sub(since.elapsed())),
        }
    }
}

/// An exit that somebody else has collected is one that nobody can tell here, and no error.
fn unless_collected(status: io::Result<Option<ExitStatus>>) -> io::Result<Option<ExitStatus>> {
    match status {
        Err(error) if error.raw_os_error() == Some(Errno::ECHILD as i32) => Ok(None),
        status => status,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::os::unix::process::ExitStatusExt;

    use super::*;
    use crate::fixture::{self, Running};
    use crate::group::pause;

    /// What must come, comes well within this; it bounds a broken test, not a slow machine.
    pub(crate) const SOON: Duration = Duration::from_secs(40);

    /// Polls for something that must become true.
    #[track_caller]
    pub(crate) fn eventually(what: &str, is_true: impl Fn() -> bool) {
        let begun = Instant::now();
        while !is_true() {
            assert!(begun.elapsed() < SOON, "waited in vain for: {what}");
            pause(Duration::from_millis(1));
        }
    }

    /// A group of one, which is dead and reaped when this is dropped.
    pub(crate) fn start(fixture: &str) -> Running {
        fixture::named(fixture).unwrap().start().unwrap()
    }

    /// Of a group that is gone: no process can have such a number.
    pub(crate) fn kill_of_nobody() -> Kill {
        Kill::of(i32::MAX, &KillPolicy::default()).unwrap()
    }

    #[test]
    fn each_setting_changes_itself_and_nothing_else() {
        let (default, time) = (KillPolicy::default, Duration::from_millis(1234));
        let set = [
            (default().signal(Signal::INT), KillPolicy { signal: Signal::INT, ..default() }),
            (default().continue_stopped(false), KillPolicy { continue_stopped: false, ..default() }),
            (default().grace(time), KillPolicy { grace: time, ..default() }),
            (default().poll_interval(time), KillPolicy { poll_interval: time, ..default() }),
            (default().confirm(time), KillPolicy { confirm: time, ..default() }),
        ];
        for (policy, expected) in set {
            assert_eq!(policy, expected);
            assert_ne!(policy, default());
        }
        // Nobody looks without any pause.
        assert_eq!(default().poll_interval(Duration::ZERO).poll_interval, Duration::from_millis(1));
    }

    #[test]
    fn only_of_a_group_that_may_live_there_is_something_to_say() {
        let member = Member { pid: 4242, state: 'S', command: "sleep 60".into(), signalable: false };
        let report = |outcome| {
            let survivors = vec![member.clone()];
            Ok(KillReport { pgid: 4242, outcome, signals: Vec::new(), elapsed: Duration::ZERO, survivors })
        };
        for outcome in [Outcome::AlreadyGone, Outcome::Terminated, Outcome::Killed] {
            assert_eq!(warning(&report(outcome)), None);
        }
        let survived = warning(&report(Outcome::Survived)).expect("nobody is told");
        assert!(survived.contains("sleep 60"), "{survived}");
        let refused = warning(&Err(KillError::new(1, KillErrorKind::InvalidGroup))).expect("nobody is told");
        assert!(refused.contains("refused to signal process group 1"), "{refused}");
    }

    #[test]
    fn only_an_exit_that_somebody_else_collected_is_as_good_as_none() {
        let status = ExitStatus::from_raw(0x0700);
        assert_eq!(unless_collected(Ok(Some(status))).unwrap(), Some(status));
        assert_eq!(unless_collected(Ok(None)).unwrap(), None);
        assert_eq!(unless_collected(Err(Errno::ECHILD.into())).unwrap(), None);
        let error = unless_collected(Err(Errno::EINVAL.into())).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::EINVAL as i32));
    }

    #[test]
    fn a_leader_may_take_as_long_as_its_death_and_a_second_at_least() {
        for (confirm, within) in [(0, 1000), (999, 1000), (1001, 1001)] {
            let policy = KillPolicy::default().confirm(Duration::from_millis(confirm));
            assert_eq!(policy.reap_within(), Duration::from_millis(within));
        }
    }

    #[test]
    fn what_is_left_of_a_policy_is_what_was_not_waited_yet_and_asks_no_more() {
        let policy = KillPolicy::default().signal(Signal::INT).grace(Duration::from_secs(3600)).continue_stopped(false);
        let begun = Instant::now() - Duration::from_secs(60);
        let rest = policy.rest(begun);
        assert!(rest.grace <= Duration::from_secs(3540) && rest.grace > Duration::from_secs(3000), "{rest:?}");
        assert_eq!(rest, policy.clone().signal(Signal::CONT).grace(rest.grace));
        assert_eq!(policy.grace(Duration::from_secs(1)).rest(begun).grace, Duration::ZERO);
        // With SIGKILL there is no grace that could be used up.
        let at_once = KillPolicy::default().signal(Signal::KILL);
        assert_eq!(at_once.rest(begun), at_once);
    }
}
