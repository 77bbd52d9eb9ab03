//! What one watch knows so far. Each thread writes it here itself, when and where it happens.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::{Handle, RuntimeMetrics};

use crate::heartbeat::beats_over_time::BeatsOverTime;
use crate::heartbeat::config::Heartbeat;
use crate::heartbeat::lateness::Lateness;
use crate::heartbeat::ledger::Ledger;
use crate::heartbeat::observer::away_since::AwaySince;
use crate::heartbeat::pulse::{PoolPulse, Pulse};
use crate::heartbeat::reading::poll_clock::PollClock;
use crate::heartbeat::reading::thread::ThreadId;
use crate::heartbeat::reading::{Reading, this_thread};
use crate::heartbeat::stretch::{Split, Stretch};
use crate::heartbeat::watch::beat::OnTurn;
use crate::heartbeat::watch::place::Place;
use crate::heartbeat::watch::pool::Pool;
use crate::heartbeat::watch::task_waker::TaskWaker;
use crate::heartbeat::watch::thread_timestamps::ThreadTimestamps;

/// A timer fires at a whole millisecond: one that may not have been due yet proves nothing.
const TIMER_STEP: Duration = Duration::from_millis(1);

/// Called on each turn of the driver of a lab's runtime with several workers, on the thread that turned it, with the
/// moment from which on an earlier turn would have been noticed.
pub(crate) type WorkerTurn = Box<dyn Fn(Option<Instant>) + Send + Sync>;

pub(crate) struct WatchState {
    pub(crate) config: Heartbeat,
    pub(crate) began: Instant,
    /// In a `Lab` the runtime's hooks say when its only worker goes idle and comes back.
    hooked: bool,
    worker_turn: Option<WorkerTurn>,
    away: Arc<AwaySince>,
    state: Mutex<SoFar>,
    /// A beat was delivered that the task has not seen.
    delivered: AtomicBool,
    /// The task waits for a beat.
    awaited: AtomicBool,
    task: TaskWaker,
    /// Of a current_thread runtime: they tell whether its worker had anything to do.
    metrics: OnceLock<RuntimeMetrics>,
    pool: Mutex<Option<Pool>>,
}

/// What the watch itself remembers from poll to poll, which no other thread reads.
pub(crate) struct PollTimestamps {
    pub(crate) place: Place,
    clock: PollClock,
    /// The last reading that it knows of, and on which thread.
    last: Option<(ThreadId, Instant)>,
}

impl PollTimestamps {
    pub(crate) fn new(place: Place, config: Heartbeat) -> Self {
        Self { place, clock: PollClock::new(config.budget), last: None }
    }
}

pub(crate) struct SoFar {
    pub(crate) place: Place,
    timestamps: Vec<ThreadTimestamps>,
    due: Option<Instant>,
    /// When the last beat came, if it was in time.
    punctual: Option<Instant>,
    pub(crate) beats: u64,
    pub(crate) ledger: Ledger<Stretch>,
    /// The longest, of a future that is the root of a multi-thread runtime.
    pub(crate) root: Option<Stretch>,
    pub(crate) rhythm: BeatsOverTime,
    pub(crate) lateness: Lateness,
    delivered: Option<Reading>,
    pub(crate) queue_delay: Duration,
    pub(crate) clock_paused: bool,
}

impl WatchState {
    pub(crate) fn new(config: Heartbeat, hooked: bool, worker_turn: Option<WorkerTurn>) -> Arc<Self> {
        let state = SoFar {
            place: Place::Nowhere,
            timestamps: Vec::new(),
            due: None,
            punctual: None,
            beats: 0,
            ledger: Ledger::default(),
            root: None,
            rhythm: BeatsOverTime::new(config.interval),
            lateness: Lateness::default(),
            delivered: None,
            queue_delay: Duration::ZERO,
            clock_paused: false,
        };
        Arc::new(Self {
            config,
            began: Instant::now(),
            hooked,
            worker_turn,
            away: Arc::new(AwaySince::new(config.overdue_after(), config.check_every())),
            state: Mutex::new(state),
            delivered: AtomicBool::new(false),
            awaited: AtomicBool::new(false),
            task: TaskWaker::default(),
            metrics: OnceLock::new(),
            pool: Mutex::new(None),
        })
    }

    pub(crate) fn away(&self) -> &Arc<AwaySince> {
        &self.away
    }

    pub(crate) fn so_far(&self) -> MutexGuard<'_, SoFar> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first beat, before the first poll.
    pub(crate) fn begin(&self, place: Place, due: Option<Instant>) {
        if let (Some(_), Ok(handle)) = (due, Handle::try_current()) {
            if place == Place::CurrentThread {
                let _ = self.metrics.set(handle.metrics());
                self.away.belongs_to(handle.metrics());
            }
            if place == Place::Task {
                self.away.is_among(handle.metrics());
            }
            *self.pool() = self.config.blocking_pool.filter(|wanted| *wanted).map(|_| Pool::of(handle));
        }
        let now = self.reading();
        let mut state = self.so_far();
        state.place = place;
        state.due = due;
        state.timestamps.push(ThreadTimestamps::starting(now));
        if place == Place::CurrentThread {
            self.away.busy(&now);
        }
    }

