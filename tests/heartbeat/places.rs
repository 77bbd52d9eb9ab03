//! A watch goes wherever a future goes, and a lab wherever a thread may block.

use deadbeat::heartbeat::{Flavor, Heartbeat, Lab, Verdict, Why, with_teeth};
use tokio::runtime::Builder;

use crate::support::{LONG, assert_starved, assert_steady, block};

#[test]
fn a_lab_runs_on_a_plain_thread() {
    let lab = Lab::new(Flavor::CurrentThread);
    let thread = std::thread::spawn(move || lab.run_root(|| async { 7 }).unwrap().output);
    assert_eq!(thread.join().unwrap(), 7);
}

#[tokio::test]
async fn a_lab_runs_on_another_runtimes_blocking_pool() {
    let in_lab = || {
        let lab = Lab::new(Flavor::MultiThread(2));
        let bad = || lab.run(|| async { block(LONG) }).unwrap().pulse;
        with_teeth(bad, || lab.run_root(|| tokio::time::sleep(LONG)).unwrap().pulse)
    };
    tokio::task::spawn_blocking(in_lab).await.unwrap();
}

#[test]
fn a_lab_takes_a_future_that_is_not_send() {
    let run = || async {
        let shared = std::rc::Rc::new(7);
        tokio::task::yield_now().await;
        *shared
    };
    assert_eq!(Lab::new(Flavor::MultiThread(2)).run_root(run).unwrap().output, 7);
}

#[tokio::test]
async fn a_watch_in_a_local_set_sees_its_siblings() {
    let local = tokio::task::LocalSet::new();
    let blocked = local.run_until(Heartbeat::new().watch(async {
        tokio::task::spawn_local(async { block(LONG) }).await.unwrap();
    }));
    assert_starved(&blocked.await.pulse);
    let waited = local.run_until(Heartbeat::new().watch(async {
        tokio::task::spawn_local(tokio::time::sleep(LONG)).await.unwrap();
    }));
    assert_steady(&waited.await.pulse);
}

#[tokio::test]
async fn two_watches_at_once_both_see_the_block() {
    let one = Heartbeat::new().watch(tokio::time::sleep(LONG));
    let two = Heartbeat::new().watch(async {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        block(LONG);
    });
    let (one, two) = tokio::join!(one, two);
    assert_starved(&one.pulse);
    assert_starved(&two.pulse);
}

/// `Handle::block_on` polls on a thread of its own; another one drives the runtime.
#[test]
fn a_watch_polled_beside_the_runtimes_own_thread_sees_that_thread() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let handle = runtime.handle().clone();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let driver = std::thread::spawn(move || runtime.block_on(stopped));
    let quiet = handle.block_on(Heartbeat::new().watch(async { tokio::time::sleep(LONG).await }));
    let blocked = handle.block_on(Heartbeat::new().watch(async {
        tokio::spawn(async { block(LONG) }).await.unwrap();
    }));
    drop(stop);
    driver.join().unwrap().unwrap_err();
    assert_steady(&quiet.pulse);
    // What that thread did before its first mark is known from outside alone: enough for doubt on a busy machine.
    assert_ne!(blocked.pulse.verdict(), Verdict::Steady, "\n{}", blocked.pulse);
}

#[test]
fn a_runtime_that_nobody_drives_proves_nothing() {
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    let (send, receive) = tokio::sync::oneshot::channel();
    let sender = std::thread::spawn(move || {
        block(LONG);
        send.send(()).unwrap();
    });
    let watched = runtime.handle().block_on(Heartbeat::new().watch(async { receive.await.unwrap() }));
    sender.join().unwrap();
    let why = Why::TooFewBeats { beats: 0 };
    assert_eq!(watched.pulse.verdict(), Verdict::Inconclusive { why });
}
