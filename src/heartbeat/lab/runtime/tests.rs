use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::channel;

use super::super::hung;
use super::*;
use crate::heartbeat::evidence::Query;
use crate::heartbeat::pulse::PoolPulse;
use crate::heartbeat::stall::Stall;
use crate::heartbeat::stretch::Stretch;
use crate::heartbeat::verdict::Verdict;
use crate::heartbeat::watch::place::Place;

const MS: Duration = Duration::from_millis(1);

/// A worker that waits for ever, while neither the observer nor the sampler answers.
#[test]
fn what_hangs_is_described_in_time_though_nobody_answers_and_then_it_is_a_doubt() {
    let heartbeat = Heartbeat::new().interval(MS).budget(MS * 5);
    let mut runtime = WatchedRuntime::new(Flavor::MultiThread(1), heartbeat);
    Arc::get_mut(&mut runtime.0).unwrap().observer = Some(Observer::deaf());
    let state = runtime.begin_watch();
    runtime.workers().unwrap().mute();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let pulse = std::thread::scope(|scope| {
        let worker = runtime.clone();
        scope.spawn(move || {
            worker.0.unparks();
            let _ = stopped.recv();
        });
        let begun = Instant::now();
        while !runtime.workers().unwrap().is_complete() || begun.elapsed() < MS * 20 {
            std::thread::park_timeout(MS);
        }
        let begun = Instant::now();
        let pulse = hung::describe(&runtime, &state, TimeBudget::of(MS * 2000));
        let took = begun.elapsed();
        drop(stop);
        // A machine that is late for all of this is late once, not for each wait anew.
        assert!(took < MS * 5300, "{took:?}");
        pulse
    });
    assert_eq!(pulse.verdict(), Verdict::Inconclusive { why: Why::Unobserved }, "{pulse}");
    if cfg!(all(target_os = "linux", not(deadbeat_portable))) {
        let culprit = pulse.worst().unwrap().culprit.as_ref().unwrap();
        assert_eq!(culprit.syscall.as_deref(), Some("futex"), "{pulse}");
    }
}

/// It was idle in the pool, and woke late to take a worker over.
#[test]
fn an_idle_thread_that_wakes_late_to_take_a_worker_over_excuses_the_block_and_a_quick_one_does_not() {
    for (waited, excused) in [(10, false), (100, true)] {
        let runtime = WatchedRuntime::new(Flavor::MultiThread(1), Heartbeat::new());
        let state = runtime.begin_watch();
        let mut pulse = Pulse::empty(Heartbeat::new());
        pulse.stalls.push(blocked_stall());
        let reading = |at, run_queue| Reading {
            at: state.began + MS * at,
            thread: ThreadId(7),
            on_cpu: Duration::ZERO,
            run_queue: Some(MS * run_queue),
        };
        runtime.workers().unwrap().was_unseen(Some(reading(0, 5)), reading(130, 5 + waited));
        runtime.doubt_late_handovers(&mut pulse);
        let doubt = excused.then_some(Why::HandedOver { waited: MS * waited });
        assert_eq!(pulse.stalls[0].doubt, doubt);
    }
}

fn blocked_stall() -> Stall {
    Stall {
        at: Duration::ZERO,
        wall: MS * 120,
        on_cpu: Duration::ZERO,
        run_queue: Some(Duration::ZERO),
        blocked: Some(MS * 120),
        culprit: None,
        doubt: None,
    }
}

#[test]
fn a_late_thread_excuses_a_blocked_worker_only_if_it_became_one() {
    let runtime = WatchedRuntime::new(Flavor::MultiThread(1), Heartbeat::new());
    let state = runtime.begin_watch();
    let late = |thread| {
        let birth = ThreadStart { thread, at: state.began + MS * 10, waited: MS * 100 };
        runtime.0.births.lock().unwrap().push(birth);
    };
    let mut pulse = Pulse::empty(Heartbeat::new());
    pulse.stalls.push(blocked_stall());
    late(this_thread());
    runtime.doubt_late_handovers(&mut pulse);
    assert_eq!(pulse.stalls[0].doubt, None);
    let worker = || {
        runtime.0.parks();
        this_thread()
    };
    late(elsewhere(worker));
    runtime.doubt_late_handovers(&mut pulse);
    assert_eq!(pulse.stalls[0].doubt, Some(Why::HandedOver { waited: MS * 100 }));
}

