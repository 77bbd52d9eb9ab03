//! Every worker of a multi-thread runtime: each thread keeps its own log, so that no worker waits for another.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::RuntimeMetrics;

use crate::heartbeat::config::Heartbeat;
use crate::heartbeat::evidence::{CountersLook, Published, WorkerNumbers};
use crate::heartbeat::judge::busy_period::{BusyPeriod, PeriodJudgement};
#[cfg(deadbeat_record)]
use crate::heartbeat::judge::record;
use crate::heartbeat::judge::stalls;
use crate::heartbeat::lab::counters::Sampler;
use crate::heartbeat::lab::time_budget::TimeBudget;
use crate::heartbeat::lab::worker::{Unseen, Worker};
use crate::heartbeat::observer::Observer;
use crate::heartbeat::observer::ask::{ask_or_look, ask_until};
use crate::heartbeat::observer::away_since::AwaySince;
use crate::heartbeat::pulse::{Findings, Pulse};
use crate::heartbeat::reading::thread::ThreadId;
use crate::heartbeat::reading::{Reading, sleeps, this_thread};
use crate::heartbeat::stretch::{PollDoubt, Stretch};
use crate::heartbeat::verdict::Why;

#[derive(Debug)]
pub(crate) struct Workers {
    workers: usize,
    heartbeat: Heartbeat,
    workers_seen: Mutex<Vec<Arc<Worker>>>,
    new_workers: Sender<Arc<Worker>>,
    new_worker_receiver: Mutex<Option<Receiver<Arc<Worker>>>>,
    metrics: OnceLock<RuntimeMetrics>,
    sampler: Mutex<Option<Sampler>>,
    closed: AtomicBool,
    unseen: Mutex<Vec<Unseen>>,
    /// When the watch began, and on which thread: the root, which is no worker.
    opened: OnceLock<(Instant, ThreadId)>,
}

/// What the sampler saw is waited for so long if no verdict depends on it, only how long the longest poll was.
const FOR_THE_LONGEST: Duration = Duration::from_millis(50);

thread_local!(static WORKER: RefCell<Option<Arc<Worker>>> = const { RefCell::new(None) });

impl Workers {
    pub(crate) fn new(workers: usize, heartbeat: Heartbeat) -> Arc<Self> {
        let (new_workers, new_worker_receiver) = channel();
        Arc::new(Self {
            workers,
            heartbeat,
            workers_seen: Mutex::default(),
            new_workers,
            new_worker_receiver: Mutex::new(Some(new_worker_receiver)),
            metrics: OnceLock::new(),
            sampler: Mutex::default(),
            closed: AtomicBool::new(false),
            unseen: Mutex::default(),
            opened: OnceLock::new(),
        })
    }

    /// Begins to look at the workers from outside.
    pub(crate) fn observe(&self, metrics: RuntimeMetrics) {
        let new_worker_receiver = lock(&self.new_worker_receiver).take();
        let _ = self.metrics.set(metrics.clone());
        let every = between_looks(self.heartbeat.budget);
        *lock(&self.sampler) =
            new_worker_receiver.and_then(|new_worker_receiver| Sampler::start(metrics, new_worker_receiver, every));
    }

    #[cfg(test)]
    pub(crate) fn mute(&self) {
        *lock(&self.sampler) = Some(Sampler::mute());
    }

    pub(crate) fn is_complete(&self) -> bool {
        lock(&self.workers_seen).len() >= self.workers
    }

    /// Whether more threads have been workers than there are workers.
    pub(crate) fn has_handed_over(&self) -> bool {
        lock(&self.workers_seen).len() > self.workers
    }

    pub(crate) fn has_member(&self, thread: ThreadId) -> bool {
        lock(&self.workers_seen).iter().any(|worker| worker.thread == thread)
    }

    /// What was before is not part of the watch.
    pub(crate) fn open(&self, at: Instant) {
        let _ = self.opened.set((at, this_thread()));
    }

    /// Hook: this thread is a worker and goes idle.
    pub(crate) fn parks(&self) {
        let worker = self.worker();
        let before = Reading::last();
        let now = (self.reading(), sleeps());
        worker.is_back();
        let mut log = worker.log();
        if let Some(base) = log.base.take() {
            let was = log.indices;
            let indices = if log.is_the_same(self.workers_now()) {
                log.indices
            } else {
                self.was_unseen(before, now.0);
                was
            };
            log.keep([base, now], indices, || self.published(true), self.heartbeat.budget);
        }
    }

