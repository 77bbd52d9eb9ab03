//! A worker that waits for a lock is accused of what the thread that holds it does, not of what the machine does to
//! that one.

use std::process::{Child, Command, Stdio};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use deadbeat::heartbeat::{Flavor, Lab, Pulse, Verdict, Why};

use crate::inside::{inside, skip};
use crate::support::{LONG, block, spin, starved};

/// A process that computes for ever on the first CPU.
struct Hog(Child);

impl Hog {
    fn on_the_first_cpu() -> Hog {
        let mut command = Command::new("taskset");
        command.args(["-c", "0", "sh", "-c", "while :; do :; done"]);
        Hog(command.spawn().unwrap())
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Leaves this thread what the hog leaves of the first CPU: one or two in a hundred. `false` where that cannot be had.
fn starve_this_thread() -> bool {
    let thread = nix::unistd::gettid().to_string();
    let run = |words: &[&str]| {
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).arg(&thread).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().is_ok_and(|status| status.success())
    };
    run(&["taskset", "-c", "-p", "0"]) && run(&["renice", "-n", "19", "-p"])
}

/// The pulse of a task that waits for a lock which another thread holds, after it has got `ready`, until its
/// `work` is done.
fn waits_for_a_lock(flavor: Flavor, ready: fn() -> bool, work: fn()) -> Option<Pulse> {
    let lock = Arc::new(Mutex::new(()));
    let (held, is_held) = channel();
    let (waiting, is_waited_for) = channel();
    let theirs = Arc::clone(&lock);
    let holder = std::thread::spawn(move || {
        if ready() {
            let _guard = theirs.lock().unwrap();
            held.send(()).unwrap();
            is_waited_for.recv().unwrap();
            work();
        }
    });
    is_held.recv().ok()?;
    let waits = async move {
        waiting.send(()).unwrap();
        drop(lock.lock());
    };
    let watched = Lab::new(flavor).run(|| waits);
    holder.join().unwrap();
    Some(watched.unwrap().pulse)
}

/// In a process of its own: the other tests have threads that wait for a CPU, any of which could hold the lock.
#[test]
fn a_lock_whose_holder_waits_for_a_cpu_accuses_no_worker() {
    if !inside(a_lock_whose_holder_waits_for_a_cpu_accuses_no_worker, &["env"]) {
        return;
    }
    for flavor in [Flavor::CurrentThread, Flavor::MultiThread(2)] {
        let hog = Hog::on_the_first_cpu();
        let mut by_the_holder = false;
        // Where the machine left another doubt it is looked into again. Nothing else is left by a right one.
        for _ in 0..5 {
            let Some(pulse) = waits_for_a_lock(flavor, starve_this_thread, || spin(Duration::from_millis(8))) else {
                return skip("taskset and renice cannot be had here");
            };
            let Verdict::Inconclusive { why } = pulse.verdict() else { panic!("\n{pulse}") };
            by_the_holder = matches!(why, Why::LockHolder { .. });
            if by_the_holder {
                break;
            }
            println!("{pulse}");
        }
        assert!(by_the_holder, "in five times it was never excused by what its holder waited");
        drop(hog);
        // The control: the same lock, and what is long is the holder's own doing.
        starved(|| waits_for_a_lock(flavor, || true, || block(LONG)).unwrap());
    }
}
