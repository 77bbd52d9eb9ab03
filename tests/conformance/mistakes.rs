//! Ten kill functions with the mistakes of real ones: the failure of each names its mistake.
//!
//! `cargo test --test conformance mistakes -- --nocapture` prints the failures.

use std::future::Future;
use std::time::{Duration, Instant};

use deadbeat::group::ProcessGroup;
use deadbeat::suite::Conformance;
use deadbeat::{KillPolicy, Signal};
use nix::errno::Errno;
use nix::sys::signal::{self, kill, killpg};
use nix::unistd::Pid;

use crate::strangers::GRACE;
use crate::support::run;

const TOOK: &str = "of the 4s of grace, though the group was gone";

const LOOK: Duration = Duration::from_millis(20);

fn is_gone(pgid: i32) -> bool {
    ProcessGroup::new(pgid).unwrap().is_gone()
}

/// Waits until the condition holds, or until the time is over.
async fn within(time: Duration, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while start.elapsed() < time && !holds() {
        tokio::time::sleep(LOOK).await;
    }
}

/// The right escalation, with another first signal, another condition to wait for, and another last signal.
async fn escalation(pgid: i32, first: signal::Signal, waiting: impl Future<Output = ()>, last: Option<signal::Signal>) {
    let group = Pid::from_raw(pgid);
    // After the reaping its number is free for another group.
    let is_there = killpg(group, first).is_ok() && killpg(group, signal::Signal::SIGCONT).is_ok();
    waiting.await;
    if is_there && !is_gone(pgid) {
        let _ = last.map(|last| killpg(group, last));
    }
}

async fn leader_only(pgid: i32) {
    let leader = Pid::from_raw(pgid);
    let _ = kill(leader, signal::Signal::SIGTERM);
    within(GRACE, || ProcessGroup::new(pgid).unwrap().members().unwrap().iter().all(|member| member.pid != pgid)).await;
    let _ = kill(leader, signal::Signal::SIGKILL);
}

async fn waits_for_esrch(pgid: i32) {
    let gone = || killpg(Pid::from_raw(pgid), None) == Err(Errno::ESRCH);
    escalation(pgid, signal::Signal::SIGTERM, within(GRACE, gone), Some(signal::Signal::SIGKILL)).await;
}

async fn interrupts_first(pgid: i32) {
    escalation(pgid, signal::Signal::SIGINT, within(GRACE, || is_gone(pgid)), Some(signal::Signal::SIGKILL)).await;
}

async fn always_sleeps(pgid: i32) {
    escalation(pgid, signal::Signal::SIGTERM, tokio::time::sleep(GRACE), Some(signal::Signal::SIGKILL)).await;
}

async fn never_kills(pgid: i32) {
    escalation(pgid, signal::Signal::SIGTERM, within(GRACE, || is_gone(pgid)), None).await;
}

async fn kills_at_once(pgid: i32) {
    let _ = killpg(Pid::from_raw(pgid), signal::Signal::SIGKILL);
}

async fn waits_for_ever(pgid: i32) {
    escalation(pgid, signal::Signal::SIGTERM, within(Duration::MAX, || is_gone(pgid)), None).await;
}

async fn blocks_the_worker(pgid: i32) {
    let start = Instant::now();
    let blocking = async {
        while start.elapsed() < GRACE && !is_gone(pgid) {
            #[expect(clippy::disallowed_methods, reason = "the mistake: it waits on the worker")]
            std::thread::sleep(GRACE / 4);
        }
    };
    escalation(pgid, signal::Signal::SIGTERM, blocking, Some(signal::Signal::SIGKILL)).await;
}

/// A kill that begins late, as one that waits for a thread of a full pool.
async fn asks_late(pgid: i32) {
    tokio::time::sleep(GRACE * 5 / 4).await;
    right(pgid).await;
}

async fn right(pgid: i32) {
    drop(KillPolicy::default().grace(GRACE).signal(Signal::TERM).kill(pgid).await);
}

/// Judges the function of that name, and does not return.
pub(crate) fn main_of(name: &str, tests: Conformance) -> ! {
    let tests = tests.deadline(GRACE * 2);
    match name {
        "leader-only" => tests.subject("ours", leader_only).main(),
        "waits-for-esrch" => tests.subject("ours", waits_for_esrch).main(),
        "interrupts-first" => tests.subject("ours", interrupts_first).main(),
        "always-sleeps" => tests.subject("ours", always_sleeps).main(),
        "never-kills" => tests.subject("ours", never_kills).main(),
        "kills-at-once" => tests.subject("ours", kills_at_once).main(),
        "waits-for-ever" => tests.subject("ours", waits_for_ever).main(),
        "blocks-the-worker" => tests.subject("ours", blocks_the_worker).main(),
        "asks-late" => tests.subject("ours", asks_late).main(),
        "right-by-hand" => tests.subject("ours", right).main(),
        other => panic!("no stranger {other}"),
    }
}

/// Checks the failure of the one cell that shows the function's mistake, once it is conclusive.
#[track_caller]
fn said(name: &str, fixture: &str, words: &[&str]) {
    let mut runs = (0..5).map(|_| run(name, &format!("ours/{fixture}/current-thread --exact")));
    let (status, text) =
        runs.find(|(_, text)| !text.contains("inconclusive: ")).expect("nothing was proved in five times");
    assert_eq!(status, Some(101), "{text}");
    let line = text.lines().find(|line| words.iter().all(|word| line.contains(word)));
    let line = line.unwrap_or_else(|| panic!("{name}: {words:?} are not said together: {text}"));
    println!("{name}, {fixture}: {}", line.split("; in these ").next().unwrap_or_default());
}

pub(crate) fn each_mistake_is_named() {
    std::thread::scope(|scope| {
        for (name, fixture, words) in [
            (
                "leader-only",
                "forking",
                &["the group lives on, though its leader died of SIGTERM", "left in the group: "][..],
            ),
            ("waits-for-esrch", "fast-exit", &[TOOK, "its un-reaped leader is still in the process table"]),
            ("interrupts-first", "ignore-term", &["the leader died of SIGINT", "--first-signal INT"]),
            ("always-sleeps", "already-gone", &[TOOK, "before it was called"]),
            ("never-kills", "ignore-term", &["outcome survived, not killed", "no SIGKILL came to them"]),
            ("kills-at-once", "slow-exit", &["its leader died of SIGKILL", "before half of the 4s of grace was over"]),
            ("waits-for-ever", "ignore-term", &["did not come back within 8s", "the group lives on"]),
            ("blocks-the-worker", "ignore-term", &["a worker stood still for ", "waiting in clock_nanosleep"]),
            ("asks-late", "fast-exit", &["its leader died of SIGTERM: the first signal came late"]),
        ] {
            scope.spawn(move || said(name, fixture, words));
        }
    });
    let (status, text) = run("right-by-hand", "");
    assert_eq!(status, Some(0), "{text}");
}
