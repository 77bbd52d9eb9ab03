use proptest::prelude::*;

use super::*;
use crate::heartbeat::stall::Stall;

const MS: Duration = Duration::from_millis(1);

fn reading(start: Instant, at: u32, on_cpu: u32, run_queue: Option<u32>) -> Reading {
    Reading { at: start + MS * at, thread: ThreadId(1), on_cpu: MS * on_cpu, run_queue: run_queue.map(|ms| MS * ms) }
}

fn stretch(wall: u32, on_cpu: u32, run_queue: Option<u32>) -> Split {
    let start = Instant::now();
    let from = reading(start, 0, 100, run_queue.map(|_| 200));
    let to = reading(start, wall, 100 + on_cpu, run_queue.map(|ms| 200 + ms));
    Split::between(&from, &to).unwrap()
}

#[test]
fn a_sleep_is_blocked_a_spin_is_on_cpu_and_a_busy_machine_is_neither() {
    assert_eq!(stretch(120, 0, Some(0)).blocked(), Some(MS * 120));
    assert_eq!(stretch(120, 120, Some(0)).charged(), MS * 120);
    assert_eq!(stretch(120, 0, Some(120)).charged(), Duration::ZERO);
    assert_eq!(stretch(120, 10, Some(80)).blocked(), Some(MS * 30));
}

#[test]
fn without_a_schedstat_only_cpu_time_is_charged_and_the_rest_is_unexplained() {
    let split = stretch(120, 20, None);
    assert_eq!((split.charged(), split.blocked(), split.unexplained()), (MS * 20, None, MS * 100));
}

#[test]
fn no_more_is_booked_as_a_wait_for_a_cpu_than_what_was_seen_leaves_room_for() {
    let split = stretch(120, 10, Some(105));
    assert_eq!(split.capped_at(Duration::ZERO), split);
    assert_eq!(split.capped_at(MS * 5), split, "there is room for both");
    assert_eq!(split.capped_at(MS * 80).run_queue, Some(MS * 40));
    assert_eq!(split.capped_at(MS * 80).charged(), MS * 80, "what it had worked before may have been worked earlier");
    assert_eq!(stretch(120, 100, Some(20)).capped_at(MS * 80).charged(), MS * 100);
    assert_eq!(split.capped_at(MS * 500).charged(), MS * 120);
    assert_eq!(stretch(120, 10, None).capped_at(MS * 80), stretch(120, 10, None));
}

#[test]
fn excused_is_what_a_wait_for_a_cpu_alone_keeps_from_being_too_long() {
    let start = Instant::now();
    let excused = |wall, run_queue: u32| {
        let (from, to) = (reading(start, 0, 0, Some(0)), reading(start, wall, 0, Some(run_queue)));
        Stretch::between(&from, &to, start).unwrap().is_excused(MS * 50)
    };
    assert!(excused(51, 1) && excused(120, 120));
    assert!(!excused(51, 0), "it is too long");
    assert!(!excused(50, 50), "it is short, whatever it was");
}

#[test]
fn what_came_before_the_beat_was_due_is_not_charged() {
    assert_eq!(stretch(120, 0, Some(0)).after(MS * 5).charged(), MS * 115);
    assert_eq!(stretch(120, 0, Some(100)).after(MS * 50).charged(), Duration::ZERO);
}

#[test]
fn clocks_that_disagree_never_charge_more_than_the_wall_shows() {
    assert_eq!(stretch(10, 12, Some(3)).charged(), MS * 7);
}

#[test]
fn two_threads_have_no_common_stretch() {
    let start = Instant::now();
    let from = reading(start, 0, 0, Some(0));
    let to = Reading { thread: ThreadId(2), ..reading(start, 10, 0, Some(0)) };
    assert_eq!(Split::between(&from, &to), None);
}

