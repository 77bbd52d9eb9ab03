//! What a worker lets the observer know: since when it has not been back, without a lock between them.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use tokio::runtime::RuntimeMetrics;

use crate::sync::{AtomicU64, Ordering};

use crate::heartbeat::evidence::WorkersLook;
use crate::heartbeat::reading::Reading;
use crate::heartbeat::reading::thread::ThreadId;

/// Since when some thread has been away from its scheduler, in one atomic word: 24 bits of thread (Linux numbers
/// threads below 2^22), 40 bits of microseconds (12 days).
#[derive(Debug)]
pub(crate) struct AwaySince {
    word: AtomicU64,
    overdue_after: Duration,
    check_every: Duration,
    /// Of a runtime whose only worker this is.
    metrics: OnceLock<RuntimeMetrics>,
    /// Of a runtime with several workers, of which the thread is one while it polls.
    among: OnceLock<RuntimeMetrics>,
}

const IDLE: u64 = 0;

impl AwaySince {
    /// A thread that has been away for less than `overdue_after` is not looked at; meanwhile the observer checks the
    /// word once in `check_every`.
    pub(crate) fn new(overdue_after: Duration, check_every: Duration) -> Self {
        // Nothing that it is told of is before that.
        epoch();
        Self {
            word: AtomicU64::new(IDLE),
            overdue_after,
            check_every,
            metrics: OnceLock::new(),
            among: OnceLock::new(),
        }
    }

    /// The thread is the only worker of that runtime.
    pub(crate) fn belongs_to(&self, metrics: RuntimeMetrics) {
        let _ = self.metrics.set(metrics);
    }

    /// How many tasks have not ended yet: when there are fewer than before, the worker was back in its scheduler.
    pub(crate) fn tasks_alive(&self) -> Option<usize> {
        self.metrics.get().map(RuntimeMetrics::num_alive_tasks)
    }

    /// The thread is one of that runtime's workers.
    pub(crate) fn is_among(&self, metrics: RuntimeMetrics) {
        let _ = self.among.set(metrics);
    }

    pub(crate) fn is_of_several(&self) -> bool {
        self.among.get().is_some()
    }

    /// `begins`: whether a thread is just beginning that may take a worker over.
    pub(crate) fn workers(&self, begins: impl FnOnce() -> bool) -> Option<WorkersLook> {
        self.among.get().map(|metrics| WorkersLook::at(metrics, begins()))
    }

    pub(crate) fn check_every(&self) -> Duration {
        self.check_every
    }

    pub(crate) fn busy(&self, reading: &Reading) {
        self.busy_since(reading.thread, reading.at);
    }

    pub(crate) fn busy_since(&self, thread: ThreadId, since: Instant) {
        let micros = since.saturating_duration_since(epoch()).as_micros() as u64 & ((1 << 40) - 1);
        self.word.store(u64::from(thread.0) << 40 | micros, Ordering::Relaxed);
    }

    pub(crate) fn idle(&self) {
        self.word.store(IDLE, Ordering::Relaxed);
    }

    /// The thread, and since when it has been away, if that is long enough to be looked at.
    pub(crate) fn overdue(&self, now: Instant) -> Option<(ThreadId, Instant)> {
        let word = self.word.load(Ordering::Relaxed);
        let since = epoch() + Duration::from_micros(word & ((1 << 40) - 1));
        let overdue = word != IDLE && now.saturating_duration_since(since) >= self.overdue_after;
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
        let overdue_after = Duration::from_millis(10);
        let away = AwaySince::new(overdue_after, Duration::ZERO);
        let thread = ThreadId(4_194_303);
        let since = epoch() + Duration::from_micros(12_345_678);
        assert_eq!(away.overdue(since + Duration::from_secs(1)), None, "idle");
        let reading = Reading { at: since, thread, on_cpu: Duration::ZERO, run_queue: None };
        let ways: [&dyn Fn(); 2] = [&|| away.busy(&reading), &|| away.busy_since(thread, since)];
        for is_busy in ways {
            is_busy();
            assert_eq!(away.overdue(since + overdue_after - Duration::from_nanos(1)), None);
            assert_eq!(away.overdue(since + overdue_after), Some((thread, since)));
            away.idle();
            assert_eq!(away.overdue(since + Duration::from_secs(1)), None);
        }
    }

    #[test]
    fn after_twelve_days_the_time_begins_anew_and_the_thread_is_still_the_right_one() {
        let away = AwaySince::new(Duration::ZERO, Duration::ZERO);
        let (thread, lap) = (ThreadId(4_194_302), Duration::from_micros(1 << 40));
        let since = epoch() + Duration::from_micros(7);
        away.busy_since(thread, since + lap);
        assert_eq!(away.overdue(since + lap), Some((thread, since)));
    }

    #[tokio::test]
    async fn the_numbers_of_a_runtime_are_told_to_whoever_looks() {
        let check_every = Duration::from_millis(7);
        let (only, of_several) =
            (AwaySince::new(Duration::ZERO, check_every), AwaySince::new(Duration::ZERO, check_every));
        assert!(only.tasks_alive().is_none() && !only.is_of_several() && only.workers(|| false).is_none());
        let metrics = tokio::runtime::Handle::current().metrics();
        let tasks = [(); 2].map(|()| tokio::spawn(std::future::pending::<()>()));
        only.belongs_to(metrics.clone());
        assert_eq!((only.tasks_alive(), only.is_of_several()), (Some(tasks.len()), false));
        of_several.is_among(metrics);
        assert_eq!((of_several.tasks_alive(), of_several.is_of_several()), (None, true));
        assert!(of_several.workers(|| false).is_some());
        assert_eq!(only.check_every(), check_every);
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
            let away = Arc::new(AwaySince::new(Duration::from_millis(1), Duration::ZERO));
            let workers = [1, 2].map(|thread| {
                let theirs = Arc::clone(&away);
                loom::thread::spawn(move || {
                    theirs.busy_since(ThreadId(thread), at(thread));
                    theirs.idle();
                })
            });
            for _ in 0..2 {
                if let Some((thread, since)) = away.overdue(at(100)) {
                    assert_eq!(since, at(thread.0), "{thread:?}");
                }
            }
            workers.into_iter().for_each(|worker| worker.join().unwrap());
        });
    }
}