fn elsewhere<T: Send>(what: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(what).join().unwrap())
}

/// The stall lasts from 100 to 220 ms, and more than half of the budget is 26.
#[test]
fn a_thread_excuses_what_was_blocked_while_it_was_late_and_nothing_else() {
    let excused = |split: (u32, u32), births: &[(u32, u32)], unseen: &[(u32, u32, u32)]| {
        let runtime = WatchedRuntime::new(Flavor::MultiThread(1), Heartbeat::new());
        let state = runtime.begin_watch();
        let at = |ms| state.began + MS * ms;
        let thread = elsewhere(|| {
            runtime.0.parks();
            this_thread()
        });
        for (ms, waited) in births {
            runtime.0.births.lock().unwrap().push(ThreadStart { thread, at: at(*ms), waited: MS * *waited });
        }
        for (from, to, waited) in unseen {
            let reading = |ms, wait| Reading { at: at(ms), thread, on_cpu: Duration::ZERO, run_queue: Some(MS * wait) };
            runtime.workers().unwrap().was_unseen(Some(reading(*from, 7)), reading(*to, 7 + *waited));
        }
        let mut pulse = Pulse::empty(Heartbeat::new());
        let (on_cpu, blocked) = (MS * split.0, Some(MS * split.1));
        pulse.stalls.push(Stall { at: MS * 100, on_cpu, blocked, ..blocked_stall() });
        runtime.doubt_late_handovers(&mut pulse);
        match pulse.stalls[0].doubt {
            Some(Why::HandedOver { waited }) => Some(waited.as_millis()),
            _ => None,
        }
    };
    let slept = (0, 120);
    for (at, late, expected) in [
        (99, 90, None),
        (100, 90, Some(90)),
        (220, 90, Some(90)),
        (221, 90, None),
        (150, 25, None),
        (150, 26, Some(26)),
    ] {
        assert_eq!(excused(slept, &[(at, late)], &[]), expected, "born at {at} ms, {late} ms late");
    }
    for (from, to, late, expected) in [
        (0, 99, 90, None),
        (0, 100, 90, Some(90)),
        (220, 300, 90, Some(90)),
        (221, 300, 90, None),
        (0, 300, 25, None),
        (0, 300, 26, Some(26)),
    ] {
        assert_eq!(excused(slept, &[], &[(from, to, late)]), expected, "unseen from {from} to {to} ms");
    }
    assert_eq!(excused(slept, &[(150, 60), (150, 70)], &[(0, 300, 80)]), Some(80), "the latest of all");
    assert_eq!((excused((61, 59), &[(150, 90)], &[]), excused((60, 60), &[(150, 90)], &[])), (None, None));
    assert_eq!(excused((59, 61), &[(150, 90)], &[]), Some(90), "it waited rather than computed");
}

/// One that needs 70 ms for a closure that does nothing needs as long to take a worker over.
#[test]
fn a_late_pool_excuses_a_block_in_a_runtime_that_hands_workers_over_and_in_no_other() {
    for (threads, late, excused) in [(2, 70, true), (2, 25, false), (1, 70, false)] {
        let runtime = WatchedRuntime::new(Flavor::MultiThread(1), Heartbeat::new());
        let _ = runtime.begin_watch();
        (0..threads).for_each(|_| elsewhere(|| runtime.0.parks()));
        let mut pulse = Pulse::empty(Heartbeat::new());
        pulse.stalls.push(blocked_stall());
        pulse.blocking_pool = Some(PoolPulse { on_the_wall: MS * late, ..PoolPulse::default() });
        runtime.doubt_late_handovers(&mut pulse);
        let doubt = excused.then_some(Why::HandedOver { waited: MS * late });
        assert_eq!(pulse.stalls[0].doubt, doubt, "{threads} threads, {late} ms");
    }
}