    /// Hook: it is back.
    pub(crate) fn unparks(&self) {
        let worker = self.worker();
        let now = (self.reading(), sleeps());
        let mut log = worker.log();
        log.comes_back(self.workers_now(), true);
        log.base = Some(now);
        drop(log);
        worker.is_away_since(&now.0);
    }

    /// A beat was delivered on this thread. If it was busy since before the beat was due, the driver was not turned in
    /// between, and this thread would have turned it after every poll. What came before may have been long too, while
    /// other threads turned the driver: that is a busy period like any other.
    pub(crate) fn turn(&self, judged_from: Option<Instant>) {
        let Some(worker) = WORKER.with_borrow(Clone::clone) else {
            return self.stranger_turns(judged_from);
        };
        let mut log = worker.log();
        let (Some(base), Some(due)) = (log.base, judged_from) else {
            return;
        };
        let (before, was) = (Reading::last(), log.indices);
        let now = self.reading();
        let here = (now, sleeps());
        let over = self.published(false);
        if !log.is_the_same(over.workers.iter().copied()) {
            log.keep([base, here], was, || over, self.heartbeat.budget);
            drop(log);
            self.was_unseen(before, now);
            return self.stranger_turns(judged_from);
        }
        let indices = log.indices;
        match Stretch::between(&base.0, &now, due).filter(|late| late.is_too_long(self.heartbeat.budget)) {
            Some(late) => log.certain.push(late),
            None => log.keep([base, here], indices, || over.clone(), self.heartbeat.budget),
        }
        log.published = over;
        log.base = Some(here);
        drop(log);
        worker.is_away_since(&now);
    }

    /// A beat on a thread that has not gone idle yet: it just took over a worker (`block_in_place`) and has no earlier
    /// reading. Its predecessor may have been waiting for a CPU, so the longest run-queue wait of any worker is allowed
    /// for it.
    fn stranger_turns(&self, judged_from: Option<Instant>) {
        if self.opened.get().is_none_or(|(_, root)| *root == this_thread()) {
            return;
        }
        let worker = self.worker();
        let now = self.reading();
        // Other new workers, which need the same lock, do not wait for these looks.
        let workers_seen = lock(&self.workers_seen).clone();
        let queued = workers_seen.iter().try_fold(Duration::ZERO, |most, worker| Some(most.max(worker.queued()?)));
        let mut log = worker.log();
        log.base = Some((now, sleeps()));
        log.comes_back(self.workers_now(), false);
        log.certain.extend(judged_from.and_then(|due| late(due, now, queued, self.heartbeat.budget)));
        drop(log);
        worker.is_away_since(&now);
    }

    /// Ends the looking, judges every busy period and adds what was found to the pulse, within `time`. Called on the
    /// root thread, which is no worker and may wait, or from outside when the deadline has passed. The second call
    /// finds nothing left to judge.
    pub(crate) fn close(&self, began: Instant, pulse: &mut Pulse, observer: Option<&Observer>, time: TimeBudget) {
        if self.closed.swap(true, Ordering::SeqCst) {
            pulse.uncovered = Some(Why::Unobserved);
            return;
        }
        let budget = self.heartbeat.budget;
        let opened = self.opened.get().map_or(began, |(at, _)| *at);
        // A worker that is new here does not wait for what is looked at below.
        let workers_seen = lock(&self.workers_seen).clone();
        let (mut found, mut periods, mut excused) = (Vec::new(), Vec::new(), Vec::new());
        for worker in &workers_seen {
            let unfinished = worker.unfinished_period(time.half());
            let mut log = worker.log();
            found.extend(log.certain.drain(..).filter(|stretch| stretch.to > opened));
            periods.extend(log.ledger.take_too_long());
            periods.extend(log.ledger.take_short().chain(unfinished));
            excused.extend(log.ledger.take_excused());
        }
        periods.retain(|period| period.to.at > opened);
        let is_long = |period: &BusyPeriod| period.stretch().is_some_and(|stretch| stretch.is_too_long(budget));
        let looks = self.looks(!excused.is_empty() || periods.iter().any(is_long), opened, time);
        let mut findings = Findings::default();
        match rechecked(excused, observer, time) {
            Some(again) => periods.extend(again),
            None => findings.uncovered = Some(Why::Unobserved),
        }
        for period in &periods {
            #[cfg(deadbeat_record)]
            record::keep(&record::period_judged(period, &looks, budget));
            match period.judge(&looks, budget) {
                PeriodJudgement::Stalls(stretches) => found.extend(stretches),
                PeriodJudgement::Fair { longest } => findings.longest = findings.longest.max(longest),
                PeriodJudgement::Undecided(stretch) => found.push(stretch.doubted(PollDoubt::OneOrMany)),
                PeriodJudgement::HandedOver(stretch) => found.push(stretch.doubted(PollDoubt::HandedOver)),
            }
            let lost = period.lost_its_worker(&looks);
            lost.into_iter().for_each(|from| self.was_unseen(Some(from), period.to));
        }
        if self.unseen().iter().any(|unseen| unseen.to.at > opened && unseen.may_hide(&looks, budget)) {
            findings.uncovered.get_or_insert(Why::WorkerUnseen);
        }
        findings.stalls = stalls(&found, ask_or_look(observer, &found, time.half()), began, budget);
        pulse.add(findings);
    }

