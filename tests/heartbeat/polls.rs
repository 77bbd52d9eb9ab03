//! What is charged is one poll of one worker: not several in a row, and nothing that a thread does once it has handed
//! its worker over.

use std::time::{Duration, Instant};

use deadbeat::heartbeat::{Flavor, Lab, Pulse, Verdict};
use rstest::rstest;
use tokio::task::{JoinSet, block_in_place, yield_now};
use tokio::time::sleep;

use crate::support::{LONG, assert_not_accused, assert_starved, block, spawned, spin};

#[rstest]
fn a_task_that_hands_its_worker_over_again_and_again_starves_no_worker(#[values(2, 4)] workers: usize) {
    let in_a_row = |block_for: fn(Duration)| {
        spawned(Flavor::MultiThread(workers), move || async move {
            for _ in 0..6 {
                block_for(LONG);
                sleep(Duration::from_millis(5)).await;
            }
        })
    };
    for _ in 0..6 {
        assert_not_accused(&in_a_row(|time| block_in_place(|| block(time))));
    }
    assert_starved(&in_a_row(block));
}

#[rstest]
fn many_tasks_that_hand_their_workers_over_starve_no_worker(#[values(4, 20)] tasks: usize) {
    for _ in 0..6 {
        let pulse = spawned(Flavor::MultiThread(4), move || async move {
            let mut all = JoinSet::new();
            for _ in 0..tasks {
                all.spawn(async {
                    for _ in 0..3 {
                        block_in_place(|| block(Duration::from_millis(70)));
                        sleep(Duration::from_millis(2)).await;
                    }
                });
            }
            all.join_all().await;
        });
        assert_not_accused(&pulse);
    }
}

/// A poll that blocks before it hands its worker over has kept it for as long: if that cannot be told from a handover
/// to a thread that came late, it is a doubt.
#[test]
fn a_block_before_a_handover_is_not_missed() {
    let pulse = spawned(Flavor::MultiThread(2), || async {
        block(LONG);
        block_in_place(|| block(LONG));
        sleep(Duration::from_millis(1)).await;
    });
    assert_ne!(pulse.verdict(), Verdict::Steady, "\n{pulse}");
}

/// Polls in a row with a `yield_now` between them, and what the longest took by the task's own clock.
fn in_a_row(workers: usize, polls: u32, poll: fn(Duration), time: Duration) -> (Pulse, Duration) {
    let watched = Lab::new(Flavor::MultiThread(workers)).run_root(move || async move {
        let task = tokio::spawn(async move {
            let mut longest = Duration::ZERO;
            for _ in 0..polls {
                let begun = Instant::now();
                poll(time);
                longest = longest.max(begun.elapsed());
                yield_now().await;
            }
            longest
        });
        task.await.unwrap()
    });
    let watched = watched.unwrap();
    (watched.pulse, watched.output)
}

/// On a machine that gives neither the task nor the looks at it their CPU in time, the verdict may be none, and two
/// polls may be taken for one that is below the budget: then again.
#[rstest]
fn polls_below_the_budget_with_a_yield_between_them_are_no_stall_and_the_longest_is_one_of_them(
    #[values(2, 4)] workers: usize,
    #[values(spin, block)] poll: fn(Duration),
) {
    let time = Duration::from_millis(40);
    let is_told = |_| {
        let (pulse, longest) = in_a_row(workers, 10, poll, time);
        assert_not_accused(&pulse);
        println!("a poll took {longest:?} at most\n{pulse}");
        let is_steady = pulse.verdict() == Verdict::Steady;
        assert!(
            !is_steady || pulse.longest >= time - Duration::from_millis(1),
            "none took less than {time:?}\n{pulse}"
        );
        is_steady && pulse.longest <= longest + Duration::from_millis(1)
    };
    assert!((0..20).any(is_told), "in twenty runs the longest poll was never told");
}

#[rstest]
fn polls_above_the_budget_with_a_yield_between_them_are_stalls_of_their_own(
    #[values(2, 4)] workers: usize,
    #[values(spin, block)] poll: fn(Duration),
) {
    let is_told = |_| {
        let (pulse, longest) = in_a_row(workers, 4, poll, Duration::from_millis(80));
        let worst = pulse.worst().map_or(Duration::ZERO, |stall| stall.charged());
        assert!(worst <= longest + Duration::from_millis(1), "a poll took {longest:?} at most\n{pulse}");
        pulse.verdict() == Verdict::Starved && pulse.stalls.len() >= 2
    };
    assert!((0..20).any(is_told), "in twenty runs they were never told apart");
}