    /// The watched future is about to be polled. A full reading is taken, and the lock, only if the last that `poller`
    /// knows of is not fresh, so that a future polled often pays next to nothing. Returns when the poll began at the
    /// latest.
    pub(crate) fn poll_begins(&self, poller: &mut PollTimestamps) -> Instant {
        let now = poller.clock.now();
        let thread = this_thread();
        let known = poller.last.filter(|(seen, _)| *seen == thread);
        let began = match known {
            Some((_, at)) if now.saturating_duration_since(at) <= self.config.fresh() => now + poller.clock.lag,
            _ => {
                let reading = self.reading();
                poller.last = Some((thread, reading.at));
                self.pass(&mut self.so_far(), reading);
                reading.at
            }
        };
        if poller.place != Place::CurrentThread {
            self.away.busy_since(thread, now);
        }
        began
    }

    /// It was polled. Only a poll worth it is read in full.
    pub(crate) fn poll_ended(&self, poller: &mut PollTimestamps, began: Instant) {
        if poller.place != Place::CurrentThread {
            self.away.idle();
        }
        if poller.clock.now().saturating_duration_since(began) <= self.config.fresh() {
            return;
        }
        let now = self.reading();
        poller.last = Some((now.thread, now.at));
        let mut state = self.so_far();
        let Some(stretch) = state.track().and_then(|track| track.polled(began, now)) else {
            return;
        };
        if state.place == Place::CurrentThread {
            self.away.busy(&now);
        }
        if state.place == Place::Root {
            state.root = state.root.into_iter().chain([stretch]).max_by_key(Stretch::away);
        } else {
            state.keep(stretch, self.config.budget);
        }
    }

    /// The task was polled: if a beat was delivered to it, it has arrived.
    pub(crate) fn beat_arrives(&self) {
        // Hardly ever, and to look is cheaper than to swap.
        if !self.delivered.load(Ordering::Relaxed) || !self.delivered.swap(false, Ordering::Acquire) {
            return;
        }
        let mut state = self.so_far();
        let Some(delivered) = state.delivered.take() else {
            return;
        };
        let delay = queued(&delivered, delivered.at.elapsed(), self.config.fresh(), || self.reading());
        state.queue_delay = state.queue_delay.max(delay);
    }

    /// Whether a beat is due that has not come: something may have happened since the last that is not proved yet.
    /// Elsewhere than on a current_thread runtime beats prove only that some thread turns the driver, and one will do.
    ///
    /// The next beat wakes the task.
    pub(crate) fn beat_overdue(&self) -> bool {
        // Before the lock is taken: a beat that comes now either is seen here or sees this.
        self.awaited.store(true, Ordering::SeqCst);
        let state = self.so_far();
        let matters = state.place == Place::CurrentThread || state.beats == 0;
        matters && self.judged_from(&state).is_some_and(|due| due <= Instant::now())
    }

    /// The only worker of a `Lab`'s runtime goes idle.
    pub(crate) fn parks(&self) {
        let now = self.reading_within(self.config.fresh());
        let mut state = self.so_far();
        let due = self.judged_from(&state);
        let stretches = state.track().map(|track| track.park(now, due)).unwrap_or_default();
        for stretch in stretches {
            state.keep(stretch, self.config.budget);
        }
        self.away.idle();
    }

    /// It is back.
    pub(crate) fn unparks(&self) {
        let mut state = self.so_far();
        // It is the same wake that brought the last beat.
        let woke_for_a_beat = state.punctual.is_some_and(|turn| turn.elapsed() <= self.config.fresh());
        let age = if woke_for_a_beat { self.config.reusable() } else { self.config.fresh() };
        let now = self.reading_within(age);
        if let Some(track) = state.track() {
            track.unpark(now);
            self.away.busy(&now);
        }
    }

    /// The pulse so far, without what is not judged yet. Any thread may ask for it.
    pub(crate) fn pulse(&self, watched: Duration) -> Pulse {
        let state = self.so_far();
        Pulse {
            beats: state.beats,
            longest: state.ledger.longest_short(),
            queue_delay: state.queue_delay,
            rhythm: state.rhythm.clone(),
            lateness: state.lateness.clone(),
            watched,
            ..Pulse::empty(self.config)
        }
    }

    /// The reading from which on the watched thread has been away for too long, if it is.
    pub(crate) fn away_since(&self) -> Option<Reading> {
        let (thread, _) = self.away.overdue(Instant::now())?;
        self.base_of(thread)
    }

    /// The last reading that this thread took of itself.
    pub(crate) fn base_of(&self, thread: ThreadId) -> Option<Reading> {
        let state = self.so_far();
        state.timestamps.iter().find(|track| track.thread() == thread).map(|track| *track.base())
    }

    pub(crate) fn task(&self) -> &TaskWaker {
        &self.task
    }

