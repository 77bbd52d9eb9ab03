//! What several tests of the heartbeat make their cases of.

use std::time::{Duration, Instant};

use crate::heartbeat::reading::thread::ThreadId;
use crate::heartbeat::stretch::{Origin, Split, Stretch};

/// All of it blocked, of a thread that there is not.
pub(super) fn slept(from: Instant, wall: u32) -> Stretch {
    let wall = Duration::from_millis(wall.into());
    let split = Split { wall, on_cpu: Duration::ZERO, run_queue: Some(Duration::ZERO) };
    let (thread, on_cpu_then) = (ThreadId(0), Duration::ZERO);
    Stretch { thread, from, to: from + wall, split, on_cpu_then, since: None, origin: Origin::Poll }
}
