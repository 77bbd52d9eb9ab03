//! A thread of the blocking pool is no worker, whatever it polls.

use std::time::Duration;

use deadbeat::heartbeat::{Heartbeat, Verdict, Why};
use tokio::runtime::Handle;

use crate::support::{LONG, block};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_that_a_thread_of_the_pool_blocks_on_starves_no_worker_and_says_so() {
    let watch = |block: fn(Duration)| {
        tokio::task::spawn_blocking(move || {
            Handle::current().block_on(Heartbeat::new().watch(async move { block(LONG) })).pulse
        })
    };
    let blocked = watch(block).await.unwrap();
    assert!(matches!(blocked.verdict(), Verdict::Inconclusive { why: Why::RootBlocked { .. } }), "\n{blocked}");
    let quiet = watch(|_| ()).await.unwrap();
    assert_eq!(quiet.verdict(), Verdict::Inconclusive { why: Why::MultiThread }, "\n{quiet}");
}
