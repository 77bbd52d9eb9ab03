use std::cell::Cell;
use std::sync::atomic::AtomicUsize;
use std::task::{Wake, Waker};

use super::*;
use crate::heartbeat::stretch::Origin;

const MS: Duration = Duration::from_millis(1);
/// Well above the default budget of 50 ms.
const LONG: Duration = Duration::from_millis(200);
const HOUR: Duration = Duration::from_secs(3600);

const PLACES: [Place; 4] = [Place::CurrentThread, Place::Task, Place::Root, Place::Nowhere];

fn begun(place: Place) -> Arc<WatchState> {
    let state = WatchState::new(Heartbeat::new(), false, None);
    state.begin(place, None);
    state
}

/// As if this thread had last been read so long ago, and had been blocked since. Returns when that was.
fn away_for(state: &WatchState, time: Duration) -> Instant {
    let now = state.reading();
    let then = Reading { at: now.at - time, ..now };
    state.so_far().timestamps = vec![ThreadTimestamps::starting(then)];
    then.at
}

fn is_busy(state: &WatchState) -> bool {
    state.away().overdue(Instant::now() + HOUR).is_some()
}

fn another_thread() -> ThreadId {
    ThreadId(this_thread().0 + 1)
}

fn stretch(away: Duration) -> Stretch {
    let (from, on_cpu) = (Instant::now(), Duration::ZERO);
    let split = Split { wall: away, on_cpu, run_queue: Some(Duration::ZERO) };
    Stretch {
        thread: ThreadId(1),
        from,
        to: from + away,
        split,
        on_cpu_then: on_cpu,
        since: None,
        origin: Origin::DriverTurns,
    }
}

#[derive(Default)]
struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Whose task is woken from now on.
fn woken(state: &WatchState) -> Arc<Count> {
    let count = Arc::new(Count::default());
    state.task().set(&Waker::from(Arc::clone(&count)));
    count
}

#[tokio::test]
async fn the_observer_is_told_whose_numbers_speak_for_the_worker_and_since_when_an_only_one_is_busy() {
    for place in PLACES {
        let state = WatchState::new(Heartbeat::new(), false, None);
        assert!(state.base_of(this_thread()).is_none());
        state.begin(place, Some(Instant::now() + HOUR));
        let (only, among) = (state.away().tasks_alive().is_some(), state.away().is_of_several());
        assert_eq!(only, place == Place::CurrentThread, "{place:?}");
        assert_eq!(among, place == Place::Task, "{place:?}");
        assert_eq!(is_busy(&state), place == Place::CurrentThread, "{place:?}");
        assert_eq!(state.so_far().place, place);
        assert!(state.base_of(this_thread()).is_some(), "{place:?}");
    }
}

#[tokio::test]
async fn the_pools_pulse_is_taken_once_and_only_if_it_was_asked_for() {
    let pool = |asked: Option<bool>| {
        let mut config = Heartbeat::new();
        config.blocking_pool = asked;
        let state = WatchState::new(config, false, None);
        state.begin(Place::CurrentThread, Some(Instant::now() + HOUR));
        [state.take_pool().is_some(), state.take_pool().is_some()]
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
        let state = begun(Place::CurrentThread);
        let mut poller = PollTimestamps { last, ..PollTimestamps::new(Place::CurrentThread, state.config) };
        let before = away_for(&state, LONG);
        let began = state.poll_begins(&mut poller);
        let base = state.base_of(thread).unwrap().at;
        if is_known {
            assert_eq!((poller.last, base), (last, before), "nothing was read");
        } else {
            assert_eq!((poller.last, base), (Some((thread, began)), began), "{last:?}");
        }
    }
}

