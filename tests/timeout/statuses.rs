//! The status of a run, and what of it is printed.

use std::os::unix::process::ExitStatusExt;

use rstest::rstest;
use rustix::process::Signal;

use crate::support::{Run, SLEEPER, Tool, output, text};

#[rstest]
#[case::ended(&["10", "true"], 0)]
#[case::ended_with_a_status(&["10", "sh", "-c", "exit 7"], 7)]
#[case::no_timeout(&["0", "sh", "-c", "exit 3"], 3)]
#[case::unit(&["1d", "false"], 1)]
#[case::infinite(&["inf", "false"], 1)]
#[case::beyond_any_clock(&["1e10d", "false"], 1)]
#[case::timed_out(&[".1", "sleep", "300"], 124)]
#[case::hexadecimal(&["0x.1", "sleep", "300"], 124)]
#[case::at_once(&["1e-10000", "sleep", "300"], 124)]
#[case::chosen_signal(&["-s", "INT", ".1", "sleep", "300"], 124)]
#[case::preserved(&["-p", ".1", "sleep", "300"], 143)]
#[case::killed(&["-s", "9", ".1", "sleep", "300"], 137)]
#[case::signal_0(&["-s", "0", "-k", ".1", ".1", "sleep", "300"], 137)]
#[case::foreground(&["-f", ".1", "sleep", "300"], 124)]
#[case::foreground_signal_0(&["-f", "-s0", "-k.1", ".1", "sleep", "300"], 137)]
#[case::never_kills(&["-k", "0", ".1", "sleep", "300"], 124)]
#[case::script_without_a_shell(&["10", "tests/timeout/plain-script"], 5)]
#[case::cannot_be_run(&["10", "/"], 126)]
#[case::not_found(&["10", "/no/such/command"], 127)]
#[case::not_in_the_path(&["10", "no-such-command"], 127)]
fn the_status_is_that_of_timeout(#[case] args: &[&str], #[case] status: i32) {
    let output = output(args);
    assert_eq!(output.status.code(), Some(status), "{args:?}: {}", text(&output.stderr));
    assert!(output.stdout.is_empty());
    assert_eq!(output.stderr.is_empty(), !(126..=127).contains(&status), "{args:?}: {}", text(&output.stderr));
}

/// The time is over when it is ready, and not before.
#[rstest]
#[case::ended_well(&["-k", "300"], "trap 'exit 0' TERM; $SLEEPER & wait", 124)]
#[case::preserved(&["-p", "-k", "300"], "trap 'exit 3' TERM; $SLEEPER & wait", 3)]
#[case::like_one_that_was_killed(&["-k", "300"], "trap 'exit 137' TERM; $SLEEPER & wait", 124)]
#[case::had_to_be_killed(&["-k", ".1"], "trap '' TERM; echo ready $$; sleep 300; sleep 300", 137)]
// The leader obeys, and has as long for it as its deaf child is given.
#[case::only_a_child_had_to(&["-k", "8"], "sh -c 'trap \"\" TERM; echo ready $$; exec sleep 300' & wait", 124)]
fn the_status_is_that_of_timeout_if_the_signal_is_handled(
    #[case] options: &[&str],
    #[case] script: &str,
    #[case] status: i32,
) {
    let script = script.replace("$SLEEPER", SLEEPER);
    let mut run = Run::of(Tool::Deadbeat, &[options, &["300", "sh", "-c", &script]].concat());
    let victim = run.victim();
    run.signal(Signal::ALARM);
    assert_eq!(run.status().code(), Some(status));
    assert!(!victim.is_alive());
    assert_eq!((run.rest(), run.stderr()), (String::new(), String::new()));
}

#[test]
fn deadbeat_dies_of_what_the_command_died_of() {
    let status = output(&["10", "sh", "-c", "kill -USR2 $$"]).status;
    assert_eq!((status.signal(), status.core_dumped()), (Some(12), false));
    // One that dumps a core: there is no second one, of deadbeat.
    let output = output(&["10", "sh", "-c", "kill -ABRT $$"]);
    assert_eq!((output.status.signal(), output.status.core_dumped()), (Some(6), false));
}

#[rstest]
#[case::term(&["-v", ".1", "sleep", "300"], "deadbeat timeout: sending signal TERM to command 'sleep'\n")]
#[case::null_and_kill(
    &["-v", "-s0", "-k.1", ".1", "sleep", "300"],
    "deadbeat timeout: sending signal 0 to command 'sleep'\ndeadbeat timeout: sending signal KILL to command 'sleep'\n"
)]
#[case::real_time(
    &["-v", "-s", "RTMIN", ".1", "sleep", "300"],
    "deadbeat timeout: sending signal RTMIN to command 'sleep'\n"
)]
#[case::nothing(&["-v", "10", "true"], "")]
#[case::background(
    &["-v", "-k", "300", "10", "sh", "-c", "sleep 300 &"],
    "deadbeat timeout: command 'sh': what it left behind: terminated (SIGTERM, SIGCONT)\n"
)]
fn verbose_says_who_needed_what(#[case] args: &[&str], #[case] stderr: &str) {
    let output = output(args);
    assert_eq!(text(&output.stderr), stderr);
    assert!(output.stdout.is_empty());
}

#[test]
fn verbose_names_those_who_had_left_the_group() {
    let script = "(setsid sh -c 'echo ready $$; exec sleep 300' &); read go";
    let mut command = Tool::Deadbeat.command(&["-v", "-k", "300", "300", "sh", "-c", script]);
    command.stdin(std::process::Stdio::piped());
    let mut run = Run::start(command);
    let victim = run.victim();
    run.go();
    run.status();
    let who = format!("process {}, which had left its group", victim.pid);
    // It may be dead of the first before it can be sent the second.
    let expected = ["SIGTERM, SIGCONT", "SIGTERM"]
        .map(|signals| format!("deadbeat timeout: command 'sh': {who}: terminated ({signals})\n"));
    let stderr = run.stderr();
    assert!(expected.contains(&stderr), "{stderr}");
}
