//! The ladder, pure: SIGTERM → wait → SIGKILL as a state machine with no clock and no system call inside.
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
pub(crate) enum Sight {
    /// Some member can run.
    Alive,
    /// As that, but whoever was seen is only on its way out, or nobody was and it could not be told.
    Leaving,
    /// No member can run again.
    Gone,
}

/// What became of a signal that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    /// At least one member has it.
    Delivered,
    /// `ESRCH`: the group is empty.
    NoSuchGroup,
    /// `EPERM`: no member could be signalled.
    NotPermitted,
}

/// What to do next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ask {
    /// Send this, and tell what became of it.
    Signal(Signal),
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
enum Rung {
    Start,
    Asking,
    Continuing,
    Grace { until: Duration },
    Killing,
    Confirm { until: Duration },
    End(Ask),
}

#[derive(Clone, Debug)]
pub(crate) struct Ladder {
    policy: KillPolicy,
    rung: Rung,
    grace_from: Duration,
}

impl Ladder {
    pub(crate) fn new(policy: &KillPolicy) -> Ladder {
        Ladder { policy: policy.clone(), rung: Rung::Start, grace_from: Duration::ZERO }
    }

    /// The group was looked at; `now` was read before the look began.
    pub(crate) fn saw(&mut self, now: Duration, sight: Sight) -> Ask {
        match (self.rung, sight) {
            (Rung::Start, Sight::Gone) => self.end(Outcome::AlreadyGone),
            // SIGKILL as the polite signal leaves nothing to wait for, and must not be sent twice.
            (Rung::Start, _) if self.policy.signal == Signal::KILL => self.ask(Rung::Killing, Signal::KILL),
            (Rung::Start, _) => self.ask(Rung::Asking, self.policy.signal),

            (Rung::Grace { .. }, Sight::Gone) => self.end(Outcome::Terminated),
            (Rung::Grace { until }, _) if now < until => self.wait(until - now),
            (Rung::Grace { .. }, _) => self.ask(Rung::Killing, Signal::KILL),

            (Rung::Confirm { .. }, Sight::Gone) => self.end(Outcome::Killed),
            (Rung::Confirm { until }, _) if now < until => self.wait(until - now),
            (Rung::Confirm { until }, Sight::Leaving) if now - until < LEAVING => self.wait(LEAVING - (now - until)),
            (Rung::Confirm { .. }, _) => self.end(Outcome::Survived),

            (Rung::End(ask), _) => ask,
            // An answer is owed to a signal; a look in between changes nothing.
            (Rung::Asking, _) => Ask::Signal(self.policy.signal),
            (Rung::Continuing, _) => Ask::Signal(Signal::CONT),
            (Rung::Killing, _) => Ask::Signal(Signal::KILL),
        }
    }

    /// The signal that was asked for was sent at `now`, with this result.
    pub(crate) fn sent(&mut self, now: Duration, result: Sent) -> Ask {
        match (self.rung, result) {
            (Rung::Asking, Sent::NoSuchGroup) => self.end(Outcome::AlreadyGone),
            (Rung::Asking, Sent::NotPermitted) => {
                self.rung = Rung::End(Ask::NotPermitted);
                Ask::NotPermitted
            }
            (Rung::Asking, Sent::Delivered) => {
                self.grace_from = now;
                // A stopped member keeps SIGTERM pending until it is continued.
                if self.policy.continue_stopped && self.policy.signal != Signal::CONT {
                    self.ask(Rung::Continuing, Signal::CONT)
                } else {
                    self.look(Rung::Grace { until: now.saturating_add(self.policy.grace) })
                }
            }
            (Rung::Continuing, Sent::NoSuchGroup) => self.end(Outcome::Terminated),
            (Rung::Continuing, Sent::Delivered | Sent::NotPermitted) => {
                self.look(Rung::Grace { until: self.grace_from.saturating_add(self.policy.grace) })
            }
            // Gone between the look and the signal, or killed as the first signal: nothing was left to kill.
            (Rung::Killing, Sent::NoSuchGroup) if self.policy.signal == Signal::KILL => self.end(Outcome::AlreadyGone),
            (Rung::Killing, Sent::NoSuchGroup) => self.end(Outcome::Terminated),
            (Rung::Killing, Sent::NotPermitted) if self.policy.signal == Signal::KILL => {
                self.rung = Rung::End(Ask::NotPermitted);
                Ask::NotPermitted
            }
            // Those who could be signalled have died, and the rest may not be: they outlive this kill.
            (Rung::Killing, Sent::NotPermitted) => self.end(Outcome::Survived),
            (Rung::Killing, Sent::Delivered) if self.policy.confirm.is_zero() => self.end(Outcome::Killed),
            (Rung::Killing, Sent::Delivered) => {
                self.look(Rung::Confirm { until: now.saturating_add(self.policy.confirm) })
            }
            (Rung::End(ask), _) => ask,
            (Rung::Start | Rung::Grace { .. } | Rung::Confirm { .. }, _) => Ask::Look,
        }
    }