#[test]
fn a_poll_that_was_not_read_began_at_the_latest_when_its_clock_says_so_at_its_slowest() {
    let state = begun(Place::Task);
    let mut poller = PollTimestamps::new(Place::Task, state.config);
    poller.last = Some((this_thread(), Instant::now() + HOUR));
    let clock = poller.clock;
    let earliest = clock.now() + clock.lag;
    let began = state.poll_begins(&mut poller);
    assert!(earliest <= began && began <= clock.now() + clock.lag);
}

#[test]
fn a_thread_that_polls_for_the_first_time_is_known_from_then_on() {
    let state = begun(Place::Task);
    let (thread, began) = std::thread::scope(|scope| {
        let polls = || (this_thread(), state.poll_begins(&mut PollTimestamps::new(Place::Task, state.config)));
        scope.spawn(polls).join().unwrap()
    });
    assert_ne!(thread, this_thread());
    assert_eq!(state.base_of(thread).unwrap().at, began);
    assert_ne!(state.base_of(this_thread()).unwrap().at, began);
}

#[test]
fn an_only_worker_is_busy_between_polls_too_and_any_other_thread_only_in_them() {
    for place in PLACES {
        let state = begun(place);
        let mut poller = PollTimestamps::new(place, state.config);
        for _ in 0..2 {
            let began = state.poll_begins(&mut poller);
            assert!(is_busy(&state), "{place:?}");
            state.poll_ended(&mut poller, began + HOUR);
            assert_eq!(is_busy(&state), place == Place::CurrentThread, "{place:?}");
            state.away().idle();
            poller.last = None;
        }
    }
}

#[test]
fn a_long_poll_is_found_wherever_it_was_and_the_roots_is_kept_apart() {
    for place in PLACES {
        let state = begun(place);
        let mut poller = PollTimestamps::new(place, state.config);
        let began = away_for(&state, LONG);
        state.away().idle();
        state.poll_ended(&mut poller, began);
        assert_eq!(is_busy(&state), place == Place::CurrentThread, "{place:?}");
        let (thread, at) = poller.last.unwrap();
        assert_eq!((thread, at), (this_thread(), state.base_of(thread).unwrap().at));
        let state = state.so_far();
        let (root, found): (Vec<_>, Vec<_>) = (state.root.into_iter().collect(), state.ledger.too_long().to_vec());
        let (is, is_not) = if place == Place::Root { (root, found) } else { (found, root) };
        assert_eq!((is.len(), is_not.len()), (1, 0), "{place:?}");
        assert!(is[0].origin == Origin::Poll && is[0].from == began && is[0].split.wall >= LONG, "{is:?}");
    }
}

#[test]
fn a_short_poll_is_not_read() {
    let state = begun(Place::Task);
    let mut poller = PollTimestamps::new(Place::Task, state.config);
    let before = away_for(&state, LONG);
    state.poll_ended(&mut poller, Instant::now() + HOUR);
    assert!(poller.last.is_none() && state.base_of(this_thread()).unwrap().at == before);
}

#[test]
fn of_the_roots_polls_the_longest_counts() {
    let state = begun(Place::Root);
    for times in [2, 3, 1] {
        let began = away_for(&state, LONG * times);
        state.poll_ended(&mut PollTimestamps::new(Place::Root, state.config), began);
    }
    assert!(state.so_far().root.unwrap().split.wall >= LONG * 3);
}

#[test]
fn a_beat_arrives_once_and_as_late_as_it_is() {
    let state = begun(Place::Task);
    state.beat_arrives();
    assert_eq!(state.so_far().queue_delay, Duration::ZERO, "none was delivered");
    let now = state.reading();
    state.so_far().delivered = Some(Reading { at: now.at - LONG, ..now });
    state.delivered.store(true, Ordering::Release);
    state.beat_arrives();
    let delay = state.so_far().queue_delay;
    assert!(delay > LONG / 2, "{delay:?}");
    assert!(state.so_far().delivered.is_none() && !state.delivered.load(Ordering::SeqCst), "it has arrived");
    state.beat_arrives();
    assert_eq!(state.so_far().queue_delay, delay);
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
        let state = begun(place);
        state.so_far().beats = beats;
        state.so_far().due = due;
        assert_eq!(state.beat_overdue(), overdue, "{place:?} after {beats} beats");
    }
}

