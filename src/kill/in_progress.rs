//! One kill in progress: the group under watch, the clock, the signals sent so far, and in the end the report.
//!
//! The loop that drives it is in `kill.rs`, for one, and in `kill/batch.rs`, for many.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::escalation::{Delivery, Escalation, LEAVING, Next};
use super::policy::KillPolicy;
use super::report::{KillReport, KillResult, Outcome, SentSignal};
use crate::error::{KillError, KillErrorKind};
use crate::group::{GroupWatch, ProcessGroup, Seen};
use crate::signal::Signal;

/// The time between two looks at a leader that is dead and cannot be waited for yet.
const LEADER_INTERVAL: Duration = Duration::from_millis(1);

/// A kill in progress. The group is pinned from [`new`](Kill::new) on, where the system can do that.
#[derive(Debug)]
pub(crate) struct Kill {
    pub(super) watch: GroupWatch,
    pub(super) escalation: Escalation,
    start: Option<Instant>,
    signals: Vec<SentSignal>,
    /// How long to wait, after the escalation, for the leader to become waitable; see [`Kill::wait_for_leader`].
    leader_within: Option<Duration>,
    /// When the escalation ended, and the result, which is held back until the leader can be waited for.
    ended: Option<(Instant, KillResult)>,
}

impl Kill {
    pub(crate) fn new(group: ProcessGroup, policy: &KillPolicy) -> Kill {
        Kill::over(GroupWatch::new(group), policy)
    }

    /// The kill of the group of this number.
    ///
    /// # Errors
    ///
    /// [`KillErrorKind::InvalidGroup`] for a pgid that must not be signalled.
    pub(crate) fn of(pgid: i32, policy: &KillPolicy) -> Result<Kill, KillError> {
        Ok(Kill::new(ProcessGroup::new(pgid)?, policy))
    }

    /// The kill of whatever this watch is kept on, a group or a single process.
    pub(crate) fn over(watch: GroupWatch, policy: &KillPolicy) -> Kill {
        Kill {
            watch,
            escalation: Escalation::new(policy),
            start: None,
            signals: Vec::new(),
            leader_within: None,
            ended: None,
        }
    }

    /// Has a [`Batch`](super::batch::Batch) hold the result back until the leader, a child of this process, can be
    /// waited for, or this much time has passed. A dead leader is not always waitable: under ptrace the tracer comes
    /// first. And after a SIGKILL that is not confirmed the leader may not be dead yet.
    pub(crate) fn wait_for_leader(mut self, within: Duration) -> Kill {
        self.leader_within = Some(within);
        self
    }

    /// Takes note that the caller reaps the leader as soon as it exits, unless a process that gets the number could
    /// then be signalled in its place. Whether the caller may.
    pub(super) fn expect_leader_reaped(&mut self) -> bool {
        self.watch.expect_leader_reaped()
    }

    /// Sends the first signals before any thread takes the kill over: this process may end first. There is no look,
    /// which could take a walk through the process table; so this is for a group whose leader the caller has yet to
    /// reap, and that is taken for alive.
    pub(crate) fn send_first_signals(mut self) -> Kill {
        let now = self.elapsed();
        let mut next = self.escalation.next(now, Seen::Alive, || false);
        while let Next::Send(signal) = next {
            match self.send(signal) {
                Ok(after) => next = after,
                // The escalation asks for it again.
                Err(_) => break,
            }
        }
        self
    }

    /// This kill, unless a process that gets the number could not be told from the group, for want of a descriptor.
    pub(super) fn if_identified(self) -> Result<Kill, KillError> {
        match self.watch.is_unidentified() {
            true => Err(KillError::os(self.pgid(), Errno::EMFILE.into())),
            false => Ok(self),
        }
    }

    /// Sends a signal of which the escalation is not told. To a group that is gone it does nothing.
    pub(crate) fn send_aside(&self, signal: Signal) {
        let _ = self.watch.signal(signal);
    }

