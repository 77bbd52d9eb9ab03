//! How a kill waits: an exit ends the wait, whatever the poll interval, and whoever waits uses no CPU.

#![cfg(target_os = "linux")]

use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use deadbeat::group::{Backend, backend};
use deadbeat::kill::Undertaker;
use deadbeat::{KillPolicy, Outcome};

use super::support::{SOON, policy, start};

/// One that looks again only after an hour.
fn lazy() -> KillPolicy {
    let hour = Duration::from_secs(3600);
    policy().grace(hour).poll_interval(hour)
}

#[test]
fn an_exit_ends_a_wait_of_an_hour() {
    if backend() != Backend::Proc {
        return;
    }
    // It dies a second after its SIGTERM, so there is a wait.
    let (here, there) = (start("slow-exit"), start("slow-exit"));
    let (told, ends) = channel();
    let undertaker = Undertaker::new(lazy()).unwrap();
    let burial = undertaker.kill(there.pgid());
    let (pgid, told_too) = (here.pgid(), told.clone());
    thread::spawn(move || told.send(lazy().kill_blocking(pgid).unwrap()));
    thread::spawn(move || told_too.send(burial.wait_blocking().unwrap()));
    for _ in 0..2 {
        let report = ends.recv_timeout(SOON).expect("nobody woke it");
        assert_eq!(report.outcome, Outcome::Terminated, "{report:?}");
    }
}

#[test]
fn whoever_waits_uses_no_cpu() {
    let running = start("ignore-term");
    let pgid = running.pgid();
    // A thread that spins is on a CPU or waits for one: neither is counted, so a busy machine accuses nobody.
    let idle = thread::spawn(move || {
        let (begun, before) = (Instant::now(), busy());
        policy().grace(Duration::from_secs(1)).kill_blocking(pgid).unwrap();
        begun.elapsed().saturating_sub(busy() - before)
    });
    let idle = idle.join().unwrap();
    assert!(idle > Duration::from_millis(500), "of a second of grace it slept {idle:?}");
}

/// How long this thread was on a CPU, or waited for one.
fn busy() -> Duration {
    let account = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    account.split_ascii_whitespace().take(2).map(|nanos| Duration::from_nanos(nanos.parse().unwrap())).sum()
}
