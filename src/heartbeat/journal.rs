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
use super::stall::{Excused, Split, Stretch};
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
    /// Excused by a wait for a CPU, which may have been another.
    pub(super) excused: Excused<Stretch>,
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
            excused: Excused::default(),
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
        let delay = queued(&delivered, delivered.at.elapsed(), self.config.fresh(), || self.reading());
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
        matters && self.judged_from(&state).is_some_and(|due| due <= Instant::now())
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
        let woke_for_a_beat = state.punctual.is_some_and(|turn| turn.elapsed() <= self.config.fresh());
        let age = if woke_for_a_beat { self.config.reusable() } else { self.config.fresh() };
        let now = self.reading_within(age);
        if let Some(track) = state.track() {
            track.unpark(now);
            self.beacon.busy(&now);
        }
    }

    /// What is known while the watch still runs, for a thread other than the one that runs it; and what was found too long,
    /// which is not weighed yet.
    pub(super) fn so_far(&self) -> (Pulse, Vec<Stretch>) {
        let state = self.state();
        let pulse = Pulse {
            beats: state.beats,
            longest: state.longest,
            queue_delay: state.queue_delay,
            rhythm: state.rhythm.clone(),
            lateness: state.lateness.clone(),
            ..Pulse::empty(self.config, self.began)
        };
        (pulse, state.found.clone())
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

    pub(super) fn judge(&mut self, stretch: Stretch, budget: Duration) {
        if stretch.away() > budget {
            self.found.push(stretch);
        } else {
            self.longest = self.longest.max(stretch.split.charged());
            if stretch.is_excused(budget) {
                self.excused.push(stretch);
            }
        }
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
pub(super) fn clock_paused() -> bool {
    stands_still(tokio::time::Instant::now, Instant::now)
}

/// Whether their clock says the same before and after ours has moved. Ours is not waited for for ever.
fn stands_still<T: PartialEq, O: PartialEq>(theirs: impl Fn() -> T, ours: impl Fn() -> O) -> bool {
    let (then, begun) = (theirs(), ours());
    let _ = (0..1000).any(|_| ours() != begun);
    theirs() == then
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::atomic::AtomicUsize;
    use std::task::{Wake, Waker};

    use super::*;

    const MS: Duration = Duration::from_millis(1);
    /// Well above the default budget of 50 ms.
    const LONG: Duration = Duration::from_millis(200);
    const HOUR: Duration = Duration::from_secs(3600);

    const PLACES: [Place; 4] = [Place::CurrentThread, Place::Task, Place::Root, Place::Nowhere];

    fn begun(place: Place) -> Arc<Journal> {
        let journal = Journal::new(Heartbeat::new(), false, None);
        journal.begin(place, None);
        journal
    }

    /// As if this thread had last been read so long ago, and had been blocked since. Returns when that was.
    fn away_for(journal: &Journal, time: Duration) -> Instant {
        let now = journal.reading();
        let then = Reading { at: now.at - time, ..now };
        journal.state().tracks = vec![Track::starting(then)];
        then.at
    }

    fn is_busy(journal: &Journal) -> bool {
        journal.beacon().overdue(Instant::now() + HOUR).is_some()
    }

    fn another_thread() -> ThreadId {
        ThreadId(this_thread().0 + 1)
    }

    fn stretch(away: Duration) -> Stretch {
        let (from, on_cpu) = (Instant::now(), Duration::ZERO);
        let split = Split { wall: away, on_cpu, run_queue: Some(Duration::ZERO) };
        Stretch { thread: ThreadId(1), from, to: from + away, split, on_cpu_then: on_cpu, since: None, one_poll: false }
    }

    #[derive(Default)]
    struct Count(AtomicUsize);

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Whose task is woken from now on.
    fn woken(journal: &Journal) -> Arc<Count> {
        let count = Arc::new(Count::default());
        journal.task().set(&Waker::from(Arc::clone(&count)));
        count
    }

    #[tokio::test]
    async fn the_observer_is_told_whose_numbers_speak_for_the_worker_and_since_when_an_only_one_is_busy() {
        for place in PLACES {
            let journal = Journal::new(Heartbeat::new(), false, None);
            assert!(journal.base_of(this_thread()).is_none());
            journal.begin(place, Some(Instant::now() + HOUR));
            let (only, among) = (journal.beacon().tasks_alive().is_some(), journal.beacon().is_of_several());
            assert_eq!(only, place == Place::CurrentThread, "{place:?}");
            assert_eq!(among, place == Place::Task, "{place:?}");
            assert_eq!(is_busy(&journal), place == Place::CurrentThread, "{place:?}");
            assert_eq!(journal.state().place, place);
            assert!(journal.base_of(this_thread()).is_some(), "{place:?}");
        }
    }

    #[tokio::test]
    async fn the_pools_pulse_is_taken_once_and_only_if_it_was_asked_for() {
        let pool = |asked: Option<bool>| {
            let mut config = Heartbeat::new();
            config.blocking_pool = asked;
            let journal = Journal::new(config, false, None);
            journal.begin(Place::CurrentThread, Some(Instant::now() + HOUR));
            [journal.take_pool().is_some(), journal.take_pool().is_some()]
        };
        assert_eq!(pool(None), [false, false]);
        assert_eq!(pool(Some(false)), [false, false]);
        assert_eq!(pool(Some(true)), [true, false]);
    }

    #[test]
    fn a_poll_is_read_in_full_only_if_this_thread_was_not_read_just_now() {
        let (thread, now) = (this_thread(), Instant::now());
        let fresh = now + HOUR;
        for (last, is_known) in [
            (None, false),
            (Some((thread, fresh)), true),
            (Some((thread, now - LONG)), false),
            (Some((another_thread(), fresh)), false),
        ] {
            let journal = begun(Place::CurrentThread);
            let mut poller = Poller { last, ..Poller::new(Place::CurrentThread, journal.config) };
            let before = away_for(&journal, LONG);
            let began = journal.poll_begins(&mut poller);
            let base = journal.base_of(thread).unwrap().at;
            if is_known {
                assert_eq!((poller.last, base), (last, before), "nothing was read");
            } else {
                assert_eq!((poller.last, base), (Some((thread, began)), began), "{last:?}");
            }
        }
    }

    #[test]
    fn a_poll_that_was_not_read_began_at_the_latest_when_its_clock_says_so_at_its_slowest() {
        let journal = begun(Place::Task);
        let mut poller = Poller::new(Place::Task, journal.config);
        poller.last = Some((this_thread(), Instant::now() + HOUR));
        let clock = poller.clock;
        let earliest = clock.now() + clock.lag;
        let began = journal.poll_begins(&mut poller);
        assert!(earliest <= began && began <= clock.now() + clock.lag);
    }

    #[test]
    fn a_thread_that_polls_for_the_first_time_is_known_from_then_on() {
        let journal = begun(Place::Task);
        let (thread, began) = std::thread::scope(|scope| {
            let polls = || (this_thread(), journal.poll_begins(&mut Poller::new(Place::Task, journal.config)));
            scope.spawn(polls).join().unwrap()
        });
        assert_ne!(thread, this_thread());
        assert_eq!(journal.base_of(thread).unwrap().at, began);
        assert_ne!(journal.base_of(this_thread()).unwrap().at, began);
    }

    #[test]
    fn an_only_worker_is_busy_between_polls_too_and_any_other_thread_only_in_them() {
        for place in PLACES {
            let journal = begun(place);
            let mut poller = Poller::new(place, journal.config);
            for _ in 0..2 {
                let began = journal.poll_begins(&mut poller);
                assert!(is_busy(&journal), "{place:?}");
                journal.poll_ended(&mut poller, began + HOUR);
                assert_eq!(is_busy(&journal), place == Place::CurrentThread, "{place:?}");
                journal.beacon().idle();
                poller.last = None;
            }
        }
    }

    #[test]
    fn a_long_poll_is_found_wherever_it_was_and_the_roots_is_kept_apart() {
        for place in PLACES {
            let journal = begun(place);
            let mut poller = Poller::new(place, journal.config);
            let began = away_for(&journal, LONG);
            journal.beacon().idle();
            journal.poll_ended(&mut poller, began);
            assert_eq!(is_busy(&journal), place == Place::CurrentThread, "{place:?}");
            let (thread, at) = poller.last.unwrap();
            assert_eq!((thread, at), (this_thread(), journal.base_of(thread).unwrap().at));
            let state = journal.state();
            let (root, found): (Vec<_>, Vec<_>) = (state.root.into_iter().collect(), state.found.clone());
            let (is, is_not) = if place == Place::Root { (root, found) } else { (found, root) };
            assert_eq!((is.len(), is_not.len()), (1, 0), "{place:?}");
            assert!(is[0].one_poll && is[0].from == began && is[0].split.wall >= LONG, "{is:?}");
        }
    }

    #[test]
    fn a_short_poll_is_not_read() {
        let journal = begun(Place::Task);
        let mut poller = Poller::new(Place::Task, journal.config);
        let before = away_for(&journal, LONG);
        journal.poll_ended(&mut poller, Instant::now() + HOUR);
        assert!(poller.last.is_none() && journal.base_of(this_thread()).unwrap().at == before);
    }

    #[test]
    fn of_the_roots_polls_the_longest_counts() {
        let journal = begun(Place::Root);
        for times in [2, 3, 1] {
            let began = away_for(&journal, LONG * times);
            journal.poll_ended(&mut Poller::new(Place::Root, journal.config), began);
        }
        assert!(journal.state().root.unwrap().split.wall >= LONG * 3);
    }

    #[test]
    fn a_beat_arrives_once_and_as_late_as_it_is() {
        let journal = begun(Place::Task);
        journal.beat_arrives();
        assert_eq!(journal.state().queue_delay, Duration::ZERO, "none was delivered");
        let now = journal.reading();
        journal.state().delivered = Some(Reading { at: now.at - LONG, ..now });
        journal.delivered.store(true, Ordering::Release);
        journal.beat_arrives();
        let delay = journal.state().queue_delay;
        assert!(delay > LONG / 2, "{delay:?}");
        assert!(journal.state().delivered.is_none() && !journal.delivered.load(Ordering::SeqCst), "it has arrived");
        journal.beat_arrives();
        assert_eq!(journal.state().queue_delay, delay);
    }

    #[test]
    fn what_its_worker_waited_for_a_cpu_does_not_delay_a_beat() {
        let reading = |thread, ms, run_queue: Option<u32>| Reading {
            at: Instant::now() + MS * ms,
            thread: ThreadId(thread),
            on_cpu: Duration::ZERO,
            run_queue: run_queue.map(|ms| MS * ms),
        };
        let delivered = reading(1, 0, Some(1000));
        let delay = |now: Reading| queued(&delivered, LONG, MS, || now);
        assert_eq!(delay(reading(1, 200, Some(1150))), MS * 50);
        assert_eq!(delay(reading(2, 200, Some(1150))), LONG, "another thread's waits are no part of it");
        assert_eq!(delay(reading(1, 200, None)), LONG);
        assert_eq!(queued(&delivered, MS, MS, || panic!("it cannot matter")), MS);
    }

    #[test]
    fn a_beat_that_is_due_is_waited_for_where_it_proves_something() {
        let now = Instant::now();
        let (past, future) = (Some(now - LONG), Some(now + HOUR));
        for (place, beats, due, overdue) in [
            (Place::CurrentThread, 0, past, true),
            (Place::CurrentThread, 7, past, true),
            (Place::CurrentThread, 0, future, false),
            (Place::CurrentThread, 7, future, false),
            (Place::CurrentThread, 0, None, false),
            (Place::Task, 0, past, true),
            (Place::Task, 0, future, false),
            (Place::Task, 1, past, false),
            (Place::Task, 1, future, false),
            (Place::Root, 0, past, true),
            (Place::Root, 1, past, false),
        ] {
            let journal = begun(place);
            journal.state().beats = beats;
            journal.state().due = due;
            assert_eq!(journal.beat_overdue(), overdue, "{place:?} after {beats} beats");
        }
    }

    #[test]
    fn a_worker_that_goes_idle_was_busy_until_then_and_is_again_when_it_is_back() {
        let journal = begun(Place::CurrentThread);
        let then = away_for(&journal, LONG);
        journal.state().due = Some(then);
        journal.parks();
        assert!(!is_busy(&journal));
        let idle = journal.base_of(this_thread()).unwrap().at;
        let found = journal.state().found.clone();
        assert_eq!((found.len(), found[0].to), (1, idle));
        journal.unparks();
        assert!(is_busy(&journal));
    }

    #[test]
    fn a_wake_that_brought_a_punctual_beat_vouches_for_the_thread_and_no_other_does() {
        let config = Heartbeat::new().interval(MS).budget(HOUR);
        let is_read_anew = |punctual: Option<Instant>| {
            let journal = Journal::new(config, true, None);
            journal.begin(Place::CurrentThread, None);
            journal.state().punctual = punctual;
            let last = Reading::here().at;
            while last.elapsed() <= config.fresh() {
                std::hint::spin_loop();
            }
            journal.unparks();
            Reading::last().unwrap().at != last
        };
        let now = Instant::now();
        assert!(!is_read_anew(Some(now + HOUR)));
        assert!(is_read_anew(Some(now - LONG)));
        assert!(is_read_anew(None));
    }

    #[test]
    fn what_is_known_so_far_is_all_that_was_written_down() {
        let journal = begun(Place::CurrentThread);
        let mut state = journal.state();
        (state.beats, state.longest, state.queue_delay) = (3, MS * 40, MS * 7);
        state.rhythm.record(MS);
        state.lateness.record(MS * 2, MS * 5);
        drop(state);
        let (pulse, found) = journal.so_far();
        assert_eq!((pulse.beats, pulse.longest, pulse.queue_delay), (3, MS * 40, MS * 7));
        assert_eq!((pulse.rhythm.beats.as_slice(), pulse.lateness.max()), ([1].as_slice(), MS * 2));
        assert!(pulse.stalls.is_empty() && found.is_empty());
        journal.state().found.push(stretch(MS * 60));
        let (pulse, found) = journal.so_far();
        assert_eq!((pulse.stalls.len(), pulse.longest, found.len()), (0, MS * 40, 1));
    }

    #[test]
    fn a_turn_would_have_been_marked_when_the_timer_and_where_nobody_tells_of_idling_the_driver_were_due() {
        for (hooked, slack) in [(true, MS), (false, MS * 2)] {
            let journal = Journal::new(Heartbeat::new(), hooked, None);
            let mut state = journal.state();
            assert_eq!(journal.judged_from(&state), None);
            let due = Instant::now();
            state.due = Some(due);
            assert_eq!(journal.judged_from(&state), Some(due + slack));
        }
    }

    #[test]
    fn a_beat_is_counted_and_punctual_if_it_came_before_it_would_have_been_marked() {
        let journal = begun(Place::Task);
        let (mut due, interval) = (journal.began, MS * 5);
        let slack = MS * 2;
        let a_little = Duration::from_nanos(1);
        for (beats, late, is_punctual) in
            [(1, Duration::ZERO, true), (2, slack, true), (3, slack + a_little, false), (4, LONG, false)]
        {
            let next = due + interval;
            journal.state().due = Some(due);
            journal.on_turn(due, next, due + late);
            let state = journal.state();
            assert_eq!((state.beats, state.due), (beats.into(), Some(next)));
            assert_eq!(state.punctual, is_punctual.then_some(due + late), "{late:?}");
            assert_eq!((state.lateness.max(), state.rhythm.beats.iter().sum::<u32>()), (late, beats));
            due = next;
        }
    }

    #[test]
    fn a_late_turn_convicts_an_only_worker_and_no_other() {
        for place in PLACES {
            let journal = begun(place);
            journal.beacon().idle();
            let due = away_for(&journal, LONG);
            journal.state().due = Some(due);
            journal.on_turn(due, due + MS * 5, Instant::now());
            let only = place == Place::CurrentThread;
            assert_eq!(is_busy(&journal), only, "{place:?}");
            let state = journal.state();
            assert_eq!(state.tracks.len(), 1, "it was known");
            assert_eq!(state.found.len(), usize::from(only), "{place:?}");
            assert!(state.found.iter().all(|stretch| stretch.from == due + MS * 2), "{:?}", state.found);
        }
    }

    #[test]
    fn a_late_turn_on_a_thread_that_nobody_knew_is_known_by_the_wall_clock() {
        let journal = begun(Place::CurrentThread);
        let due = Instant::now() - LONG;
        journal.state().due = Some(due);
        let turn = || {
            journal.on_turn(due, due + MS * 5, Instant::now());
            this_thread()
        };
        let thread = std::thread::scope(|scope| scope.spawn(turn).join().unwrap());
        let state = journal.state();
        let found: Vec<_> = state.found.iter().map(|stretch| (stretch.thread, stretch.from)).collect();
        assert_eq!(found, [(thread, due + MS * 2)]);
        assert_eq!(state.tracks.len(), 2);
    }

    #[test]
    fn a_beat_wakes_a_task_that_may_have_to_queue_for_it_and_whoever_waits_for_one() {
        for (place, awaited, delivers, wakes) in [
            (Place::CurrentThread, false, true, 1),
            (Place::Task, false, true, 1),
            (Place::Root, false, false, 0),
            (Place::Root, true, false, 1),
        ] {
            let journal = begun(place);
            let count = woken(&journal);
            if awaited {
                journal.beat_overdue();
            }
            let due = Instant::now() + HOUR;
            journal.on_turn(due, due + MS * 5, due);
            let delivered = journal.delivered.load(Ordering::SeqCst);
            assert_eq!((delivered, journal.state().delivered.is_some()), (delivers, delivers), "{place:?}");
            assert_eq!(count.0.load(Ordering::SeqCst), wakes, "{place:?}");
        }
    }

    #[test]
    fn a_beat_that_finds_its_worker_idle_waits_behind_nobody() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let metrics = runtime.metrics();
        let journal = begun(Place::CurrentThread);
        let queues = || {
            let due = Instant::now() + HOUR;
            journal.on_turn(due, due, due);
            journal.state().delivered.take().is_some()
        };
        let awake = || assert!(!journal.is_idle() && queues(), "it is awake, as far as anybody tells");
        awake();
        assert!(journal.metrics.set(runtime.metrics()).is_ok());
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        std::thread::scope(|scope| {
            let worker = scope.spawn(|| {
                runtime.block_on(async {
                    awake();
                    let _ = stopped.await;
                    awake();
                });
            });
            while metrics.worker_park_unpark_count(0) == 0 && !worker.is_finished() {
                std::thread::yield_now();
            }
            assert!(journal.is_idle() && !queues(), "it sleeps");
            drop(stop);
        });
    }

    #[test]
    fn a_timer_that_fires_early_is_a_paused_clock() {
        let journal = begun(Place::CurrentThread);
        assert!(!journal.state().clock_paused);
        journal.on_early();
        assert!(journal.state().clock_paused);
    }

    #[test]
    fn a_stretch_is_found_if_it_is_above_the_budget_and_only_the_longest_of_the_others_is_kept() {
        let journal = begun(Place::CurrentThread);
        let budget = MS * 50;
        let mut state = journal.state();
        for (away, longest, found) in [
            (MS * 30, MS * 30, 0),
            (budget, budget, 0),
            (MS * 20, budget, 0),
            (budget + Duration::from_nanos(1), budget, 1),
            (LONG, budget, 2),
        ] {
            state.judge(stretch(away), budget);
            assert_eq!((state.longest, state.found.len()), (longest, found), "{away:?}");
        }
    }

    #[tokio::test]
    async fn a_clock_that_goes_is_not_paused() {
        assert!(!clock_paused());
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_is_paused_is_seen_to_be() {
        assert!(clock_paused());
        tokio::time::resume();
        assert!(!clock_paused());
    }

    #[test]
    fn a_coarse_clock_is_given_the_time_to_move() {
        let reads = Cell::new(0);
        let coarse = || reads.replace(reads.get() + 1) / 100;
        assert!(!stands_still(coarse, coarse));
        assert!(stands_still(|| 7, coarse), "only ours goes");
        assert!(stands_still(|| 7, || 7), "nor does ours, and that is found in time");
    }
}
