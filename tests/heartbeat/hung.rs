//! Code that never comes back is reported with its culprit and left behind; the test goes on.

use std::future::pending;
use std::sync::mpsc::{TryRecvError, channel};
use std::time::{Duration, Instant};

use deadbeat::heartbeat::{Culprit, Flavor, Lab, LabError, Pulse, Verdict, Why};
use rstest::rstest;

use crate::support::{LONG, assert_starved, assert_steady, starved, wait_until};

/// Long enough for a slow machine to get the code going, and to have seen it stuck.
const DEADLINE: Duration = Duration::from_secs(3);

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
    let LabError::Hung { pulse } = error(flavor, f) else { unreachable!() };
    *pulse
}

fn error<F, Fut>(flavor: Flavor, f: F) -> LabError
where
    F: FnOnce() -> Fut + Send + 'static,
    Fut: Future<Output = ()> + 'static,
{
    let begun = Instant::now();
    let result = Lab::new(flavor).deadline(DEADLINE).run_root(f);
    let took = begun.elapsed();
    assert!(matches!(result, Err(LabError::Hung { .. })), "not hung: {result:?}");
    // A loaded machine delays the waker of the test, not the verdict.
    assert!(took < DEADLINE + Duration::from_secs(30), "{took:?}");
    result.unwrap_err()
}

/// Other systems do not tell.
fn assert_waits_for_a_lock(culprit: Option<&Culprit>) {
    if cfg!(all(target_os = "linux", not(deadbeat_portable))) {
        assert_eq!(culprit.unwrap().syscall.as_deref(), Some("futex"));
    }
}

/// In a process of its own: the other tests have threads that wait for a CPU, any of which could be the one waited for.
#[test]
fn a_worker_that_waits_for_ever_is_named_with_its_call() {
    #[cfg(all(target_os = "linux", not(deadbeat_portable)))]
    if !crate::inside::inside(a_worker_that_waits_for_ever_is_named_with_its_call, &["env"]) {
        return;
    }
    for flavor in [Flavor::CurrentThread, Flavor::MultiThread(2)] {
        let pulse = starved(|| hung(flavor, || async { tokio::spawn(async { never() }).await.unwrap() }));
        let culprit = pulse.worst().unwrap().culprit.as_ref();
        assert_waits_for_a_lock(culprit);
        // The process is as good as before.
        assert_steady(&Lab::new(flavor).run_root(|| tokio::time::sleep(LONG)).unwrap().pulse);
    }
}

#[test]
fn a_root_future_that_waits_for_ever_is_named_too() {
    #[cfg(all(target_os = "linux", not(deadbeat_portable)))]
    if !crate::inside::inside(a_root_future_that_waits_for_ever_is_named_too, &["env"]) {
        return;
    }
    let pulse = starved(|| hung(Flavor::CurrentThread, || async { never() }));
    assert!(pulse.worst().unwrap().wall > DEADLINE / 2, "{pulse}");
}

/// It starves no worker, but it does not come back either, and the report says in what.
#[test]
fn a_root_future_of_several_workers_that_waits_for_ever_is_named_in_the_report() {
    let error = error(Flavor::MultiThread(2), || async { never() });
    let report = error.to_string();
    let LabError::Hung { pulse } = error else { unreachable!() };
    let Verdict::Inconclusive { why: why @ Why::RootBlocked { .. } } = pulse.verdict() else { panic!("{report}") };
    assert!(report.starts_with("the code under watch was not over") && report.contains(&why.to_string()), "{report}");
    let Why::RootBlocked { culprit, .. } = &why else { unreachable!() };
    assert_waits_for_a_lock(culprit.as_ref());
}

#[test]
#[ignore = "leaves a spinning thread behind; run alone"]
fn a_worker_that_spins_for_ever_is_said_to_run() {
    let pulse = hung(Flavor::CurrentThread, || async { spin_for_ever() });
    assert_starved(&pulse);
    assert!(pulse.worst().unwrap().culprit.as_ref().unwrap().is_running(), "{pulse}");
}

/// Nothing is stuck here but the future itself, so no culprit is named, and no thread is left behind.
#[rstest]
fn a_future_that_merely_never_ends_stalls_nobody(
    #[values(Flavor::CurrentThread, Flavor::MultiThread(2))] flavor: Flavor,
) {
    let (held, dropped) = channel::<()>();
    let pulse = hung(flavor, || async move {
        let _held = held;
        pending().await
    });
    assert!(pulse.stalls.is_empty(), "{pulse}");
    // Nor is it steady: what would have come later was not seen.
    assert_eq!(pulse.verdict(), Verdict::Inconclusive { why: Why::Unfinished }, "{pulse}");
    assert!(pulse.shutdown.as_ref().is_none_or(|shutdown| shutdown.cut_short), "{pulse}");
    wait_until("the future is dropped", || dropped.try_recv() == Err(TryRecvError::Disconnected));
}

#[test]
fn a_runtime_that_cannot_be_dropped_is_hung_and_says_behind_what() {
    let error = error(Flavor::CurrentThread, || async { drop(tokio::task::spawn_blocking(never)) });
    let report = error.to_string();
    assert!(report.starts_with("the code under watch was over, but dropping its runtime had not ended"), "{report}");
    assert_eq!(format!("{error:?}"), report, "what `unwrap` shows");
    let LabError::Hung { pulse } = error else { unreachable!() };
    assert_ne!(pulse.verdict(), Verdict::Steady, "{report}");
    let shutdown = pulse.shutdown.as_ref().unwrap();
    assert!(!shutdown.over);
    assert_waits_for_a_lock(shutdown.behind.as_ref());
    if let Some(behind) = &shutdown.behind {
        assert!(report.lines().next().unwrap().contains(&behind.to_string()), "{report}");
    }
}
