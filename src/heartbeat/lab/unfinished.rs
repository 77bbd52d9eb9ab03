//! A busy period that has not ended, read from outside: what the kernel has not booked yet is never charged.

use std::thread::park_timeout;
use std::time::{Duration, Instant};

use crate::heartbeat::observer::sample::Sample;
use crate::heartbeat::reading::Reading;
use crate::heartbeat::reading::thread::{Account, Clocks};

/// How long a thread that is ready to run may wait for its CPU while it is looked at.
const LONGEST_WAIT: Duration = Duration::from_millis(500);
/// Between two looks so close there is no time for a wait worth mentioning.
const CLOSE_LOOKS: Duration = Duration::from_millis(6);
/// About a tick of the kernel's, at which a running thread's time is booked.
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// The clocks of the thread that took `base`, as they would read now; `None` if it has just ended.
///
/// A wait for a CPU is booked when it ends. A thread that waits in a call is not waiting for a CPU, so all is booked.
/// One that is ready to run may have waited for any part of what is not; so it is looked at until it has run, and then
/// only the time since the look before can be such a wait.
///
/// Where the kernel keeps no account, a thread is given the same time to come back by itself, as long as it is `ours`
/// to wait for. Either is over by `until`.
pub(crate) fn reading(base: &Reading, until: Instant, ours: impl Fn() -> bool) -> Option<Reading> {
    let sample = Sample::of(base.thread, false);
    let begun = Instant::now();
    let until = until.min(begun + LONGEST_WAIT);
    let clocks = Clocks::of(base.thread);
    let Some((clocks, first)) = clocks.and_then(|clocks| clocks.account().map(|first| (clocks, first))) else {
        while ours() && Instant::now() < until {
            park_timeout(LOOK_EVERY);
        }
        return Some(Reading { at: begun, run_queue: None, ..*base });
    };
    let first = (first, begun);
    if sample.is_some_and(|sample| !sample.is_running()) {
        return Some(as_of(base, first, Some(Duration::ZERO)));
    }
    let look = || {
        park_timeout(LOOK_EVERY);
        Some((clocks.account()?, Instant::now()))
    };
    let (last, unsure) = follow(first, until, look)?;
    Some(as_of(base, last, unsure))
}

/// A thread's account, and when it was read.
type AccountLook = (Account, Instant);

/// Looks at a thread that is ready to run until it has run between two close looks, or `until`. The last look, and for
/// how long the thread may have been waiting for a CPU then, `None` if for any time; no answer if it has ended.
fn follow(
    first: AccountLook,
    until: Instant,
    mut look: impl FnMut() -> Option<AccountLook>,
) -> Option<(AccountLook, Option<Duration>)> {
    let mut last = first;
    // It ran after this look, so all that it had waited until then is booked.
    let mut before_it_ran = None;
    let mut unsure = None;
    while last.1 < until && unsure.is_none_or(|unsure| unsure > CLOSE_LOOKS) {
        let next = look()?;
        if next.0 != last.0 {
            before_it_ran = Some(last.1);
        }
        last = next;
        unsure = before_it_ran.map(|before| last.1.saturating_duration_since(before));
    }
    Some((last, unsure))
}

/// The clocks of the thread that took `base` at a look: of what is not booked then, it may have waited `unsure` for a
/// CPU.
fn as_of(base: &Reading, (account, at): AccountLook, unsure: Option<Duration>) -> Reading {
    let on_cpu = account.on_cpu.max(base.on_cpu);
    let run_queue = base.run_queue.map(|before| {
        let booked = account.run_queue.max(before);
        let away = at.saturating_duration_since(base.at);
        let unbooked = away.saturating_sub(on_cpu - base.on_cpu).saturating_sub(booked - before);
        booked + unsure.map_or(unbooked, |unsure| unbooked.min(unsure))
    });
    Reading { at, thread: base.thread, on_cpu, run_queue }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::heartbeat::reading::thread::ThreadId;

    const MS: Duration = Duration::from_millis(1);

    fn account(on_cpu: u32, run_queue: u32) -> Account {
        Account { on_cpu: MS * on_cpu, run_queue: MS * run_queue, turns: 1 }
    }

    #[test]
    fn a_ready_thread_is_looked_at_until_it_has_run_between_two_close_looks() {
        let start = Instant::now();
        // It is looked at after so many ms, and has then been on a CPU for so many.
        let follow = |until: u32, looks: &[(u32, u32)]| {
            let mut coming = looks.iter().map(|(at, on_cpu)| (account(*on_cpu, 0), start + MS * *at));
            let ((_, at), unsure) = follow((account(0, 0), start), start + MS * until, || coming.next())?;
            Some(((at - start).as_millis(), unsure.map(|unsure| unsure.as_millis())))
        };
        assert_eq!(follow(100, &[(2, 0), (4, 0), (6, 1), (8, 2)]), Some((6, Some(2))));
        assert_eq!(follow(100, &[(6, 1), (8, 2)]), Some((6, Some(6))), "close enough");
        assert_eq!(follow(100, &[(7, 1), (9, 2), (11, 3)]), Some((9, Some(2))), "it ran, but who knows when");
        assert_eq!(
            follow(20, &[(8, 1), (14, 1), (20, 1), (22, 2)]),
            Some((20, Some(20))),
            "it may have waited ever since"
        );
        assert_eq!(follow(10, &[(2, 0), (10, 0), (12, 1)]), Some((10, None)), "it never ran");
        assert_eq!(follow(100, &[(2, 0)]), None, "it has ended");
    }

    #[test]
    fn what_is_not_booked_is_a_wait_for_a_cpu_as_far_as_it_may_be_and_no_further() {
        let start = Instant::now();
        let base = Reading { at: start, thread: ThreadId(1), on_cpu: MS * 10, run_queue: Some(MS * 20) };
        let read = |base: &Reading, account, unsure: Option<u32>| {
            let read = as_of(base, (account, start + MS * 100), unsure.map(|ms| MS * ms));
            assert_eq!((read.at, read.thread), (start + MS * 100, base.thread));
            (read.on_cpu.as_millis(), read.run_queue.map(|wait| wait.as_millis()))
        };
        // Of 100 ms it worked 30 and waited 20, as far as that is booked.
        for (unsure, waited) in [(Some(0), 40), (Some(5), 45), (Some(49), 89), (Some(80), 90), (None, 90)] {
            assert_eq!(read(&base, account(40, 40), unsure), (40, Some(waited)), "{unsure:?}");
        }
        assert_eq!(read(&base, account(5, 15), None), (10, Some(120)), "the kernel books later than the thread reads");
        let unknown = Reading { run_queue: None, ..base };
        assert_eq!(read(&unknown, account(40, 40), None), (40, None));
    }

    /// No thread has this number, so there is no account of it.
    #[test]
    fn a_thread_without_an_account_is_given_time_while_it_is_ours_and_what_it_did_is_not_known() {
        let far = Instant::now() + LONGEST_WAIT * 2;
        for (ours_for, until, expected) in [(0, far, 1), (1, far, 2), (9, Instant::now(), 1)] {
            let base =
                Reading { at: Instant::now(), thread: ThreadId(0), on_cpu: MS * 7, run_queue: Some(Duration::ZERO) };
            let asked = Cell::new(0);
            let ours = || {
                asked.set(asked.get() + 1);
                asked.get() <= ours_for
            };
            let read = reading(&base, until, ours).unwrap();
            assert_eq!(asked.get(), expected);
            assert!(read.at > base.at, "it is read now");
            assert_eq!((read.thread, read.on_cpu, read.run_queue), (ThreadId(0), MS * 7, None));
        }
    }
}
