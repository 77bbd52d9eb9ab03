//! Tools of the tests: a group to kill, a group that no process is in, and a wait for what must become true.

use std::time::{Duration, Instant};

use super::in_progress::Kill;
use super::policy::KillPolicy;
use crate::fixture::{self, Running};
use crate::group::pause;

/// What must happen, happens well within this; it bounds a broken test, not a slow machine.
pub(crate) const SOON: Duration = Duration::from_secs(40);

/// Polls for something that must become true.
#[track_caller]
pub(crate) fn eventually(what: &str, is_true: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is_true() {
        assert!(begun.elapsed() < SOON, "waited in vain for: {what}");
        pause(Duration::from_millis(1));
    }
}

/// A group of one, which is dead and reaped when this is dropped.
pub(crate) fn start(fixture: &str) -> Running {
    fixture::named(fixture).unwrap().start().unwrap()
}

/// The kill of a group that is gone: no process can have such a number.
pub(crate) fn kill_of_no_group() -> Kill {
    Kill::of(i32::MAX, &KillPolicy::default()).unwrap()
}
