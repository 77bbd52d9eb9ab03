//! What one watch knows so far. Whoever has something to say says it here, on the thread where it happened.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::beacon::Beacon;
use super::beat::OnTurn;
use super::histogram::Lateness;
use super::lab::fleet::Fleet;
use super::pulse::Pulse;
use super::reading::{Reading, ThreadId, this_thread};
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
    task: TaskWaker,
}

/// What the watch itself remembers from poll to poll, with nobody else looking.
pub(super) struct Poller {
    pub(super) place: Place,
    /// The last reading that it knows of, and on which thread.
    last: Option<(ThreadId, Instant)>,
}

impl Poller {
    pub(super) fn new(place: Place) -> Self {
        Self { place, last: None }
    }
}

pub(super) struct State {
    pub(super) place: Place,
    tracks: Vec<Track>,
    due: Option<Instant>,
    pub(super) beats: u64,
    pub(super) longest: Duration,
    /// Charged above the budget, or unexplained for longer than it.
    pub(super) found: Vec<Stretch>,
    pub(super) root: Duration,
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
            beats: 0,
            longest: Duration::ZERO,
            found: Vec::new(),
            root: Duration::ZERO,
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
            task: TaskWaker::default(),
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
    /// knows of is not fresh, so that a future polled often pays next to nothing.
    pub(super) fn poll_begins(&self, poller: &mut Poller) -> Instant {
        let now = Instant::now();
        let thread = this_thread();
        if poller.last.is_none_or(|(seen, at)| seen != thread || now - at > self.config.fresh()) {
            let reading = self.reading();
            poller.last = Some((thread, reading.at));
            self.pass(&mut self.state(), reading);
        }
        if poller.place != Place::CurrentThread {
            self.beacon.busy_since(thread, now);
        }
        now
    }

    /// It was polled. Only a poll worth it is read in full.
    pub(super) fn poll_ended(&self, poller: &mut Poller, began: Instant) {
        if poller.place != Place::CurrentThread {
            self.beacon.idle();
        }
        if began.elapsed() <= self.config.fresh() {
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
            let away = stretch.split.charged() + stretch.split.unexplained();
            state.root = state.root.max(away);
        } else {
            state.judge(stretch, self.config.budget);
        }
    }

    /// The task was polled: if a beat was delivered to it, it has arrived.
    pub(super) fn beat_arrives(&self) -> bool {
        if !self.delivered.swap(false, Ordering::Acquire) {
            return false;
        }
        let mut state = self.state();
        let Some(delivered) = state.delivered.take() else {
            return false;
        };
        let mut delay = delivered.at.elapsed();
        if delay > self.config.fresh() {
            let now = self.reading();
            let waited = delivered.run_queue.zip(now.run_queue).filter(|_| delivered.thread == now.thread);
            delay = delay.saturating_sub(waited.map_or(Duration::ZERO, |(from, to)| to.saturating_sub(from)));
        }
        state.queue_delay = state.queue_delay.max(delay);
        true
    }

    /// Whether a beat is due that has not come: something may have happened since the last that is not proved yet.
    /// Elsewhere than on a current_thread runtime beats prove only that somebody turns the driver, and one will do.
    pub(super) fn beat_overdue(&self) -> bool {
        let state = self.state();
        let matters = state.place == Place::CurrentThread || state.beats == 0;
        matters && self.judged_from(&state).is_some_and(|due| due < Instant::now())
    }

    /// The only worker of a `Lab`'s runtime goes idle.
    pub(super) fn parks(&self) {
        let now = self.reading();
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
        let now = self.reading();
        if let Some(track) = self.state().track() {
            track.unpark(now);
            self.beacon.busy(&now);
        }
    }

    /// What is known while the watch still runs, for a thread other than the one that runs it.
    pub(super) fn so_far(&self) -> Pulse {
        let state = self.state();
        let stalls = state.found.iter().map(|stretch| Stall::new(stretch, self.began)).collect();
        Pulse {
            beats: state.beats,
            stalls,
            longest: state.longest,
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
    fn on_turn(&self, due: Instant, next: Instant, now: Reading) {
        let now = self.config.blinkered(now);
        let mut state = self.state();
        state.beats += 1;
        state.rhythm.record(now.at.saturating_duration_since(self.began));
        state.lateness.record(now.at.saturating_duration_since(due), self.config.interval);
        state.delivered.get_or_insert(now);
        let judged_from = self.judged_from(&state);
        state.due = Some(next);
        if state.place == Place::CurrentThread {
            state.turn(now, judged_from, self.config.budget);
            self.beacon.busy(&now);
        }
        drop(state);
        self.delivered.store(true, Ordering::Release);
        if let Some(fleet) = &self.fleet {
            fleet.turn(now, judged_from);
        }
        self.task.wake();
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
        let split = stretch.split;
        self.longest = self.longest.max(split.charged());
        if split.charged() + split.unexplained() > budget {
            self.found.push(stretch);
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
