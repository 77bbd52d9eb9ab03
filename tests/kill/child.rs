//! `kill_child`: pins, kills, reaps; refuses what a group kill would miss.

use std::os::unix::process::ExitStatusExt;
use std::process::Stdio;
use std::time::Duration;

use deadbeat::group::{Backend, backend};
use deadbeat::{KillErrorKind, KillPolicy, Outcome, Signal};
use nix::errno::Errno;
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use super::support::LONG;

fn sleeper() -> Command {
    let mut command = Command::new("sleep");
    command.arg("120").kill_on_drop(true).stdin(Stdio::null());
    command
}

/// They all obey. Where zombies cannot be told from the living they hold the grace.
fn policy() -> KillPolicy {
    super::support::policy().grace(if backend() == Backend::Proc { LONG } else { Duration::from_secs(2) })
}

#[tokio::test]
async fn the_child_is_killed_reaped_and_its_status_told() {
    let mut child = sleeper().process_group(0).spawn().unwrap();
    let killed = policy().kill_child(&mut child).await.unwrap();
    let status = killed.status.expect("not reaped");
    assert_eq!(status.signal(), Some(Signal::TERM.as_raw()));
    if backend() == Backend::Proc {
        assert_eq!(killed.report.outcome, Outcome::Terminated);
    }
    assert_eq!(child.id(), None, "still to be waited for");
}

#[tokio::test]
async fn a_child_in_somebody_elses_group_is_refused_and_lives() {
    let mut child: Child = sleeper().spawn().unwrap();
    let error = policy().kill_child(&mut child).await.unwrap_err();
    assert_eq!(error.kind(), KillErrorKind::NotLeader);
    assert_eq!(error.pgid(), child.id().unwrap() as i32);
    assert!(error.to_string().contains("process_group(0)"), "{error}");
    // By its number alone it cannot be refused: the number may be any process's by now. It is not signalled either.
    let report = policy().kill(error.pgid()).await.unwrap();
    assert_eq!((report.outcome, report.signals.len()), (Outcome::AlreadyGone, 0));
    assert_eq!(child.try_wait().unwrap(), None, "it was signalled");
    child.kill().await.unwrap();
}

#[tokio::test]
async fn a_child_that_was_waited_for_is_refused() {
    let mut child = Command::new("true").process_group(0).spawn().unwrap();
    child.wait().await.unwrap();
    let error = policy().kill_child(&mut child).await.unwrap_err();
    assert_eq!(error.kind(), KillErrorKind::AlreadyReaped);
}

#[tokio::test]
async fn a_child_that_has_ended_unseen_is_only_reaped() {
    if backend() != Backend::Proc {
        return;
    }
    let mut child = Command::new("sh").args(["-c", "exit 7"]).process_group(0).spawn().unwrap();
    let group = deadbeat::ProcessGroup::led_by(&child).unwrap();
    super::support::eventually("the child has ended", || group.is_gone());
    let killed = policy().kill_child(&mut child).await.unwrap();
    assert_eq!(killed.report.outcome, Outcome::AlreadyGone);
    assert_eq!(killed.status.and_then(|status| status.code()), Some(7));
}

#[tokio::test]
async fn a_siblings_exit_status_is_not_stolen() {
    // A wait for the whole group would collect it, and leave its owner with ECHILD.
    let mut leader = sleeper().process_group(0).spawn().unwrap();
    let pgid = leader.id().unwrap() as i32;
    let mut sibling = Command::new("sh").args(["-c", "exit 5"]).process_group(pgid).spawn().unwrap();
    let pid = sibling.id().unwrap() as i32;
    super::support::eventually("the sibling has ended", || super::support::state(pid) == Some('Z'));
    let killed = policy().kill_child(&mut leader).await.unwrap();
    assert!(killed.status.is_some());
    assert_eq!(sibling.wait().await.unwrap().code(), Some(5));
}

#[tokio::test]
async fn the_child_is_reaped_even_if_nobody_confirms_its_death() {
    let mut reaped = 0;
    for _ in 0..10 {
        let mut command = Command::new("sh");
        command.args(["-c", "trap '' TERM; echo up; exec sleep 120"]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.process_group(0).kill_on_drop(true).spawn().unwrap();
        let mut line = [0; 3];
        tokio::io::AsyncReadExt::read_exact(child.stdout.as_mut().unwrap(), &mut line).await.unwrap();
        let policy = policy().grace(Duration::from_millis(20)).confirm(Duration::ZERO);
        let killed = policy.kill_child(&mut child).await.unwrap();
        if let Some(status) = killed.status {
            assert_eq!(status.signal(), Some(Signal::KILL.as_raw()));
            reaped += 1;
        }
    }
    // Without a wait for it none is; on a busy machine one may have no time to die in.
    assert!(reaped > 5, "{reaped} of 10 were reaped");
}

#[tokio::test]
async fn where_sigchld_was_ignored_the_child_is_reaped_and_told_of_all_the_same() {
    const IGNORED: &str = "DEADBEAT_SIGCHLD_IGNORED";
    if std::env::var_os(IGNORED).is_none() {
        // Ignored by inheritance, as under some supervisors: the kernel then reaps every child itself.
        let test = "child::where_sigchld_was_ignored_the_child_is_reaped_and_told_of_all_the_same";
        let mut ignoring = std::process::Command::new("perl");
        ignoring.args(["-e", "$SIG{CHLD} = 'IGNORE'; exec @ARGV"]).arg(std::env::current_exe().unwrap());
        let Ok(output) = ignoring.args(["--exact", test]).env(IGNORED, "1").output() else {
            eprintln!("skipped: needs perl");
            return;
        };
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        return;
    }
    // The control: a wait for a child that the kernel has reaped comes to nothing.
    let mut reaped = std::process::Command::new("true").spawn().unwrap();
    assert_eq!(reaped.wait().unwrap_err().raw_os_error(), Some(nix::errno::Errno::ECHILD as i32));
    let mut child = std::process::Command::new("sleep");
    std::os::unix::process::CommandExt::process_group(&mut child, 0);
    let mut child = tokio::process::Command::from(child).arg("120").spawn().unwrap();
    let killed = policy().kill_child(&mut child).await.unwrap();
    assert_eq!(killed.status.expect("not reaped").signal(), Some(Signal::TERM.as_raw()));
}

#[tokio::test]
async fn the_first_signal_is_the_one_that_was_asked_for() {
    let mut child = sleeper().process_group(0).spawn().unwrap();
    let killed = policy().signal(Signal::INT).kill_child(&mut child).await.unwrap();
    assert_eq!(killed.report.signals.first().map(|sent| sent.signal), Some(Signal::INT));
    assert_eq!(killed.status.expect("not reaped").signal(), Some(Signal::INT.as_raw()));
}

#[tokio::test]
async fn a_child_that_somebody_else_waits_for_has_no_status_and_that_is_no_error() {
    // Both wait; the other is nearly always first.
    for _ in 0..50 {
        let mut child = sleeper().process_group(0).spawn().unwrap();
        let pid = Pid::from_raw(child.id().unwrap() as i32);
        let thief = std::thread::spawn(move || waitpid(pid, None));
        let killed = policy().kill_child(&mut child).await.unwrap();
        match thief.join().unwrap() {
            Ok(status) => {
                assert_eq!(status.pid(), Some(pid));
                assert_eq!(killed.status, None);
                return;
            }
            Err(error) => assert_eq!((error, killed.status.is_some()), (Errno::ECHILD, true)),
        }
    }
    panic!("the other was never first");
}
