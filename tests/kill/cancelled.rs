//! Whatever becomes of the future, of the runtime or of the blocking pool: what is promised of the group.

use std::sync::mpsc;
use std::time::{Duration, Instant};

use deadbeat::kill::KillThread;
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
async fn poll_once<F: Future + ?Sized>(mut future: std::pin::Pin<&mut F>) -> Option<F::Output> {
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
fn a_runtime_that_is_dropped_does_not_wait_for_the_kill_and_does_not_stop_it() {
    let running = start("ignore-term");
    let (pgid, runtime) = (running.pgid(), runtime());
    let grace = Duration::from_secs(3);
    let begun = Instant::now();
    runtime.block_on(async {
        let policy = policy().grace(grace);
        let mut kill = std::pin::pin!(policy.kill(pgid));
        assert!(poll_once(kill.as_mut()).await.is_none());
    });
    drop(runtime);
    assert!(begun.elapsed() < grace, "it waited");
    eventually("the group is dead", || running.has_ended());
    assert!(begun.elapsed() >= grace, "it had no grace");
}

#[test]
fn a_runtime_shut_down_in_the_background_leaves_the_kill_running() {
    for kill_process_group in [false, true] {
        let running = start("fast-exit");
        let (pgid, runtime) = (running.pgid(), runtime());
        runtime.block_on(async {
            let policy = policy();
            let mut kill: std::pin::Pin<Box<dyn Future<Output = ()>>> = match kill_process_group {
                true => Box::pin(deadbeat::kill_process_group(pgid)),
                false => Box::pin(async move { drop(policy.kill(pgid).await) }),
            };
            // Polled once, it is under way.
            let _ = poll_once(kill.as_mut()).await;
        });
        runtime.shutdown_background();
        eventually("the group is dead", || running.has_ended());
    }
}

#[test]
fn a_pool_that_is_taken_loses_no_kill() {
    let (ours, seeds) = (start("fast-exit"), start("fast-exit"));
    let (ours_pgid, seeds_pgid) = (ours.pgid(), seeds.pgid());
    let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
    let taken = take_the_pool(&runtime);
    let both = async move {
        policy().kill(ours_pgid).await.unwrap();
        deadbeat::kill_process_group(seeds_pgid).await;
    };
    let killed = runtime.block_on(async move { tokio::time::timeout(SOON, both).await });
    // To the end of the kills there was no thread of the pool for them.
    drop(taken);
    killed.expect("one was not begun");
    eventually("both groups are dead", || ours.has_ended() && seeds.has_ended());
}

#[test]
fn a_kill_dropped_in_the_queue_of_a_runtime_that_ends_is_not_lost() {
    let running = start("stubborn-child");
    let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
    let taken = take_the_pool(&runtime);
    runtime.block_on(async {
        let mut kill = std::pin::pin!(deadbeat::kill_process_group(running.pgid()));
        assert!(poll_once(kill.as_mut()).await.is_none());
    });
    runtime.shutdown_background();
    drop(taken);
    eventually("the group is dead", || running.has_ended());
}

#[test]
fn a_kill_thread_needs_nothing_of_the_pool() {
    let running = start("fast-exit");
    let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
    let _taken = take_the_pool(&runtime);
    let kill_thread = KillThread::new(policy()).unwrap();
    runtime.block_on(kill_thread.kill(running.pgid())).unwrap();
    eventually("the group is dead", || running.has_ended());
    runtime.shutdown_background();
}

#[test]
fn in_a_runtime_that_has_ended_the_kill_is_made_all_the_same() {
    let running = start("stubborn-child");
    let runtime = runtime();
    let handle = runtime.handle().clone();
    runtime.shutdown_background();
    // From here on it takes no task and no closure.
    let _entered = handle.enter();
    let policy = policy();
    let mut kill = std::pin::pin!(policy.kill(running.pgid()));
    assert!(kill.as_mut().poll(&mut std::task::Context::from_waker(std::task::Waker::noop())).is_pending());
    eventually("the group is dead", || running.has_ended());
}

#[test]
fn with_no_thread_to_be_had_the_worker_does_not_panic_and_the_group_dies() {
    let (ours, seeds) = (start("stubborn-child"), start("fast-exit"));
    let (ours_pgid, seeds_pgid) = (ours.pgid(), seeds.pgid());
    // No address space has room for such a stack, so the pool can start no thread.
    let runtime = Builder::new_current_thread().enable_all().thread_stack_size(1 << 46).build().unwrap();
    let control = runtime.block_on(async { tokio::spawn(async { tokio::task::spawn_blocking(|| {}).await }).await });
    let both = async move {
        deadbeat::kill_process_group(seeds_pgid).await;
        policy().kill(ours_pgid).await
    };
    let result = runtime.block_on(async { tokio::spawn(both).await });
    assert!(control.unwrap_err().is_panic(), "the control was not caught: threads can be started");
    result.expect("the worker panicked").unwrap();
    eventually("both groups are dead", || ours.has_ended() && seeds.has_ended());
}

#[test]
fn without_a_runtime_a_group_is_killed_and_a_child_is_not() {
    let running = start("fast-exit");
    let policy = policy();
    let mut kill = std::pin::pin!(policy.kill(running.pgid()));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let mut report = None;
    eventually("it has ended", || {
        let std::task::Poll::Ready(result) = kill.as_mut().poll(&mut cx) else { return false };
        report = Some(result);
        true
    });
    assert_eq!(report.unwrap().unwrap().pgid, running.pgid());
    eventually("the group is dead", || running.has_ended());

    // tokio reaps the child, and cannot without its runtime.
    let runtime = runtime();
    let mut command = tokio::process::Command::new("sleep");
    let mut child = runtime.block_on(async { command.arg("60").process_group(0).spawn() }).unwrap();
    let mut kill = Box::pin(policy.kill_child(&mut child));
    let std::task::Poll::Ready(Err(error)) = kill.as_mut().poll(&mut cx) else { panic!("no error") };
    assert_eq!(error.kind(), KillErrorKind::NoRuntime);
    assert!(error.to_string().contains("kill_blocking"), "{error}");
    drop(kill);
    runtime.block_on(child.kill()).unwrap();
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
    assert!(KillThread::new(policy()).is_err());
    let (ours, seeds, left) = (start("stubborn-child"), start("fast-exit"), start("ignore-term"));
    let runtime = runtime();
    runtime.block_on(policy().kill(ours.pgid())).unwrap();
    runtime.block_on(deadbeat::kill_process_group(seeds.pgid()));
    eventually("both groups are dead", || ours.has_ended() && seeds.has_ended());
    // Nothing can go on with this one when the runtime ends: no grace, but it is not lost.
    runtime.block_on(async {
        let policy = policy().grace(Duration::from_secs(3600));
        let mut kill = std::pin::pin!(policy.kill(left.pgid()));
        assert!(poll_once(kill.as_mut()).await.is_none());
    });
    assert!(!left.has_ended());
    drop(runtime);
    eventually("the group is dead", || left.has_ended());
    // And outside of one there is nothing that could wait: the call that does is named.
    let spared = start("ignore-term");
    let policy = policy();
    let mut kill = std::pin::pin!(policy.kill(spared.pgid()));
    let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(Err(error)) = kill.as_mut().poll(&mut cx) else { panic!("no error") };
    assert_eq!(error.kind(), KillErrorKind::NoRuntime);
    assert!(error.to_string().contains("kill_blocking") && !spared.has_ended(), "{error}");
}