    /// Ends the looking. What was seen is waited for as long as may be if the verdict depends on it (`needed`, or a
    /// worker was not seen for too long), else for as long as the longest poll is worth.
    fn looks(&self, needed: bool, opened: Instant, time: TimeBudget) -> Vec<CountersLook> {
        let may_hide = |unseen: &Unseen| unseen.to.at > opened && unseen.is_too_long(self.heartbeat.budget);
        let all = time.half();
        let until =
            if needed || self.unseen().iter().any(may_hide) { all } else { all.min(Instant::now() + FOR_THE_LONGEST) };
        let sampler = lock(&self.sampler).take();
        sampler.map(|sampler| sampler.finish(until)).unwrap_or_default()
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    fn worker(&self) -> Arc<Worker> {
        WORKER.with_borrow_mut(|mine| Arc::clone(mine.get_or_insert_with(|| self.register())))
    }

    /// The times of threads that took a worker over which were not read.
    pub(crate) fn unseen(&self) -> Vec<Unseen> {
        lock(&self.unseen).clone()
    }

    pub(crate) fn was_unseen(&self, from: Option<Reading>, to: Reading) {
        lock(&self.unseen).extend(from.map(|from| Unseen { from, to }));
    }

    fn register(&self) -> Arc<Worker> {
        self.was_unseen(Reading::last(), self.reading());
        let worker = Arc::new(Worker {
            thread: this_thread(),
            away: Arc::new(AwaySince::new(self.heartbeat.overdue_after(), self.heartbeat.check_every())),
            busy: AtomicBool::new(false),
            log: Mutex::default(),
        });
        if let Some(observer) = Observer::get() {
            observer.watch(Arc::downgrade(&worker.away));
        }
        // The receiver is gone if the sampler could not be started; then nothing can be decided from outside.
        let _ = self.new_workers.send(Arc::clone(&worker));
        lock(&self.workers_seen).push(Arc::clone(&worker));
        worker
    }

    fn reading(&self) -> Reading {
        self.heartbeat.reading()
    }

    /// What the runtime publishes of each worker; of none if they are too many to tell apart. A worker reads its own
    /// park count as it left it: even, while it is awake.
    fn workers_now(&self) -> impl Iterator<Item = WorkerNumbers> + Clone {
        let metrics = self.metrics.get().filter(|_| self.workers <= 64);
        metrics
            .into_iter()
            .flat_map(move |metrics| (0..self.workers).map(move |index| WorkerNumbers::of(metrics, index)))
    }

    fn published(&self, settled: bool) -> Published {
        Published { workers: self.workers_now().collect(), settled }
    }
}

/// The periods as they are once the observer has said for how long each thread was blocked; `None` if it does not
/// answer.
fn rechecked(excused: Vec<BusyPeriod>, observer: Option<&Observer>, time: TimeBudget) -> Option<Vec<BusyPeriod>> {
    let stretches: Vec<_> = excused.iter().filter_map(BusyPeriod::stretch).collect();
    if stretches.is_empty() {
        return Some(Vec::new());
    }
    let observed = ask_until(observer, &stretches, time.half())?;
    let capped = excused.into_iter().zip(observed).map(|(period, observed)| period.capped_at(observed.blocked()));
    Some(capped.collect())
}

/// Sparser looks see less, denser ones cost more: twenty to a budget.
fn between_looks(budget: Duration) -> Duration {
    (budget / 20).clamp(Duration::from_millis(1), Duration::from_millis(5))
}

/// What a thread that was never read before was late by, if that is too long. `queued`: for how long the one that it
/// took the worker over from may have waited for a CPU, if that is known.
fn late(due: Instant, now: Reading, queued: Option<Duration>, budget: Duration) -> Option<Stretch> {
    let run_queue = now.run_queue.zip(queued).map(|(own, others)| own + others);
    let stretch = Stretch::first_reading(due, &Reading { run_queue, ..now }, budget)?;
    (stretch.split.wall > budget).then_some(stretch)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
