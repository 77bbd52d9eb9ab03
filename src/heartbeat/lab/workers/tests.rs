use super::*;
use crate::heartbeat::lab::worker::WorkerLog;
use crate::heartbeat::reading::thread::Clocks;

#[test]
fn a_thread_whose_worker_went_idle_without_it_serves_another() {
    let mut log = WorkerLog::default();
    let workers = |parks: [u64; 2]| parks.into_iter().map(|parks| WorkerNumbers { parks, busy: Duration::ZERO });
    log.comes_back(workers([2, 5]), true);
    assert_eq!(log.indices, 0b01, "the other is idle");
    log.comes_back(workers([4, 6]), true);
    assert_eq!(log.indices, 0b01, "now the other is awake too, but it was not when this one was told apart");
    assert!(log.is_the_same(workers([4, 8])));
    assert_eq!(log.indices, 0b01);
    // It blocked in `block_in_place`, and both are awake; so that both are does not tell who it is.
    assert!(!log.is_the_same(workers([6, 8])));
    assert_eq!(log.indices, 0b11, "it may have been capped_at either");
}

#[test]
fn who_is_never_known_is_never_another() {
    let mut log = WorkerLog::default();
    log.comes_back([].into_iter(), true);
    assert!(log.is_the_same([].into_iter()) && log.indices == 0);
}

const MS: Duration = Duration::from_millis(1);
/// So long that nothing a slow machine does to a test counts beside it. It is never waited for.
const BUDGET: Duration = Duration::from_secs(10);

fn workers_of(workers: usize) -> Arc<Workers> {
    Workers::new(workers, Heartbeat::new().budget(BUDGET))
}

/// On a thread that is no worker yet.
fn elsewhere<T: Send>(what: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(what).join().unwrap())
}

/// This thread is back since so long ago, as far as it knows, and has slept ever since.
fn back_since(workers: &Workers, ago: Duration) -> (Arc<Worker>, Instant) {
    workers.unparks();
    let worker = workers.worker();
    let mut log = worker.log();
    let (base, _) = log.base.as_mut().unwrap();
    base.at -= ago;
    let at = base.at;
    drop(log);
    (worker, at)
}

/// A reading after so many ms, on a CPU for none of them.
fn reading(thread: u32, start: Instant, at: u32, run_queue: Option<u32>) -> Reading {
    let run_queue = run_queue.map(|ms| MS * ms);
    Reading { at: start + MS * at, thread: ThreadId(thread), on_cpu: Duration::ZERO, run_queue }
}

#[test]
fn a_fleet_is_complete_once_each_worker_has_shown_up() {
    let workers = workers_of(2);
    let shows_up = || {
        elsewhere(|| {
            workers.parks();
            this_thread()
        })
    };
    assert!(!workers.is_complete());
    let one = shows_up();
    assert!(!workers.is_complete() && workers.has_member(one) && !workers.has_member(this_thread()));
    shows_up();
    assert!(workers.is_complete());
}

#[test]
fn a_worker_is_busy_from_when_it_comes_back_until_it_goes_idle_and_a_long_spell_is_to_be_judged() {
    for (away, periods) in [(BUDGET * 2, 1), (BUDGET / 2, 0)] {
        elsewhere(|| {
            let workers = workers_of(1);
            let (worker, _) = back_since(&workers, away);
            assert!(worker.is_busy());
            workers.parks();
            assert!(!worker.is_busy());
            assert_eq!(worker.log().ledger.too_long().len(), periods, "{away:?}");
            workers.parks();
            assert_eq!(worker.log().ledger.too_long().len(), periods, "it was idle");
        });
    }
}

