//! Many kills on one thread, whatever thread asked for them and whether or not one waits.

use std::time::{Duration, Instant};

use deadbeat::fixture::Running;
use deadbeat::heartbeat::{Heartbeat, Verdict};
use deadbeat::kill::KillThread;
use deadbeat::{KillErrorKind, Outcome, Signal};

#[cfg(target_os = "linux")]
use super::support::inside;
use super::support::{LONG, eventually, policy, start};

const GRACE: Duration = Duration::from_secs(1);

fn kill_thread() -> KillThread {
    KillThread::new(policy().grace(GRACE)).unwrap()
}

#[test]
fn many_groups_share_one_grace() {
    let groups: Vec<_> = (0..30).map(|i| start(if i % 3 == 0 { "ignore-term" } else { "stubborn-child" })).collect();
    let kill_thread = kill_thread();
    let start = Instant::now();
    let pending: Vec<_> = groups.iter().map(|running| kill_thread.kill(running.pgid())).collect();
    for (pending, running) in pending.into_iter().zip(&groups) {
        let report = pending.wait_blocking().unwrap();
        assert_eq!(report.pgid, running.pgid());
        if deadbeat::group::backend() == deadbeat::group::Backend::Proc {
            assert_eq!(report.outcome, Outcome::Killed, "{report:?}");
        }
    }
    // One after the other they would take thirty.
    assert!(start.elapsed() < GRACE * 15, "took {:?}", start.elapsed());
}

/// How many threads this process has.
#[cfg(target_os = "linux")]
fn threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

#[test]
#[cfg(target_os = "linux")]
fn any_number_of_kills_take_one_thread_and_one_grace() {
    // In a process of its own, where no other test starts a thread.
    if !inside(any_number_of_kills_take_one_thread_and_one_grace, &[]) {
        return;
    }
    let groups: Vec<_> = (0..60).map(|_| start("ignore-term")).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let kill = |pgid| async move { policy().grace(GRACE).kill(pgid).await };
    let (before, begun) = (threads(), Instant::now());
    let kills: Vec<_> = groups.iter().map(|running| runtime.spawn(kill(running.pgid()))).collect();
    let mut most = 0;
    for kill in kills {
        // The first look comes after all have been begun.
        runtime.block_on(async { tokio::time::sleep(Duration::from_millis(1)).await });
        most = most.max(threads());
        let report = runtime.block_on(kill).unwrap().unwrap();
        if deadbeat::group::backend() == deadbeat::group::Backend::Proc {
            assert_eq!(report.outcome, Outcome::Killed, "{report:?}");
        }
    }
    assert_eq!(most, before + 1, "they have taken other threads");
    // One after the other they would take sixty.
    assert!(begun.elapsed() < GRACE * 30, "took {:?}", begun.elapsed());
    eventually("all are dead", || groups.iter().all(|running| running.has_ended()));
}

#[test]
fn the_quick_do_not_wait_for_the_slow() {
    if deadbeat::group::backend() != deadbeat::group::Backend::Proc {
        return;
    }
    let (slow, quick) = (start("ignore-term"), start("fast-exit"));
    let kill_thread = KillThread::new(policy().grace(LONG)).unwrap();
    let (slow_kill, quick_kill) = (kill_thread.kill(slow.pgid()), kill_thread.kill(quick.pgid()));
    assert_eq!(quick_kill.wait_blocking().unwrap().outcome, Outcome::Terminated);
    assert!(!slow.has_ended(), "the quick one has waited for the slow one's grace");
    // It is in its grace, and is told of too when it ends.
    slow.group().signal(Signal::KILL).unwrap();
    assert_eq!(slow_kill.wait_blocking().unwrap().outcome, Outcome::Terminated);
}

#[test]
fn dropped_pending_kills_and_a_dropped_kill_thread_lose_nothing() {
    let groups: Vec<_> = (0..5).map(|_| start("stubborn-child")).collect();
    // The child of each lives for as long.
    let kill_thread = KillThread::new(policy().grace(GRACE * 4)).unwrap();
    for running in &groups {
        drop(kill_thread.kill(running.pgid()));
    }
    drop(kill_thread);
    assert!(!groups.iter().any(Running::has_ended), "drop has waited for the kills");
    for running in &groups {
        eventually("the group is dead", || running.has_ended());
    }
}

#[test]
fn shutdown_waits_for_every_kill() {
    let groups: Vec<_> = (0..3).map(|_| start("ignore-term")).collect();
    let (kill_thread, begun) = (kill_thread(), Instant::now());
    for running in &groups {
        drop(kill_thread.kill(running.pgid()));
    }
    kill_thread.shutdown_blocking();
    assert!(begun.elapsed() >= GRACE, "it did not wait");
    for running in &groups {
        // SIGKILL has been confirmed where members can be seen; else it has been sent.
        eventually("the group is dead", || running.has_ended());
    }
}

#[tokio::test]
async fn shutdown_can_be_awaited_and_blocks_no_worker() {
    let mut verdicts = Vec::new();
    // A machine that stood still leaves a doubt, and it is tried again.
    while verdicts.len() < 4 && !verdicts.contains(&Verdict::Steady) && !verdicts.contains(&Verdict::Starved) {
        let running = start("ignore-term");
        let (kill_thread, begun) = (kill_thread(), Instant::now());
        let pending = kill_thread.kill(running.pgid());
        let watched = Heartbeat::new().budget(GRACE / 2).watch(kill_thread.shutdown()).await;
        assert!(begun.elapsed() >= GRACE, "it did not wait");
        assert!(pending.await.is_ok());
        eventually("the group is dead", || running.has_ended());
        println!("{}", watched.pulse);
        verdicts.push(watched.pulse.verdict());
    }
    assert_eq!(verdicts.last(), Some(&Verdict::Steady), "{verdicts:?}");
}

#[tokio::test]
async fn a_refused_pgid_is_told_at_once() {
    let kill_thread = kill_thread();
    for pgid in [0, 1, -7] {
        let error = kill_thread.kill(pgid).await.unwrap_err();
        assert_eq!((error.kind(), error.pgid()), (KillErrorKind::InvalidGroup, pgid));
    }
}
