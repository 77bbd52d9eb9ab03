use super::*;
use crate::heartbeat::config::Heartbeat;
use crate::heartbeat::evidence::{MachineEffects, WorkersLook};
use crate::heartbeat::reading::thread::ThreadId;
use crate::heartbeat::stretch::Split;
use crate::heartbeat::testing::slept;

const MS: Duration = Duration::from_millis(1);

#[test]
fn a_stretch_as_long_as_the_budget_is_not_too_long() {
    let from = Instant::now();
    assert!(!slept(from, 50).is_too_long(MS * 50) && slept(from, 51).is_too_long(MS * 50));
    let queued = Split { run_queue: Some(MS), ..slept(from, 51).split };
    assert!(!Stretch { split: queued, ..slept(from, 51) }.is_too_long(MS * 50), "a wait for a CPU is no part of it");
}

#[test]
fn workers_that_were_looked_at_for_a_quarter_of_the_budget_were_looked_at_for_long_enough() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let look = || WorkersLook::at(&runtime.metrics(), false);
    let (first, begun) = (look(), Instant::now());
    while begun.elapsed() < MS {
        std::hint::spin_loop();
    }
    let workers = vec![first, look()];
    let quarter = looked_for(&workers).unwrap();
    let doubt = |budget| {
        let machine = Some(MachineEffects::default());
        let observed = Observed { machine, workers: workers.clone(), ..Observed::default() };
        let stalls = stalls(&[slept(Instant::now(), 3_600_000)], vec![observed], Instant::now(), budget);
        let [stall] = &stalls[..] else { panic!("{stalls:?}") };
        stall.doubt.clone()
    };
    assert_eq!(doubt(quarter * 4), None);
    assert!(matches!(doubt(quarter * 4 + Duration::from_nanos(4)), Some(Why::Undecided { .. })));
}

#[test]
fn a_stall_that_was_many_polls_is_none_and_one_that_may_have_been_is_a_doubt() {
    let finding = |least, most| by_the_tasks(Some(Bounds { least: MS * least, most: MS * most }), MS * 50);
    assert_eq!(finding(10, 50), Finding::NotAStall);
    assert_eq!((finding(10, 51), finding(50, 51)), (Finding::Undecided, Finding::Undecided));
    assert_eq!((finding(51, 51), by_the_tasks(None, MS * 50)), (Finding::Stall, Finding::Stall));
}

#[test]
fn a_poll_that_handed_its_worker_over_in_time_is_none_and_one_that_did_so_later_is_a_doubt() {
    let late = Instant::now();
    let finding = |free: Option<Instant>, begins| by_the_workers(free, late, false, || begins);
    assert_eq!((finding(Some(late - MS), false), finding(Some(late), true)), (Finding::NotAStall, Finding::NotAStall));
    assert_eq!(finding(Some(late + MS), true), Finding::Undecided);
    assert_eq!((finding(None, true), finding(None, false)), (Finding::HandedOver, Finding::Stall));
    assert_eq!(by_the_workers(None, late, true, || false), Finding::Undecided, "the looks span too short a time");
}

/// Of a runtime whose worker stands still, for all that is seen of it.
#[test]
fn a_thread_that_still_begins_when_the_budget_is_over_is_a_doubt_and_what_it_does_later_is_none() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let before = Instant::now();
    let budget = Heartbeat::new().budget;
    let look = || WorkersLook::at(&runtime.metrics(), true);
    let first = look();
    crate::group::pause(budget / 4);
    let workers = [first, look()];
    let doubt_after = |from, looks| {
        let machine = Some(MachineEffects::default());
        let observed = Observed { machine, workers: workers[..looks].to_vec(), ..Observed::default() };
        let [stall] = &stalls(&[slept(from, 3_600_000)], vec![observed], Instant::now(), budget)[..] else {
            panic!("no stall")
        };
        stall.doubt.clone()
    };
    // An hour is time enough for the looks on any machine. They came within the budget, or after it.
    let doubt = |from| doubt_after(from, 2);
    assert_eq!(doubt(Instant::now()), Some(Why::HandedOver { waited: budget }));
    assert_eq!(doubt(before - budget), None);
    // One look shows for no time that a worker stood still.
    assert!(matches!(doubt_after(before - budget, 1), Some(Why::Undecided { .. })));
}

#[test]
fn a_stall_that_was_not_observed_is_a_doubt() {
    let (began, budget) = (Instant::now(), Heartbeat::new().budget);
    let verdict = |answers, run_queue| {
        let wall = Duration::from_millis(120);
        let split = Split { wall, on_cpu: Duration::ZERO, run_queue };
        let (from, on_cpu_then) = (began, Duration::ZERO);
        let stretch = Stretch {
            thread: ThreadId(1),
            from,
            to: from + wall,
            split,
            on_cpu_then,
            since: None,
            origin: Origin::Poll,
        };
        let [stall] = &stalls(&[stretch], answers, Instant::now(), budget)[..] else { panic!("no stall") };
        stall.doubt.clone()
    };
    for run_queue in [Some(Duration::ZERO), None] {
        assert_eq!(verdict(Vec::new(), run_queue), Some(Why::Unobserved), "there was no observer");
        assert_eq!(verdict(vec![Observed::default()], run_queue), Some(Why::Unobserved), "it did not answer");
        let machine = Some(MachineEffects::default());
        assert_eq!(verdict(vec![Observed { machine, ..Observed::default() }], run_queue), None);
    }
}
