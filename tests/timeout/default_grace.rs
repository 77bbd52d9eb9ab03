//! Without `-k` a command that ignores the signal has the 5 s that are promised.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::{Run, Tool};

#[test]
fn without_k_the_deaf_have_five_seconds() {
    let mut run = Run::of(Tool::Deadbeat, &["300", "sh", "-c", "trap '' TERM; echo ready $$; sleep 300; sleep 300"]);
    let victim = run.victim();
    let start = Instant::now();
    run.signal(Signal::ALARM);
    assert_eq!(run.status().code(), Some(137));
    // A slow machine makes it later, not by as much again.
    let took = start.elapsed();
    assert!((Duration::from_secs(5)..Duration::from_secs(10)).contains(&took), "{took:?}");
    assert!(!victim.is_alive());
}
