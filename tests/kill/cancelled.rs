//! Whatever becomes of the future, of the runtime or of the blocking pool: what is promised of the group.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use deadbeat::kill::Undertaker;
use deadbeat::{KillErrorKind, KillPolicy};
use proptest::prelude::*;
use tokio::runtime::{Builder, Runtime};

use super::naive;
use super::support::{SOON, eventually, start};

const GRACE: Duration = Duration::from_millis(150);

fn policy() -> KillPolicy {
    super::support::policy().grace(GRACE)
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().unwrap()
}

/// Takes the only blocking thread until the sender is dropped.
fn take_the_pool(runtime: &Runtime) -> mpsc::Sender<()> {
    let (release, released) = mpsc::channel::<()>();
    let (taken, is_taken) = mpsc::channel();
    runtime.spawn_blocking(move || {
        taken.send(()).unwrap();
        let _ = released.recv();
    });
    is_taken.recv().unwrap();
    release
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4, ..ProptestConfig::default() })]

    #[test]
    fn dropped_at_any_moment_the_kill_goes_on_to_the_end(moments in proptest::collection::vec(0..200u64, 8)) {
        // Side by side: each takes its grace.
        std::thread::scope(|scope| {
            for moment in moments {
                scope.spawn(move || dropped_at(Duration::from_millis(moment)));
            }
        });
    }
}

fn dropped_at(moment: Duration) {
    let running = start("stubborn-child");
    let (pgid, runtime) = (running.pgid(), runtime());
    runtime.block_on(async {
        let policy = policy();
        let mut kill = std::pin::pin!(policy.kill(pgid));
        // Polled once, it is under way.
        assert!(poll_once(kill.as_mut()).await.is_none(), "over at the first poll");
        let _ = tokio::time::timeout(moment, kill).await;
    });
    eventually("the group is dead", || running.has_ended());
}

/// One poll; `Some` if that was enough.
async fn poll_once<F: Future>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
    std::future::poll_fn(|cx| {
        std::task::Poll::Ready(match future.as_mut().poll(cx) {
            std::task::Poll::Ready(output) => Some(output),
            std::task::Poll::Pending => None,
        })
    })
    .await
}

#[test]
fn the_control_dropped_half_way_leaves_the_group_alive() {
    let running = start("ignore-term");
    let pgid = running.pgid();
    runtime().block_on(async {
        let first = poll_once(std::pin::pin!(naive::kill_async(pgid, GRACE))).await;
        assert!(first.is_none(), "over at the first poll");
        tokio::time::sleep(GRACE * 2).await;
    });
    assert!(!running.group().is_gone(), "the control was not caught");
}

#[test]
fn a_runtime_that_is_dropped_waits_for_the_kill() {
    let running = start("ignore-term");
    let (pgid, runtime) = (running.pgid(), runtime());
    let begun = Instant::now();
    runtime.block_on(async {
        let policy = policy();
        let mut kill = std::pin::pin!(policy.kill(pgid));
        assert!(poll_once(kill.as_mut()).await.is_none());
        // The pool takes its closures in order: with this one over, the kill's has started.
        tokio::task::spawn_blocking(|| {}).await.unwrap();
    });
    drop(runtime);
    assert!(begun.elapsed() >= GRACE, "it did not wait");
    eventually("the group is dead", || running.has_ended());
}

#[test]
fn a_runtime_shut_down_in_the_background_leaves_the_kill_running() {
    let running = start("ignore-term");
    let (pgid, runtime) = (running.pgid(), runtime());
    runtime.block_on(async {
        let policy = policy();
        let mut kill = std::pin::pin!(policy.kill(pgid));
        assert!(poll_once(kill.as_mut()).await.is_none());
        // The pool takes its closures in order: with this one over, the kill's has started, and nothing stops it.
        tokio::task::spawn_blocking(|| {}).await.unwrap();
    });
    runtime.shutdown_background();
    eventually("the group is dead", || running.has_ended());
}

