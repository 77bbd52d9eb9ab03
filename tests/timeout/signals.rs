//! What is sent to deadbeat itself.

use std::os::unix::process::ExitStatusExt;

use rstest::rstest;
use rustix::process::Signal;

use crate::support::{Run, Tool};

#[rstest]
#[case("TERM", Signal::TERM)]
#[case("INT", Signal::INT)]
#[case("HUP", Signal::HUP)]
fn the_first_request_is_passed_on_as_it_is(#[case] name: &str, #[case] signal: Signal) {
    // In the background of a script it is deaf to SIGINT.
    let script = format!("trap 'echo got {name}; exit 7' {name}; sleep 300 & echo ready $!; wait");
    let mut run = Run::of(Tool::Deadbeat, &["-k", ".5", "300", "sh", "-c", &script]);
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
    let mut run = Run::of(Tool::Deadbeat, &["300", "sh", "-c", &script]);
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

#[test]
fn one_within_another_is_left_to_do_its_own_work() {
    let script = "trap 'echo got USR1; exit' USR1; echo ready $$; while :; do sleep 300 & wait $!; done";
    let inner = env!("CARGO_BIN_EXE_deadbeat");
    let args =
        ["-k", "300", "-s", "ALRM", "300", inner, "timeout", "-k", ".5", "-s", "USR1", "300", "sh", "-c", script];
    let mut run = Run::of(Tool::Deadbeat, &args);
    let victim = run.victim();
    run.signal(Signal::ALARM);
    assert_eq!(run.line(), "got USR1");
    assert_eq!(run.status().code(), Some(124));
    assert!(!victim.is_alive());
}
