//! One group on its way up the ladder: reads the clock, looks, sends, and writes the report.
//!
//! Whoever drives it decides only where to sleep: see `blocking.rs` for one climb, `undertaker.rs` for many.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;

use super::ladder::{Ask, Ladder, Sent, Sight};
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
        let late = self.leader_within.is_none_or(|within| at.elapsed() >= within);
        if late || self.vigil.group().leader_has_exited() {
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
            let sight = match gone {
                true => Sight::Gone,
                // A question that costs something, asked where the answer decides.
                false if climb.ladder.would_give_up(now) && climb.vigil.may_be_leaving() => Sight::Leaving,
                false => Sight::Alive,
            };
            let ask = climb.ladder.saw(now, sight);
            steps[i] = climb.follow(ask);
        }
    }
}
