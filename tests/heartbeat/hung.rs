//! Code that never comes back is reported with its culprit and left behind; the test goes on.

use std::future::pending;
use std::time::{Duration, Instant};

use deadbeat::heartbeat::{Culprit, Flavor, Lab, LabError, Pulse};
use rstest::rstest;

use crate::support::{LONG, assert_starved, assert_steady};

const DEADLINE: Duration = Duration::from_millis(400);

fn never() {
    loop {
        std::thread::park();
    }
}

fn spin_for_ever() {
    loop {
        std::hint::spin_loop();
        if std::thread::panicking() {
            return;
        }
    }
}

fn hung<F, Fut>(flavor: Flavor, f: F) -> Pulse
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = ()> + 'static,
{
    let begun = Instant::now();
    let result = Lab::new(flavor).deadline(DEADLINE).run(f);
    let took = begun.elapsed();
    let Err(LabError::Hung { pulse }) = result else { panic!("not hung: {result:?}") };
    // A loaded machine delays the waker of the test, not the verdict.
    assert!(took < DEADLINE + Duration::from_secs(5), "{took:?}");
    *pulse
}

/// Other systems do not tell.
fn assert_waits_for_a_lock(culprit: Option<&Culprit>) {
    if cfg!(all(target_os = "linux", not(deadbeat_portable))) {
        assert_eq!(culprit.unwrap().syscall.as_deref(), Some("futex"));
    }
}

#[rstest]
fn a_worker_that_waits_for_ever_is_named_with_its_call(
    #[values(Flavor::CurrentThread, Flavor::MultiThread(2))] flavor: Flavor,
) {
    let pulse = hung(flavor, || async { tokio::spawn(async { never() }).await.unwrap() });
    assert_starved(&pulse);
    let culprit = pulse.worst().unwrap().culprit.as_ref();
    assert_waits_for_a_lock(culprit);
    // The process is as good as before.
    assert_steady(&Lab::new(flavor).run(|| tokio::time::sleep(LONG)).unwrap().pulse);
}

#[test]
fn a_root_future_that_waits_for_ever_is_named_too() {
    let pulse = hung(Flavor::CurrentThread, || async { never() });
    assert_starved(&pulse);
    assert!(pulse.worst().unwrap().wall > Duration::from_millis(300), "{pulse}");
}

#[test]
#[ignore = "leaves a spinning thread behind; run alone"]
fn a_worker_that_spins_for_ever_is_said_to_run() {
    let pulse = hung(Flavor::CurrentThread, || async { spin_for_ever() });
    assert_starved(&pulse);
    assert!(pulse.worst().unwrap().culprit.as_ref().unwrap().is_running(), "{pulse}");
}

/// Nothing is stuck here but the future itself, so nobody is accused, and no thread is left behind.
#[rstest]
fn a_future_that_merely_never_ends_stalls_nobody(
    #[values(Flavor::CurrentThread, Flavor::MultiThread(2))] flavor: Flavor,
) {
    let pulse = hung(flavor, pending);
    assert_steady(&pulse);
    assert!(pulse.shutdown.as_ref().is_some_and(|shutdown| shutdown.over), "{pulse}");
}

#[test]
fn a_runtime_that_cannot_be_dropped_is_hung_and_says_behind_what() {
    let pulse = hung(Flavor::CurrentThread, || async { drop(tokio::task::spawn_blocking(never)) });
    let shutdown = pulse.shutdown.as_ref().unwrap();
    assert!(!shutdown.over);
    assert_waits_for_a_lock(shutdown.behind.as_ref());
}