    /// SIGKILL and nothing else, for a kill that no thread can take over.
    pub(crate) fn kill_at_once(mut self) -> KillResult {
        match self.watch.signal(Signal::KILL) {
            Ok(()) => {
                let at = self.elapsed();
                self.signals.push(SentSignal { signal: Signal::KILL, at });
                Ok(self.report(Outcome::Killed))
            }
            Err(Errno::ESRCH) => Ok(self.report(Outcome::AlreadyGone)),
            Err(Errno::EPERM) => Err(KillError::new(self.pgid(), KillErrorKind::NotPermitted)),
            Err(errno) => Err(KillError::os(self.pgid(), errno.into())),
        }
    }

    pub(crate) fn pgid(&self) -> i32 {
        self.watch.group().pgid()
    }

    /// The time since the first call.
    pub(super) fn elapsed(&mut self) -> Duration {
        self.start.get_or_insert_with(Instant::now).elapsed()
    }

    /// Sends a signal that the escalation asked for; what follows from that.
    ///
    /// # Errors
    ///
    /// The system's, unless it is a [`Delivery`].
    pub(super) fn send(&mut self, signal: Signal) -> Result<Next, KillError> {
        let result = match self.watch.signal(signal) {
            Ok(()) => Delivery::Delivered,
            Err(Errno::ESRCH) => Delivery::NoSuchGroup,
            Err(Errno::EPERM) => Delivery::NotPermitted,
            Err(errno) => return Err(KillError::os(self.pgid(), errno.into())),
        };
        let at = self.elapsed();
        if result == Delivery::Delivered {
            self.signals.push(SentSignal { signal, at });
            self.watch.walk_while_it_dies();
            tracing::debug!(pgid = self.pgid(), %signal, "sent to the group");
        }
        Ok(self.escalation.sent(at, result))
    }

