//! A pgid that comes back to life as a stranger's, on purpose: in a pid namespace of its own the next pid can be
//! chosen.
//!
//! The killer is stopped in the middle of its grace; the group dies and is reaped; an innocent gets its number; the
//! killer goes on. The naive one kills the innocent.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::support::{eventually, state};

const INSIDE: &str = "DEADBEAT_INSIDE_A_PID_NAMESPACE";

/// Whether this test runs inside; if not, runs it there, and tells how that went.
fn inside(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let unshare = ["--pid", "--fork", "--mount-proc", "--kill-child"];
    let may = Command::new("unshare").args(unshare).arg("true").stderr(Stdio::null()).status();
    if !may.is_ok_and(|status| status.success()) {
        eprintln!("skipped: {test} needs the privilege to make a pid namespace");
        return false;
    }
    let output = Command::new("unshare")
        .args(unshare)
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}");
    false
}

/// Says when it was asked to end, and does not.
const STUBBORN: &str = r#"trap 'echo asked' TERM; echo ready; while :; do sleep 60 & wait; done"#;

/// A leader that has gone and was waited for before what it left is killed.
const LEADERLESS: &str = r#"sh -c "$STUBBORN" & exit"#;

/// Whether the innocent outlives this killer of a group whose number it gets.
fn innocent_outlives(group: &str, killer: impl Fn(i32) -> Command) -> bool {
    let mut leader = Command::new("sh")
        .args(["-c", group])
        .env("STUBBORN", STUBBORN)
        .process_group(0)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let pgid = leader.id() as i32;
    if group == LEADERLESS {
        leader.wait().unwrap();
    }
    let mut lines = BufReader::new(leader.stdout.take().unwrap()).lines();
    let mut next = || lines.next().expect("the leader has gone").unwrap();
    assert_eq!(next(), "ready");
    let mut killer = killer(pgid).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    assert_eq!(next(), "asked");

    let (killer_pid, group) = (Pid::from_raw(killer.id() as i32), Pid::from_raw(pgid));
    kill(killer_pid, Signal::SIGSTOP).unwrap();
    eventually("the killer is stopped", || state(killer_pid.as_raw()) == Some('T'));
    nix::sys::signal::killpg(group, Signal::SIGKILL).unwrap();
    leader.wait().unwrap();
    reap_orphans_of(pgid);
    let mut innocent = born_as(pgid);
    kill(killer_pid, Signal::SIGCONT).unwrap();
    drop(killer.stdin.take().unwrap().write_all(b"over\n"));
    assert!(killer.wait().unwrap().success(), "the killer died of something else");
    let outlived = answers(&mut innocent);
    let _ = innocent.kill();
    innocent.wait().unwrap();
    outlived
}

/// Whether it can still echo a line: with SIGKILL pending it never runs again, dead to `wait` already or not.
fn answers(cat: &mut Child) -> bool {
    let (mut stdin, stdout) = (cat.stdin.take().unwrap(), cat.stdout.take().unwrap());
    let mut line = String::new();
    stdin.write_all(b"alive\n").is_ok() && BufReader::new(stdout).read_line(&mut line).is_ok_and(|length| length > 0)
}

/// What the leader left behind is ours to reap: in here we are PID 1, or its subreaper.
fn reap_orphans_of(pgid: i32) {
    eventually("the group is empty", || {
        let _ = nix::sys::wait::waitpid(Pid::from_raw(-pgid), Some(nix::sys::wait::WaitPidFlag::WNOHANG));
        nix::sys::signal::killpg(Pid::from_raw(pgid), None).is_err()
    });
}

/// A process with just this pid, leading a group of that number; `None` if the number is not to be had.
fn try_born_as(pid: i32) -> Option<Child> {
    std::fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).unwrap();
    let mut child = Command::new("cat").process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    if child.id() as i32 == pid {
        return Some(child);
    }
    child.kill().unwrap();
    child.wait().unwrap();
    None
}

fn born_as(pid: i32) -> Child {
    // Another process may be born between the choice and the birth.
    (0..1000).find_map(|_| try_born_as(pid)).expect("the number was not to be had")
}