    fn reading(&self) -> Reading {
        self.config.reading()
    }

    fn reading_within(&self, age: Duration) -> Reading {
        self.config.reading_within(age)
    }

    /// A thread that was punctual has hardly waited for a CPU.
    fn reading_of_turn(&self, state: &SoFar) -> Reading {
        if state.punctual.is_some() { self.reading_within(self.config.reusable()) } else { self.reading() }
    }

    /// Whether the worker has nothing to do: the driver is turned in the middle of its wait, which it had no task left
    /// to be kept from. A beat that comes now waits behind no task.
    fn is_idle(&self) -> bool {
        self.metrics.get().is_some_and(|metrics| metrics.worker_park_unpark_count(0) % 2 == 1)
    }

    fn pool(&self) -> MutexGuard<'_, Option<Pool>> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pool's pulse so far, which is not taken any more.
    pub(crate) fn take_pool(&self) -> Option<PoolPulse> {
        self.pool().take().map(Pool::pulse)
    }

    fn pass(&self, state: &mut SoFar, now: Reading) {
        let due = self.judged_from(state);
        match state.track() {
            Some(track) => track.pass(now, due),
            None => state.timestamps.push(ThreadTimestamps::starting(now)),
        }
        if state.place == Place::CurrentThread {
            self.away.busy(&now);
        }
    }

    /// From when on a turn of the driver would have been marked. Where the hooks do not say that the worker idles, a
    /// millisecond more is the driver's: its wait is rounded up too.
    fn judged_from(&self, state: &SoFar) -> Option<Instant> {
        let slack = if self.hooked { TIMER_STEP } else { TIMER_STEP * 2 };
        state.due.map(|due| due + slack)
    }
}

impl OnTurn for WatchState {
    fn on_turn(&self, due: Instant, next: Instant, now: Instant) {
        let mut state = self.so_far();
        state.beats += 1;
        state.rhythm.record(now.saturating_duration_since(self.began));
        state.lateness.record(now.saturating_duration_since(due), self.config.interval);
        let judged_from = self.judged_from(&state);
        state.due = Some(next);
        let place = state.place;
        state.punctual = judged_from.is_none_or(|due| now <= due).then_some(now);
        if place == Place::CurrentThread {
            let now = self.reading_of_turn(&state);
            state.turn(now, judged_from, self.config.budget);
            self.away.busy(&now);
        }
        // The root of a multi-thread runtime stands in no worker's queue.
        let queued = place != Place::Root && !self.is_idle();
        if queued {
            state.delivered.get_or_insert_with(|| self.reading_within(self.config.fresh()));
        }
        drop(state);
        if let Some(turn) = &self.worker_turn {
            turn(judged_from);
        }
        // No other thread takes it until the watch is over.
        if let Some(pool) = self.pool.try_lock().ok().as_mut().and_then(|pool| pool.as_mut()) {
            pool.probe();
        }
        if queued {
            self.delivered.store(true, Ordering::Release);
        }
        if queued || self.awaited.load(Ordering::SeqCst) {
            self.task.wake();
        }
    }

    fn on_early(&self) {
        self.so_far().clock_paused = true;
    }
}

impl SoFar {
    fn track(&mut self) -> Option<&mut ThreadTimestamps> {
        let thread = this_thread();
        self.timestamps.iter_mut().find(|track| track.thread() == thread)
    }

    fn turn(&mut self, now: Reading, judged_from: Option<Instant>, budget: Duration) {
        let Some(track) = self.track() else {
            self.timestamps.push(ThreadTimestamps::starting(now));
            let late = judged_from.and_then(|due| Stretch::first_reading(due, &now, budget));
            late.into_iter().for_each(|stretch| self.keep(stretch, budget));
            return;
        };
        for stretch in track.turn(now, judged_from) {
            self.keep(stretch, budget);
        }
    }

    pub(crate) fn keep(&mut self, stretch: Stretch, budget: Duration) {
        // Whether the thread slept is not read here: it may have.
        self.ledger.add(&stretch, true, budget, || stretch);
    }
}

/// How long a beat that came `delay` ago waited behind other tasks. What the worker waited for a CPU meanwhile does not
/// count, and is asked for only if that can matter.
fn queued(delivered: &Reading, delay: Duration, fresh: Duration, now: impl FnOnce() -> Reading) -> Duration {
    if delay <= fresh {
        return delay;
    }
    let waited = Split::between(delivered, &now()).and_then(|split| split.run_queue);
    delay.saturating_sub(waited.unwrap_or_default())
}

/// A paused clock says the same twice.
pub(crate) fn clock_paused() -> bool {
    stands_still(tokio::time::Instant::now, Instant::now)
}

/// Whether their clock says the same before and after ours has moved. Ours is not waited for for ever.
fn stands_still<T: PartialEq, O: PartialEq>(theirs: impl Fn() -> T, ours: impl Fn() -> O) -> bool {
    let (then, begun) = (theirs(), ours());
    let _ = (0..1000).any(|_| ours() != begun);
    theirs() == then
}

#[cfg(test)]
mod tests;
