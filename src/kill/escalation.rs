//! The escalation, pure: SIGTERM → wait → SIGKILL as a state machine with no clock and no system call inside.
//!
//! It is told what was seen and what became of a signal, each with the time since the start; it answers with the
//! one thing to do next. Whoever drives it reads the clock *before* looking at the group, so that a group found
//! alive at the deadline was alive after it, never before.

use std::time::Duration;

use super::{KillPolicy, Outcome};
use crate::signal::Signal;

/// How much longer than the policy says a SIGKILL is waited for that has visibly arrived: on a machine with thousands at
/// work the dying wait for a CPU too, and a large memory takes its time to be given back.
pub(super) const LEAVING: Duration = Duration::from_secs(10);

/// What a look at the group said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Some member can run.
    Alive,
    /// As that, but whoever was seen is only on its way out, or nobody was and it could not be told.
    Leaving,
    /// No member can run again.
    Gone,
}

/// What became of a signal that was asked for.
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
    /// Send this, and tell what became of it.
    Send(Signal),
    /// Look at the group at once, and tell.
    Look,
    /// Look again when a member has ended or this much time has passed, whichever is first.
    Wait(Duration),
    /// The ladder has ended.
    Done(Outcome),
    /// The ladder has ended: the first signal was not permitted.
    NotPermitted,
}