#[test]
fn a_reused_pgid_is_a_stranger_and_left_alone() {
    if !inside("reuse::a_reused_pgid_is_a_stranger_and_left_alone") {
        return;
    }
    let naive = |pgid: i32| {
        let mut command = Command::new("sh");
        // Its grace ends when it is told so.
        command.args(["-c", &format!("kill -TERM -{pgid}; read over; kill -KILL -{pgid}")]);
        command
    };
    assert!(!innocent_outlives(STUBBORN, naive), "the control was not caught: the innocent outlived the naive kill");
    let ours = |pgid: i32| {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "reuse::kills_the_group_it_is_told", "--nocapture"]);
        command.env("DEADBEAT_KILL_THIS", pgid.to_string());
        command
    };
    if deadbeat::group::backend() == deadbeat::group::Backend::Proc {
        for group in [STUBBORN, LEADERLESS] {
            assert!(innocent_outlives(group, ours), "a stranger was killed, after {group}");
        }
    } else {
        eprintln!("skipped: without pidfds a reaped leader's group cannot be told from a stranger's");
    }
}

#[test]
fn while_kill_child_runs_nobody_can_get_the_number() {
    if !inside("reuse::while_kill_child_runs_nobody_can_get_the_number") {
        return;
    }
    let mut killer = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "reuse::kills_a_child_of_its_own", "--nocapture"])
        .env("DEADBEAT_KILL_A_CHILD", "1")
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(killer.stderr.take().unwrap()).lines().map(Result::unwrap);
    let pgid = lines.find_map(|line| line.strip_prefix("leader ").map(|pid| pid.parse().unwrap())).unwrap();
    lines.find(|line| line == "asked").unwrap();
    let killer_pid = Pid::from_raw(killer.id() as i32);
    kill(killer_pid, Signal::SIGSTOP).unwrap();
    eventually("the killer is stopped", || state(killer_pid.as_raw()) == Some('T'));
    nix::sys::signal::killpg(Pid::from_raw(pgid), Signal::SIGKILL).unwrap();
    eventually("the leader is dead", || state(pgid) == Some('Z'));
    // The killer is its parent and has not waited: dead, it still holds the number.
    assert!((0..50).all(|_| try_born_as(pgid).is_none()), "the number was given away in the middle of the kill");
    kill(killer_pid, Signal::SIGCONT).unwrap();
    assert!(killer.wait().unwrap().success());
    // The control: reaped, it holds nothing.
    reap_orphans_of(pgid);
    let mut heir = born_as(pgid);
    let _ = heir.kill();
    heir.wait().unwrap();
}

/// Not a test by itself: the killer of the one above, in a process that can be stopped.
#[test]
fn kills_the_group_it_is_told() {
    let Some(pgid) = std::env::var("DEADBEAT_KILL_THIS").ok() else { return };
    // Long enough to be stopped in the middle of it, on the slowest of machines.
    let policy = deadbeat::KillPolicy::default().grace(std::time::Duration::from_secs(10));
    let report = policy.kill_blocking(pgid.parse().unwrap()).unwrap();
    assert_eq!(report.outcome, deadbeat::Outcome::Terminated, "{report:?}");
}

/// Not a test by itself: the killer of its own child, likewise.
#[tokio::test]
async fn kills_a_child_of_its_own() {
    if std::env::var_os("DEADBEAT_KILL_A_CHILD").is_none() {
        return;
    }
    let script = "trap 'echo asked >&2' TERM; echo ready; while :; do sleep 60 >/dev/null & wait; done";
    let mut command = tokio::process::Command::new("sh");
    let mut child = command.args(["-c", script]).process_group(0).stdout(Stdio::piped()).spawn().unwrap();
    let mut ready = [0; 6];
    tokio::io::AsyncReadExt::read_exact(child.stdout.as_mut().unwrap(), &mut ready).await.unwrap();
    eprintln!("leader {}", child.id().unwrap());
    let policy = deadbeat::KillPolicy::default().grace(std::time::Duration::from_secs(10));
    let killed = policy.kill_child(&mut child).await.unwrap();
    assert!(killed.status.is_some(), "{killed:?}");
}

/// The killer below has no pidfd to be had; its child is reaped in the middle of the kill, and an innocent gets its
/// number.
#[test]
fn a_kill_without_a_descriptor_knows_its_group_from_a_stranger() {
    if !inside("reuse::a_kill_without_a_descriptor_knows_its_group_from_a_stranger") {
        return;
    }
    if deadbeat::group::backend() != deadbeat::group::Backend::Proc {
        eprintln!("skipped: without /proc a reaped leader's group cannot be told from a stranger's");
        return;
    }
    // A round in which the machine took longer than the grace to give the number away shows nothing.
    let shown = (0..10).find_map(|_| outlives_a_dropped_kill_child());
    assert!(shown.expect("never was the number given away in time"), "a stranger was killed");
}

