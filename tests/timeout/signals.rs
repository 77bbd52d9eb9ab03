//! What is sent to deadbeat itself.

use std::os::unix::process::ExitStatusExt;
use std::time::{Duration, Instant};

use rstest::rstest;
use rustix::process::Signal;

use crate::support::{Run, SLEEPER, SOON, Tool, Victim, eventually};

#[rstest]
#[case("TERM", Signal::TERM)]
#[case("INT", Signal::INT)]
#[case("HUP", Signal::HUP)]
fn the_first_request_is_passed_on_as_it_is(#[case] name: &str, #[case] signal: Signal) {
    // In the background of a script the sleep is deaf to SIGINT: with that it takes the grace, else nothing does.
    let grace = if signal == Signal::INT { "8" } else { "300" };
    let script = format!("trap 'echo got {name}; exit 7' {name}; {SLEEPER} & wait");
    let mut run = Run::of(Tool::Deadbeat, &["-k", grace, "300", "sh", "-c", &script]);
    let victim = run.victim();
    run.signal(signal);
    assert_eq!(run.line(), format!("got {name}"));
    assert_eq!(run.status().code(), Some(7));
    assert!(!victim.is_alive());
}

#[test]
fn a_command_that_dies_of_the_request_takes_deadbeat_along() {
    let mut run = Run::of(Tool::Deadbeat, &["300", "sh", "-c", "echo ready $$; exec sleep 300"]);
    let _victim = run.victim();
    run.signal(Signal::TERM);
    assert_eq!(run.status().signal(), Some(15));
}

#[test]
fn the_second_request_kills_at_once() {
    // Deaf, all of them; and one has left the group.
    let script = "trap 'echo asked' TERM; setsid sh -c 'trap \"\" TERM; echo ready $$; sleep 300; sleep 300' & \
                  while :; do sleep 300 & wait $!; done";
    let mut run = Run::of(Tool::Deadbeat, &["-k", "300", "300", "sh", "-c", script]);
    let victim = run.victim();
    run.signal(Signal::TERM);
    assert_eq!(run.line(), "asked");
    // The first alone leaves it its grace.
    assert!(victim.is_alive() && !run.has_ended());
    run.signal(Signal::TERM);
    assert_eq!(run.status().code(), Some(137));
    assert!(!victim.is_alive());
}

#[rstest]
#[case("USR1", Signal::USR1)]
#[case("USR2", Signal::USR2)]
#[case("QUIT", Signal::QUIT)]
fn other_signals_are_passed_on_and_end_nothing(#[case] name: &str, #[case] signal: Signal) {
    let script = format!("trap 'echo got it' {name}; echo ready $$; while :; do sleep 300 & wait $!; done");
    let deadbeat = Tool::Deadbeat.command(&["300", "sh", "-c", &script]);
    // A shell has what it starts in the background ignore SIGQUIT: us, perhaps.
    let mut command = std::process::Command::new("env");
    command.arg("--default-signal=QUIT").arg(deadbeat.get_program()).args(deadbeat.get_args());
    command.stdin(std::process::Stdio::null());
    let mut run = Run::start(command);
    let victim = run.victim();
    for _ in 0..2 {
        run.signal(signal);
        assert_eq!(run.line(), "got it");
    }
    assert!(victim.is_alive() && !run.has_ended());
    run.signal(Signal::ALARM);
    assert_eq!(run.status().code(), Some(124));
    assert_eq!(run.rest(), "");
}

/// One whose command has died of the request, while a deaf daemon has the rest of a long grace.
fn ending(grace: &str) -> (Run, Victim) {
    let script = "(setsid sh -c 'trap \"\" TERM; echo ready $$; sleep 300; sleep 300' &); read go; exec sleep 300";
    let mut command = Tool::Deadbeat.command(&["-k", grace, "300", "sh", "-c", script]);
    command.stdin(std::process::Stdio::piped());
    let mut run = Run::start(command);
    let daemon = run.victim();
    let children = format!("/proc/{0}/task/{0}/children", run.pid());
    let count = || std::fs::read_to_string(&children).unwrap().split_whitespace().count();
    eventually("the command, the daemon and the guardian are there", || count() == 3);
    run.signal(Signal::TERM);
    eventually("the command is reaped", || count() == 2);
    (run, daemon)
}