#[test]
fn a_late_beat_on_a_busy_thread_is_certain_as_far_as_the_driver_was_not_turned() {
    // Since when the thread is back, how long after that a beat was due, and what is certain, and what is to be judged.
    for (away, due, certain, judged) in [(20, 5, 1, 0), (20, 15, 0, 1), (5, 0, 0, 0)] {
        elsewhere(|| {
            let workers = workers_of(1);
            let (worker, from) = back_since(&workers, Duration::from_secs(away));
            workers.turn(Some(from + Duration::from_secs(due)));
            let log = worker.log();
            assert_eq!(
                (log.certain.len(), log.ledger.too_long().len()),
                (certain, judged),
                "{away} s, due after {due} s"
            );
            assert!(log.base.is_some_and(|(base, _)| base.at > from), "it has been back");
        });
    }
}

#[test]
fn a_period_is_kept_with_how_often_the_thread_slept_in_it_and_which_worker_it_can_have_been() {
    let start = Instant::now();
    let mut log = WorkerLog::default();
    let ends = [(reading(1, start, 0, Some(0)), 3), (reading(1, start, 51, Some(0)), 5)];
    log.keep(ends, 1, Published::default, MS * 50);
    let [period] = log.ledger.too_long() else { panic!("{log:?}") };
    assert!(period.sleeps == 2 && period.indices == 1 && !period.blind, "{period:?}");
}

/// The others would take their places: only so many are kept.
#[test]
fn a_period_without_a_sleep_is_kept_apart() {
    let start = Instant::now();
    let mut log = WorkerLog::default();
    for sleeps in [0, 1] {
        let ends = [(reading(1, start, 0, Some(0)), 0), (reading(1, start, 120, Some(80)), sleeps)];
        log.keep(ends, 1, Published::default, MS * 50);
    }
    assert_eq!(log.ledger.take_excused().iter().map(|period| period.sleeps).collect::<Vec<_>>(), [1, 0]);
}

#[test]
fn a_wait_for_a_cpu_is_no_excuse_for_a_worker_that_was_seen_to_sleep() {
    for (sleeps, blocked, found) in [(1, 11, 1), (1, 9, 0), (0, 11, 0)] {
        let workers = workers_of(1);
        let opened = Instant::now();
        workers.open(opened);
        let worker = workers.worker();
        let (from, to) = (reading(1, opened, 0, Some(5)), reading(1, opened, 12_000, Some(12_005)));
        worker.log().keep([(from, 0), (to, sleeps)], 1, Published::default, BUDGET);
        let mut pulse = Pulse::empty(Heartbeat::new().budget(BUDGET));
        let observer = Observer::sure(Duration::from_secs(blocked));
        workers.close(opened, &mut pulse, Some(&observer), TimeBudget::of(Duration::from_secs(60)));
        assert_eq!(pulse.stalls.len(), found, "{sleeps} sleeps, blocked for {blocked} s");
    }
}

#[test]
fn what_was_booked_wrongly_is_taken_off_the_wait_and_remembered() {
    let start = Instant::now();
    let (from, to) = (reading(1, start, 0, Some(5)), reading(1, start, 12_000, Some(12_005)));
    let period = BusyPeriod {
        from,
        to,
        sleeps: 1,
        indices: 1,
        published: Default::default(),
        overbooked: Duration::ZERO,
        blind: false,
    };
    let observer = Observer::sure(Duration::from_secs(11));
    let again = rechecked(vec![period], Some(&observer), TimeBudget::of(Duration::from_secs(60))).unwrap();
    let told: Vec<_> = again.iter().map(|period| (period.to.run_queue, period.overbooked)).collect();
    assert_eq!(told, [(Some(MS * 1005), MS * 11_000)]);
}

#[test]
fn a_beat_on_a_thread_that_never_went_idle_makes_it_a_worker_unless_it_is_the_root() {
    let workers = workers_of(1);
    let turn = || workers.turn(Some(Instant::now() - BUDGET * 2));
    elsewhere(turn);
    assert!(!workers.is_complete(), "the watch has not begun");
    workers.open(Instant::now());
    turn();
    assert!(!workers.is_complete(), "the root is no worker");
    elsewhere(turn);
    let workers_seen = lock(&workers.workers_seen);
    let [worker] = &workers_seen[..] else { panic!("{workers_seen:?}") };
    assert_eq!((worker.log().certain.len(), worker.is_busy()), (1, true), "it was late, and is back");
}

