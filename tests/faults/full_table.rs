//! The process table full, and nearly full, where numbers come round again within milliseconds.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
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
    let (mut obedient, mut stubborn) = (Group::of(OBEDIENT), Group::of(STUBBORN));
    let held = [obedient.members(), stubborn.members()];
    let _filling = Filling::full().all_but(4);
    let over = AtomicBool::new(false);
    let (reports, births) = std::thread::scope(|scope| {
        let churn = scope.spawn(|| {
            let mut births = 0;
            while !over.load(Ordering::Relaxed) {
                births += u32::from(Command::new("true").status().is_ok());
            }
            births
        });
        let policy = KillPolicy::default().confirm(SOON);
        let obedient = policy.clone().grace(LONG).kill_blocking(obedient.pgid());
        let stubborn = policy.grace(Duration::from_millis(300)).kill_blocking(stubborn.pgid());
        over.store(true, Ordering::Relaxed);
        ([obedient.unwrap(), stubborn.unwrap()], churn.join().unwrap())
    });
    // Of four free numbers, so some came round again.
    assert!(births > 4, "only {births} births");
    let outcomes = reports.clone().map(|report| report.outcome);
    assert_eq!(outcomes, [Outcome::Terminated, Outcome::Killed], "{reports:?}");
    assert!(held.iter().flatten().all(Held::has_ended));
}