#[test]
fn the_second_request_kills_at_once_when_the_command_is_dead_already() {
    let (mut run, daemon) = ending("300");
    // The first leaves it its grace.
    assert!(daemon.is_alive() && !run.has_ended());
    run.signal(Signal::TERM);
    assert!(daemon.ends_within(SOON), "deadbeat is deaf while it ends");
    assert_eq!(run.status().signal(), Some(15));
}

#[test]
fn deadbeat_that_is_killed_while_it_ends_leaves_nobody() {
    // The guardian gives the daemon this grace anew.
    let (mut run, daemon) = ending("4");
    run.signal(Signal::KILL);
    assert_eq!(run.status().signal(), Some(9));
    assert!(daemon.ends_within(SOON), "process {} survived", daemon.pid);
}

/// One that was asked to end before its time was over, and the moment at which that is over for certain: a machine that
/// took longer to come so far gets more time.
fn asked_before_its_time(tool: Tool, options: &[&str], seconds: [u64; 3], script: &str) -> (Run, Victim, Instant) {
    for seconds in seconds {
        let begun = Instant::now();
        let mut run = Run::of(tool, &[options, &[&seconds.to_string(), "sh", "-c", script]].concat());
        let victim = run.victim();
        // coreutils' takes a signal for one from before its command if it does not know that command's pid yet.
        eventually("the tool waits for its command", || run.state() == Some('S'));
        run.signal(Signal::TERM);
        assert_eq!(run.line(), "asked");
        // Its time began after `begun`.
        if begun.elapsed() < Duration::from_secs(seconds) {
            return (run, victim, begun + Duration::from_secs(seconds + 2));
        }
    }
    panic!("the machine had no time for a shell in {seconds:?} s");
}

#[rstest]
#[case::whole("-v")]
#[case::leader("-f")]
fn a_request_gives_the_whole_grace_whatever_is_left_of_the_time(#[case] option: &str) {
    let script = "trap 'echo asked' TERM; echo ready $$; while :; do sleep 300 & wait $!; done";
    let (run, victim, over) = asked_before_its_time(Tool::Deadbeat, &[option, "-k", "300"], [4, 8, 30], script);
    // Beyond the time. A slow machine can only make it later.
    let left = over.saturating_duration_since(Instant::now());
    assert!(!victim.ends_within(left), "the end of the time was taken for that of the grace");
    run.signal(Signal::TERM);
    assert!(victim.ends_within(SOON));
}

/// Asked to end, it takes until the time is over: that is the status then, as with coreutils'.
#[rstest]
#[case::whole(Tool::Deadbeat, &["-k", "300"])]
#[case::foreground(Tool::Deadbeat, &["-f", "-k", "300"])]
#[case::never_kills(Tool::Deadbeat, &["-k", "0"])]
// Its `-k` would kill at the end of the time.
#[case::coreutils(Tool::Coreutils, &[])]
fn one_that_ends_of_a_request_after_its_time_has_timed_out(#[case] tool: Tool, #[case] options: &[&str]) {
    if !tool.is_installed() {
        return;
    }
    let script =
        "trap 'echo asked' TERM; trap 'exit 3' USR1; echo ready $$; while :; do sleep 1 >/dev/null & wait $!; done";
    let (mut run, victim, over) = asked_before_its_time(tool, options, [1, 4, 30], script);
    // A slow machine can only make it later.
    assert!(!victim.ends_within(over.saturating_duration_since(Instant::now())));
    eventually("the tool sleeps again, after it was woken at the end of its time", || run.state() == Some('S'));
    victim.signal(Signal::USR1);
    assert_eq!(run.status().code(), Some(124));
}

#[test]
fn one_within_another_is_left_to_do_its_own_work() {
    let script = format!("trap 'echo got USR1; exit' USR1; {SLEEPER} & wait");
    let inner = env!("CARGO_BIN_EXE_deadbeat");
    let args =
        ["-k", "300", "-s", "ALRM", "300", inner, "timeout", "-k", "300", "-s", "USR1", "300", "sh", "-c", &script];
    let mut run = Run::of(Tool::Deadbeat, &args);
    let victim = run.victim();
    run.signal(Signal::ALARM);
    assert_eq!(run.line(), "got USR1");
    assert_eq!(run.status().code(), Some(124));
    assert!(!victim.is_alive());
}