#[test]
fn a_stranger_is_not_charged_what_it_waited_for_a_cpu_nor_what_the_one_before_it_did() {
    let due = Instant::now();
    let late = |wall, own, queued: Option<u32>| {
        let stretch = late(due, reading(1, due, wall, own), queued.map(|ms| MS * ms), MS * 50)?;
        Some((stretch.split.wall, stretch.split.run_queue))
    };
    assert_eq!(late(120, Some(30), Some(20)), Some((MS * 120, Some(MS * 50))));
    assert_eq!(late(120, Some(30), None), Some((MS * 120, None)), "the wait of the other is not known");
    assert_eq!(late(51, Some(0), Some(0)), Some((MS * 51, Some(Duration::ZERO))));
    assert_eq!(late(50, Some(0), Some(0)), None);
}

#[test]
fn a_member_has_waited_for_a_cpu_since_it_was_back_what_the_kernel_says_if_it_says_so() {
    let worker = Worker::of_this_thread(true);
    assert_eq!(worker.queued(), Some(Duration::ZERO), "it was never away");
    let ever = Clocks::open().run_queue();
    let now = Reading::here();
    worker.log().base = Some((Reading { run_queue: Some(Duration::ZERO), ..now }, 0));
    let queued = worker.queued();
    assert!(queued >= ever && queued.is_some() == ever.is_some(), "{queued:?} after {ever:?}");
    worker.log().base = Some((Reading { run_queue: None, ..now }, 0));
    assert_eq!(worker.queued(), None);
}

/// There is no account of a thread of that number, so the thread is given time to come back by itself.
#[test]
fn a_spell_that_goes_on_is_waited_for_and_then_described() {
    let worker = Worker { thread: ThreadId(0), ..Arc::into_inner(Worker::of_this_thread(true)).unwrap() };
    assert!(worker.unfinished_period(Instant::now()).is_none(), "it is idle");
    let base = reading(0, Instant::now(), 0, Some(0));
    *worker.log() = WorkerLog { base: Some((base, 7)), indices: 0b10, ..WorkerLog::default() };
    let begun = Instant::now();
    let period = worker.unfinished_period(begun + MS * 5).unwrap();
    assert!(begun.elapsed() >= MS * 5, "it may have come back");
    assert!(period.blind && period.from.at == base.at && (period.sleeps, period.indices) == (0, 0b10), "{period:?}");
}

#[test]
fn workers_are_looked_at_twenty_times_a_budget_but_not_all_the_time_nor_hardly_ever() {
    for (budget, every) in [(10, 1000), (20, 1000), (50, 2500), (100, 5000), (1000, 5000)] {
        assert_eq!(between_looks(MS * budget), Duration::from_micros(every), "{budget} ms");
    }
}

#[test]
fn workers_are_told_apart_by_what_they_publish_unless_they_are_too_many() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    for (workers, told) in [(2, 2), (65, 0)] {
        let all = workers_of(workers);
        assert_eq!(all.workers_now().count(), 0, "none is observed");
        all.observe(runtime.metrics());
        assert_eq!(all.workers_now().count(), told, "{workers}");
    }
}

#[test]
fn a_thread_that_nobody_read_may_hide_a_stall_if_it_was_away_for_too_long_and_so_was_a_worker() {
    let start = Instant::now();
    let hides = |thread, wall, waited, looks: &[CountersLook]| {
        let unseen = Unseen { from: reading(1, start, 0, Some(0)), to: reading(thread, start, wall, Some(waited)) };
        unseen.may_hide(looks, MS * 50)
    };
    assert!(hides(1, 51, 0, &[]) && !hides(1, 50, 0, &[]));
    assert!(hides(1, 60, 9, &[]) && !hides(1, 60, 10, &[]), "it waited for a CPU");
    assert!(hides(2, 51, 0, &[]) && !hides(2, 50, 0, &[]), "of two threads nothing is known but the time");
    let idle = WorkerNumbers { parks: 1, busy: Duration::ZERO };
    let looks = [0, 40, 80].map(|at| CountersLook { at: start + MS * at, workers: vec![idle], accounts: Vec::new() });
    assert!(!hides(1, 80, 0, &looks), "the only worker was idle");
}

