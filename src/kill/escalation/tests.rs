use std::collections::HashSet;

use proptest::prelude::*;

use super::*;

#[test]
fn a_member_that_is_leaving_has_ten_seconds_more_and_no_longer() {
    let given_up = KillPolicy::default().confirm + LEAVING;
    let nano = Duration::from_nanos(1);
    let saw = |at, seen, is_leaving| {
        let mut escalation = at_sigkill(Signal::KILL);
        assert_eq!(escalation.sent(Duration::ZERO, Delivery::Delivered), Next::Look);
        escalation.next(at, seen, || is_leaving)
    };
    // A look that could not tell proves no survivor.
    for (seen, is_leaving) in [(Seen::Alive, true), (Seen::Unclear, false)] {
        assert_eq!(saw(given_up - nano, seen, is_leaving), Next::Wait(nano));
        assert_eq!(saw(given_up, seen, is_leaving), Next::Done(Ok(Outcome::Survived)));
    }
    assert_eq!(saw(given_up - nano, Seen::Alive, false), Next::Done(Ok(Outcome::Survived)));
}

#[test]
fn whether_a_member_is_leaving_is_asked_only_where_that_decides() {
    let unasked = || -> bool { unreachable!("it decides nothing") };
    let (second, nano) = (Duration::from_secs(1), Duration::from_nanos(1));
    let policy = KillPolicy::default().signal(Signal::KILL).confirm(second);
    let confirming = || {
        let mut escalation = Escalation::new(&policy);
        assert_eq!(escalation.next(Duration::ZERO, Seen::Alive, unasked), Next::Send(Signal::KILL));
        assert_eq!(escalation.next(Duration::MAX, Seen::Alive, unasked), Next::Send(Signal::KILL), "no result yet");
        assert_eq!(escalation.sent(second, Delivery::Delivered), Next::Look);
        escalation
    };
    assert_eq!(confirming().next(second * 2 - nano, Seen::Alive, unasked), Next::Wait(nano));
    assert_eq!(confirming().next(second * 2, Seen::Gone, unasked), Next::Done(Ok(Outcome::Killed)));
    assert_eq!(confirming().next(second * 2, Seen::Alive, || false), Next::Done(Ok(Outcome::Survived)));
}

#[test]
fn a_look_that_could_not_tell_is_soon_repeated() {
    let wait = |poll, seen| {
        let policy = KillPolicy::default().poll_interval(Duration::from_millis(poll));
        let mut escalation = Escalation::new(&policy.continue_stopped(false));
        escalation.next(Duration::ZERO, Seen::Alive, || false);
        escalation.sent(Duration::ZERO, Delivery::Delivered);
        escalation.next(Duration::ZERO, seen, || false)
    };
    let millis = |millis| Next::Wait(Duration::from_millis(millis));
    assert_eq!([1, 1000].map(|poll| wait(poll, Seen::Unclear)), [1, 5].map(millis));
    assert_eq!(wait(1000, Seen::Emptying), Next::Wait(EMPTYING));
    let mut unsent = Escalation::new(&KillPolicy::default());
    assert_eq!(unsent.next(Duration::ZERO, Seen::Emptying, || false), Next::Wait(EMPTYING), "and nothing is sent");
    assert_eq!([1, 1000].map(|poll| wait(poll, Seen::Alive)), [1, 1000].map(millis));
}

