//! What a kill does next: SIGTERM, wait, SIGKILL, as a state machine with no clock and no system call inside.
//!
//! It is told what a look at the group showed and what became of a signal, each with the time since the start of the
//! kill, and answers with the one thing to do next. The clock is read *before* the look, so that a group seen alive at
//! the deadline was alive after it, never only before.

use std::time::Duration;

use super::policy::KillPolicy;
use super::report::Outcome;
use crate::error::KillErrorKind;
use crate::group::Seen;
use crate::signal::Signal;

/// How long past the policy's `confirm` a kill waits for a member on which SIGKILL has visibly taken effect: among
/// thousands of busy processes a dying one waits for a CPU too, and to free a large memory takes time.
pub(super) const LEAVING: Duration = Duration::from_secs(10);

/// The longest wait after a look that could not tell whether the group is gone.
const UNCLEAR: Duration = Duration::from_millis(5);

/// The wait between two looks at a group whose dead members are being reaped: a fraction of what that takes.
const EMPTYING: Duration = Duration::from_micros(50);

/// What became of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Delivery {
    /// At least one member has it.
    Delivered,
    /// `ESRCH`: the group is empty.
    NoSuchGroup,
    /// `EPERM`: no member could be signalled.
    NotPermitted,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// Send this signal, and report what became of it.
    Send(Signal),
    /// Look at the group at once.
    Look,
    /// Look again when a member has exited or this much time has passed, whichever is first.
    Wait(Duration),
    /// The kill has ended: with an outcome, or because the first signal was not permitted.
    Done(Result<Outcome, KillErrorKind>),
}

#[derive(Clone, Copy, Debug)]
enum State {
    Start,
    FirstSignal,
    Continuing,
    Grace { until: Duration },
    Killing,
    Confirming { until: Duration },
    Ended(Result<Outcome, KillErrorKind>),
}

/// The state of one escalation.
#[derive(Clone, Debug)]
pub(crate) struct Escalation {
    policy: KillPolicy,
    state: State,
    grace_from: Duration,
}

impl Escalation {
    pub(crate) fn new(policy: &KillPolicy) -> Escalation {
        Escalation { policy: policy.clone(), state: State::Start, grace_from: Duration::ZERO }
    }

    /// What follows from a look at the group; `now` was read before the look began.
    ///
    /// `is_leaving` tells whether the member that was seen alive is dying and only waits for a CPU. The question costs
    /// system calls, so it is asked where the answer decides: when the time to confirm a SIGKILL is over.
    pub(crate) fn next(&mut self, now: Duration, seen: Seen, is_leaving: impl FnOnce() -> bool) -> Next {
        match (self.state, seen) {
            (State::Start, Seen::Gone) => self.end(Ok(Outcome::AlreadyGone)),
            // No member is known to live: a signal would be for the dead.
            (State::Start, Seen::Emptying) => self.wait(Duration::MAX, seen),
            // SIGKILL as the first signal leaves nothing to wait for, and must not be sent twice.
            (State::Start, _) if self.policy.signal == Signal::KILL => self.send(State::Killing, Signal::KILL),
            (State::Start, _) => self.send(State::FirstSignal, self.policy.signal),

            (State::Grace { .. }, Seen::Gone) => self.end(Ok(Outcome::Terminated)),
            (State::Grace { until }, _) if now < until => self.wait(until - now, seen),
            (State::Grace { .. }, _) => self.send(State::Killing, Signal::KILL),

            (State::Confirming { .. }, Seen::Gone) => self.end(Ok(Outcome::Killed)),
            (State::Confirming { until }, _) if now < until => self.wait(until - now, seen),
            (State::Confirming { until }, _) if now - until < LEAVING && (seen != Seen::Alive || is_leaving()) => {
                self.wait(LEAVING - (now - until), seen)
            }
            (State::Confirming { .. }, _) => self.end(Ok(Outcome::Survived)),

            (State::Ended(end), _) => Next::Done(end),
            // The result of a signal is outstanding; a look in between changes nothing.
            (State::FirstSignal, _) => Next::Send(self.policy.signal),
            (State::Continuing, _) => Next::Send(Signal::CONT),
            (State::Killing, _) => Next::Send(Signal::KILL),
        }
    }

    /// What follows from a signal that was sent at `now`, with this result.
    pub(crate) fn sent(&mut self, now: Duration, result: Delivery) -> Next {
        match (self.state, result) {
            (State::FirstSignal, Delivery::NoSuchGroup) => self.end(Ok(Outcome::AlreadyGone)),
            (State::FirstSignal, Delivery::NotPermitted) => self.end(Err(KillErrorKind::NotPermitted)),
            (State::FirstSignal, Delivery::Delivered) => {
                self.grace_from = now;
                // A stopped member keeps SIGTERM pending until it is continued.
                if self.policy.continue_stopped && self.policy.signal != Signal::CONT {
                    self.send(State::Continuing, Signal::CONT)
                } else {
                    self.look(State::Grace { until: now.saturating_add(self.policy.grace) })
                }
            }
            (State::Continuing, Delivery::NoSuchGroup) => self.end(Ok(Outcome::Terminated)),
            (State::Continuing, Delivery::Delivered | Delivery::NotPermitted) => {
                self.look(State::Grace { until: self.grace_from.saturating_add(self.policy.grace) })
            }
            // The group was gone when SIGKILL came: it took none as the first signal, and the first signal ended it
            // else.
            (State::Killing, Delivery::NoSuchGroup) if self.policy.signal == Signal::KILL => {
                self.end(Ok(Outcome::AlreadyGone))
            }
            (State::Killing, Delivery::NoSuchGroup) => self.end(Ok(Outcome::Terminated)),
            (State::Killing, Delivery::NotPermitted) if self.policy.signal == Signal::KILL => {
                self.end(Err(KillErrorKind::NotPermitted))
            }
            // The members that could be signalled have died; those that are left may not be signalled, and survive.
            (State::Killing, Delivery::NotPermitted) => self.end(Ok(Outcome::Survived)),
            (State::Killing, Delivery::Delivered) if self.policy.confirm.is_zero() => self.end(Ok(Outcome::Killed)),
            (State::Killing, Delivery::Delivered) => {
                self.look(State::Confirming { until: now.saturating_add(self.policy.confirm) })
            }
            (State::Ended(end), _) => Next::Done(end),
            (State::Start | State::Grace { .. } | State::Confirming { .. }, _) => Next::Look,
        }
    }

    fn send(&mut self, state: State, signal: Signal) -> Next {
        self.state = state;
        Next::Send(signal)
    }

    fn look(&mut self, state: State) -> Next {
        self.state = state;
        Next::Look
    }

    /// The one place where the length of a wait is decided: until the next deadline, but for no longer than the poll
    /// interval, and for a moment only where the next look may tell what this one could not.
    fn wait(&self, left: Duration, seen: Seen) -> Next {
        let longest = match seen {
            Seen::Unclear => UNCLEAR,
            Seen::Emptying => EMPTYING,
            Seen::Alive | Seen::Gone => Duration::MAX,
        };
        Next::Wait(self.policy.poll_interval.min(left).min(longest))
    }

    fn end(&mut self, end: Result<Outcome, KillErrorKind>) -> Next {
        self.state = State::Ended(end);
        Next::Done(end)
    }
}

#[cfg(test)]
mod tests;