    /// Whether somebody seen alive at `now` is given up, unless it is [leaving](Sight::Leaving).
    pub(crate) fn would_give_up(&self, now: Duration) -> bool {
        matches!(self.rung, Rung::Confirm { until } if now >= until)
    }

    fn ask(&mut self, rung: Rung, signal: Signal) -> Ask {
        self.rung = rung;
        Ask::Signal(signal)
    }

    fn look(&mut self, rung: Rung) -> Ask {
        self.rung = rung;
        Ask::Look
    }

    fn wait(&self, left: Duration) -> Ask {
        Ask::Wait(self.policy.poll_interval.min(left))
    }

    fn end(&mut self, outcome: Outcome) -> Ask {
        self.rung = Rung::End(Ask::Done(outcome));
        Ask::Done(outcome)
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
            let mut ladder = at_sigkill(Signal::KILL);
            assert_eq!(ladder.sent(Duration::ZERO, Sent::Delivered), Ask::Look);
            ladder.saw(at, Sight::Leaving)
        };
        assert_eq!(saw_leaving(given_up - nano), Ask::Wait(nano));
        assert_eq!(saw_leaving(given_up), Ask::Done(Outcome::Survived));
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
        end: Ask,
        ended_at: Duration,
        gone_at: Option<Duration>,
    }

    /// Drives the ladder with a clock of its own; each look and signal takes the next of `delays`, in turn.
    fn climb(policy: &KillPolicy, model: Model, delays: &[Duration]) -> Trace {
        let mut ladder = Ladder::new(policy);
        let (mut now, mut gone_at) = (Duration::ZERO, model.ends);
        let mut delays = delays.iter().cycle();
        let (mut signals, mut waits, mut looked_past_the_end) = (Vec::new(), Vec::new(), false);
        let mut ask = Ask::Look;
        let mut leaving = false;
        for _ in 0..100_000 {
            match ask {
                Ask::Done(_) | Ask::NotPermitted => {
                    return Trace { signals, waits, looked_past_the_end, end: ask, ended_at: now, gone_at };
                }
                Ask::Look | Ask::Wait(_) => {
                    if let Ask::Wait(time) = ask {
                        waits.push((now, time));
                        // The exit ends the wait.
                        let exit = gone_at.map_or(Duration::MAX, |at| at.saturating_sub(now));
                        now += time.min(exit);
                    }
                    let read = now;
                    now += *delays.next().unwrap();
                    let gone = gone_at.is_some_and(|at| at <= now);
                    let sight = match gone {
                        true => Sight::Gone,
                        false if leaving => Sight::Leaving,
                        false => Sight::Alive,
                    };
                    ask = ladder.saw(read, sight);
                    looked_past_the_end |= gone && !matches!(ask, Ask::Done(_));
                }
                Ask::Signal(signal) => {
                    now += *delays.next().unwrap();
                    let gone = gone_at.is_some_and(|at| at <= now);
                    let sent = match (gone && model.reaped, model.permitted) {
                        (true, _) => Sent::NoSuchGroup,
                        (false, false) => Sent::NotPermitted,
                        (false, true) => Sent::Delivered,
                    };
                    if sent == Sent::Delivered {
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
                    ask = ladder.sent(now, sent);
                }
            }
        }
        panic!("the ladder did not end: {policy:?} {model:?}");
    }

    fn outcome(ask: Ask) -> Option<Outcome> {
        if let Ask::Done(outcome) = ask { Some(outcome) } else { None }
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
    fn at_sigkill(signal: Signal) -> Ladder {
        let mut ladder =
            Ladder::new(&KillPolicy::default().signal(signal).grace(Duration::ZERO).continue_stopped(false));
        let mut ask = ladder.saw(Duration::ZERO, Sight::Alive);
        while ask != Ask::Signal(Signal::KILL) {
            ask = match ask {
                Ask::Signal(_) => ladder.sent(Duration::ZERO, Sent::Delivered),
                _ => ladder.saw(Duration::ZERO, Sight::Alive),
            };
        }
        ladder
    }

    #[test]
    fn what_a_sigkill_that_reached_nobody_says_depends_on_what_was_sent_before() {
        let end = |signal, sent| at_sigkill(signal).sent(Duration::ZERO, sent);
        assert_eq!(end(Signal::KILL, Sent::NoSuchGroup), Ask::Done(Outcome::AlreadyGone));
        assert_eq!(end(Signal::TERM, Sent::NoSuchGroup), Ask::Done(Outcome::Terminated));
        assert_eq!(end(Signal::KILL, Sent::NotPermitted), Ask::NotPermitted);
        assert_eq!(end(Signal::TERM, Sent::NotPermitted), Ask::Done(Outcome::Survived));
    }

    #[test]
    fn a_sigkill_that_is_not_to_be_confirmed_is_the_end() {
        let after = |confirm| {
            let policy = KillPolicy::default().signal(Signal::KILL).confirm(confirm);
            let mut ladder = Ladder::new(&policy);
            assert_eq!(ladder.saw(Duration::ZERO, Sight::Alive), Ask::Signal(Signal::KILL));
            ladder.sent(Duration::ZERO, Sent::Delivered)
        };
        assert_eq!(after(Duration::ZERO), Ask::Done(Outcome::Killed));
        assert_eq!(after(Duration::from_nanos(1)), Ask::Look);
    }

    #[test]
    fn whoever_is_seen_alive_is_given_up_when_the_time_to_confirm_is_over_and_not_before() {
        let (second, nano) = (Duration::from_secs(1), Duration::from_nanos(1));
        let mut ladder = Ladder::new(&KillPolicy::default().signal(Signal::KILL).confirm(second));
        assert!(!ladder.would_give_up(Duration::MAX), "nothing was sent yet");
        ladder.saw(Duration::ZERO, Sight::Alive);
        assert!(!ladder.would_give_up(Duration::MAX), "nobody knows yet what came of it");
        assert_eq!(ladder.sent(second, Sent::Delivered), Ask::Look);
        assert!(!ladder.would_give_up(second * 2 - nano));
        assert!(ladder.would_give_up(second * 2));
        assert_eq!(ladder.saw(second * 2, Sight::Alive), Ask::Done(Outcome::Survived));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        #[test]
        fn every_climb_keeps_the_rules(
            policy in policies(),
            model in models(),
            delays in proptest::collection::vec(millis(0..40), 1..6),
        ) {
            let trace = climb(&policy, model, &delays);

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
                Ask::Done(Outcome::AlreadyGone) => prop_assert!(trace.signals.is_empty()),
                Ask::Done(Outcome::Terminated) => {
                    prop_assert!(killed.is_none() && trace.gone_at.is_some_and(|at| at <= trace.ended_at));
                }
                Ask::Done(Outcome::Killed) => {
                    prop_assert!(killed.is_some());
                    prop_assert!(policy.confirm.is_zero() || trace.gone_at.is_some_and(|at| at <= trace.ended_at));
                }
                Ask::Done(Outcome::Survived) => prop_assert!(killed.is_some()),
                Ask::NotPermitted => prop_assert!(!model.permitted && trace.signals.is_empty()),
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
