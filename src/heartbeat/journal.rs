//! What one watch knows so far. Whoever has something to say says it here, on the thread where it happened.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::{Handle, RuntimeMetrics};

use super::beacon::Beacon;
use super::beat::OnTurn;
use super::histogram::Lateness;
use super::lab::fleet::Fleet;
use super::pool::{Pool, PoolPulse};
use super::pulse::Pulse;
use super::reading::{PollClock, Reading, ThreadId, this_thread};
use super::rhythm::Rhythm;
use super::stall::{Stall, Stretch};
use super::task_waker::TaskWaker;
use super::track::Track;
use super::{Heartbeat, Place};

/// A timer fires at a whole millisecond: one that was not due for sure yet accuses nobody.
const TIMER_STEP: Duration = Duration::from_millis(1);

pub(super) struct Journal {
    pub(super) config: Heartbeat,
    pub(super) began: Instant,
    /// In a `Lab` the runtime's hooks say when its only worker goes idle and comes back.
    hooked: bool,
    fleet: Option<Arc<Fleet>>,
    beacon: Arc<Beacon>,
    state: Mutex<State>,
    /// A beat was delivered that the task has not seen.
    delivered: AtomicBool,
    /// The task waits for a beat.
    awaited: AtomicBool,
    task: TaskWaker,
    /// Of a current_thread runtime: they tell whether its worker had anything to do.
    metrics: OnceLock<RuntimeMetrics>,
    pool: Mutex<Option<Pool>>,
}

/// What the watch itself remembers from poll to poll, with nobody else looking.
pub(super) struct Poller {
    pub(super) place: Place,
    clock: PollClock,
    /// The last reading that it knows of, and on which thread.
    last: Option<(ThreadId, Instant)>,
}

impl Poller {
    pub(super) fn new(place: Place, config: Heartbeat) -> Self {
        Self { place, clock: PollClock::new(config.budget), last: None }
    }
}

pub(super) struct State {
    pub(super) place: Place,
    tracks: Vec<Track>,
    due: Option<Instant>,
    /// When the last beat came, if it was in time.
    punctual: Option<Instant>,
    pub(super) beats: u64,
    /// The longest of those that are not in `found`.
    pub(super) longest: Duration,
    /// Charged above the budget, or unexplained for longer than it.
    pub(super) found: Vec<Stretch>,
    /// The longest, of a future that is the root of a multi-thread runtime.
    pub(super) root: Option<Stretch>,
    pub(super) rhythm: Rhythm,
    pub(super) lateness: Lateness,
    delivered: Option<Reading>,
    pub(super) queue_delay: Duration,
    pub(super) clock_paused: bool,
}

impl Journal {
    pub(super) fn new(config: Heartbeat, hooked: bool, fleet: Option<Arc<Fleet>>) -> Arc<Self> {
        let state = State {
            place: Place::Nowhere,
            tracks: Vec::new(),
            due: None,
            punctual: None,
            beats: 0,
            longest: Duration::ZERO,
            found: Vec::new(),
            root: None,
            rhythm: Rhythm::new(config.interval),
            lateness: Lateness::default(),
            delivered: None,
            queue_delay: Duration::ZERO,
            clock_paused: false,
        };
        Arc::new(Self {
            config,
            began: Instant::now(),
            hooked,
            fleet,
            beacon: Arc::new(Beacon::new(config.patience(), config.round())),
            state: Mutex::new(state),
            delivered: AtomicBool::new(false),
            awaited: AtomicBool::new(false),
            task: TaskWaker::default(),
            metrics: OnceLock::new(),
            pool: Mutex::new(None),
        })
    }

