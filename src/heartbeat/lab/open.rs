//! A spell that has not ended, read from outside: what the kernel has not booked yet is never charged.

use std::thread::park_timeout;
use std::time::{Duration, Instant};

use crate::heartbeat::culprit::Sample;
use crate::heartbeat::reading::Reading;
use crate::heartbeat::reading::thread::Clocks;

/// How long a thread that is ready to run may wait for its CPU while it is looked at.
const PATIENCE: Duration = Duration::from_millis(500);
/// Between two looks so close there is no time for a wait worth mentioning.
const SURE: Duration = Duration::from_millis(6);
/// About a tick of the kernel's, at which a running thread's time is booked.
const TICK: Duration = Duration::from_millis(2);

/// The clocks of the thread that took `base`, as they would read now; `None` if it has just ended.
///
/// A wait for a CPU is booked when it ends. A thread that waits in a call is not waiting for a CPU, so all is booked.
/// One that is ready to run may have waited for any part of what is not; so it is looked at until it has run, and then
/// only the time since the look before can be such a wait.
///
/// Where the kernel keeps no account, a thread is given the same time to come back by itself, as long as it is `ours` to
/// wait for. Either is over by `until`.
pub(super) fn reading(base: &Reading, until: Instant, ours: impl Fn() -> bool) -> Option<Reading> {
    let sample = Sample::of(base.thread, false);
    let begun = Instant::now();
    let until = until.min(begun + PATIENCE);
    let clocks = Clocks::of(base.thread);
    let Some((clocks, first)) = clocks.and_then(|clocks| clocks.account().map(|first| (clocks, first))) else {
        while ours() && Instant::now() < until {
            park_timeout(TICK);
        }
        return Some(Reading { at: begun, run_queue: None, ..*base });
    };
    let ready = sample.is_none_or(|sample| sample.is_running());
    // The thread has run since the look before, so all it waited until then is booked.
    let (mut account, mut looked, mut unsure) = (first, begun, None);
    while ready && Instant::now() < until && unsure.is_none_or(|unsure| unsure > SURE) {
        park_timeout(TICK);
        let (next, now) = (clocks.account()?, Instant::now());
        if next != account {
            unsure = Some(now - looked);
        }
        (account, looked) = (next, now);
    }
    let now = looked;
    let on_cpu = account.on_cpu.max(base.on_cpu);
    let run_queue = base.run_queue.map(|before| {
        let booked = account.run_queue.max(before);
        let away = now.saturating_duration_since(base.at);
        let unbooked = away.saturating_sub(on_cpu - base.on_cpu).saturating_sub(booked - before);
        let unsure = if ready { unsure.unwrap_or(unbooked) } else { Duration::ZERO };
        booked + unbooked.min(unsure)
    });
    Some(Reading { at: now, thread: base.thread, on_cpu, run_queue })
}