#[test]
fn a_pool_that_is_taken_delays_the_kill_and_loses_nothing() {
    let running = start("fast-exit");
    let pgid = running.pgid();
    let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
    let taken = take_the_pool(&runtime);
    let report = runtime.block_on(async move { tokio::time::timeout(SOON, policy().kill(pgid)).await });
    // To the end of the kill nobody had a thread of the pool for it.
    drop(taken);
    report.expect("nobody has begun").unwrap();
    eventually("the group is dead", || running.has_ended());
}

#[test]
fn a_kill_dropped_in_the_queue_of_a_runtime_that_ends_is_not_lost() {
    let running = start("stubborn-child");
    let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
    let taken = take_the_pool(&runtime);
    runtime.block_on(async {
        let policy = policy();
        let mut kill = std::pin::pin!(policy.kill(running.pgid()));
        assert!(poll_once(kill.as_mut()).await.is_none());
    });
    runtime.shutdown_background();
    drop(taken);
    eventually("the group is dead", || running.has_ended());
}

#[test]
fn an_undertaker_needs_nothing_of_the_pool() {
    let running = start("fast-exit");
    let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
    let _taken = take_the_pool(&runtime);
    let undertaker = Undertaker::new(policy()).unwrap();
    runtime.block_on(undertaker.kill(running.pgid())).unwrap();
    eventually("the group is dead", || running.has_ended());
    runtime.shutdown_background();
}

#[test]
fn a_kill_that_never_started_is_cancelled_not_panicked() {
    let running = start("ignore-term");
    let runtime = runtime();
    let handle = runtime.handle().clone();
    runtime.shutdown_background();
    // From here on the pool takes no closure.
    let _entered = handle.enter();
    let policy = policy();
    let mut kill = std::pin::pin!(policy.kill(running.pgid()));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(Err(error)) = kill.as_mut().poll(&mut cx) else { panic!("no error") };
    assert_eq!(error.kind(), KillErrorKind::Cancelled, "{error}");
    assert!(error.to_string().contains("never started"), "{error}");
    assert!(!running.group().is_gone(), "signalled all the same");
}

#[test]
fn with_no_thread_to_be_had_the_worker_does_not_panic_and_the_group_dies() {
    let running = start("stubborn-child");
    let pgid = running.pgid();
    // No address space has room for such a stack, so the pool can start no thread.
    let runtime = Builder::new_current_thread().enable_all().thread_stack_size(1 << 46).build().unwrap();
    let control = runtime.block_on(async { tokio::spawn(async { tokio::task::spawn_blocking(|| {}).await }).await });
    let result = runtime.block_on(async { tokio::spawn(async move { policy().kill(pgid).await }).await });
    assert!(control.unwrap_err().is_panic(), "the control was not caught: threads can be started");
    result.expect("the worker panicked").unwrap();
    eventually("the group is dead", || running.has_ended());
}

#[test]
fn without_a_runtime_the_error_says_what_to_call() {
    let running = start("fast-exit");
    let policy = policy();
    let mut kill = std::pin::pin!(policy.kill(running.pgid()));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(Err(error)) = kill.as_mut().poll(&mut cx) else { panic!("no error") };
    assert_eq!(error.kind(), KillErrorKind::NoRuntime);
    assert!(error.to_string().contains("kill_blocking"), "{error}");
}

#[test]
fn with_no_thread_for_anybody_the_worker_makes_the_kill_between_its_sleeps() {
    const ALONE: &str = "DEADBEAT_NO_THREADS";
    if std::env::var_os(ALONE).is_none() {
        // In a process of its own, whose threads are to have stacks that no address space has room for.
        let test = "cancelled::with_no_thread_for_anybody_the_worker_makes_the_kill_between_its_sleeps";
        let output = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", test, "--nocapture", "--test-threads=1"])
            .envs([(ALONE, "1"), ("RUST_MIN_STACK", "70368744177664")])
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        return;
    }
    assert!(std::thread::Builder::new().spawn(|| {}).is_err(), "the control was not caught: threads can be started");
    assert!(Undertaker::new(policy()).is_err());
    let running = start("stubborn-child");
    runtime().block_on(policy().kill(running.pgid())).unwrap();
    eventually("the group is dead", || running.has_ended());
}
