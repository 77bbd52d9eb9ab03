//! The blocking pool's pulse: a closure that does nothing, sent to `spawn_blocking` on every beat, one at a time. How
//! long it waits for a thread is how long any file read would.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use crate::heartbeat::pulse::PoolPulse;
use crate::heartbeat::reading::Reading;

/// Waits up to this are normal; no fresh clock reading is taken for them.
const POOL_ON_TIME: Duration = Duration::from_millis(1);
/// How old the pool's thread's last reading may be then.
const REUSABLE: Duration = Duration::from_millis(50);

pub(crate) struct Pool {
    runtime: Handle,
    sent: Option<Instant>,
    /// How long the last closure waited: without the time for which its thread had no CPU, and with it.
    ran: Arc<Mutex<Option<[Duration; 2]>>>,
    pulse: PoolPulse,
}

impl Pool {
    pub(crate) fn of(runtime: Handle) -> Self {
        Self { runtime, sent: None, ran: Arc::default(), pulse: PoolPulse::default() }
    }

    /// Sends a closure, unless the last one is still waiting.
    pub(crate) fn probe(&mut self) {
        self.collect();
        if self.sent.is_some() || self.pulse.refused {
            return;
        }
        let (sent, ran) = (Instant::now(), Arc::clone(&self.ran));
        let report = move || {
            let on_the_wall = sent.elapsed();
            let waited = [waited_since(sent), on_the_wall];
            *ran.lock().unwrap_or_else(PoisonError::into_inner) = Some(waited);
        };
        // At a process limit tokio cannot start a thread, and panics on the worker.
        match catch_unwind(AssertUnwindSafe(|| drop(self.runtime.spawn_blocking(report)))) {
            Ok(()) => self.sent = Some(sent),
            Err(_) => self.pulse.refused = true,
        }
    }

    fn collect(&mut self) {
        // A pool thread may be preempted right where it writes: look again at the next beat.
        let ran = self.ran.try_lock().ok().and_then(|mut ran| ran.take());
        if let Some([waited, on_the_wall]) = ran {
            self.sent = None;
            self.pulse.on_the_wall = self.pulse.on_the_wall.max(on_the_wall);
            self.pulse.probes += 1;
            self.pulse.longest = self.pulse.longest.max(waited);
        }
    }

    pub(crate) fn pulse(mut self) -> PoolPulse {
        self.collect();
        if let Some(sent) = self.sent {
            self.pulse.pending = true;
            self.pulse.longest = self.pulse.longest.max(sent.elapsed());
            self.pulse.on_the_wall = self.pulse.on_the_wall.max(sent.elapsed());
        }
        self.pulse
    }
}

/// Called on the pool's thread: since `sent`, without this thread's own wait for a CPU.
fn waited_since(sent: Instant) -> Duration {
    use std::cell::Cell;

    thread_local!(static BEFORE: Cell<Duration> = const { Cell::new(Duration::ZERO) });
    let waited = sent.elapsed();
    // A thread that was punctual has hardly waited for a CPU.
    let now = Reading::within(if waited <= POOL_ON_TIME { REUSABLE } else { Duration::ZERO });
    let total = now.run_queue.unwrap_or_default();
    let before = BEFORE.try_with(|before| before.replace(total)).unwrap_or(total);
    waited.saturating_sub(total.saturating_sub(before))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const HOUR: Duration = Duration::from_secs(3600);

    fn pool() -> Pool {
        Pool::of(Handle::current())
    }

    #[test]
    fn a_pool_is_starved_if_a_closure_waited_longer_than_the_budget_or_was_refused() {
        let budget = MS * 50;
        let pool = |longest, refused| PoolPulse { longest, refused, ..PoolPulse::default() };
        for (longest, starved) in [(MS * 49, false), (budget, false), (budget + Duration::from_nanos(1), true)] {
            assert_eq!(pool(longest, false).is_starved(budget), starved, "{longest:?}");
            assert!(pool(longest, true).is_starved(budget), "refused");
        }
    }

    #[test]
    fn a_pool_tells_how_long_it_kept_a_closure_waiting() {
        let pulse =
            |pending, refused| PoolPulse { longest: MS * 70, pending, refused, probes: 1, on_the_wall: MS * 70 };
        let waited = "pool         a trivial spawn_blocking waited 70.0 ms ";
        assert_eq!(pulse(false, false).to_string(), format!("{waited}for a thread"));
        assert_eq!(pulse(true, false).to_string(), format!("{waited}and was still waiting"));
        assert_eq!(pulse(false, true).to_string(), "pool         spawn_blocking could not start a thread");
    }

    #[tokio::test]
    async fn a_closure_that_ran_is_counted_and_the_longest_wait_is_kept() {
        let mut pool = pool();
        for waited in [MS * 3, MS * 9, MS * 2] {
            pool.sent = Some(Instant::now());
            *pool.ran.lock().unwrap() = Some([waited, waited + MS]);
            pool.collect();
            assert!(pool.sent.is_none());
        }
        let pulse = pool.pulse();
        assert_eq!((pulse.probes, pulse.longest, pulse.pending), (3, MS * 9, false));
        assert_eq!(pulse.on_the_wall, MS * 10);
    }

    #[tokio::test]
    async fn a_closure_that_has_not_run_counts_as_far_as_it_got() {
        let mut pool = pool();
        pool.sent = Some(Instant::now() - HOUR);
        let pulse = pool.pulse();
        assert!(pulse.pending && pulse.probes == 0 && pulse.longest >= HOUR, "{pulse:?}");
    }

    #[tokio::test]
    async fn one_closure_is_sent_at_a_time_and_none_once_one_was_refused() {
        let mut waits = pool();
        waits.sent = Some(Instant::now() - HOUR);
        let mut refused = pool();
        refused.pulse.refused = true;
        for pool in [&mut waits, &mut refused] {
            let sent = pool.sent;
            pool.probe();
            assert_eq!(pool.sent, sent);
        }
        let mut free = pool();
        free.probe();
        assert!(free.sent.is_some());
    }

    /// What the pool's thread was last seen to have waited for a CPU is good enough for a closure that was punctual.
    #[test]
    fn a_closure_that_waited_is_read_for_and_one_that_did_not_makes_do_with_an_older_reading() {
        let is_read_anew = |sent: Instant| {
            let last = Reading::here().at;
            waited_since(sent);
            Reading::last().unwrap().at != last
        };
        assert!(is_read_anew(Instant::now() - HOUR));
        // Unless that has become too old meanwhile, on a slow machine.
        assert!((0..100).any(|_| !is_read_anew(Instant::now() + HOUR)));
    }

    #[test]
    fn a_closure_waited_since_it_was_sent() {
        let sent = Instant::now() - HOUR;
        waited_since(sent);
        let waited = waited_since(sent);
        assert!(waited > HOUR / 2 && waited <= sent.elapsed(), "{waited:?}");
    }
}