#[test]
fn how_much_longer_the_leaving_have_is_what_the_documentation_promises() {
    use crate::promised::{README, are_kept, time};
    are_kept(&[
        ("README", time(README, "only waits for a CPU, is given {} more."), LEAVING),
        ("confirm", time(include_str!("../policy.rs"), "1 s by default, and up to {} more while"), LEAVING),
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

/// Drives an escalation with a clock of its own; each look and signal takes the next of `delays`, in turn.
fn kill(policy: &KillPolicy, model: Model, delays: &[Duration]) -> Trace {
    let mut escalation = Escalation::new(policy);
    let (mut now, mut gone_at) = (Duration::ZERO, model.ends);
    let mut delays = delays.iter().cycle();
    let (mut signals, mut waits, mut looked_past_the_end) = (Vec::new(), Vec::new(), false);
    let mut next = Next::Look;
    let mut leaving = false;
    for _ in 0..100_000 {
        match next {
            Next::Done(_) => {
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
                let seen = if gone { Seen::Gone } else { Seen::Alive };
                next = escalation.next(read, seen, || leaving);
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
    panic!("the escalation did not end: {policy:?} {model:?}");
}

fn outcome(next: Next) -> Option<Outcome> {
    if let Next::Done(Ok(outcome)) = next { Some(outcome) } else { None }
}

fn millis(range: std::ops::Range<u64>) -> impl Strategy<Value = Duration> {
    range.prop_map(Duration::from_millis)
}

fn policies() -> impl Strategy<Value = KillPolicy> {
    let signals =
        prop_oneof![4 => Just(Signal::TERM), 1 => Just(Signal::INT), 1 => Just(Signal::KILL), 1 => Just(Signal::CONT)];
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

/// An escalation that is about to send SIGKILL.
fn at_sigkill(signal: Signal) -> Escalation {
    let mut escalation =
        Escalation::new(&KillPolicy::default().signal(signal).grace(Duration::ZERO).continue_stopped(false));
    let mut next = escalation.next(Duration::ZERO, Seen::Alive, || false);
    while next != Next::Send(Signal::KILL) {
        next = match next {
            Next::Send(_) => escalation.sent(Duration::ZERO, Delivery::Delivered),
            _ => escalation.next(Duration::ZERO, Seen::Alive, || false),
        };
    }
    escalation
}

#[test]
fn what_a_sigkill_that_reached_no_member_says_depends_on_what_was_sent_before() {
    let end = |signal, sent| at_sigkill(signal).sent(Duration::ZERO, sent);
    assert_eq!(end(Signal::KILL, Delivery::NoSuchGroup), Next::Done(Ok(Outcome::AlreadyGone)));
    assert_eq!(end(Signal::TERM, Delivery::NoSuchGroup), Next::Done(Ok(Outcome::Terminated)));
    assert_eq!(end(Signal::KILL, Delivery::NotPermitted), Next::Done(Err(KillErrorKind::NotPermitted)));
    assert_eq!(end(Signal::TERM, Delivery::NotPermitted), Next::Done(Ok(Outcome::Survived)));
}

#[test]
fn a_sigkill_that_is_not_to_be_confirmed_is_the_end() {
    let after = |confirm| {
        let policy = KillPolicy::default().signal(Signal::KILL).confirm(confirm);
        let mut escalation = Escalation::new(&policy);
        assert_eq!(escalation.next(Duration::ZERO, Seen::Alive, || false), Next::Send(Signal::KILL));
        escalation.sent(Duration::ZERO, Delivery::Delivered)
    };
    assert_eq!(after(Duration::ZERO), Next::Done(Ok(Outcome::Killed)));
    assert_eq!(after(Duration::from_nanos(1)), Next::Look);
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

        // A member that was seen leaving is waited for, and no other is.
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
            Next::Done(Ok(Outcome::AlreadyGone)) => prop_assert!(trace.signals.is_empty()),
            Next::Done(Ok(Outcome::Terminated)) => {
                prop_assert!(killed.is_none() && trace.gone_at.is_some_and(|at| at <= trace.ended_at));
            }
            Next::Done(Ok(Outcome::Killed)) => {
                prop_assert!(killed.is_some());
                prop_assert!(policy.confirm.is_zero() || trace.gone_at.is_some_and(|at| at <= trace.ended_at));
            }
            Next::Done(Ok(Outcome::Survived)) => prop_assert!(killed.is_some()),
            Next::Done(Err(KillErrorKind::NotPermitted)) => prop_assert!(!model.permitted && trace.signals.is_empty()),
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
