//! Waiting for what must come.

use std::time::{Duration, Instant};

/// What must come, comes well within this; it bounds a broken test, not a slow machine.
pub(crate) const SOON: Duration = Duration::from_secs(40);

/// Polls for something that must become true.
#[track_caller]
pub(crate) fn eventually(what: &str, mut is_true: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_true() {
        assert!(start.elapsed() < SOON, "waited in vain for: {what}");
        std::thread::park_timeout(Duration::from_millis(5));
    }
}