    /// A descriptor that becomes readable when the group is worth another look. None after the escalation has ended:
    /// the member that it stands for may have exited long ago, and would end each wait at once.
    pub(super) fn wake_fd(&self) -> Option<BorrowedFd<'_>> {
        if self.has_ended() { None } else { self.watch.wake_fd() }
    }

    /// The result of a kill whose escalation has ended.
    pub(super) fn finish(&mut self, end: Result<Outcome, KillErrorKind>) -> KillResult {
        end.map(|outcome| self.report(outcome)).map_err(|kind| KillError::new(self.pgid(), kind))
    }

    /// Holds the result back, for [`released`](Kill::released).
    pub(super) fn hold_back(&mut self, result: KillResult) {
        self.ended = Some((Instant::now(), result));
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.is_some()
    }

    /// The result that is held back, or how long to wait before the next question: the leader cannot be waited for yet.
    /// After an error, or with survivors, the leader is not waited for.
    pub(super) fn released(&mut self) -> Result<KillResult, Duration> {
        let Some((at, result)) = self.ended.take() else { return Err(Duration::ZERO) };
        let is_killed = result.as_ref().is_ok_and(|report| report.outcome != Outcome::Survived);
        if !is_killed || self.has_waited_for_leader(at.elapsed()) {
            return Ok(result);
        }
        self.ended = Some((at, result));
        Err(LEADER_INTERVAL)
    }

    /// Whether the leader can be waited for, or has had its time for that.
    fn has_waited_for_leader(&self, elapsed: Duration) -> bool {
        let group = self.watch.group();
        let is_late = self
            .leader_within
            .is_none_or(|within| elapsed >= within && (elapsed >= within + LEAVING || !group.leader_is_leaving()));
        is_late || group.leader_has_exited()
    }

    fn report(&mut self, mut outcome: Outcome) -> KillReport {
        let elapsed = self.elapsed();
        let mut survivors = Vec::new();
        if outcome == Outcome::Survived {
            survivors = self.watch.group().members().unwrap_or_default();
            // The last member may have died since the last look, and a survivor without a name is of no use to a
            // reader.
            if survivors.is_empty() && self.watch.look() == Seen::Gone {
                let killed = self.signals.iter().any(|sent| sent.signal == Signal::KILL);
                outcome = if killed { Outcome::Killed } else { Outcome::Terminated };
            }
        }
        let signals = std::mem::take(&mut self.signals);
        KillReport { pgid: self.pgid(), outcome, signals, elapsed, survivors }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::{Backend, backend};
    use crate::kill::testing::{eventually, kill_of_no_group, start};

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn the_result_is_held_back_until_the_leader_can_be_waited_for_or_its_time_is_over() {
        let running = start("ignore-term");
        let kill = || Kill::new(running.group(), &KillPolicy::default());
        let ended = |mut kill: Kill, end| {
            let result = kill.finish(end);
            kill.hold_back(result);
            assert!(kill.has_ended());
            kill.released()
        };
        let killed = Ok(Outcome::Killed);
        assert!(matches!(ended(kill(), killed), Ok(Ok(_))), "the leader is not to be waited for");
        assert!(matches!(ended(kill().wait_for_leader(Duration::ZERO), killed), Ok(Ok(_))), "its time is over");
        // A survivor will not end in that time either.
        assert!(matches!(ended(kill().wait_for_leader(HOUR), Ok(Outcome::Survived)), Ok(Ok(_))));
        let refused = Err(KillErrorKind::NotPermitted);
        assert!(matches!(ended(kill().wait_for_leader(HOUR), refused), Ok(Err(_))));

        let mut patient = kill().wait_for_leader(HOUR);
        assert_eq!(patient.released().unwrap_err(), Duration::ZERO, "it has not ended");
        let result = patient.finish(killed);
        patient.hold_back(result);
        assert_eq!(patient.released().unwrap_err(), LEADER_INTERVAL, "the leader lives");
        running.group().signal(Signal::KILL).unwrap();
        eventually("it can be waited for", || running.group().leader_has_exited());
        assert_eq!(patient.released().unwrap().unwrap().outcome, Outcome::Killed);
    }

    #[test]
    fn a_kill_that_has_ended_is_woken_by_no_exit() {
        let running = start("ignore-term");
        let mut kill = Kill::new(running.group(), &KillPolicy::default());
        assert_eq!(kill.watch.look(), Seen::Alive);
        // An exit would end the wait.
        assert_eq!(kill.wake_fd().is_some(), backend() == Backend::Proc);
        let result = kill.finish(Ok(Outcome::Killed));
        kill.hold_back(result);
        drop(running);
        assert!(kill.wake_fd().is_none());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn survivors_are_named_and_no_others() {
        let running = start("ignore-term");
        let mut kill = Kill::new(running.group(), &KillPolicy::default());
        let killed = kill.report(Outcome::Killed);
        assert_eq!((killed.outcome, killed.survivors), (Outcome::Killed, Vec::new()));
        let survived = kill.report(Outcome::Survived);
        let survivors: Vec<i32> = survived.survivors.iter().map(|member| member.pid).collect();
        assert_eq!((survived.outcome, survivors), (Outcome::Survived, vec![running.pgid()]));
    }

    #[test]
    fn a_group_that_has_gone_since_the_last_look_did_not_survive() {
        let sent = |signal| SentSignal { signal, at: Duration::ZERO };
        let (term, kill) = (sent(Signal::TERM), sent(Signal::KILL));
        let ends =
            [(vec![term], Outcome::Terminated), (vec![kill], Outcome::Killed), (vec![term, kill], Outcome::Killed)];
        for (signals, outcome) in ends {
            let mut kill = kill_of_no_group();
            kill.signals = signals.clone();
            let report = kill.report(Outcome::Survived);
            assert_eq!((report.outcome, report.signals), (outcome, signals));
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_survivor_that_no_list_shows_is_one_all_the_same() {
        // A single process, outside any group of its number.
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let watch = GroupWatch::of_process(child.id() as i32, |_| true).unwrap();
        let report = Kill::over(watch, &KillPolicy::default()).report(Outcome::Survived);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!((report.outcome, report.survivors), (Outcome::Survived, Vec::new()));
    }
}
