//! A block is a stall in any runtime that can be watched; honest waiting is none.

use std::time::Duration;

use deadbeat::heartbeat::{Flavor, Heartbeat, Lab, LabError, Verdict, Why};

const NAP: Duration = Duration::from_millis(150);

#[expect(
    clippy::disallowed_methods,
    reason = "the known-bad control: it blocks the worker"
)]
fn block() {
    std::thread::sleep(NAP);
}

#[tokio::test]
async fn a_block_in_the_body_of_a_test_is_a_stall_and_a_wait_is_none() {
    let bad = Heartbeat::new().watch(async { block() }).await;
    println!("{}", bad.pulse);
    assert_eq!(bad.pulse.verdict(), Verdict::Starved);
    let good = Heartbeat::new().watch(tokio::time::sleep(NAP)).await;
    println!("{}", good.pulse);
    good.pulse.assert_steady();
}

#[tokio::test]
async fn a_block_in_a_sibling_task_is_a_stall() {
    let bad = Heartbeat::new()
        .watch(async {
            tokio::spawn(async { block() });
            tokio::time::sleep(Duration::from_millis(20)).await;
        })
        .await;
    println!("{}", bad.pulse);
    assert_eq!(bad.pulse.verdict(), Verdict::Starved);
}

#[test]
fn a_lab_sees_one_blocked_worker_of_four() {
    let bad = Lab::new(Flavor::MultiThread(4))
        .run(|| async { tokio::spawn(async { block() }).await.unwrap() })
        .unwrap();
    println!("{}", bad.pulse);
    assert_eq!(bad.pulse.verdict(), Verdict::Starved);
    let good = Lab::new(Flavor::MultiThread(4))
        .run(|| async {
            tokio::spawn(async { tokio::time::sleep(NAP).await })
                .await
                .unwrap()
        })
        .unwrap();
    println!("{}", good.pulse);
    good.pulse.assert_steady();
}

#[test]
fn a_lab_sees_a_block_on_current_thread() {
    for spawned in [false, true] {
        let bad = Lab::new(Flavor::CurrentThread)
            .run(move || async move {
                if spawned {
                    tokio::spawn(async { block() }).await.unwrap();
                } else {
                    block();
                }
            })
            .unwrap();
        println!("{}", bad.pulse);
        assert_eq!(bad.pulse.verdict(), Verdict::Starved);
    }
    Lab::new(Flavor::CurrentThread)
        .run(|| tokio::time::sleep(NAP))
        .unwrap()
        .pulse
        .assert_steady();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_on_several_workers_never_says_steady() {
    let good = tokio::spawn(async { Heartbeat::new().watch(tokio::time::sleep(NAP)).await })
        .await
        .unwrap();
    assert_eq!(
        good.pulse.verdict(),
        Verdict::Inconclusive {
            why: Why::MultiThread
        }
    );
    let bad = tokio::spawn(async { Heartbeat::new().watch(async { block() }).await })
        .await
        .unwrap();
    assert_eq!(bad.pulse.verdict(), Verdict::Starved);
}

#[test]
fn code_that_never_comes_back_is_reported_and_left() {
    for flavor in [Flavor::CurrentThread, Flavor::MultiThread(2)] {
        let lab = Lab::new(flavor).deadline(Duration::from_millis(500));
        let hung = lab.run(|| async {
            tokio::spawn(async {
                loop {
                    std::thread::park();
                }
            })
            .await
            .unwrap();
        });
        let Err(LabError::Hung { pulse }) = hung else {
            panic!("{hung:?}")
        };
        println!("{pulse}");
        assert_eq!(pulse.verdict(), Verdict::Starved);
        assert_eq!(
            pulse
                .stalls
                .last()
                .unwrap()
                .culprit
                .as_ref()
                .unwrap()
                .syscall
                .as_deref(),
            Some("futex")
        );
    }
}