#[test]
fn a_stretch_begins_no_earlier_than_it_is_asked_to_and_keeps_what_came_after() {
    let start = Instant::now();
    let (from, to) = (reading(start, 10, 0, Some(0)), reading(start, 110, 40, Some(20)));
    for (earliest, begins, charged) in [(0, 10, 80), (10, 10, 80), (60, 60, 30), (150, 110, 0)] {
        let stretch = Stretch::between(&from, &to, start + MS * earliest).unwrap();
        assert_eq!((stretch.from, stretch.to), (start + MS * begins, to.at), "{earliest}");
        assert_eq!((stretch.split.charged(), stretch.on_cpu_then), (MS * charged, MS * 40), "{earliest}");
    }
}

#[test]
fn a_thread_was_away_all_the_time_that_is_not_known_to_be_a_wait_for_a_cpu() {
    let start = Instant::now();
    for (run_queue, away) in [(Some(30), 90), (None, 120)] {
        let (from, to) = (reading(start, 0, 0, run_queue.map(|_| 0)), reading(start, 120, 20, run_queue));
        assert_eq!(Stretch::between(&from, &to, start).unwrap().away(), MS * away);
    }
}

/// Of a thread that was never read before it is known how long it ever waited for a CPU and ran, not when.
#[test]
fn a_strangers_waits_for_a_cpu_are_all_taken_to_be_in_the_stretch_if_it_is_too_long_all_the_same() {
    let (start, budget) = (Instant::now(), MS * 50);
    for (on_cpu, run_queue, of_it) in [
        (300, Some(149), (51, Some(149))),
        (20, Some(149), (20, Some(149))),
        (300, Some(150), (0, None)),
        (300, Some(151), (0, None)),
        (300, Some(900), (0, None)),
        (300, Some(0), (200, Some(0))),
        (300, None, (0, None)),
    ] {
        let to = reading(start, 200, on_cpu, run_queue);
        let stretch = Stretch::first_reading(start, &to, budget).unwrap();
        let (on_cpu, run_queue) = (MS * of_it.0, of_it.1.map(|ms| MS * ms));
        assert_eq!(stretch.split, Split { wall: MS * 200, on_cpu, run_queue });
        assert_eq!((stretch.from, stretch.to), (start, to.at));
    }
    assert!(Stretch::first_reading(start + MS, &reading(start, 0, 0, None), budget).is_none(), "not yet");
}

#[test]
fn a_stall_that_nobody_saw_is_a_computation_if_it_ran_for_most_of_it_or_for_longer_than_it_was_blocked() {
    let ran = |on_cpu: u32, blocked: Option<u32>| {
        let (at, wall, on_cpu, run_queue) = (Duration::ZERO, MS * 100, MS * on_cpu, None);
        let blocked = blocked.map(|ms| MS * ms);
        let stall = Stall { at, wall, on_cpu, run_queue, blocked, culprit: None, doubt: None };
        stall.culprit_by_the_clocks().is_some_and(|culprit| culprit.is_running())
    };
    assert!(ran(51, None) && !ran(50, None), "of the rest nothing is known");
    assert!(ran(51, Some(49)) && !ran(50, Some(50)));
    assert!(ran(40, Some(39)) && !ran(40, Some(40)), "the rest was a wait for a CPU");
    assert!(!ran(10, Some(90)));
}

proptest! {
    #[test]
    fn the_parts_always_sum_to_the_whole(
        wall in 0u32..500,
        cpu in 0u32..600,
        queue in proptest::option::of(0u32..600),
        skip in 0u32..600,
    ) {
        let split = stretch(wall, cpu, queue).after(MS * skip);
        let parts = split.on_cpu + split.run_queue.unwrap_or_default() + split.blocked().unwrap_or(split.unexplained());
        prop_assert_eq!(parts, split.wall);
    }

    #[test]
    fn a_later_start_never_charges_more(wall in 0u32..500, cpu in 0u32..600, queue in 0u32..600, skip in 0u32..600) {
        let whole = stretch(wall, cpu, Some(queue));
        prop_assert!(whole.after(MS * skip).charged() <= whole.charged());
    }
}