#[test]
fn a_lab_covers_its_workers_if_it_saw_all_of_them_and_excuses_nothing_else() {
    for (shows_up, before, after) in [
        (true, Why::MultiThread, None),
        (false, Why::MultiThread, Some(Why::WorkerUnseen)),
        (true, Why::PausedClock, Some(Why::PausedClock)),
        (false, Why::PausedClock, Some(Why::PausedClock)),
    ] {
        let runtime = WatchedRuntime::new(Flavor::MultiThread(1), Heartbeat::new());
        let _ = runtime.begin_watch();
        elsewhere(|| shows_up.then(|| runtime.0.parks()));
        let mut pulse = Pulse { uncovered: Some(before), ..Pulse::empty(Heartbeat::new()) };
        runtime.close(&mut pulse, TimeBudget::of(Duration::ZERO));
        assert_eq!(pulse.uncovered, after);
    }
}

#[test]
fn a_watch_begins_with_every_worker_and_a_thread_of_the_pool_if_that_is_watched() {
    for (blocking_pool, threads) in [(true, 3), (false, 2)] {
        let runtime = WatchedRuntime::new(Flavor::MultiThread(2), Heartbeat::new().blocking_pool(blocking_pool));
        let built = runtime.build().unwrap();
        // On a machine that is hardly there it may take as long as if one were missing.
        let in_time = || {
            let begun = Instant::now();
            built.block_on(runtime.wait_for_workers(&built));
            runtime.workers().unwrap().is_complete() && begun.elapsed() < WORKERS_BY
        };
        assert!((0..3).any(|_| in_time()), "all were there");
        assert_eq!(runtime.living_threads().len(), threads);
    }
}

#[test]
fn a_worker_that_shows_up_late_is_waited_for() {
    let runtime = WatchedRuntime::new(Flavor::MultiThread(2), Heartbeat::new());
    // Without the hooks, its workers do not show up by themselves.
    let built = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let shown_up = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            elsewhere(|| runtime.0.parks());
            std::thread::park_timeout(MS * 10);
            shown_up.store(true, Ordering::SeqCst);
            runtime.0.parks();
        });
        built.block_on(runtime.wait_for_workers(&built));
        assert!(shown_up.load(Ordering::SeqCst));
    });
}

#[test]
fn a_thread_lives_from_its_start_to_its_end_and_was_born_before_it_ran() {
    let runtime = WatchedRuntime::new(Flavor::CurrentThread, Heartbeat::new());
    runtime.0.starts();
    let ran = elsewhere(|| {
        while Reading::here().on_cpu < MS * 5 {
            std::hint::spin_loop();
        }
        let ran = Instant::now();
        runtime.0.starts();
        assert_eq!(runtime.living_threads().last(), Some(&this_thread()));
        runtime.0.stops();
        ran
    });
    assert_eq!(runtime.living_threads(), [this_thread()]);
    // Not where the kernel does not say how long it waited for a CPU.
    let births = runtime.0.births.lock().unwrap();
    assert!(births.last().is_none_or(|birth| birth.at < ran), "{births:?}");
}

#[test]
fn only_the_root_of_a_current_thread_runtime_is_its_worker() {
    for is_root in [true, false] {
        let runtime = WatchedRuntime::new(Flavor::CurrentThread, Heartbeat::new());
        let (this, other) = (std::thread::current().id(), elsewhere(|| std::thread::current().id()));
        runtime.0.root.set(if is_root { this } else { other }).unwrap();
        let state = runtime.begin_watch();
        state.begin(Place::CurrentThread, None);
        let is_busy = || state.away().overdue(Instant::now() + Duration::from_secs(60)).is_some();
        assert!(is_busy());
        runtime.0.parks();
        assert_eq!(is_busy(), !is_root);
        state.away().idle();
        runtime.0.unparks();
        assert_eq!(is_busy(), is_root);
    }
}

