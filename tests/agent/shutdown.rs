//! The shutdown request: once made it is seen by every run, whenever it looks.

use std::sync::Arc;
use std::time::Duration;

use deadbeat::shutdown::Shutdown;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_waiter_wakes_those_before_and_those_after() {
    let shutdown = Arc::new(Shutdown::new());
    let waiters: Vec<_> = (0..50)
        .map(|_| {
            let shutdown = Arc::clone(&shutdown);
            tokio::spawn(async move { shutdown.requested().await })
        })
        .collect();
    assert!(!shutdown.is_requested());
    shutdown.request();
    for waiter in waiters {
        tokio::time::timeout(Duration::from_secs(20), waiter).await.expect("not woken").unwrap();
    }
    assert!(shutdown.is_requested());
    shutdown.requested().await;
}

#[tokio::test]
async fn nobody_wakes_without_a_request() {
    let (asked, other) = (Shutdown::new(), Shutdown::new());
    asked.request();
    let woken = tokio::time::timeout(Duration::from_millis(50), other.requested()).await;
    assert!(woken.is_err(), "two instances share state");
}
