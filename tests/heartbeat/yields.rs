//! A worker that spins on `sched_yield` gives its CPU away by choice, and a preempted one does not.

use std::process::{Child, Command};
use std::time::{Duration, Instant};

use deadbeat::heartbeat::{Flavor, Heartbeat, Pulse, Verdict, Why};

use crate::inside::inside;
use crate::support::{assert_not_accused, spawned, spin};

/// A process that computes for ever, on the CPUs of this one.
struct Hog(Child);

impl Drop for Hog {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn hog() -> Hog {
    Hog(Command::new("sh").args(["-c", "while :; do :; done"]).spawn().unwrap())
}

/// As a spin lock backs off, for so long by the clock on the wall.
fn spin_and_yield(time: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < time {
        std::thread::yield_now();
    }
}

fn in_a_watch(code: fn(Duration), time: Duration) -> Pulse {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(Heartbeat::new().watch(async move { code(time) })).pulse
}

fn in_a_lab(code: fn(Duration), time: Duration) -> Pulse {
    spawned(Flavor::MultiThread(2), move || async move { code(time) })
}

/// In a process of its own, which shares one CPU with a hog: each turn that is given away costs a slice of the hog's.
#[test]
fn a_worker_that_spins_on_sched_yield_beside_a_hog_is_not_steady() {
    if !inside(a_worker_that_spins_on_sched_yield_beside_a_hog_is_not_steady, &["taskset", "-c", "0"]) {
        return;
    }
    let _hog = hog();
    for pulse in [in_a_watch, in_a_lab] {
        for _ in 0..3 {
            let spins = pulse(spin_and_yield, Duration::from_millis(300));
            assert_ne!(spins.verdict(), Verdict::Steady, "\n{spins}");
            // The control: as long, but it is the hog that takes the CPU.
            let works = pulse(spin, Duration::from_millis(40));
            assert_not_accused(&works);
            assert!(!matches!(works.verdict(), Verdict::Inconclusive { why: Why::Yielded { .. } }), "\n{works}");
        }
    }
}