/// Whether the innocent lives, after the kill that was meant for another has ended. `None`: it was born too late.
fn outlives_a_dropped_kill_child() -> Option<bool> {
    let mut killer = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "reuse::drops_the_kill_of_its_child_and_reaps_it", "--nocapture"])
        .env("DEADBEAT_DROP_A_KILL", "1")
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(killer.stderr.take().unwrap()).lines().map(Result::unwrap);
    let mut next =
        |word: &str| lines.find_map(|line| line.strip_prefix(word).map(str::to_owned)).expect("no such line");
    let pgid = next("leader ").parse().unwrap();
    next("asked");
    let asked = std::time::Instant::now();
    next("reaped");
    reap_orphans_of(pgid);
    let mut innocent = born_as(pgid);
    let in_time = asked.elapsed() < HALF_OF_ITS_GRACE;
    killer.stdin.take().unwrap().write_all(b"born\n").unwrap();
    next("over");
    assert!(killer.wait().unwrap().success());
    let outlived = answers(&mut innocent);
    let _ = innocent.kill();
    innocent.wait().unwrap();
    in_time.then_some(outlived)
}

const HALF_OF_ITS_GRACE: std::time::Duration = std::time::Duration::from_millis(750);

/// Not a test by itself: the killer of the one above. Between its first signals and its last it does not look: nothing
/// wakes it, and its polls are an hour apart.
#[tokio::test]
async fn drops_the_kill_of_its_child_and_reaps_it() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    use tokio::io::AsyncBufReadExt;

    if std::env::var_os("DEADBEAT_DROP_A_KILL").is_none() {
        return;
    }
    setrlimit(Resource::Nofile, Rlimit { current: Some(100), ..getrlimit(Resource::Nofile) }).unwrap();
    let hour = std::time::Duration::from_secs(3600);
    let policy = deadbeat::KillPolicy::default().grace(HALF_OF_ITS_GRACE * 2).poll_interval(hour);
    // Others, whose kills have taken all that may be had.
    let harmless = policy.clone().signal(deadbeat::Signal::CONT).grace(hour);
    let mut others = Vec::new();
    while pidfds() < 50 {
        let mut command = Command::new("sleep");
        others.push(command.arg("600").process_group(0).stderr(Stdio::null()).spawn().unwrap());
        let (harmless, pgid) = (harmless.clone(), others.last().unwrap().id() as i32);
        tokio::spawn(async move { harmless.kill(pgid).await });
        tokio::task::yield_now().await;
        assert!(others.len() < 60, "only {} pidfds are held", pidfds());
    }
    let stubborn = || {
        let script = "trap 'echo asked' TERM; echo ready; while :; do sleep 60 >/dev/null & wait; done";
        let mut command = tokio::process::Command::new("sh");
        command.args(["-c", script]).process_group(0).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap()
    };
    let (mut child, mut last) = (stubborn(), stubborn());
    let mut lines = tokio::io::BufReader::new(child.stdout.take().unwrap()).lines();
    assert_eq!(lines.next_line().await.unwrap().unwrap(), "ready");
    eprintln!("leader {}", child.id().unwrap());
    // So that the innocent is not started in the same clock tick.
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    let mut kill = Box::pin(policy.kill_child(&mut child));
    tokio::select! {
        killed = &mut kill => panic!("it has ended: {killed:?}"),
        line = lines.next_line() => assert_eq!(line.unwrap().unwrap(), "asked"),
    }
    eprintln!("asked");
    drop(kill);
    nix::sys::signal::killpg(Pid::from_raw(child.id().unwrap() as i32), Signal::SIGKILL).unwrap();
    child.wait().await.unwrap();
    eprintln!("reaped");
    std::io::stdin().read_line(&mut String::new()).unwrap();
    // On the same thread and with the same grace: when this one is over, the other is.
    policy.kill(last.id().unwrap() as i32).await.unwrap();
    last.wait().await.unwrap();
    for other in &mut others {
        other.kill().unwrap();
        other.wait().unwrap();
    }
    eprintln!("over");
}

/// How many this process holds.
fn pidfds() -> usize {
    let links =
        std::fs::read_dir("/proc/self/fd").unwrap().flatten().filter_map(|fd| std::fs::read_link(fd.path()).ok());
    links.filter(|link| link.to_string_lossy().contains("pidfd")).count()
}
