//! Cases that are rare in life and were wrong once.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use deadbeat::group::{Backend, backend};
use deadbeat::{Outcome, ProcessGroup};

use super::support::{eventually, policy};

/// A leader that obeys SIGTERM and stays a zombie, and a chain that ignores it: each link forks the next and exits, some
/// thousand times a second, so that a walk through the table mostly sees the zombie alone.
const FAST_CHAIN: &str = r#"
perl -e '$SIG{TERM} = "IGNORE"; $| = 1; print "up\n"; $end = time + 60; while (time < $end) { exit if fork; }' &
exec sleep 60
"#;

#[test]
fn a_chain_that_forks_faster_than_anybody_looks_is_not_gone() {
    if backend() != Backend::Proc || Command::new("perl").arg("-v").output().is_err() {
        eprintln!("skipped: needs /proc and perl");
        return;
    }
    for _ in 0..4 {
        let mut leader = Command::new("sh")
            .args(["-c", FAST_CHAIN])
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut up = [0; 3];
        std::io::Read::read_exact(leader.stdout.as_mut().unwrap(), &mut up).unwrap();
        let report = policy().grace(Duration::from_millis(500)).kill_blocking(leader.id() as i32);
        let group = ProcessGroup::new(leader.id() as i32).unwrap();
        // Whatever came of it, nothing may be left: the leader is un-reaped, so the number is still the group's.
        let _ = group.signal(deadbeat::Signal::KILL);
        eventually("the chain is dead", || group.is_gone());
        leader.wait().unwrap();
        assert_eq!(report.unwrap().outcome, Outcome::Killed);
    }
}

const EXHAUSTED: &str = "DEADBEAT_DESCRIPTORS_EXHAUSTED";

#[test]
fn with_no_descriptor_left_an_obedient_group_is_still_seen_to_die() {
    if backend() != Backend::Proc {
        return;
    }
    let test = "hard_cases::with_no_descriptor_left_an_obedient_group_is_still_seen_to_die";
    if std::env::var_os(EXHAUSTED).is_none() {
        // In a process of its own: the others need theirs.
        let script =
            format!("ulimit -n 64; exec '{}' --exact {test} --nocapture", std::env::current_exe().unwrap().display());
        let output = Command::new("sh").args(["-c", &script]).env(EXHAUSTED, "1").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        return;
    }
    let mut child = Command::new("sleep").arg("60").process_group(0).spawn().unwrap();
    // The probes and the spare are taken once, in better days.
    assert!(!ProcessGroup::new(child.id() as i32).unwrap().is_gone());
    assert!(ProcessGroup::new(i32::MAX).unwrap().is_gone());
    let mut hoard = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        hoard.push(file);
    }
    let report = policy().grace(Duration::from_secs(10)).kill_blocking(child.id() as i32).unwrap();
    drop(hoard);
    child.wait().unwrap();
    assert_eq!(report.outcome, Outcome::Terminated, "{report:?}");
}
