//! What a worker lets the observer know: since when it has not been back, without a lock between them.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tokio::runtime::RuntimeMetrics;

use super::reading::{Reading, ThreadId};
use super::takeover::WorkersLook;
use crate::sync::{AtomicU64, Ordering};

/// Since when some thread has been away from its scheduler, in one atomic word: 24 bits of thread (Linux numbers
/// threads below 2^22), 40 bits of microseconds (12 days).
#[derive(Debug)]
pub(super) struct Beacon {
    word: AtomicU64,
    patience: Duration,
    round: Duration,
    /// Of a runtime whose only worker this is.
    metrics: OnceLock<RuntimeMetrics>,
    /// Of a runtime with several workers, of which the thread is one while it polls.
    among: OnceLock<RuntimeMetrics>,
}

const IDLE: u64 = 0;

impl Beacon {
    /// Silent for up to `patience`, nobody need look; meanwhile the observer comes by every `round`.
    pub(super) fn new(patience: Duration, round: Duration) -> Self {
        // Nothing that it is told of is before that.
        epoch();
        Self { word: AtomicU64::new(IDLE), patience, round, metrics: OnceLock::new(), among: OnceLock::new() }
    }

    /// The thread is the only worker of that runtime.
    pub(super) fn belongs_to(&self, metrics: RuntimeMetrics) {
        let _ = self.metrics.set(metrics);
    }

    /// How many tasks have not ended yet: when there are fewer than before, the worker was back in its scheduler.
    pub(super) fn tasks_alive(&self) -> Option<usize> {
        self.metrics.get().map(RuntimeMetrics::num_alive_tasks)
    }

    /// The thread is one of that runtime's workers.
    pub(super) fn is_among(&self, metrics: RuntimeMetrics) {
        let _ = self.among.set(metrics);
    }

    pub(super) fn is_of_several(&self) -> bool {
        self.among.get().is_some()
    }

    /// `begins`: whether a thread is just beginning that may take a worker over.
    pub(super) fn workers(&self, begins: impl FnOnce() -> bool) -> Option<WorkersLook> {
        self.among.get().map(|metrics| WorkersLook::at(metrics, begins()))
    }

    pub(super) fn round(&self) -> Duration {
        self.round
    }

    pub(super) fn busy(&self, reading: &Reading) {
        self.busy_since(reading.thread, reading.at);
    }

    pub(super) fn busy_since(&self, thread: ThreadId, since: Instant) {
        let micros = since.saturating_duration_since(epoch()).as_micros() as u64 & ((1 << 40) - 1);
        self.word.store(u64::from(thread.0) << 40 | micros, Ordering::Relaxed);
    }

    pub(super) fn idle(&self) {
        self.word.store(IDLE, Ordering::Relaxed);
    }

    /// The thread, and since when, if that is longer than the patience.
    pub(super) fn overdue(&self, now: Instant) -> Option<(ThreadId, Instant)> {
        let word = self.word.load(Ordering::Relaxed);
        let since = epoch() + Duration::from_micros(word & ((1 << 40) - 1));
        let overdue = word != IDLE && now.saturating_duration_since(since) >= self.patience;
        overdue.then_some((ThreadId((word >> 40) as u32), since))
    }
}

fn epoch() -> Instant {
    static EPOCH: OnceLock<Instant> = OnceLock::new();
    *EPOCH.get_or_init(Instant::now)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_overdue_when_patience_is_over_and_not_before() {
        epoch();
        let patience = Duration::from_millis(10);
        let beacon = Beacon::new(patience, Duration::ZERO);
        let thread = ThreadId(4_194_303);
        let since = epoch() + Duration::from_micros(12_345_678);
        assert_eq!(beacon.overdue(since + Duration::from_secs(1)), None, "idle");
        let reading = Reading { at: since, thread, on_cpu: Duration::ZERO, run_queue: None };
        let ways: [&dyn Fn(); 2] = [&|| beacon.busy(&reading), &|| beacon.busy_since(thread, since)];
        for is_busy in ways {
            is_busy();
            assert_eq!(beacon.overdue(since + patience - Duration::from_nanos(1)), None);
            assert_eq!(beacon.overdue(since + patience), Some((thread, since)));
            beacon.idle();
            assert_eq!(beacon.overdue(since + Duration::from_secs(1)), None);
        }
    }

    #[test]
    fn after_twelve_days_the_time_begins_anew_and_the_thread_is_still_the_right_one() {
        let beacon = Beacon::new(Duration::ZERO, Duration::ZERO);
        let (thread, lap) = (ThreadId(4_194_302), Duration::from_micros(1 << 40));
        let since = epoch() + Duration::from_micros(7);
        beacon.busy_since(thread, since + lap);
        assert_eq!(beacon.overdue(since + lap), Some((thread, since)));
    }

    #[tokio::test]
    async fn the_numbers_of_a_runtime_are_told_to_whoever_looks() {
        let round = Duration::from_millis(7);
        let (only, of_several) = (Beacon::new(Duration::ZERO, round), Beacon::new(Duration::ZERO, round));
        assert!(only.tasks_alive().is_none() && !only.is_of_several() && only.workers(|| false).is_none());
        let metrics = tokio::runtime::Handle::current().metrics();
        let tasks = [(); 2].map(|()| tokio::spawn(std::future::pending::<()>()));
        only.belongs_to(metrics.clone());
        assert_eq!((only.tasks_alive(), only.is_of_several()), (Some(tasks.len()), false));
        of_several.is_among(metrics);
        assert_eq!((of_several.tasks_alive(), of_several.is_of_several()), (None, true));
        assert!(of_several.workers(|| false).is_some());
        assert_eq!(only.round(), round);
    }
}

#[cfg(all(test, deadbeat_loom))]
mod loom_tests {
    use super::*;
    use crate::sync::Arc;

    #[test]
    fn loom_no_thread_is_seen_with_the_time_of_another() {
        let zero = epoch();
        let at = move |thread: u32| zero + Duration::from_secs(thread.into());
        loom::model(move || {
            let beacon = Arc::new(Beacon::new(Duration::from_millis(1), Duration::ZERO));
            let workers = [1, 2].map(|thread| {
                let theirs = Arc::clone(&beacon);
                loom::thread::spawn(move || {
                    theirs.busy_since(ThreadId(thread), at(thread));
                    theirs.idle();
                })
            });
            for _ in 0..2 {
                if let Some((thread, since)) = beacon.overdue(at(100)) {
                    assert_eq!(since, at(thread.0), "{thread:?}");
                }
            }
            workers.into_iter().for_each(|worker| worker.join().unwrap());
        });
    }
}
