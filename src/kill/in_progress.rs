//! One group on its way up the escalation: reads the clock, looks, sends, and writes the report.
//!
//! Whoever drives it decides only where to sleep: see `blocking.rs` for one climb, `kill_thread.rs` for many.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::escalation::{Delivery, Escalation, LEAVING, Next, Seen};
use super::{KillError, KillErrorKind, KillPolicy, KillReport, Outcome, SentSignal};
use crate::group::{GroupWatch, ProcessGroup, look_at_all, pause};
use crate::signal::Signal;

/// The outcome of one step.
#[derive(Debug)]
pub(super) enum Step {
    /// Look again after this long, or as soon as the watch's descriptor says that somebody ended.
    Wait(Duration),
    Done(Result<KillReport, KillError>),
}

/// A kill under way. The group is pinned from [`new`](Kill::new) on, where the system can do that.
#[derive(Debug)]
pub(crate) struct Kill {
    watch: GroupWatch,
    escalation: Escalation,
    start: Option<Instant>,
    signals: Vec<SentSignal>,
    /// How long to wait, after the escalation, for the leader to become waitable; see [`Kill::wait_for_leader`].
    leader_within: Option<Duration>,
    ended: Option<(Instant, Result<KillReport, KillError>)>,
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

    /// The kill of whatever is watched.
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

    /// Ends only when the leader, a child of this process, can be waited for, or after this long. Dead is not yet
    /// waitable: under ptrace the tracer comes first. And after a SIGKILL that is not confirmed it is not yet dead.
    pub(crate) fn wait_for_leader(mut self, within: Duration) -> Kill {
        self.leader_within = Some(within);
        self
    }

    /// Sends the first signals here and now, before anybody goes on with it: this process may end first. Without a look,
    /// which could take a walk; so it is for a group whose leader the caller has yet to reap, and that is taken for alive.
    pub(crate) fn send_first_signals(mut self) -> Kill {
        let now = self.elapsed();
        let mut next = self.escalation.saw(now, Seen::Alive);
        while let Next::Send(signal) = next {
            // What could not be sent is asked for again.
            match self.send(signal) {
                Ok(after) => next = after,
                Err(_) => break,
            }
        }
        self
    }

    /// Refuses to begin where, for want of a descriptor, a stranger that gets the number would not be told from the group.
    pub(super) fn if_identified(self) -> Result<Kill, KillError> {
        match self.watch.is_unidentified() {
            true => Err(KillError::os(self.pgid(), Errno::EMFILE.into())),
            false => Ok(self),
        }
    }

    /// Past the escalation. To a group that is gone it does nothing.
    pub(crate) fn send_aside(&self, signal: Signal) {
        let _ = self.watch.signal(signal);
    }

    pub(crate) fn pgid(&self) -> i32 {
        self.watch.group().pgid()
    }

