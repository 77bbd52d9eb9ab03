//! Whatever the suite's parent ignores or blocks, the fixtures begin as if it did not.

use std::process::{Command, Output};

use nix::sys::signal::{SigSet, SigmaskHow, Signal};
use rstest::rstest;

use crate::support::program;

const SUITE: &str = "suite --subject spawn-blocking --runtime current-thread --grace 4s";

/// What a suite says whose parent ignores these signals and blocks those.
fn suite(arguments: &str, ignored: &str, blocked: &[Signal]) -> Output {
    let mut command = Command::new("sh");
    command.args(["-c", "[ -z \"$1\" ] || trap '' $1; shift; exec \"$@\"", "sh", ignored]).arg(program());
    command.args(arguments.split_ascii_whitespace());
    let mut mask = SigSet::empty();
    blocked.iter().for_each(|signal| mask.add(*signal));
    // Of this thread alone; a child has the mask of the thread that started it.
    let before = mask.thread_swap_mask(SigmaskHow::SIG_BLOCK).unwrap();
    let output = command.output();
    before.thread_set_mask().unwrap();
    output.unwrap()
}

#[rstest]
#[case::nothing("", &[])]
#[case::ignored("INT TERM HUP CHLD", &[])]
#[case::blocked("", &[Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP, Signal::SIGCHLD])]
fn a_right_subject_passes_every_fixture_whatever_is_ignored_or_blocked(
    #[case] ignored: &str,
    #[case] blocked: &[Signal],
    #[values("TERM", "INT")] first_signal: &str,
) {
    // A machine that is too busy leaves cells undecided, and is asked again.
    let mut outputs = (0..3).map(|_| suite(&format!("{SUITE} --first-signal {first_signal}"), ignored, blocked));
    let output = outputs.find(|output| output.status.code() != Some(3)).expect("nothing was proved in three times");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(text.contains("18 cells: 18 as expected"), "{text}");
}
