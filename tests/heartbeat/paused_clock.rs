//! Under a paused clock no beat can be waited for, so the end of a watch is not either.

use std::time::{Duration, Instant};

use deadbeat::heartbeat::{Heartbeat, Verdict, Why};

use crate::support::block;

/// How long the watch took beyond its future, in the best of a few: a slow machine makes it longer, never shorter.
async fn beyond_its_future<F: Future<Output = Instant>>(future: impl Fn() -> F) -> Duration {
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let watched = Heartbeat::new().watch(future()).await;
        best = best.min(watched.output.elapsed());
        assert_eq!(watched.pulse.verdict(), Verdict::Inconclusive { why: Why::PausedClock });
    }
    best
}

/// Of the world's time: long enough for a beat to be overdue.
fn a_while() -> Instant {
    block(Duration::from_millis(20));
    Instant::now()
}

#[tokio::test(start_paused = true)]
async fn a_watch_under_a_paused_clock_ends_with_its_future() {
    // The first beat comes too early, and then none.
    let early = beyond_its_future(|| async {
        tokio::time::sleep(Duration::from_secs(3600)).await;
        a_while()
    });
    assert!(early.await < Duration::from_millis(500));
    // None comes, for the clock stands still while the pool is busy.
    let busy = tokio::task::spawn_blocking(|| block(Duration::from_secs(2)));
    let none = beyond_its_future(|| async { a_while() });
    assert!(none.await < Duration::from_millis(500));
    assert!(!busy.is_finished(), "the clock stood still");
}