#[derive(Clone, Copy, Debug)]
enum State {
    Start,
    FirstSignal,
    Continuing,
    Grace { until: Duration },
    Killing,
    Confirm { until: Duration },
    End(Next),
}

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

    /// The group was looked at; `now` was read before the look began.
    pub(crate) fn saw(&mut self, now: Duration, seen: Seen) -> Next {
        match (self.state, seen) {
            (State::Start, Seen::Gone) => self.end(Outcome::AlreadyGone),
            // SIGKILL as the polite signal leaves nothing to wait for, and must not be sent twice.
            (State::Start, _) if self.policy.signal == Signal::KILL => self.send(State::Killing, Signal::KILL),
            (State::Start, _) => self.send(State::FirstSignal, self.policy.signal),

            (State::Grace { .. }, Seen::Gone) => self.end(Outcome::Terminated),
            (State::Grace { until }, _) if now < until => self.wait(until - now),
            (State::Grace { .. }, _) => self.send(State::Killing, Signal::KILL),

            (State::Confirm { .. }, Seen::Gone) => self.end(Outcome::Killed),
            (State::Confirm { until }, _) if now < until => self.wait(until - now),
            (State::Confirm { until }, Seen::Leaving) if now - until < LEAVING => self.wait(LEAVING - (now - until)),
            (State::Confirm { .. }, _) => self.end(Outcome::Survived),

            (State::End(next), _) => next,
            // An answer is owed to a signal; a look in between changes nothing.
            (State::FirstSignal, _) => Next::Send(self.policy.signal),
            (State::Continuing, _) => Next::Send(Signal::CONT),
            (State::Killing, _) => Next::Send(Signal::KILL),
        }
    }

    /// The signal that was asked for was sent at `now`, with this result.
    pub(crate) fn sent(&mut self, now: Duration, result: Delivery) -> Next {
        match (self.state, result) {
            (State::FirstSignal, Delivery::NoSuchGroup) => self.end(Outcome::AlreadyGone),
            (State::FirstSignal, Delivery::NotPermitted) => {
                self.state = State::End(Next::NotPermitted);
                Next::NotPermitted
            }
            (State::FirstSignal, Delivery::Delivered) => {
                self.grace_from = now;
                // A stopped member keeps SIGTERM pending until it is continued.
                if self.policy.continue_stopped && self.policy.signal != Signal::CONT {
                    self.send(State::Continuing, Signal::CONT)
                } else {
                    self.look(State::Grace { until: now.saturating_add(self.policy.grace) })
                }
            }
            (State::Continuing, Delivery::NoSuchGroup) => self.end(Outcome::Terminated),
            (State::Continuing, Delivery::Delivered | Delivery::NotPermitted) => {
                self.look(State::Grace { until: self.grace_from.saturating_add(self.policy.grace) })
            }
            // Gone between the look and the signal, or killed as the first signal: nothing was left to kill.
            (State::Killing, Delivery::NoSuchGroup) if self.policy.signal == Signal::KILL => {
                self.end(Outcome::AlreadyGone)
            }
            (State::Killing, Delivery::NoSuchGroup) => self.end(Outcome::Terminated),
            (State::Killing, Delivery::NotPermitted) if self.policy.signal == Signal::KILL => {
                self.state = State::End(Next::NotPermitted);
                Next::NotPermitted
            }
            // Those who could be signalled have died, and the rest may not be: they outlive this kill.
            (State::Killing, Delivery::NotPermitted) => self.end(Outcome::Survived),
            (State::Killing, Delivery::Delivered) if self.policy.confirm.is_zero() => self.end(Outcome::Killed),
            (State::Killing, Delivery::Delivered) => {
                self.look(State::Confirm { until: now.saturating_add(self.policy.confirm) })
            }
            (State::End(next), _) => next,
            (State::Start | State::Grace { .. } | State::Confirm { .. }, _) => Next::Look,
        }
    }

    /// Whether somebody seen alive at `now` is given up, unless it is [leaving](Seen::Leaving).
    pub(crate) fn would_give_up(&self, now: Duration) -> bool {
        matches!(self.state, State::Confirm { until } if now >= until)
    }

    fn send(&mut self, state: State, signal: Signal) -> Next {
        self.state = state;
        Next::Send(signal)
    }

    fn look(&mut self, state: State) -> Next {
        self.state = state;
        Next::Look
    }

    fn wait(&self, left: Duration) -> Next {
        Next::Wait(self.policy.poll_interval.min(left))
    }

    fn end(&mut self, outcome: Outcome) -> Next {
        self.state = State::End(Next::Done(outcome));
        Next::Done(outcome)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn whoever_is_leaving_has_ten_seconds_more_and_no_longer() {
        let given_up = KillPolicy::default().confirm + LEAVING;
        let nano = Duration::from_nanos(1);
        let saw_leaving = |at| {
            let mut escalation = at_sigkill(Signal::KILL);
            assert_eq!(escalation.sent(Duration::ZERO, Delivery::Delivered), Next::Look);
            escalation.saw(at, Seen::Leaving)
        };
        assert_eq!(saw_leaving(given_up - nano), Next::Wait(nano));
        assert_eq!(saw_leaving(given_up), Next::Done(Outcome::Survived));
    }

    #[test]
    fn how_much_longer_the_leaving_have_is_what_the_documentation_promises() {
        use crate::promised::{README, are_kept, time};
        are_kept(&[
            ("README", time(README, "only waits for a CPU, is given {} more."), LEAVING),
            ("confirm", time(include_str!("../kill.rs"), "1 s by default, and up to {} more while"), LEAVING),
        ]);
    }

    /// A group as simple as can be: it is gone from one moment on, which its disposition decides.
    #[derive(Clone, Copy, Debug)]
    struct Model {
        /// Gone by itself at this time, signals or not.
        ends: Option<Duration>,
        /// Gone this long after the first signal.
        obeys: Option<Duration>,
        /// Gone this long after SIGKILL; a member in a frozen cgroup never is.
        dies: Option<Duration>,
        /// Whether it is seen to be on its way out meanwhile.
        seen_leaving: bool,
        /// Nothing of the group stays in the process table once it is gone.
        reaped: bool,
        permitted: bool,
    }

    struct Trace {
        signals: Vec<(Signal, Duration)>,
        waits: Vec<(Duration, Duration)>,
        /// Whether the group was gone at some look before the last.
        looked_past_the_end: bool,
        end: Next,
        ended_at: Duration,
        gone_at: Option<Duration>,
    }

    /// Drives the ladder with a clock of its own; each look and signal takes the next of `delays`, in turn.
    fn kill(policy: &KillPolicy, model: Model, delays: &[Duration]) -> Trace {
        let mut escalation = Escalation::new(policy);
        let (mut now, mut gone_at) = (Duration::ZERO, model.ends);
        let mut delays = delays.iter().cycle();
        let (mut signals, mut waits, mut looked_past_the_end) = (Vec::new(), Vec::new(), false);
        let mut next = Next::Look;
        let mut leaving = false;
        for _ in 0..100_000 {
            match next {
                Next::Done(_) | Next::NotPermitted => {
                    return Trace { signals, waits, looked_past_the_end, end: next, ended_at: now, gone_at };
                }
                Next::Look | Next::Wait(_) => {
                    if let Next::Wait(time) = next {
                        waits.push((now, time));
                        // The exit ends the wait.
                        let exit = gone_at.map_or(Duration::MAX, |at| at.saturating_sub(now));
                        now += time.min(exit);
                    }
                    let read = now;
                    now += *delays.next().unwrap();
                    let gone = gone_at.is_some_and(|at| at <= now);
                    let seen = match gone {
                        true => Seen::Gone,
                        false if leaving => Seen::Leaving,
                        false => Seen::Alive,
                    };
                    next = escalation.saw(read, seen);
                    looked_past_the_end |= gone && !matches!(next, Next::Done(_));
                }
                Next::Send(signal) => {
                    now += *delays.next().unwrap();
                    let gone = gone_at.is_some_and(|at| at <= now);
                    let sent = match (gone && model.reaped, model.permitted) {
                        (true, _) => Delivery::NoSuchGroup,
                        (false, false) => Delivery::NotPermitted,
                        (false, true) => Delivery::Delivered,
                    };
                    if sent == Delivery::Delivered {
                        leaving = model.seen_leaving && signal == Signal::KILL;
                        signals.push((signal, now));
                        let death = match signal {
                            Signal::KILL => model.dies,
                            Signal::CONT => None,
                            _ => model.obeys,
                        };
                        if let Some(after) = death {
                            gone_at = Some(gone_at.map_or(now + after, |at| at.min(now + after)));
                        }
                    }
                    next = escalation.sent(now, sent);
                }
            }
        }
        panic!("the ladder did not end: {policy:?} {model:?}");
    }

    fn outcome(next: Next) -> Option<Outcome> {
        if let Next::Done(outcome) = next { Some(outcome) } else { None }
    }

    fn millis(range: std::ops::Range<u64>) -> impl Strategy<Value = Duration> {
        range.prop_map(Duration::from_millis)
    }

    fn policies() -> impl Strategy<Value = KillPolicy> {
        let signals = prop_oneof![4 => Just(Signal::TERM), 1 => Just(Signal::INT), 1 => Just(Signal::KILL), 1 => Just(Signal::CONT)];
        (signals, any::<bool>(), millis(0..8000), millis(1..500), millis(0..2000)).prop_map(
            |(signal, cont, grace, poll, confirm)| {
                let policy = KillPolicy::default().signal(signal).continue_stopped(cont);
                policy.grace(grace).poll_interval(poll).confirm(confirm)
            },
        )
    }

    fn models() -> impl Strategy<Value = Model> {
        let soon = || proptest::option::of(millis(0..9000));
        let late = proptest::option::of(millis(0..15_000));
        (soon(), soon(), late, any::<bool>(), any::<bool>(), proptest::bool::weighted(0.9)).prop_map(
            |(ends, obeys, dies, seen_leaving, reaped, permitted)| Model {
                ends,
                obeys,
                dies,
                seen_leaving,
                reaped,
                permitted,
            },
        )
    }

    /// A ladder that has just asked for SIGKILL.
    fn at_sigkill(signal: Signal) -> Escalation {
        let mut escalation =
            Escalation::new(&KillPolicy::default().signal(signal).grace(Duration::ZERO).continue_stopped(false));
        let mut next = escalation.saw(Duration::ZERO, Seen::Alive);
        while next != Next::Send(Signal::KILL) {
            next = match next {
                Next::Send(_) => escalation.sent(Duration::ZERO, Delivery::Delivered),
                _ => escalation.saw(Duration::ZERO, Seen::Alive),
            };
        }
        escalation
    }

    #[test]
    fn what_a_sigkill_that_reached_nobody_says_depends_on_what_was_sent_before() {
        let end = |signal, sent| at_sigkill(signal).sent(Duration::ZERO, sent);
        assert_eq!(end(Signal::KILL, Delivery::NoSuchGroup), Next::Done(Outcome::AlreadyGone));
        assert_eq!(end(Signal::TERM, Delivery::NoSuchGroup), Next::Done(Outcome::Terminated));
        assert_eq!(end(Signal::KILL, Delivery::NotPermitted), Next::NotPermitted);
        assert_eq!(end(Signal::TERM, Delivery::NotPermitted), Next::Done(Outcome::Survived));
    }

    #[test]
    fn a_sigkill_that_is_not_to_be_confirmed_is_the_end() {
        let after = |confirm| {
            let policy = KillPolicy::default().signal(Signal::KILL).confirm(confirm);
            let mut escalation = Escalation::new(&policy);
            assert_eq!(escalation.saw(Duration::ZERO, Seen::Alive), Next::Send(Signal::KILL));
            escalation.sent(Duration::ZERO, Delivery::Delivered)
        };
        assert_eq!(after(Duration::ZERO), Next::Done(Outcome::Killed));
        assert_eq!(after(Duration::from_nanos(1)), Next::Look);
    }

    #[test]
    fn whoever_is_seen_alive_is_given_up_when_the_time_to_confirm_is_over_and_not_before() {
        let (second, nano) = (Duration::from_secs(1), Duration::from_nanos(1));
        let mut escalation = Escalation::new(&KillPolicy::default().signal(Signal::KILL).confirm(second));
        assert!(!escalation.would_give_up(Duration::MAX), "nothing was sent yet");
        escalation.saw(Duration::ZERO, Seen::Alive);
        assert!(!escalation.would_give_up(Duration::MAX), "nobody knows yet what came of it");
        assert_eq!(escalation.sent(second, Delivery::Delivered), Next::Look);
        assert!(!escalation.would_give_up(second * 2 - nano));
        assert!(escalation.would_give_up(second * 2));
        assert_eq!(escalation.saw(second * 2, Seen::Alive), Next::Done(Outcome::Survived));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn every_kill_keeps_the_rules(
            policy in policies(),
            model in models(),
            delays in proptest::collection::vec(millis(0..40), 1..6),
        ) {
            let trace = kill(&policy, model, &delays);

            // Never more than one of each signal.
            let distinct: HashSet<_> = trace.signals.iter().map(|(signal, _)| *signal).collect();
            prop_assert_eq!(distinct.len(), trace.signals.len());

            // Never SIGKILL before the grace.
            let first = trace.signals.first();
            let killed = trace.signals.iter().find(|(signal, _)| *signal == Signal::KILL);
            if let (Some((signal, polite)), Some((_, kill))) = (first, killed) {
                prop_assert_eq!(*signal, policy.signal);
                prop_assert!(*signal == Signal::KILL || *kill >= *polite + policy.grace);
            }

            // Whoever was seen leaving is waited for, and nobody else is.
            let extension = if model.seen_leaving { LEAVING } else { Duration::ZERO };
            if let (Some((_, kill)), Some(Outcome::Survived)) = (killed, outcome(trace.end)) {
                let given_up = *kill + policy.confirm + extension;
                prop_assert!(trace.gone_at.is_none_or(|at| at > given_up), "gone at {:?}", trace.gone_at);
                prop_assert!(trace.ended_at >= given_up);
                prop_assert!(trace.ended_at <= given_up + *delays.iter().max().unwrap() * 2);
            }

            // Never a wait longer than the poll interval or the time left.
            for (at, wait) in &trace.waits {
                prop_assert!(*wait <= policy.poll_interval && !wait.is_zero());
                let (deadline, slack) = match killed {
                    Some((_, kill)) if at >= kill => (*kill + policy.confirm + extension, delays.iter().max().unwrap()),
                    _ => (first.unwrap().1 + policy.grace, delays.iter().max().unwrap()),
                };
                // `at` is after the look, whose clock was read before it: late by at most one look.
                prop_assert!(*at + *wait <= deadline + *slack, "{:?} + {:?} > {:?}", at, wait, deadline);
            }

            // Gone at any moment ends it at the next look.
            prop_assert!(!trace.looked_past_the_end);

            // The outcome says what happened.
            match trace.end {
                Next::Done(Outcome::AlreadyGone) => prop_assert!(trace.signals.is_empty()),
                Next::Done(Outcome::Terminated) => {
                    prop_assert!(killed.is_none() && trace.gone_at.is_some_and(|at| at <= trace.ended_at));
                }
                Next::Done(Outcome::Killed) => {
                    prop_assert!(killed.is_some());
                    prop_assert!(policy.confirm.is_zero() || trace.gone_at.is_some_and(|at| at <= trace.ended_at));
                }
                Next::Done(Outcome::Survived) => prop_assert!(killed.is_some()),
                Next::NotPermitted => prop_assert!(!model.permitted && trace.signals.is_empty()),
                other => prop_assert!(false, "ended with {:?}", other),
            }

            // SIGKILL goes to whatever outlives the grace.
            let outlives = first.is_some_and(|(_, polite)| {
                let looks_done = *polite + policy.grace + *delays.iter().max().unwrap() * 4;
                trace.gone_at.is_none_or(|at| at > looks_done)
            });
            prop_assert!(!outlives || killed.is_some());

            // A stopped member is continued right after the first signal.
            let continues = policy.continue_stopped && !matches!(policy.signal, Signal::KILL | Signal::CONT);
            if continues && !model.reaped && first.is_some() {
                prop_assert_eq!(trace.signals[1].0, Signal::CONT);
            }
        }
    }
}
