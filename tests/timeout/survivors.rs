//! Nothing survives. Each case is a tree that coreutils' timeout leaves a process of, which the same lines show.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::Duration;

use rstest::rstest;
use rustix::process::Signal;

use crate::support::{Run, SOON, Tool, Victim, eventually};

/// Ignores SIGTERM from its birth.
const DEAF_CHILD: &str = "trap '' TERM; sleep 300 & trap - TERM; echo ready $!; wait";
const BACKGROUND: &str = "sleep 300 & echo ready $!; read go";
const LEFT_THE_GROUP: &str = "setsid sh -c 'echo ready $$; exec sleep 300' & wait; sleep 300";
const DAEMON: &str = "(setsid env -i sh -c 'echo ready $$; exec sleep 300' &); sleep 300";
const DEAF_DAEMON: &str = "(setsid sh -c 'trap \"\" TERM; echo ready $$; sleep 300; sleep 300' &); sleep 300";
/// It ends when the daemon is ready, and not before.
const DAEMON_OF_ONE_THAT_ENDS: &str = "(setsid sh -c 'echo ready $$; exec sleep 300' &); read go";

/// How the run comes to its end.
#[derive(Clone, Copy, Debug)]
enum By {
    /// SIGALRM is the timeout, at a moment that the test chooses.
    Timeout,
    Request,
    Itself,
}

fn run_to_its_end(tool: Tool, script: &str, by: By) -> (Run, Victim) {
    // coreutils' kills nothing if its own child dies within that.
    let kill_after = if tool == Tool::Deadbeat { ".3" } else { "30" };
    let mut command = tool.command(&["-k", kill_after, "300", "sh", "-c", script]);
    command.stdin(Stdio::piped());
    let mut run = Run::start(command);
    let victim = run.victim();
    match by {
        By::Timeout => run.signal(Signal::ALARM),
        By::Request => run.signal(Signal::TERM),
        By::Itself => run.go(),
    }
    run.status();
    (run, victim)
}

#[rstest]
#[case::deaf_child_at_the_timeout(DEAF_CHILD, By::Timeout)]
#[case::deaf_child_at_a_request(DEAF_CHILD, By::Request)]
#[case::background_child(BACKGROUND, By::Itself)]
#[case::left_the_group_at_the_timeout(LEFT_THE_GROUP, By::Timeout)]
#[case::left_the_group_at_a_request(LEFT_THE_GROUP, By::Request)]
#[case::daemon_without_environment(DAEMON, By::Timeout)]
#[case::deaf_daemon(DEAF_DAEMON, By::Timeout)]
#[case::daemon_of_one_that_ends(DAEMON_OF_ONE_THAT_ENDS, By::Itself)]
fn nobody_is_alive_when_deadbeat_has_ended(#[case] script: &str, #[case] by: By) {
    let (_run, victim) = run_to_its_end(Tool::Deadbeat, script, by);
    assert!(!victim.is_alive(), "process {} survived", victim.pid);

    if Tool::Coreutils.is_installed() {
        let (_run, victim) = run_to_its_end(Tool::Coreutils, script, by);
        assert!(victim.is_alive(), "the control shows nothing: none survives coreutils' timeout either");
    }
}

#[rstest]
#[case::child("sleep 300 & echo ready $!; wait")]
#[case::left_the_group(LEFT_THE_GROUP)]
#[case::deaf_child(DEAF_CHILD)]
fn nobody_is_alive_soon_after_deadbeat_was_killed(#[case] script: &str) {
    let killed = |tool| {
        let mut run = Run::of(tool, &["-k", ".3", "300", "sh", "-c", script]);
        let victim = run.victim();
        run.signal(Signal::KILL);
        run.status();
        (run, victim)
    };
    let (_run, victim) = killed(Tool::Deadbeat);
    assert!(victim.ends_within(SOON), "process {} survived", victim.pid);

    if Tool::Coreutils.is_installed() {
        // There is nothing to wait for: what could kill it is dead, and it has not been signalled.
        let (_run, victim) = killed(Tool::Coreutils);
        assert!(victim.is_alive(), "the control shows nothing");
    }
}