/// The hooks say when it is idle; elsewhere the driver may round its wait up, by a millisecond more.
#[test]
fn a_beat_of_a_current_thread_runtime_is_overdue_a_millisecond_earlier_than_any_other() {
    let is_overdue = |flavor| {
        let state = WatchedRuntime::new(flavor, Heartbeat::new()).begin_watch();
        state.begin(Place::CurrentThread, Some(Instant::now() - Duration::from_micros(1500)));
        state.beat_overdue()
    };
    assert!(is_overdue(Flavor::CurrentThread));
    assert!((0..20).any(|_| !is_overdue(Flavor::MultiThread(1))), "it was never looked at within half a millisecond");
}

#[test]
fn a_root_that_waits_for_ever_is_described_as_a_stall() {
    let mut runtime = WatchedRuntime::new(Flavor::CurrentThread, Heartbeat::new().interval(MS).budget(MS * 5));
    Arc::get_mut(&mut runtime.0).unwrap().observer = Some(Observer::deaf());
    let state = runtime.begin_watch();
    let pulse = std::thread::scope(|scope| {
        let (_stop, stopped) = channel::<()>();
        let root = &state;
        scope.spawn(move || {
            root.begin(Place::CurrentThread, None);
            let _ = stopped.recv();
        });
        while state.away().overdue(Instant::now() - MS * 20).is_none() {
            std::thread::park_timeout(MS);
        }
        hung::describe(&runtime, &state, TimeBudget::of(MS * 100))
    });
    assert!(pulse.worst().is_some_and(|stall| stall.wall >= MS * 20), "{pulse}");
}

#[test]
fn what_was_found_before_the_hang_is_weighed_like_any_other() {
    let mut runtime = WatchedRuntime::new(Flavor::CurrentThread, Heartbeat::new());
    Arc::get_mut(&mut runtime.0).unwrap().observer = Some(Observer::deaf());
    let state = runtime.begin_watch();
    let (thread, on_cpu, run_queue) = (this_thread(), Duration::ZERO, Some(Duration::ZERO));
    let reading = |ms| Reading { at: state.began + MS * ms, thread, on_cpu, run_queue };
    let stretch = Stretch::between(&reading(0), &reading(120), state.began).unwrap();
    state.so_far().keep(stretch, Heartbeat::new().budget);
    let pulse = hung::describe(&runtime, &state, TimeBudget::of(MS * 100));
    assert_eq!(pulse.verdict(), Verdict::Inconclusive { why: Why::Unobserved }, "{pulse}");
    assert_eq!(pulse.longest, MS * 120);
}

/// Without it there would be one glance, and that shortly before the report.
#[test]
fn what_the_observer_saw_of_a_hanging_worker_is_in_the_report() {
    let Some(observer) = Observer::get().filter(|_| cfg!(all(target_os = "linux", not(deadbeat_portable)))) else {
        return;
    };
    let runtime = WatchedRuntime::new(Flavor::MultiThread(1), Heartbeat::new().interval(MS).budget(MS * 5));
    let state = runtime.begin_watch();
    let pulse = std::thread::scope(|scope| {
        let (_stop, stopped) = channel::<()>();
        let (tell, told) = channel();
        let worker = &runtime;
        scope.spawn(move || {
            worker.0.unparks();
            tell.send(this_thread()).unwrap();
            let _ = stopped.recv();
        });
        let thread = told.recv().unwrap();
        let looks = || {
            let (tell, told) = channel();
            let question =
                Query { thread, from: state.began, to: Instant::now(), waited: Some(true), since: None, until: None };
            observer.ask(vec![question], move |seen| tell.send(seen).unwrap());
            told.recv().unwrap().pop().and_then(|observed| observed.culprit).map_or(0, |culprit| culprit.samples)
        };
        let seen_often = (0..10_000).any(|_| {
            std::thread::park_timeout(MS);
            // By then it has waited for longer than the budget, not for a CPU, but in its call.
            looks() > 20
        });
        assert!(seen_often, "there are no looks");
        hung::describe(&runtime, &state, TimeBudget::of(Duration::from_secs(20)))
    });
    assert!(pulse.worst().and_then(|stall| stall.culprit.as_ref()).is_some_and(|it| it.samples > 1), "{pulse}");
}
