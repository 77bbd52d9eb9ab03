//! One group on its way up the ladder: reads the clock, looks, sends, and writes the report.
//!
//! Whoever drives it decides only where to sleep: see `blocking.rs` for one climb, `undertaker.rs` for many.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::ladder::{Ask, LEAVING, Ladder, Sent, Sight};
use super::{KillError, KillErrorKind, KillPolicy, KillReport, Outcome, SentSignal};
use crate::group::{ProcessGroup, Vigil, look_at_all, pause};
use crate::signal::Signal;

/// The outcome of one step.
#[derive(Debug)]
pub(super) enum Step {
    /// Look again after this long, or as soon as the vigil's descriptor says that somebody ended.
    Wait(Duration),
    Done(Result<KillReport, KillError>),
}

/// A kill under way. The group is pinned from [`new`](Climb::new) on, where the system can do that.
#[derive(Debug)]
pub(crate) struct Climb {
    vigil: Vigil,
    ladder: Ladder,
    start: Option<Instant>,
    signals: Vec<SentSignal>,
    /// How long to wait, after the ladder, for the leader to become waitable; see [`Climb::then_its_leader`].
    leader_within: Option<Duration>,
    ended: Option<(Instant, Result<KillReport, KillError>)>,
}

impl Climb {
    pub(crate) fn new(group: ProcessGroup, policy: &KillPolicy) -> Climb {
        Climb::over(Vigil::new(group), policy)
    }

    /// Whatever it is that is watched.
    pub(crate) fn over(vigil: Vigil, policy: &KillPolicy) -> Climb {
        Climb { vigil, ladder: Ladder::new(policy), start: None, signals: Vec::new(), leader_within: None, ended: None }
    }

    /// Ends only when the leader, a child of this process, can be waited for, or after this long. Dead is not yet
    /// waitable: under ptrace the tracer comes first. And after a SIGKILL that is not confirmed it is not yet dead.
    pub(crate) fn then_its_leader(mut self, within: Duration) -> Climb {
        self.leader_within = Some(within);
        self
    }

    /// Sends the first signals here and now, before anybody goes on with it: this process may end first. Without a look,
    /// which could take a walk; so it is for a group whose leader the caller has yet to reap, and that is taken for alive.
    pub(crate) fn ask_now(mut self) -> Climb {
        let now = self.elapsed();
        let mut ask = self.ladder.saw(now, Sight::Alive);
        while let Ask::Signal(signal) = ask {
            // What could not be sent is asked for again.
            let Ok(next) = self.send(signal) else { break };
            ask = next;
        }
        self
    }

    /// Refuses to begin where, for want of a descriptor, a stranger that gets the number would not be told from the group.
    pub(super) fn if_identified(self) -> Result<Climb, KillError> {
        match self.vigil.is_unidentified() {
            true => Err(KillError::os(self.pgid(), Errno::EMFILE.into())),
            false => Ok(self),
        }
    }

    /// Past the ladder. To a group that is gone it does nothing.
    pub(crate) fn send_aside(&self, signal: Signal) {
        let _ = self.vigil.signal(signal);
    }

    pub(crate) fn pgid(&self) -> i32 {
        self.vigil.group().pgid()
    }