    pub(super) fn beacon(&self) -> &Arc<Beacon> {
        &self.beacon
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first beat, before the first poll.
    pub(super) fn begin(&self, place: Place, due: Option<Instant>) {
        if let (Some(_), Ok(handle)) = (due, Handle::try_current()) {
            if place == Place::CurrentThread {
                let _ = self.metrics.set(handle.metrics());
                self.beacon.belongs_to(handle.metrics());
            }
            if place == Place::Task {
                self.beacon.is_among(handle.metrics());
            }
            *self.pool() = self.config.blocking_pool.filter(|wanted| *wanted).map(|_| Pool::of(handle));
        }
        let now = self.reading();
        let mut state = self.state();
        state.place = place;
        state.due = due;
        state.tracks.push(Track::starting(now));
        if place == Place::CurrentThread {
            self.beacon.busy(&now);
        }
    }

    /// The watched future is about to be polled. A full reading is taken, and the lock, only if the last that `poller`
    /// knows of is not fresh, so that a future polled often pays next to nothing. Returns when the poll began at the
    /// latest.
    pub(super) fn poll_begins(&self, poller: &mut Poller) -> Instant {
        let now = poller.clock.now();
        let thread = this_thread();
        let known = poller.last.filter(|(seen, _)| *seen == thread);
        let began = match known {
            Some((_, at)) if now.saturating_duration_since(at) <= self.config.fresh() => now + poller.clock.lag,
            _ => {
                let reading = self.reading();
                poller.last = Some((thread, reading.at));
                self.pass(&mut self.state(), reading);
                reading.at
            }
        };
        if poller.place != Place::CurrentThread {
            self.beacon.busy_since(thread, now);
        }
        began
    }

    /// It was polled. Only a poll worth it is read in full.
    pub(super) fn poll_ended(&self, poller: &mut Poller, began: Instant) {
        if poller.place != Place::CurrentThread {
            self.beacon.idle();
        }
        if poller.clock.now().saturating_duration_since(began) <= self.config.fresh() {
            return;
        }
        let now = self.reading();
        poller.last = Some((now.thread, now.at));
        let mut state = self.state();
        let Some(stretch) = state.track().and_then(|track| track.polled(began, now)) else {
            return;
        };
        if state.place == Place::CurrentThread {
            self.beacon.busy(&now);
        }
        if state.place == Place::Root {
            state.root = state.root.into_iter().chain([stretch]).max_by_key(Stretch::away);
        } else {
            state.judge(stretch, self.config.budget);
        }
    }

    /// The task was polled: if a beat was delivered to it, it has arrived.
    pub(super) fn beat_arrives(&self) {
        // Hardly ever, and to look is cheaper than to swap.
        if !self.delivered.load(Ordering::Relaxed) || !self.delivered.swap(false, Ordering::Acquire) {
            return;
        }
        let mut state = self.state();
        let Some(delivered) = state.delivered.take() else {
            return;
        };
        let mut delay = delivered.at.elapsed();
        if delay > self.config.fresh() {
            let now = self.reading();
            let waited = delivered.run_queue.zip(now.run_queue).filter(|_| delivered.thread == now.thread);
            delay = delay.saturating_sub(waited.map_or(Duration::ZERO, |(from, to)| to.saturating_sub(from)));
        }
        state.queue_delay = state.queue_delay.max(delay);
    }

    /// Whether a beat is due that has not come: something may have happened since the last that is not proved yet.
    /// Elsewhere than on a current_thread runtime beats prove only that somebody turns the driver, and one will do.
    ///
    /// The next beat wakes the task.
    pub(super) fn beat_overdue(&self) -> bool {
        // Before the lock is taken: a beat that comes now either is seen here or sees this.
        self.awaited.store(true, Ordering::SeqCst);
        let state = self.state();
        let matters = state.place == Place::CurrentThread || state.beats == 0;
        matters && self.judged_from(&state).is_some_and(|due| due < Instant::now())
    }

    /// The only worker of a `Lab`'s runtime goes idle.
    pub(super) fn parks(&self) {
        let now = self.reading_within(self.config.fresh());
        let mut state = self.state();
        let due = self.judged_from(&state);
        let stretches = state.track().map(|track| track.park(now, due)).unwrap_or_default();
        for stretch in stretches {
            state.judge(stretch, self.config.budget);
        }
        self.beacon.idle();
    }

    /// It is back.
    pub(super) fn unparks(&self) {
        let mut state = self.state();
        // It is the same wake that brought the last beat.
        let woke_for_a_beat = state.punctual.is_some_and(|turn| turn.elapsed() < self.config.fresh());
        let age = if woke_for_a_beat { self.config.reusable() } else { self.config.fresh() };
        let now = self.reading_within(age);
        if let Some(track) = state.track() {
            track.unpark(now);
            self.beacon.busy(&now);
        }
    }

    /// What is known while the watch still runs, for a thread other than the one that runs it.
    pub(super) fn so_far(&self) -> Pulse {
        let state = self.state();
        let stalls: Vec<_> = state.found.iter().map(|stretch| Stall::new(stretch, self.began)).collect();
        Pulse {
            beats: state.beats,
            longest: stalls.iter().map(Stall::charged).fold(state.longest, Duration::max),
            stalls,
            queue_delay: state.queue_delay,
            rhythm: state.rhythm.clone(),
            lateness: state.lateness.clone(),
            ..Pulse::empty(self.config, self.began)
        }
    }

    /// The last reading that this thread took of itself.
    pub(super) fn base_of(&self, thread: ThreadId) -> Option<Reading> {
        let state = self.state();
        state.tracks.iter().find(|track| track.thread() == thread).map(|track| *track.base())
    }

    pub(super) fn task(&self) -> &TaskWaker {
        &self.task
    }

    fn reading(&self) -> Reading {
        self.config.reading()
    }

    fn reading_within(&self, age: Duration) -> Reading {
        self.config.reading_within(age)
    }

    /// A thread that was punctual has hardly waited for a CPU.
    fn reading_of_turn(&self, state: &State) -> Reading {
        if state.punctual.is_some() { self.reading_within(self.config.reusable()) } else { self.reading() }
    }

    /// Whether the worker has nothing to do: the driver is turned in the middle of its wait, which it had no task left
    /// to be kept from. A beat that comes now waits behind nobody.
    fn is_idle(&self) -> bool {
        self.metrics.get().is_some_and(|metrics| metrics.worker_park_unpark_count(0) % 2 == 1)
    }

    fn pool(&self) -> MutexGuard<'_, Option<Pool>> {
        self.pool.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The pool's pulse so far, which is not taken any more.
    pub(super) fn take_pool(&self) -> Option<PoolPulse> {
        self.pool().take().map(Pool::pulse)
    }

    fn pass(&self, state: &mut State, now: Reading) {
        let due = self.judged_from(state);
        match state.track() {
            Some(track) => track.pass(now, due),
            None => state.tracks.push(Track::starting(now)),
        }
        if state.place == Place::CurrentThread {
            self.beacon.busy(&now);
        }
    }

    /// From when on a turn of the driver would have been marked. Where the hooks do not say that the worker idles, a
    /// millisecond more is the driver's: its wait is rounded up too.
    fn judged_from(&self, state: &State) -> Option<Instant> {
        let slack = if self.hooked { TIMER_STEP } else { TIMER_STEP * 2 };
        state.due.map(|due| due + slack)
    }
}

impl OnTurn for Journal {
    fn on_turn(&self, due: Instant, next: Instant, now: Instant) {
        let mut state = self.state();
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
            self.beacon.busy(&now);
        }
        // The root of a multi-thread runtime stands in no worker's queue.
        let queued = place != Place::Root && !self.is_idle();
        if queued {
            state.delivered.get_or_insert_with(|| self.reading_within(self.config.fresh()));
        }
        drop(state);
        if let Some(fleet) = &self.fleet {
            fleet.turn(judged_from);
        }
        // Taken by nobody else until the watch is over.
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
        self.state().clock_paused = true;
    }
}

impl State {
    fn track(&mut self) -> Option<&mut Track> {
        let thread = this_thread();
        self.tracks.iter_mut().find(|track| track.thread() == thread)
    }

    fn turn(&mut self, now: Reading, judged_from: Option<Instant>, budget: Duration) {
        let Some(track) = self.track() else {
            self.tracks.push(Track::starting(now));
            let late = judged_from.and_then(|due| Stretch::of_a_stranger(due, &now, budget));
            late.into_iter().for_each(|stretch| self.judge(stretch, budget));
            return;
        };
        for stretch in track.turn(now, judged_from) {
            self.judge(stretch, budget);
        }
    }

    fn judge(&mut self, stretch: Stretch, budget: Duration) {
        if stretch.away() > budget {
            self.found.push(stretch);
        } else {
            self.longest = self.longest.max(stretch.split.charged());
        }
    }
}

/// A paused clock says the same twice.
pub(super) fn clock_paused() -> bool {
    let (tokios, ours) = (tokio::time::Instant::now(), Instant::now());
    let mut spins = 0;
    while ours.elapsed() < Duration::from_nanos(200) && spins < 1000 {
        spins += 1;
    }
    tokios == tokio::time::Instant::now()
}
