//! A spell that has not ended, read from outside: what the kernel has not booked yet is never charged.

use std::time::{Duration, Instant};

use crate::heartbeat::culprit::Sample;
use crate::heartbeat::reading::Reading;
use crate::heartbeat::reading::thread::Clocks;

/// The clocks of the thread that took `base`, as they would read now; `None` if it has ended.
///
/// A wait for a CPU is booked when it ends. So of a thread that is ready to run, all that is not booked is taken to be
/// such a wait; of one that waits in a call, none of it can be.
pub(super) fn reading(base: &Reading) -> Option<Reading> {
    let sample = Sample::of(base.thread, false);
    let now = Instant::now();
    let account = Clocks::of(base.thread).and_then(|clocks| clocks.account());
    let Some(account) = account else {
        // No account: nothing but the wall clock is known.
        return sample.map(|_| Reading {
            at: now,
            run_queue: None,
            ..*base
        });
    };
    let wall = now.saturating_duration_since(base.at);
    let on_cpu = account.on_cpu.max(base.on_cpu);
    let run_queue = base.run_queue.map(|before| {
        let booked = account.run_queue.max(before);
        let ready = sample.is_none_or(|sample| sample.is_running());
        let unbooked = wall
            .saturating_sub(on_cpu - base.on_cpu)
            .saturating_sub(booked - before);
        booked + if ready { unbooked } else { Duration::ZERO }
    });
    Some(Reading {
        at: now,
        thread: base.thread,
        on_cpu,
        run_queue,
    })
}
