//! Settings that cannot be used are errors that say what to change.

use std::time::Duration;

use deadbeat::heartbeat::{ConfigError, Flavor, Heartbeat, Lab, LabError, Verdict, Why};

use crate::support::{LONG, SHORT, block, starved, wait_until};

const ZERO: Duration = Duration::ZERO;

/// A future polled by hand, with no runtime anywhere.
fn poll_outside<T>(future: impl Future<Output = T>) -> T {
    struct Unpark(std::thread::Thread);
    impl std::task::Wake for Unpark {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.unpark();
        }
    }
    let waker = std::task::Waker::from(std::sync::Arc::new(Unpark(std::thread::current())));
    let mut future = std::pin::pin!(future);
    loop {
        match future.as_mut().poll(&mut std::task::Context::from_waker(&waker)) {
            std::task::Poll::Ready(output) => return output,
            std::task::Poll::Pending => std::thread::park(),
        }
    }
}

#[test]
fn a_watch_in_a_runtime_that_nobody_turns_ends_and_wakes_whoever_polled_it_last() {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::{Context, Wake, Waker};

    #[derive(Default)]
    struct Woken(AtomicBool);

    impl Wake for Woken {
        fn wake(self: std::sync::Arc<Self>) {
            self.0.store(true, Ordering::SeqCst);
        }
    }

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let _inside = runtime.enter();
    // A beat is overdue when it is done.
    let mut watch = std::pin::pin!(Heartbeat::new().watch(async { block(SHORT) }));
    let woken = std::sync::Arc::new(Woken::default());
    let last = Waker::from(std::sync::Arc::clone(&woken));
    assert!(watch.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
    let mut is_over = || watch.as_mut().poll(&mut Context::from_waker(&last)).is_ready();
    if is_over() {
        eprintln!("skipped: this thread had no CPU for as long as a watch waits for a beat");
        return;
    }
    wait_until("the last is woken", || woken.0.load(Ordering::SeqCst));
    // The observer may still have to be heard.
    wait_until("it is over", is_over);
}

#[test]
fn a_zero_interval_is_refused() {
    assert_eq!(Heartbeat::new().try_interval(ZERO), Err(ConfigError::ZeroInterval));
    assert!(Heartbeat::new().try_interval(Duration::from_millis(5)).is_ok());
}

#[test]
fn a_budget_below_the_interval_is_refused() {
    let refused = Heartbeat::new().try_budget(Duration::from_millis(4));
    assert!(matches!(refused, Err(ConfigError::BudgetBelowInterval { .. })), "{refused:?}");
    let message = refused.unwrap_err().to_string();
    assert!(message.contains("4ms") && message.contains("5ms") && message.contains("raise"), "{message}");
}

#[test]
fn a_lab_refuses_what_it_cannot_use() {
    let lab = Lab::new(Flavor::CurrentThread).heartbeat(Heartbeat::new().interval(ZERO));
    assert!(matches!(lab.run_root(|| async {}), Err(LabError::Config(ConfigError::ZeroInterval))));
    let lab = Lab::new(Flavor::MultiThread(0));
    assert!(matches!(lab.run_root(|| async {}), Err(LabError::Config(ConfigError::NoWorkers))));
}

#[tokio::test]
async fn a_time_beyond_all_clocks_is_refused_or_no_limit_at_all_and_never_a_panic() {
    for heartbeat in
        [Heartbeat::new().budget(Duration::MAX), Heartbeat::new().budget(Duration::MAX).interval(Duration::MAX)]
    {
        let watched = heartbeat.watch(async { 7 }).await;
        let why = Why::Config(ConfigError::TooLong);
        assert_eq!((watched.output, watched.pulse.verdict()), (7, Verdict::Inconclusive { why }));
    }
    // And what is watched next is looked at as ever.
    let next = || starved(|| Lab::new(Flavor::CurrentThread).run_root(|| async { block(LONG) }).unwrap().pulse);
    tokio::task::spawn_blocking(next).await.unwrap();
    let lab = Lab::new(Flavor::CurrentThread).deadline(Duration::MAX);
    let ran = tokio::task::spawn_blocking(move || lab.run_root(|| async { 7 }).unwrap().output);
    assert_eq!(ran.await.unwrap(), 7);
}

#[test]
fn a_watch_in_a_runtime_without_a_timer_runs_the_future_and_says_so() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let watched = runtime.block_on(Heartbeat::new().watch(async { 7 }));
    let why = Why::Config(ConfigError::NoTimer);
    assert_eq!((watched.output, watched.pulse.verdict()), (7, Verdict::Inconclusive { why }));
    let refused = runtime.block_on(Heartbeat::new().try_watch(async {})).unwrap_err();
    assert!(refused == ConfigError::NoTimer && refused.to_string().contains("enable_time"), "{refused}");
}

#[tokio::test]
async fn a_watch_with_such_settings_runs_the_future_and_proves_nothing() {
    let watched = Heartbeat::new().interval(ZERO).watch(async { 7 }).await;
    assert_eq!(watched.output, 7);
    let why = Why::Config(ConfigError::ZeroInterval);
    assert_eq!(watched.pulse.verdict(), Verdict::Inconclusive { why });
    assert_eq!(Heartbeat::new().interval(ZERO).try_watch(async {}).await.unwrap_err(), ConfigError::ZeroInterval);
}

#[test]
fn a_watch_outside_a_runtime_runs_the_future_and_says_so() {
    let watched = poll_outside(Heartbeat::new().watch(async { 7 }));
    assert_eq!(watched.output, 7);
    assert_eq!(watched.pulse.verdict(), Verdict::Inconclusive { why: Why::NoRuntime });
    assert_eq!(poll_outside(Heartbeat::new().try_watch(async {})).unwrap_err(), ConfigError::NoRuntime);
}

#[tokio::test(start_paused = true)]
async fn a_paused_clock_proves_nothing() {
    let watched = Heartbeat::new().watch(tokio::time::sleep(Duration::from_secs(3600))).await;
    assert_eq!(watched.pulse.verdict(), Verdict::Inconclusive { why: Why::PausedClock });
}

#[tokio::test]
async fn a_clock_paused_half_way_proves_nothing() {
    let watched = Heartbeat::new().watch(async {
        tokio::time::sleep(Duration::from_millis(60)).await;
        tokio::time::pause();
        tokio::time::sleep(Duration::from_secs(1)).await;
    });
    assert_eq!(watched.await.pulse.verdict(), Verdict::Inconclusive { why: Why::PausedClock });
}

#[tokio::test]
async fn a_clock_paused_for_a_while_proves_nothing() {
    let watched = Heartbeat::new().watch(async {
        tokio::time::pause();
        tokio::time::sleep(Duration::from_secs(1)).await;
        tokio::time::resume();
        tokio::time::sleep(Duration::from_millis(60)).await;
    });
    assert_eq!(watched.await.pulse.verdict(), Verdict::Inconclusive { why: Why::PausedClock });
}