    /// A descriptor that becomes readable when the next step is worth having. None after the ladder has ended: its
    /// witness may have exited long ago, and would wake us for nothing.
    pub(super) fn wake_fd(&self) -> Option<BorrowedFd<'_>> {
        if self.ended.is_some() { None } else { self.vigil.wake_fd() }
    }

    /// Sleeps until the next step is worth having, for `at_most` this long.
    pub(super) fn wait(&self, at_most: Duration) {
        if self.ended.is_some() { pause(at_most) } else { self.vigil.wait(at_most) }
    }

    /// SIGKILL at once, for a climb that nobody can make: no thread is to be had.
    pub(crate) fn cut_short(mut self) -> Result<KillReport, KillError> {
        match self.vigil.signal(Signal::KILL) {
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
            survivors = self.vigil.group().members().unwrap_or_default();
            // The last of them may have died since the last look, and a survivor without a name helps nobody.
            if survivors.is_empty() && self.vigil.look() {
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
        let group = self.vigil.group();
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
    fn follow(&mut self, mut ask: Ask) -> Option<Step> {
        loop {
            match ask {
                Ask::Look => return None,
                Ask::Wait(time) => return Some(Step::Wait(self.vigil.patience(time))),
                Ask::Done(outcome) => {
                    let report = self.report(outcome);
                    return Some(self.finish(Ok(report)));
                }
                Ask::NotPermitted => {
                    let error = KillError::new(self.pgid(), KillErrorKind::NotPermitted);
                    return Some(self.finish(Err(error)));
                }
                Ask::Signal(signal) => match self.send(signal) {
                    Ok(next) => ask = next,
                    Err(errno) => {
                        let error = KillError::os(self.pgid(), errno.into());
                        return Some(self.finish(Err(error)));
                    }
                },
            }
        }
    }

    fn send(&mut self, signal: Signal) -> Result<Ask, Errno> {
        let sent = match self.vigil.signal(signal) {
            Ok(()) => Sent::Delivered,
            Err(Errno::ESRCH) => Sent::NoSuchGroup,
            Err(Errno::EPERM) => Sent::NotPermitted,
            Err(errno) => return Err(errno),
        };
        let at = self.elapsed();
        if sent == Sent::Delivered {
            self.signals.push(SentSignal { signal, at });
            tracing::debug!(pgid = self.pgid(), %signal, "sent to the group");
        }
        Ok(self.ladder.sent(at, sent))
    }
}

/// One step for each of many climbs, which share their walks through the process table.
///
/// The order matters. The clock is read first: a group seen alive at the deadline was alive after it. SIGKILL is sent
/// right after a look that saw a live member: its number still belongs to the group.
pub(super) fn step_all(climbs: &mut [&mut Climb]) -> Vec<Step> {
    let ended = |climb: &mut &mut Climb| climb.ended.is_some().then(|| climb.await_leader());
    let mut steps: Vec<Option<Step>> = climbs.iter_mut().map(ended).collect();
    loop {
        let mut open: Vec<usize> = (0..climbs.len()).filter(|i| steps[*i].is_none()).collect();
        if open.is_empty() {
            return steps.into_iter().flatten().collect();
        }
        let mut times = Vec::with_capacity(open.len());
        let mut vigils = Vec::with_capacity(open.len());
        for (i, climb) in climbs.iter_mut().enumerate() {
            if steps[i].is_none() {
                times.push(climb.elapsed());
                vigils.push(&mut climb.vigil);
            }
        }
        let gone = look_at_all(&mut vigils);
        for ((i, now), gone) in open.drain(..).zip(times).zip(gone) {
            let climb = &mut *climbs[i];
            let sight = sight(gone, climb.ladder.would_give_up(now), || climb.vigil.may_be_leaving());
            let ask = climb.ladder.saw(now, sight);
            steps[i] = climb.follow(ask);
        }
    }
}

/// Whether it is leaving is a question that costs something, asked where the answer decides.
fn sight(gone: bool, decides: bool, is_leaving: impl FnOnce() -> bool) -> Sight {
    match gone {
        true => Sight::Gone,
        false if decides && is_leaving() => Sight::Leaving,
        false => Sight::Alive,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::{Backend, backend};
    use crate::kill::blocking::climb_here;
    use crate::kill::tests::{climb_of_nobody, eventually, start};

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn whether_it_is_leaving_is_asked_only_where_that_decides() {
        let nobody_asks = || -> bool { unreachable!("it decides nothing") };
        assert_eq!(sight(true, false, nobody_asks), Sight::Gone);
        assert_eq!(sight(true, true, nobody_asks), Sight::Gone);
        assert_eq!(sight(false, false, nobody_asks), Sight::Alive);
        assert_eq!(sight(false, true, || true), Sight::Leaving);
        assert_eq!(sight(false, true, || false), Sight::Alive);
    }

    #[test]
    fn the_report_says_whom_what_and_when() {
        let running = start("fast-exit");
        // Nothing is waited for where its zombie holds the grace.
        let grace = if backend() == Backend::Proc { HOUR } else { Duration::ZERO };
        let policy = KillPolicy::default().grace(grace).confirm(Duration::ZERO);
        let report = climb_here(Climb::new(running.group(), &policy)).unwrap();
        assert_eq!(report.pgid, running.pgid());
        let [term, cont, ..] = report.signals[..] else { panic!("{report:?}") };
        assert_eq!((term.signal, cont.signal), (Signal::TERM, Signal::CONT));
        assert!(term.at <= cont.at && cont.at <= report.elapsed && !report.elapsed.is_zero(), "{report:?}");
    }

    #[test]
    fn the_result_is_held_back_until_the_leader_can_be_waited_for_or_its_time_is_over() {
        let running = start("ignore-term");
        let climb = || Climb::new(running.group(), &KillPolicy::default());
        let killed = |climb: &mut Climb| Ok(climb.report(Outcome::Killed));
        let finish = |mut climb: Climb| {
            let result = killed(&mut climb);
            climb.finish(result)
        };
        assert!(matches!(finish(climb()), Step::Done(Ok(_))), "nobody has asked for the leader");
        assert!(matches!(finish(climb().then_its_leader(Duration::ZERO)), Step::Done(Ok(_))), "its time is over");
        // Whoever lives on will not end in that time either.
        let mut given_up = climb().then_its_leader(HOUR);
        let survived = Ok(given_up.report(Outcome::Survived));
        assert!(matches!(given_up.finish(survived), Step::Done(Ok(_))));
        let refused = Err(KillError::new(running.pgid(), KillErrorKind::NotPermitted));
        assert!(matches!(climb().then_its_leader(HOUR).finish(refused), Step::Done(Err(_))));

        let mut patient = climb().then_its_leader(HOUR);
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
        let mut climb = Climb::new(running.group(), &policy);
        assert!(matches!(climb.step(), Step::Wait(_)));
        // Its exit would end the wait.
        assert_eq!(climb.wake_fd().is_some(), backend() == Backend::Proc);
        let report = climb.report(Outcome::Killed);
        climb.ended = Some((Instant::now(), Ok(report)));
        drop(running);
        assert!(climb.wake_fd().is_none());
        let (begun, time) = (Instant::now(), Duration::from_millis(5));
        climb.wait(time);
        assert!(begun.elapsed() >= time);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn survivors_are_named_and_nobody_else() {
        let running = start("ignore-term");
        let mut climb = Climb::new(running.group(), &KillPolicy::default());
        let killed = climb.report(Outcome::Killed);
        assert_eq!((killed.outcome, killed.survivors), (Outcome::Killed, Vec::new()));
        let survived = climb.report(Outcome::Survived);
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
            let mut climb = climb_of_nobody();
            climb.signals = signals.clone();
            let report = climb.report(Outcome::Survived);
            assert_eq!((report.outcome, report.signals), (outcome, signals));
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn one_that_lives_and_whom_no_list_shows_survives_all_the_same() {
        // A single process, outside any group of its number.
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let vigil = Vigil::of_process(child.id() as i32, |_| true).unwrap();
        let report = Climb::over(vigil, &KillPolicy::default()).report(Outcome::Survived);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!((report.outcome, report.survivors), (Outcome::Survived, Vec::new()));
    }
}
