//! How a kill waits: an exit ends the wait, whatever the poll interval, and the wait uses no CPU.

#![cfg(target_os = "linux")]

use std::sync::mpsc::channel;
use std::thread;
use std::time::{Duration, Instant};

use deadbeat::group::{Backend, backend};
use deadbeat::kill::KillThread;
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
    let kill_thread = KillThread::new(lazy()).unwrap();
    let pending = kill_thread.kill(there.pgid());
    let (pgid, told_too) = (here.pgid(), told.clone());
    thread::spawn(move || told.send(lazy().kill_blocking(pgid).unwrap()));
    thread::spawn(move || told_too.send(pending.wait_blocking().unwrap()));
    for _ in 0..2 {
        let report = ends.recv_timeout(SOON).expect("not woken");
        assert_eq!(report.outcome, Outcome::Terminated, "{report:?}");
    }
}

#[test]
fn whoever_waits_uses_no_cpu() {
    let running = start("ignore-term");
    let pgid = running.pgid();
    let kill = thread::spawn(move || {
        let (begun, before) = (Instant::now(), account());
        policy().grace(Duration::from_secs(1)).kill_blocking(pgid).unwrap();
        let after = account();
        let [on_cpu, waited] = [after[0] - before[0], after[1] - before[1]];
        (begun.elapsed(), on_cpu, waited)
    });
    let (took, on_cpu, waited) = kill.join().unwrap();
    // One that spins half of the time.
    assert!(on_cpu < Duration::from_millis(500), "of a second of grace it was on a CPU for {on_cpu:?}");
    // One that spins all the time, and waits for a CPU when it has none: it never sleeps, however busy the machine is.
    let idle = took.saturating_sub(on_cpu + waited);
    assert!(idle > took / 20, "of {took:?} it slept {idle:?}");
}

/// How long this thread has been on a CPU, and how long it has waited for one.
fn account() -> [Duration; 2] {
    let account = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let mut nanos = account.split_ascii_whitespace().map(|nanos| Duration::from_nanos(nanos.parse().unwrap()));
    std::array::from_fn(|_| nanos.next().unwrap())
}
