//! The registry: nothing in it outlives `kill_all`, whoever enters it and whenever.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use deadbeat::group::{Backend, backend};
use deadbeat::registry::Registry;
use deadbeat::{KillErrorKind, Outcome};

use super::support::{NOBODY, eventually, policy};

/// A group of one that ignores SIGTERM; killed and reaped when dropped.
struct Stubborn(Child);

impl Stubborn {
    fn start() -> Stubborn {
        Stubborn(Command::new("sh").args(["-c", "trap '' TERM; exec sleep 60"]).process_group(0).spawn().unwrap())
    }

    fn pgid(&self) -> i32 {
        self.0.id() as i32
    }

    fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }
}

impl Drop for Stubborn {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn all_are_killed_in_one_grace_and_a_second_call_does_nothing() {
    let grace = Duration::from_secs(1);
    let registry = Registry::new(policy().grace(grace));
    let mut groups: Vec<_> = (0..20).map(|_| Stubborn::start()).collect();
    groups.iter().for_each(|group| registry.register(group.pgid()).unwrap());
    let start = Instant::now();
    let reports = registry.kill_all();
    // One after the other they would take twenty.
    assert!(start.elapsed() < grace * 10, "took {:?}", start.elapsed());
    assert_eq!(reports.len(), 20);
    if backend() == Backend::Proc {
        assert!(reports.iter().all(|report| matches!(report.outcome, Outcome::Killed | Outcome::Terminated)));
    }
    groups.iter_mut().for_each(|group| eventually("it is dead", || group.has_ended()));
    assert_eq!(registry.kill_all(), []);
}

#[test]
fn what_is_registered_afterwards_is_killed_too() {
    let registry = Registry::new(policy());
    assert_eq!(registry.kill_all(), []);
    let mut late = Stubborn::start();
    registry.register(late.pgid()).unwrap();
    eventually("the late one is dead", || late.has_ended());
}

#[test]
fn an_unregistered_group_is_left_alone() {
    let registry = Registry::new(policy());
    let (mut kept, mut gone) = (Stubborn::start(), Stubborn::start());
    registry.register(kept.pgid()).unwrap();
    registry.register(gone.pgid()).unwrap();
    registry.unregister(kept.pgid());
    assert_eq!(registry.kill_all().len(), 1);
    eventually("the registered one is dead", || gone.has_ended());
    assert!(!kept.has_ended());
}

#[test]
fn a_panic_while_holding_it_loses_nothing() {
    let registry = Arc::new(Registry::new(policy()));
    let mut group = Stubborn::start();
    registry.register(group.pgid()).unwrap();
    let theirs = Arc::clone(&registry);
    let pgid = group.pgid();
    let panicked = std::thread::spawn(move || {
        let _ = theirs.reap::<(), ()>(pgid, || panic!("on purpose, under the lock"));
    });
    assert!(panicked.join().is_err());
    assert_eq!(registry.list(), [group.pgid()]);
    assert_eq!(registry.kill_all().len(), 1);
    eventually("it is dead", || group.has_ended());
}

#[test]
fn a_dangerous_pgid_is_refused() {
    let registry = Registry::new(policy());
    for pgid in [0, 1, -1, nix::unistd::getpgrp().as_raw()] {
        assert_eq!(registry.register(pgid).unwrap_err().kind(), KillErrorKind::InvalidGroup);
    }
    assert_eq!(registry.list(), NOBODY);
}

#[test]
fn many_threads_register_unregister_and_kill_and_every_group_is_accounted_for() {
    const THREADS: usize = 8;
    const EACH: usize = 12;
    let registry = Registry::new(policy());
    let (reaped, reported) = (AtomicUsize::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            eventually("somebody is registered", || registry.list().len() >= THREADS / 2);
            reported.fetch_add(registry.kill_all().len(), Ordering::SeqCst);
        });
        for thread in 0..THREADS {
            let (registry, reaped) = (&registry, &reaped);
            scope.spawn(move || {
                for i in 0..EACH {
                    let mut group = Stubborn::start();
                    registry.register(group.pgid()).unwrap();
                    if i % 3 == thread % 3 {
                        // Its owner ends it.
                        group.0.kill().unwrap();
                    }
                    // Else the sweep does, or will, or the closed registry has at once.
                    let pgid = group.pgid();
                    eventually("it is reaped", || registry.reap(pgid, || group.0.try_wait()).unwrap().is_some());
                    reaped.fetch_add(1, Ordering::SeqCst);
                }
            });
        }
    });
    assert_eq!(reaped.load(Ordering::SeqCst), THREADS * EACH);
    assert!((1..=THREADS * EACH).contains(&reported.load(Ordering::SeqCst)), "{reported:?}");
    assert_eq!(registry.list(), NOBODY);
}
