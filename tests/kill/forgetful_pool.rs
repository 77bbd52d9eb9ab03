//! A blocking pool that forgets what it was given: tokio 1.52.0's, which wakes one idle thread for two closures, so
//! that the second begins when the first has ended (tokio issue 8056, mended in 1.52.1).
//!
//! The tokio in use is a good one unless `DEADBEAT_KNOWN_BAD_TOKIO` is set, as `scripts/matrix` does in its known-bad
//! row.

use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use deadbeat::group::{Backend, backend};
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

use super::support::{SOON, eventually, policy, start};

/// Of this many rounds the known-bad one forgets about half.
const ROUNDS: u32 = 20;

/// A runtime whose pool was just given a closure that ends only when the sender is dropped, and has woken its one idle
/// thread for it.
fn busy() -> (Runtime, Sender<()>) {
    let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(runtime.spawn_blocking(|| {})).unwrap();
    // Nothing tells when the thread has gone idle; in a round in which it has not, nothing is forgotten.
    std::thread::park_timeout(Duration::from_millis(20));
    let (hold, held) = channel();
    runtime.spawn_blocking(move || {
        let _ = held.recv();
    });
    (runtime, hold)
}

#[test]
fn the_control_only_the_known_bad_tokio_forgets_a_closure() {
    let is_forgotten = || {
        let (runtime, hold) = busy();
        let second = runtime.spawn_blocking(|| {});
        let begun = runtime.block_on(async { timeout(SOON, second).await.is_ok() });
        drop(hold);
        !begun
    };
    let known_bad = std::env::var_os("DEADBEAT_KNOWN_BAD_TOKIO").is_some();
    assert_eq!((0..ROUNDS).any(|_| is_forgotten()), known_bad);
}

#[test]
fn a_kill_that_the_pool_forgets_is_made_all_the_same() {
    // On the portable back-end the leader, which is not reaped, holds the whole grace each time.
    let rounds = if backend() == Backend::Proc { ROUNDS } else { 1 };
    for _ in 0..rounds {
        let running = start("fast-exit");
        let (runtime, hold) = busy();
        let pgid = running.pgid();
        let killed = runtime.block_on(async move { timeout(SOON, policy().kill(pgid)).await });
        // The closure before it has not ended.
        drop(hold);
        killed.expect("not begun").unwrap();
        eventually("the group is dead", || running.has_ended());
    }
}