    /// A descriptor that becomes readable when the next step is worth having. None after the ladder has ended: its
    /// witness may have exited long ago, and would wake us for nothing.
    pub(super) fn wake_fd(&self) -> Option<BorrowedFd<'_>> {
        if self.ended.is_some() { None } else { self.watch.wake_fd() }
    }

    /// Sleeps until the next step is worth having, for `at_most` this long.
    pub(super) fn wait(&self, at_most: Duration) {
        if self.ended.is_some() { pause(at_most) } else { self.watch.wait(at_most) }
    }

    /// SIGKILL at once, for a climb that nobody can make: no thread is to be had.
    pub(crate) fn kill_at_once(mut self) -> Result<KillReport, KillError> {
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

    /// One look and what follows from it, up to the next wait.
    pub(super) fn step(&mut self) -> Step {
        step_all(&mut [self]).remove(0)
    }

    fn elapsed(&mut self) -> Duration {
        self.start.get_or_insert_with(Instant::now).elapsed()
    }

    fn report(&mut self, mut outcome: Outcome) -> KillReport {
        let elapsed = self.elapsed();
        let mut survivors = Vec::new();
        if outcome == Outcome::Survived {
            survivors = self.watch.group().members().unwrap_or_default();
            // The last of them may have died since the last look, and a survivor without a name helps nobody.
            if survivors.is_empty() && self.watch.look() {
                let killed = self.signals.iter().any(|sent| sent.signal == Signal::KILL);
                outcome = if killed { Outcome::Killed } else { Outcome::Terminated };
            }
        }
        let signals = std::mem::take(&mut self.signals);
        KillReport { pgid: self.pgid(), outcome, signals, elapsed, survivors }
    }

    /// The last step: hold the result back until the leader can be waited for, if that was asked for. One that was not
    /// permitted to be killed, or has just been waited for in vain, is not worth the wait.
    fn finish(&mut self, result: Result<KillReport, KillError>) -> Step {
        match &result {
            Ok(report) if report.outcome != Outcome::Survived => {
                self.ended = Some((Instant::now(), result));
                self.await_leader()
            }
            _ => Step::Done(result),
        }
    }

    fn await_leader(&mut self) -> Step {
        let Some((at, result)) = self.ended.take() else { return Step::Wait(Duration::ZERO) };
        let group = self.watch.group();
        let late = self.leader_within.is_none_or(|within| {
            at.elapsed() >= within && (at.elapsed() >= within + LEAVING || !group.leader_is_leaving())
        });
        if late || group.leader_has_exited() {
            return Step::Done(result);
        }
        self.ended = Some((at, result));
        Step::Wait(Duration::from_millis(1))
    }

    /// Follows the ladder from what was seen until it wants to wait or look.
    fn follow(&mut self, mut next: Next) -> Option<Step> {
        loop {
            match next {
                Next::Look => return None,
                Next::Wait(time) => return Some(Step::Wait(self.watch.patience(time))),
                Next::Done(outcome) => {
                    let report = self.report(outcome);
                    return Some(self.finish(Ok(report)));
                }
                Next::NotPermitted => {
                    let error = KillError::new(self.pgid(), KillErrorKind::NotPermitted);
                    return Some(self.finish(Err(error)));
                }
                Next::Send(signal) => match self.send(signal) {
                    Ok(after) => next = after,
                    Err(errno) => {
                        let error = KillError::os(self.pgid(), errno.into());
                        return Some(self.finish(Err(error)));
                    }
                },
            }
        }
    }

    fn send(&mut self, signal: Signal) -> Result<Next, Errno> {
        let sent = match self.watch.signal(signal) {
            Ok(()) => Delivery::Delivered,
            Err(Errno::ESRCH) => Delivery::NoSuchGroup,
            Err(Errno::EPERM) => Delivery::NotPermitted,
            Err(errno) => return Err(errno),
        };
        let at = self.elapsed();
        if sent == Delivery::Delivered {
            self.signals.push(SentSignal { signal, at });
            tracing::debug!(pgid = self.pgid(), %signal, "sent to the group");
        }
        Ok(self.escalation.sent(at, sent))
    }
}

/// One step for each of many climbs, which share their walks through the process table.
///
/// The order matters. The clock is read first: a group seen alive at the deadline was alive after it. SIGKILL is sent
/// right after a look that saw a live member: its number still belongs to the group.
pub(super) fn step_all(kills: &mut [&mut Kill]) -> Vec<Step> {
    let ended = |kill: &mut &mut Kill| kill.ended.is_some().then(|| kill.await_leader());
    let mut steps: Vec<Option<Step>> = kills.iter_mut().map(ended).collect();
    loop {
        let mut open: Vec<usize> = (0..kills.len()).filter(|i| steps[*i].is_none()).collect();
        if open.is_empty() {
            return steps.into_iter().flatten().collect();
        }
        let mut times = Vec::with_capacity(open.len());
        let mut watches = Vec::with_capacity(open.len());
        for (i, kill) in kills.iter_mut().enumerate() {
            if steps[i].is_none() {
                times.push(kill.elapsed());
                watches.push(&mut kill.watch);
            }
        }
        let gone = look_at_all(&mut watches);
        for ((i, now), gone) in open.drain(..).zip(times).zip(gone) {
            let kill = &mut *kills[i];
            let seen = seen(gone, kill.escalation.would_give_up(now), || kill.watch.may_be_leaving());
            let next = kill.escalation.saw(now, seen);
            steps[i] = kill.follow(next);
        }
    }
}