#[test]
fn a_worker_that_goes_idle_was_busy_until_then_and_is_again_when_it_is_back() {
    let state = begun(Place::CurrentThread);
    let then = away_for(&state, LONG);
    state.so_far().due = Some(then);
    state.parks();
    assert!(!is_busy(&state));
    let idle = state.base_of(this_thread()).unwrap().at;
    let found = state.so_far().ledger.too_long().to_vec();
    assert_eq!((found.len(), found[0].to), (1, idle));
    state.unparks();
    assert!(is_busy(&state));
}

#[test]
fn a_wake_that_brought_a_punctual_beat_vouches_for_the_thread_and_no_other_does() {
    let config = Heartbeat::new().interval(MS).budget(HOUR);
    let is_read_anew = |punctual: Option<Instant>| {
        let state = WatchState::new(config, true, None);
        state.begin(Place::CurrentThread, None);
        state.so_far().punctual = punctual;
        let last = Reading::here().at;
        while last.elapsed() <= config.fresh() {
            std::hint::spin_loop();
        }
        state.unparks();
        Reading::last().unwrap().at != last
    };
    let now = Instant::now();
    assert!(!is_read_anew(Some(now + HOUR)));
    assert!(is_read_anew(Some(now - LONG)));
    assert!(is_read_anew(None));
}

#[test]
fn what_is_known_so_far_is_all_that_was_written_down() {
    let state = begun(Place::CurrentThread);
    let mut so_far = state.so_far();
    (so_far.beats, so_far.queue_delay) = (3, MS * 7);
    so_far.keep(stretch(MS * 40), state.config.budget);
    so_far.rhythm.record(MS);
    so_far.lateness.record(MS * 2, MS * 5);
    drop(so_far);
    let pulse = state.pulse(MS);
    assert_eq!((pulse.beats, pulse.longest, pulse.queue_delay), (3, MS * 40, MS * 7));
    assert_eq!((pulse.rhythm.beats.as_slice(), pulse.lateness.max()), ([1].as_slice(), MS * 2));
    assert!(pulse.stalls.is_empty());
    state.so_far().keep(stretch(MS * 60), state.config.budget);
    let pulse = state.pulse(MS);
    assert_eq!((pulse.stalls.len(), pulse.longest), (0, MS * 40), "it is not judged yet");
}

#[test]
fn a_turn_would_have_been_marked_when_the_timer_and_where_nobody_tells_of_idling_the_driver_were_due() {
    for (hooked, slack) in [(true, MS), (false, MS * 2)] {
        let state = WatchState::new(Heartbeat::new(), hooked, None);
        let mut so_far = state.so_far();
        assert_eq!(state.judged_from(&so_far), None);
        let due = Instant::now();
        so_far.due = Some(due);
        assert_eq!(state.judged_from(&so_far), Some(due + slack));
    }
}

#[test]
fn a_beat_is_counted_and_punctual_if_it_came_before_it_would_have_been_marked() {
    let state = begun(Place::Task);
    let (mut due, interval) = (state.began, MS * 5);
    let slack = MS * 2;
    let a_little = Duration::from_nanos(1);
    for (beats, late, is_punctual) in
        [(1, Duration::ZERO, true), (2, slack, true), (3, slack + a_little, false), (4, LONG, false)]
    {
        let next = due + interval;
        state.so_far().due = Some(due);
        state.on_turn(due, next, due + late);
        let state = state.so_far();
        assert_eq!((state.beats, state.due), (beats.into(), Some(next)));
        assert_eq!(state.punctual, is_punctual.then_some(due + late), "{late:?}");
        assert_eq!((state.lateness.max(), state.rhythm.beats.iter().sum::<u32>()), (late, beats));
        due = next;
    }
}