#[test]
fn deadbeat_that_is_killed_at_any_moment_of_its_start_leaves_nobody() {
    for step in 0..40 {
        let mut run = Run::of(Tool::Deadbeat, &["300", "sh", "-c", "echo ready $$; exec sleep 300"]);
        std::thread::park_timeout(Duration::from_micros(200 * step));
        run.signal(Signal::KILL);
        run.status();
        eventually("all to be dead, the guardian too", || run.alive().is_empty());
    }
}

#[test]
fn a_stopped_command_ends_at_its_timeout() {
    let script = "echo ready $$; exec sleep 300";
    let mut run = Run::of(Tool::Deadbeat, &["-k", "300", "300", "sh", "-c", script]);
    let victim = run.victim();
    stop(&victim);
    run.signal(Signal::ALARM);
    assert_eq!(run.status().code(), Some(124));
    assert!(!victim.is_alive());

    // The control: SIGTERM alone.
    let mut command = Command::new("sh");
    command.args(["-c", script]).process_group(0);
    let mut naive = Run::start(command);
    let victim = naive.victim();
    stop(&victim);
    naive.signal(Signal::TERM);
    assert_eq!((victim.is_alive(), victim.state()), (true, Some('T')));
}

fn stop(victim: &Victim) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(victim.pid), nix::sys::signal::Signal::SIGSTOP).unwrap();
    eventually("it to be stopped", || victim.state() == Some('T'));
}

#[test]
fn orphans_are_reaped_while_the_command_runs() {
    // A zombie that is not reaped is no zombie of its former parent's: its parent is deadbeat by then.
    let script = "for i in 1 2 3; do (setsid true &); done; echo ready $$; exec sleep 300";
    let mut run = Run::of(Tool::Deadbeat, &["300", "sh", "-c", script]);
    let victim = run.victim();
    let us = std::fs::read_to_string(format!("/proc/{}/stat", victim.pid)).unwrap();
    let deadbeat: i32 = us.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap().parse().unwrap();
    let children = || std::fs::read_to_string(format!("/proc/{deadbeat}/task/{deadbeat}/children")).unwrap();
    eventually("the command and the guardian to be alone", || children().split_whitespace().count() == 2);
    run.signal(Signal::TERM);
    run.status();
}

#[test]
fn one_grace_is_enough_for_all() {
    // Both are deaf: the child in the group, the daemon outside it.
    let script = "trap '' TERM; sleep 300 & trap - TERM; \
                  (setsid sh -c 'trap \"\" TERM; echo ready $$; exec sleep 300' &); wait; sleep 300";
    let mut run = Run::of(Tool::Deadbeat, &["-k", "8", "300", "sh", "-c", script]);
    let victim = run.victim();
    let start = std::time::Instant::now();
    run.signal(Signal::ALARM);
    run.status();
    assert!(!victim.is_alive());
    let took = start.elapsed();
    // A second one would make it sixteen.
    assert!((Duration::from_secs(8)..Duration::from_secs(16)).contains(&took), "{took:?}");
}

#[test]
fn one_that_may_not_be_signalled_is_told_of() {
    if !rustix::process::getuid().is_root() {
        eprintln!("skipped: only root can start a process that it may not signal");
        return;
    }
    // Root without the privilege to signal others, and one of them, who has left the group.
    let other = "exec setpriv --reuid 12345 --clear-groups sh -c 'echo ready $$; exec sleep 300 >/dev/null 2>&1'";
    let script = format!("setsid sh -c \"{}\" & wait; sleep 300", other.replace('$', "\\$"));
    let deadbeat = Tool::Deadbeat.command(&["-k", "60", "300", "sh", "-c", &script]);
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-kill", "--inh-caps", "-kill"]).arg(deadbeat.get_program());
    let mut run = Run::start({
        command.args(deadbeat.get_args()).stdin(std::process::Stdio::null());
        command
    });
    let victim = run.victim();
    eventually("it to be another program", || {
        std::fs::read_to_string(format!("/proc/{}/comm", victim.pid)).is_ok_and(|name| name == "sleep\n")
    });
    run.signal(Signal::ALARM);
    assert_eq!(run.status().code(), Some(124));
    assert!(victim.is_alive(), "it could be signalled, so this shows nothing");
    let pid = victim.pid;
    let words =
        "which had left the command's group, may not be signalled: it lives on (EPERM: it runs as another user)";
    assert_eq!(run.stderr(), format!("deadbeat timeout: process {pid} (sleep 300), {words}\n"));
}
