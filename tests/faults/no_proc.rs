//! No `/proc`: zombies cannot be told from the living. Late, then, but never wrong, and no member is left.

use std::io;
use std::process::Stdio;
use std::time::{Duration, Instant};

use deadbeat::group::{Backend, backend};
use deadbeat::{KillPolicy, Outcome, ProcessGroup, Signal};

use crate::support::{Group, Held, LONG, NAMESPACE, OBEDIENT, STUBBORN, deadbeat, eventually, inside, report};

const GRACE: Duration = Duration::from_millis(200);

fn policy() -> KillPolicy {
    KillPolicy::default().grace(GRACE).confirm(Duration::from_millis(200))
}

/// The shell stays, so that orphans are reaped.
fn is_in_a_place_without_proc<F: Fn() -> T, T>(test: F) -> bool {
    let script = ["sh", "-c", "mount -t tmpfs none /proc && \"$@\"; exit", "sh"];
    let is_inside = inside(test, &[&NAMESPACE[..], &script].concat());
    if is_inside {
        assert!(!std::path::Path::new("/proc/self").exists(), "there is a /proc");
        assert_eq!(backend(), Backend::Probe);
    }
    is_inside
}

#[test]
fn a_group_whose_leader_is_waited_for_is_seen_to_die_at_once() {
    if !is_in_a_place_without_proc(a_group_whose_leader_is_waited_for_is_seen_to_die_at_once) {
        return;
    }
    let mut group = Group::of(OBEDIENT);
    let (pgid, held) = (group.pgid(), group.members());
    let error = ProcessGroup::new(pgid).unwrap().members().unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::Unsupported);
    let kill = std::thread::spawn(move || policy().grace(LONG).kill_blocking(pgid));
    group.reap();
    let report = kill.join().unwrap().unwrap();
    assert_eq!(report.outcome, Outcome::Terminated, "{report:?}");
    assert!(report.elapsed < LONG / 2, "it took the grace: {report:?}");
    assert!(held.iter().all(|held| held.has_ended()), "not gone: {report:?}");
}

#[test]
fn an_unreaped_leader_costs_the_grace_and_nothing_is_called_gone() {
    if !is_in_a_place_without_proc(an_unreaped_leader_costs_the_grace_and_nothing_is_called_gone) {
        return;
    }
    let mut group = Group::of(OBEDIENT);
    let held = group.members();
    let begun = Instant::now();
    let output = deadbeat(&format!("kill --format json --grace 200ms {}", group.pgid())).output().unwrap();
    let report = report(&output.stdout);
    assert!(begun.elapsed() >= GRACE, "{report}");
    assert_eq!((report["outcome"].as_str(), output.status.code()), (Some("survived"), Some(1)), "{report}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("without /proc a zombie"), "{said}");
    // Of those that cannot be seen to die it waits for none.
    eventually("both are dead", || held.iter().all(Held::has_ended));
}

#[tokio::test]
async fn a_stubborn_group_is_killed_after_its_grace_and_reaped() {
    if !is_in_a_place_without_proc(a_stubborn_group_is_killed_after_its_grace_and_reaped) {
        return;
    }
    use tokio::io::AsyncReadExt;
    let mut command = tokio::process::Command::new("sh");
    command.args(["-c", STUBBORN]).process_group(0).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut line = [0; 16];
    let length = child.stdout.as_mut().unwrap().read(&mut line).await.unwrap();
    let member: i32 = std::str::from_utf8(&line[..length]).unwrap().trim().parse().unwrap();
    let member = crate::support::Held::of(member);
    let killed = policy().kill_child(&mut child).await.unwrap();
    let kill = killed.report.signals.iter().find(|sent| sent.signal == Signal::KILL).expect("no SIGKILL");
    assert!(kill.at >= GRACE, "{killed:?}");
    let ended_by = std::os::unix::process::ExitStatusExt::signal(&killed.status.expect("not reaped"));
    assert_eq!(ended_by, Some(nix::libc::SIGKILL));
    eventually("the member is dead", || member.has_ended());
}

/// `timeout` has no guardian to start, and says what that means; `timeout -f` has promised nothing.
#[test]
fn a_command_has_its_timeout_and_what_cannot_be_promised_is_said_once() {
    if !is_in_a_place_without_proc(a_command_has_its_timeout_and_what_cannot_be_promised_is_said_once) {
        return;
    }
    let script = ["sh", "-c", "echo begun; exec sleep 60"];
    let mut whole = Group::start(deadbeat("timeout -k 1 60").args(script).stderr(Stdio::piped()));
    assert_eq!(whole.line(), "begun");
    whole.signal_leader(rustix::process::Signal::ALARM);
    let (status, said) = (whole.reap(), whole.said());
    assert_eq!(status.code(), Some(124), "{said}");
    assert!(said.contains("should deadbeat be killed by SIGKILL") && said.lines().count() == 1, "{said}");
    let mut foreground = Group::start(deadbeat("timeout -f -k 1 60").args(script).stderr(Stdio::piped()));
    assert_eq!(foreground.line(), "begun");
    foreground.signal_leader(rustix::process::Signal::ALARM);
    assert_eq!((foreground.reap().code(), foreground.said()), (Some(124), String::new()));
}