/// Whether it is leaving is a question that costs something, asked where the answer decides.
fn seen(gone: bool, decides: bool, is_leaving: impl FnOnce() -> bool) -> Seen {
    match gone {
        true => Seen::Gone,
        false if decides && is_leaving() => Seen::Leaving,
        false => Seen::Alive,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::{Backend, backend};
    use crate::kill::runner::run;
    use crate::kill::tests::{eventually, kill_of_nobody, start};

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn whether_it_is_leaving_is_asked_only_where_that_decides() {
        let nobody_asks = || -> bool { unreachable!("it decides nothing") };
        assert_eq!(seen(true, false, nobody_asks), Seen::Gone);
        assert_eq!(seen(true, true, nobody_asks), Seen::Gone);
        assert_eq!(seen(false, false, nobody_asks), Seen::Alive);
        assert_eq!(seen(false, true, || true), Seen::Leaving);
        assert_eq!(seen(false, true, || false), Seen::Alive);
    }

    #[test]
    fn the_report_says_whom_what_and_when() {
        let running = start("fast-exit");
        // Nothing is waited for where its zombie holds the grace.
        let grace = if backend() == Backend::Proc { HOUR } else { Duration::ZERO };
        let policy = KillPolicy::default().grace(grace).confirm(Duration::ZERO);
        let report = run(Kill::new(running.group(), &policy)).unwrap();
        assert_eq!(report.pgid, running.pgid());
        let [term, cont, ..] = report.signals[..] else { panic!("{report:?}") };
        assert_eq!((term.signal, cont.signal), (Signal::TERM, Signal::CONT));
        assert!(term.at <= cont.at && cont.at <= report.elapsed && !report.elapsed.is_zero(), "{report:?}");
    }

    #[test]
    fn the_result_is_held_back_until_the_leader_can_be_waited_for_or_its_time_is_over() {
        let running = start("ignore-term");
        let kill = || Kill::new(running.group(), &KillPolicy::default());
        let killed = |kill: &mut Kill| Ok(kill.report(Outcome::Killed));
        let finish = |mut kill: Kill| {
            let result = killed(&mut kill);
            kill.finish(result)
        };
        assert!(matches!(finish(kill()), Step::Done(Ok(_))), "nobody has asked for the leader");
        assert!(matches!(finish(kill().wait_for_leader(Duration::ZERO)), Step::Done(Ok(_))), "its time is over");
        // Whoever lives on will not end in that time either.
        let mut given_up = kill().wait_for_leader(HOUR);
        let survived = Ok(given_up.report(Outcome::Survived));
        assert!(matches!(given_up.finish(survived), Step::Done(Ok(_))));
        let refused = Err(KillError::new(running.pgid(), KillErrorKind::NotPermitted));
        assert!(matches!(kill().wait_for_leader(HOUR).finish(refused), Step::Done(Err(_))));

        let mut patient = kill().wait_for_leader(HOUR);
        let result = killed(&mut patient);
        assert!(matches!(patient.finish(result), Step::Wait(_)));
        assert!(matches!(patient.step(), Step::Wait(_)), "the leader lives");
        running.group().signal(Signal::KILL).unwrap();
        eventually("it can be waited for", || running.group().leader_has_exited());
        let step = patient.step();
        assert!(matches!(&step, Step::Done(Ok(report)) if report.outcome == Outcome::Killed), "{step:?}");
    }

    #[test]
    fn a_ladder_that_has_ended_is_woken_by_nobody_and_sleeps_its_time() {
        let running = start("ignore-term");
        let policy = KillPolicy::default().grace(HOUR).poll_interval(HOUR);
        let mut kill = Kill::new(running.group(), &policy);
        assert!(matches!(kill.step(), Step::Wait(_)));
        // Its exit would end the wait.
        assert_eq!(kill.wake_fd().is_some(), backend() == Backend::Proc);
        let report = kill.report(Outcome::Killed);
        kill.ended = Some((Instant::now(), Ok(report)));
        drop(running);
        assert!(kill.wake_fd().is_none());
        let (begun, time) = (Instant::now(), Duration::from_millis(5));
        kill.wait(time);
        assert!(begun.elapsed() >= time);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn survivors_are_named_and_nobody_else() {
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
            let mut kill = kill_of_nobody();
            kill.signals = signals.clone();
            let report = kill.report(Outcome::Survived);
            assert_eq!((report.outcome, report.signals), (outcome, signals));
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn one_that_lives_and_whom_no_list_shows_survives_all_the_same() {
        // A single process, outside any group of its number.
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let watch = GroupWatch::of_process(child.id() as i32, |_| true).unwrap();
        let report = Kill::over(watch, &KillPolicy::default()).report(Outcome::Survived);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!((report.outcome, report.survivors), (Outcome::Survived, Vec::new()));
    }
}