#[test]
fn what_was_over_when_the_watch_began_is_no_part_of_it() {
    let workers = workers_of(1);
    let opened = Instant::now();
    workers.open(opened);
    let worker = workers.worker();
    // One that ended before, one that ended just then and one that ended after; told by how long they took.
    let (ends, seconds) = ([opened - MS, opened, opened + MS], [21, 22, 23]);
    for (to, wall) in ends.into_iter().zip(seconds).map(|(to, s)| (to, Duration::from_secs(s))) {
        let to = reading(1, to, 0, Some(0));
        let certain = Reading { at: to.at - wall, ..to };
        worker.log().certain.extend(Stretch::between(&certain, &to, certain.at));
        // It slept once, so it was one poll.
        let from = Reading { at: to.at - wall - BUDGET, ..to };
        let overbooked = Duration::ZERO;
        let published = Default::default();
        let period = BusyPeriod { from, to, sleeps: 1, indices: 0, published, overbooked, blind: false };
        let whole = period.stretch().unwrap();
        worker.log().ledger.add(&whole, true, BUDGET, || period);
    }
    let mut pulse = Pulse::empty(Heartbeat::new().budget(BUDGET));
    workers.close(opened, &mut pulse, None, TimeBudget::of(Duration::ZERO));
    let mut walls: Vec<_> = pulse.stalls.iter().map(|stall| stall.wall.as_secs()).collect();
    walls.sort_unstable();
    assert_eq!((walls, pulse.uncovered.clone()), (vec![23, 33], None));
    workers.close(opened, &mut pulse, None, TimeBudget::of(Duration::ZERO));
    assert_eq!((pulse.stalls.len(), pulse.uncovered), (2, Some(Why::Unobserved)), "nothing is left to judge");
}

/// A sampler that has no CPU holds up what may be a stall, and nothing else.
#[test]
fn looks_are_waited_for_only_if_the_verdict_depends_on_them() {
    for (wall, waits) in [(BUDGET / 2, false), (BUDGET * 2, true)] {
        let workers = workers_of(1);
        let opened = Instant::now();
        workers.open(opened);
        workers.mute();
        let ends = [(reading(1, opened, 0, Some(0)), 0), (reading(1, opened, 0, Some(0)), 0)];
        let ends = [ends[0], (Reading { at: opened + wall, ..ends[1].0 }, 0)];
        elsewhere(|| workers.worker().log().keep(ends, 1, Published::default, BUDGET));
        let mut pulse = Pulse::empty(Heartbeat::new().budget(BUDGET));
        let begun = Instant::now();
        let time = Duration::from_secs(2);
        workers.close(opened, &mut pulse, None, TimeBudget::of(time));
        // On a slow machine the one may take as long as the other has to.
        assert!(!waits || begun.elapsed() >= time / 2, "{wall:?}: {:?}", begun.elapsed());
        assert!(waits || begun.elapsed() < time / 2, "{wall:?}: {:?}", begun.elapsed());
    }
}

#[test]
fn a_worker_that_was_not_seen_for_too_long_leaves_the_watch_uncovered() {
    let opened = Instant::now();
    for (to, away, why) in [
        (opened, BUDGET * 2, None),
        (opened + MS, BUDGET / 2, None),
        (opened + MS, BUDGET * 2, Some(Why::WorkerUnseen)),
    ] {
        let workers = workers_of(1);
        workers.open(opened);
        let to = reading(1, to, 0, Some(0));
        workers.was_unseen(Some(Reading { at: to.at - away, ..to }), to);
        let mut pulse = Pulse::empty(Heartbeat::new().budget(BUDGET));
        workers.close(opened, &mut pulse, None, TimeBudget::of(Duration::ZERO));
        assert_eq!(pulse.uncovered, why);
    }
}