#[test]
fn a_late_turn_convicts_an_only_worker_and_no_other() {
    for place in PLACES {
        let state = begun(place);
        state.away().idle();
        let due = away_for(&state, LONG);
        state.so_far().due = Some(due);
        state.on_turn(due, due + MS * 5, Instant::now());
        let only = place == Place::CurrentThread;
        assert_eq!(is_busy(&state), only, "{place:?}");
        let state = state.so_far();
        assert_eq!(state.timestamps.len(), 1, "it was known");
        assert_eq!(state.ledger.too_long().len(), usize::from(only), "{place:?}");
        assert!(
            state.ledger.too_long().iter().all(|stretch| stretch.from == due + MS * 2),
            "{:?}",
            state.ledger.too_long()
        );
    }
}

#[test]
fn a_late_turn_on_a_thread_that_nobody_knew_is_known_by_the_wall_clock() {
    let state = begun(Place::CurrentThread);
    let due = Instant::now() - LONG;
    state.so_far().due = Some(due);
    let turn = || {
        state.on_turn(due, due + MS * 5, Instant::now());
        this_thread()
    };
    let thread = std::thread::scope(|scope| scope.spawn(turn).join().unwrap());
    let state = state.so_far();
    let found: Vec<_> = state.ledger.too_long().iter().map(|stretch| (stretch.thread, stretch.from)).collect();
    assert_eq!(found, [(thread, due + MS * 2)]);
    assert_eq!(state.timestamps.len(), 2);
}

#[test]
fn a_beat_wakes_a_task_that_may_have_to_queue_for_it_and_whoever_waits_for_one() {
    for (place, awaited, delivers, wakes) in [
        (Place::CurrentThread, false, true, 1),
        (Place::Task, false, true, 1),
        (Place::Root, false, false, 0),
        (Place::Root, true, false, 1),
    ] {
        let state = begun(place);
        let count = woken(&state);
        if awaited {
            state.beat_overdue();
        }
        let due = Instant::now() + HOUR;
        state.on_turn(due, due + MS * 5, due);
        let delivered = state.delivered.load(Ordering::SeqCst);
        assert_eq!((delivered, state.so_far().delivered.is_some()), (delivers, delivers), "{place:?}");
        assert_eq!(count.0.load(Ordering::SeqCst), wakes, "{place:?}");
    }
}

#[test]
fn a_beat_that_finds_its_worker_idle_waits_behind_nobody() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let metrics = runtime.metrics();
    let state = begun(Place::CurrentThread);
    let queues = || {
        let due = Instant::now() + HOUR;
        state.on_turn(due, due, due);
        state.so_far().delivered.take().is_some()
    };
    let awake = || assert!(!state.is_idle() && queues(), "it is awake, by all that is known");
    awake();
    assert!(state.metrics.set(runtime.metrics()).is_ok());
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
        assert!(state.is_idle() && !queues(), "it sleeps");
        drop(stop);
    });
}

#[test]
fn a_timer_that_fires_early_is_a_paused_clock() {
    let state = begun(Place::CurrentThread);
    assert!(!state.so_far().clock_paused);
    state.on_early();
    assert!(state.so_far().clock_paused);
}

#[test]
fn a_stretch_is_found_if_it_is_above_the_budget_and_only_the_longest_of_the_others_is_kept() {
    let state = begun(Place::CurrentThread);
    let budget = MS * 50;
    let mut state = state.so_far();
    for (away, longest, found) in [
        (MS * 30, MS * 30, 0),
        (budget, budget, 0),
        (MS * 20, budget, 0),
        (budget + Duration::from_nanos(1), budget, 1),
        (LONG, budget, 2),
    ] {
        state.keep(stretch(away), budget);
        assert_eq!((state.ledger.longest_short(), state.ledger.too_long().len()), (longest, found), "{away:?}");
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
