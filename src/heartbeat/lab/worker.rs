//! One worker of a multi-thread runtime: a thread that keeps a log of its own busy periods.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::heartbeat::evidence::{CountersLook, Published, WorkerNumbers};
use crate::heartbeat::judge::busy_period::{BusyPeriod, stood_at_most};
use crate::heartbeat::lab::unfinished;
use crate::heartbeat::ledger::Ledger;
use crate::heartbeat::observer::away_since::AwaySince;
use crate::heartbeat::reading::Reading;
use crate::heartbeat::reading::thread::{Clocks, ThreadId};
use crate::heartbeat::stretch::Stretch;

/// A thread that was seen to be a worker.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) thread: ThreadId,
    pub(crate) away: Arc<AwaySince>,
    pub(crate) busy: AtomicBool,
    pub(crate) log: Mutex<WorkerLog>,
}

#[derive(Debug, Default)]
pub(crate) struct WorkerLog {
    pub(crate) base: Option<(Reading, u64)>,
    /// Which of the workers it can be, a bit each. None: it is not known.
    pub(crate) indices: u64,
    /// What each worker showed when this one last came back. Its park count cannot change before it parks.
    pub(crate) published: Published,
    pub(crate) ledger: Ledger<BusyPeriod>,
    /// Stretches that are certain by themselves: the driver was not turned, and this thread was to turn it.
    pub(crate) certain: Vec<Stretch>,
}

impl Worker {
    #[cfg(test)]
    pub(crate) fn of_this_thread(busy: bool) -> Arc<Self> {
        let away = Arc::new(AwaySince::new(Duration::ZERO, Duration::ZERO));
        Arc::new(Self {
            thread: crate::heartbeat::reading::this_thread(),
            away,
            busy: AtomicBool::new(busy),
            log: Mutex::default(),
        })
    }

    pub(crate) fn thread(&self) -> ThreadId {
        self.thread
    }

    /// The thread is back from being idle, or in its scheduler: from this reading on it is away.
    pub(crate) fn is_away_since(&self, reading: &Reading) {
        self.busy.store(true, Ordering::Relaxed);
        self.away.busy(reading);
    }

    /// The thread goes idle.
    pub(crate) fn is_back(&self) {
        self.busy.store(false, Ordering::Relaxed);
        self.away.idle();
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed)
    }

    /// The busy period that has not ended, as seen from outside. How often the thread slept in it cannot be seen.
    pub(crate) fn unfinished_period(&self, until: Instant) -> Option<BusyPeriod> {
        let (from, _) = self.log().base?;
        let away = || self.log().base.is_some_and(|(base, _)| base.at == from.at);
        let to = unfinished::reading(&from, until, away)?;
        let log = self.log();
        // If it ended while it was looked at, it is in the log.
        let (still, _) = log.base.filter(|(base, _)| base.at == from.at)?;
        let (indices, blind) = (log.indices, to.run_queue.is_none());
        let published = [log.published.clone(), Published::default()];
        Some(BusyPeriod { from: still, to, sleeps: 0, indices, published, overbooked: Duration::ZERO, blind })
    }

    /// How long it has waited for a CPU since it was last back, as far as that is booked; `None` if that is not known.
    pub(crate) fn queued(&self) -> Option<Duration> {
        let Some((base, _)) = self.log().base else {
            return Some(Duration::ZERO);
        };
        Some(Clocks::of(self.thread)?.run_queue()?.saturating_sub(base.run_queue?))
    }

    pub(crate) fn log(&self) -> MutexGuard<'_, WorkerLog> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl WorkerLog {
    /// A worker that is awake comes back from being idle, or from another thread. `settled`: see [`Published`].
    pub(crate) fn comes_back(&mut self, workers: impl Iterator<Item = WorkerNumbers>, settled: bool) {
        self.published.settled = settled;
        self.published.workers.clear();
        self.published.workers.extend(workers);
        let awake = bits(self.published.workers.iter().map(|worker| worker.is_awake()));
        let both = self.indices & awake;
        self.indices = if both == 0 { awake } else { both };
    }

    /// Whether it can still be the worker that it was when it came back; whichever it can be now is known afterwards.
    /// It has not parked since, so its number is what it was. If all of those that it may have been have moved, other
    /// threads have taken them over, and this one has been given another.
    pub(crate) fn is_the_same(&mut self, workers: impl Iterator<Item = WorkerNumbers> + Clone) -> bool {
        let parks = workers.map(|worker| worker.parks);
        let then = self.published.workers.iter().map(|worker| worker.parks);
        let stayed = bits(parks.clone().zip(then).map(|(now, then)| now % 2 == 0 && now == then));
        let both = self.indices & stayed;
        let same = both != 0 || self.indices == 0;
        self.indices = if both == 0 { bits(parks.map(|parks| parks % 2 == 0)) } else { both };
        same
    }

    /// `over`: what the workers show now.
    pub(crate) fn keep(
        &mut self,
        ends: [(Reading, u64); 2],
        indices: u64,
        over: impl FnOnce() -> Published,
        budget: Duration,
    ) {
        let [(from, before), (to, after)] = ends;
        let sleeps = after.saturating_sub(before);
        let Some(stretch) = Stretch::between(&from, &to, from.at) else { return };
        let Self { published, ledger, .. } = self;
        ledger.add(&stretch, sleeps > 0, budget, || {
            let published = [published.clone(), over()];
            BusyPeriod { from, to, sleeps, indices, published, overbooked: Duration::ZERO, blind: false }
        });
    }
}

/// A thread became a worker some time between these two readings of its own, or another than it was (`block_in_place`).
/// What it did before the second reading is not known.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Unseen {
    pub(crate) from: Reading,
    pub(crate) to: Reading,
}

impl Unseen {
    pub(crate) fn is_too_long(&self, budget: Duration) -> bool {
        Stretch::between(&self.from, &self.to, self.from.at).is_none_or(|stretch| stretch.is_too_long(budget))
    }

    /// Whether one poll in it may have been too long. Idle before it took a worker over, a thread seems blocked.
    pub(crate) fn may_hide(&self, looks: &[CountersLook], budget: Duration) -> bool {
        self.is_too_long(budget) && stood_at_most(looks, self.from.at, self.to.at) > budget
    }
}

/// One for each that is true.
fn bits(of: impl Iterator<Item = bool>) -> u64 {
    of.enumerate().map(|(index, is)| u64::from(is) << index).sum()
}
