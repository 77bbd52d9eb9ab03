//! The process table full, and nearly full, where numbers come round again within milliseconds.

use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::time::Duration;

use deadbeat::{KillPolicy, Outcome};

use crate::no_process::every_kill_is_made;
use crate::support::{Group, Held, LONG, NAMESPACE, OBEDIENT, SOON, STUBBORN, inside, skip};

/// A pid namespace with as few numbers as the kernel allows. Before Linux 6.14 the limit is the whole machine's.
pub(crate) fn has_a_small_table<F: Fn() -> T, T>(test: F) -> bool {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let mut numbers = release.split(['.', '-']).map_while(|number| number.parse::<u32>().ok());
    if (numbers.next(), numbers.next()) < (Some(6), Some(14)) {
        skip(&format!("{}: no table of its own before Linux 6.14", std::any::type_name::<F>()));
        return false;
    }
    let script = ["sh", "-c", "echo 320 >/proc/sys/kernel/pid_max && \"$@\"; exit", "sh"];
    inside(test, &[&NAMESPACE[..], &script].concat())
}

/// Threads that take a number each, until there is none left.
struct Filling(Vec<Sender<()>>);

impl Filling {
    fn full() -> Filling {
        let mut filling = Filling(Vec::new());
        loop {
            let (release, released) = channel::<()>();
            let idle = std::thread::Builder::new().stack_size(16 * 1024).spawn(move || released.recv());
            if idle.is_err() {
                assert!(filling.0.len() > 100, "only {} threads", filling.0.len());
                assert!(Command::new("true").spawn().is_err(), "there is a number left");
                return filling;
            }
            filling.0.push(release);
        }
    }

    /// So many numbers are free again.
    fn all_but(mut self, free: usize) -> Filling {
        self.0.truncate(self.0.len() - free);
        while Command::new("true").status().is_err() {
            std::thread::yield_now();
        }
        self
    }
}

#[test]
fn every_kill_is_made_without_a_number_to_be_had() {
    if !has_a_small_table(every_kill_is_made_without_a_number_to_be_had) {
        return;
    }
    every_kill_is_made(Filling::full);
}

#[test]
fn where_numbers_come_round_again_at_once_the_dead_are_seen_and_the_living_are_not_taken_for_them() {
    if !has_a_small_table(
        where_numbers_come_round_again_at_once_the_dead_are_seen_and_the_living_are_not_taken_for_them,
    ) {
        return;
    }
    // Each has four times the grace of the one before: the churn begins as soon as the machine has time for it.
    let graces = [300, 1_200, 4_800, 19_200].map(Duration::from_millis);
    let pairs = graces.map(|grace| {
        let (mut obedient, mut stubborn) = (Group::of(OBEDIENT), Group::of(STUBBORN));
        // While there are numbers for their members.
        let held = [obedient.members(), stubborn.members()];
        (grace, obedient, stubborn, held)
    });
    let _filling = Filling::full().all_but(4);
    let (over, births) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        let _ends = Ends(&over);
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                births.fetch_add(usize::from(Command::new("true").status().is_ok()), Ordering::Relaxed);
            }
        });
        for (grace, obedient, stubborn, held) in &pairs {
            let before = births.load(Ordering::Relaxed);
            let policy = KillPolicy::default().confirm(SOON);
            let killed = [
                policy.clone().grace(LONG).kill_blocking(obedient.pgid()).unwrap(),
                policy.grace(*grace).kill_blocking(stubborn.pgid()).unwrap(),
            ];
            let outcomes = killed.clone().map(|report| report.outcome);
            assert_eq!(outcomes, [Outcome::Terminated, Outcome::Killed], "{killed:?}");
            assert!(held.iter().flatten().all(Held::has_ended));
            // Of four free numbers, so some came round again during these kills.
            if births.load(Ordering::Relaxed) - before > 4 {
                return;
            }
        }
        panic!("only {} births during all kills", births.load(Ordering::Relaxed));
    });
}

/// Ends the churn, by a panic too: the scope waits for it.
struct Ends<'a>(&'a AtomicBool);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}
