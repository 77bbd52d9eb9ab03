//! A block is a stall in any runtime that can be watched, and honest waiting is none.

use std::time::Duration;

use deadbeat::heartbeat::{Flavor, Heartbeat, Lab, Pulse, Verdict, Why, with_teeth};
use rstest::rstest;

use crate::support::{LONG, assert_starved, assert_steady, block, spawned};

#[tokio::test]
async fn a_block_in_the_body_of_a_test_is_a_stall_and_a_wait_is_none() {
    let bad = Heartbeat::new().watch(async { block(LONG) }).await;
    assert_starved(&bad.pulse);
    assert_steady(&Heartbeat::new().watch(tokio::time::sleep(LONG)).await.pulse);
}

#[tokio::test]
async fn a_block_in_a_sibling_task_is_a_stall() {
    let siblings = |block: fn(Duration)| async move {
        let sibling = tokio::spawn(async move { block(LONG) });
        tokio::time::sleep(Duration::from_millis(20)).await;
        sibling.await.unwrap();
    };
    assert_starved(&Heartbeat::new().watch(siblings(block)).await.pulse);
    assert_steady(&Heartbeat::new().watch(siblings(|_| ())).await.pulse);
}

/// The ticker of a hand-written test would not have ticked once.
#[tokio::test]
async fn a_short_block_is_caught_though_no_beat_falls_into_the_watch() {
    let heartbeat = Heartbeat::new().interval(Duration::from_millis(20)).budget(Duration::from_millis(20));
    let bad = heartbeat.watch(async { block(Duration::from_millis(60)) }).await;
    assert_starved(&bad.pulse);
}

/// Its task is next in the queue after the one that blocks, so it is over before the driver is turned again.
#[tokio::test]
async fn a_block_right_before_the_end_is_proved_by_one_more_beat() {
    let watch = |block: fn(Duration)| {
        tokio::spawn(async move {
            let sibling = tokio::spawn(async move { block(LONG) });
            Heartbeat::new().watch(async { sibling.await.unwrap() }).await.pulse
        })
    };
    assert_starved(&watch(block).await.unwrap());
    assert_steady(&watch(|_| ()).await.unwrap());
}

#[tokio::test]
async fn a_block_while_the_future_is_dropped_is_a_stall() {
    struct Slow;
    impl Drop for Slow {
        fn drop(&mut self) {
            block(LONG);
        }
    }
    let slow = Slow;
    let bad = Heartbeat::new().watch(std::future::poll_fn(move |_| {
        let _keep = &slow;
        std::task::Poll::Ready(())
    }));
    assert_starved(&bad.await.pulse);
}

#[tokio::test]
async fn a_watch_shorter_than_the_budget_is_steady() {
    let watched = Heartbeat::new().budget(Duration::from_secs(60)).watch(async {}).await;
    assert_eq!(watched.pulse.verdict(), Verdict::Steady);
}

#[rstest]
#[case::current_thread(Flavor::CurrentThread)]
#[case::one_worker(Flavor::MultiThread(1))]
#[case::four_workers(Flavor::MultiThread(4))]
fn a_lab_sees_a_blocked_worker_whichever_it_is(#[case] flavor: Flavor) {
    with_teeth(
        || spawned(flavor, || async { block(LONG) }),
        || spawned(flavor, || async { tokio::time::sleep(LONG).await }),
    );
}

#[test]
fn a_lab_sees_a_block_in_the_root_future_of_current_thread() {
    let lab = Lab::new(Flavor::CurrentThread);
    with_teeth(
        || lab.run_root(|| async { block(LONG) }).unwrap().pulse,
        || lab.run_root(|| tokio::time::sleep(LONG)).unwrap().pulse,
    );
}

#[test]
fn a_block_in_the_root_of_a_multi_thread_runtime_starves_no_worker_and_proves_nothing() {
    let mut pulses = (0..5).map(|_| Lab::new(Flavor::MultiThread(2)).run_root(|| async { block(LONG) }).unwrap().pulse);
    // A machine that stands still leaves another doubt, or sees no culprit; none of them is a verdict.
    let named = |pulse: &Pulse| {
        let Verdict::Inconclusive { why } = pulse.verdict() else { panic!("{pulse}") };
        let is_named =
            |culprit: &Option<_>| culprit.is_some() || cfg!(any(not(target_os = "linux"), deadbeat_portable));
        matches!(&why, Why::RootBlocked { culprit, .. } if is_named(culprit))
    };
    let pulse = pulses.find(named).expect("in five times the root was not named");
    let Verdict::Inconclusive { why } = pulse.verdict() else { panic!("{pulse}") };
    let Why::RootBlocked { charged, ref culprit } = why else { panic!("{pulse}") };
    assert!(charged >= LONG - Duration::from_millis(5), "{charged:?}");
    let report = pulse.to_string();
    assert!(report.contains(&why.to_string()), "{report}");
    if cfg!(all(target_os = "linux", not(deadbeat_portable))) {
        assert_eq!(culprit.as_ref().unwrap().detail.as_deref(), Some("150 ms asked for"), "{report}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_on_several_workers_never_says_steady() {
    let good = tokio::spawn(async { Heartbeat::new().watch(tokio::time::sleep(LONG)).await }).await.unwrap();
    // Busy, it may have another doubt first.
    assert!(matches!(good.pulse.verdict(), Verdict::Inconclusive { .. }), "{}", good.pulse);
    let bad = tokio::spawn(async { Heartbeat::new().watch(async { block(LONG) }).await }).await.unwrap();
    assert_starved(&bad.pulse);
}
