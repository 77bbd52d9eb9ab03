//! The watched future does not notice that it is watched.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use deadbeat::heartbeat::{Flavor, Heartbeat, Lab, LabError};

use crate::support::LONG;

#[tokio::test]
async fn its_output_comes_back() {
    assert_eq!(Heartbeat::new().watch(async { "output" }).await.output, "output");
}

#[tokio::test]
async fn its_panic_passes_through() {
    let watch = tokio::spawn(async { Heartbeat::new().watch(async { panic!("mine") }).await.output });
    let panic = watch.await.unwrap_err().into_panic();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"mine"));
}

#[test]
fn its_panic_in_a_lab_is_an_error_with_its_words() {
    let result = Lab::new(Flavor::CurrentThread).run_root(|| async { panic!("mine") });
    let Err(LabError::Panicked(payload)) = result else { panic!("{result:?}") };
    assert_eq!(payload.text(), "mine");
}

/// Beats wake the task, but the future is polled only when it asked for it.
#[tokio::test]
async fn it_is_polled_no_more_often_than_it_was_woken() {
    let polls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&polls);
    let mut sleep = Box::pin(tokio::time::sleep(LONG));
    let counting = std::future::poll_fn(move |cx| {
        counted.fetch_add(1, Ordering::Relaxed);
        sleep.as_mut().poll(cx)
    });
    let watched = Heartbeat::new().watch(counting).await;
    assert!(watched.pulse.beats >= 1, "{}", watched.pulse);
    let polls = polls.load(Ordering::Relaxed);
    assert!((1..=2).contains(&polls), "{polls}: once to begin, once when the timer fired, unless it had at once");
}

/// A beat that went on would wake the worker every millisecond.
#[tokio::test]
async fn a_dropped_watch_leaves_no_beat_behind() {
    let frequent = Heartbeat::new().interval(Duration::from_millis(1));
    let parks = || tokio::runtime::Handle::current().metrics().worker_park_unpark_count(0);
    let before = parks();
    // The control: a watch wakes it that often, however slowly the machine goes on.
    while parks() - before < 200 {
        let _ = frequent.watch(tokio::time::sleep(LONG)).await;
    }
    for _ in 0..10 {
        let watch = frequent.watch(std::future::pending::<()>());
        tokio::time::timeout(Duration::from_millis(3), watch).await.unwrap_err();
    }
    let before = parks();
    tokio::time::sleep(LONG).await;
    let dropped = parks() - before;
    // One beat left behind would make a hundred and more of it.
    assert!(dropped < 60, "{dropped} wakes with no watch");
}

/// The driver wakes every timer when it goes; a beat armed then would panic in the middle of it.
#[test]
fn a_runtime_dropped_in_the_middle_of_a_watch_goes_quietly() {
    for workers in [0, 2] {
        let mut builder = match workers {
            0 => tokio::runtime::Builder::new_current_thread(),
            _ => tokio::runtime::Builder::new_multi_thread(),
        };
        let runtime = builder.enable_all().build().unwrap();
        runtime.spawn(Heartbeat::new().watch(std::future::pending::<()>()));
        runtime.block_on(async { tokio::time::sleep(Duration::from_millis(20)).await });
        drop(runtime);
    }
}
