//! The command starts with what deadbeat was started with; and deadbeat works, whatever that was.

use std::io::Write;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Command, Stdio};

use nix::sys::signal::{SigHandler, SigSet, Signal, signal};
use rstest::rstest;
use rustix::process::Signal as LinuxSignal;

use crate::support::{Run, Tool, text};

#[expect(unsafe_code, reason = "what is called between fork and exec are system calls only")]
fn start_with(command: &mut Command, ignored: &'static [Signal], blocked: &'static [Signal]) {
    let hook = move || {
        for number in ignored {
            // SAFETY: no handler is installed.
            unsafe { signal(*number, SigHandler::SigIgn) }?;
        }
        let blocked: SigSet = blocked.iter().copied().collect();
        Ok(blocked.thread_block()?)
    };
    // SAFETY: see `reason`.
    unsafe { command.pre_exec(hook) };
}

const NONE: &[Signal] = &[];

#[rstest]
#[case::nothing(NONE, NONE)]
#[case::a_pipe_ignored(&[Signal::SIGPIPE], NONE)]
#[case::nohup(&[Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT], NONE)]
#[case::blocked(NONE, &[Signal::SIGTERM, Signal::SIGCHLD, Signal::SIGALRM, Signal::SIGUSR1])]
#[case::all_of_it(&[Signal::SIGPIPE, Signal::SIGHUP], &[Signal::SIGCHLD, Signal::SIGTTOU])]
fn the_command_gets_the_signals_as_they_were(#[case] ignored: &'static [Signal], #[case] blocked: &'static [Signal]) {
    let look = ["grep", "-E", "^Sig(Blk|Ign|Cgt):", "/proc/self/status"];
    let run = |mut command: Command| {
        start_with(&mut command, ignored, blocked);
        let output = text(&command.output().unwrap().stdout);
        // The C library's `posix_spawn` ignores two signals that are its own, 32 and 33.
        let masks = output.lines().filter_map(|line| u64::from_str_radix(line.split_once(":\t")?.1, 16).ok());
        masks.map(|mask| mask & !(0b11 << 31)).collect::<Vec<_>>()
    };
    let mut directly = Command::new(look[0]);
    directly.args(&look[1..]);
    let directly = run(directly);
    assert_eq!(directly.len(), 3, "{directly:?}");
    for option in ["-k60", "-k0", "-f"] {
        let args = [&[option, "10"], &look[..]].concat();
        assert_eq!(run(Tool::Deadbeat.command(&args)), directly, "{option}");
    }
}

#[rstest]
#[case::ignored(&[Signal::SIGCHLD], NONE)]
#[case::blocked(NONE, &[Signal::SIGCHLD])]
#[case::all_blocked(NONE, &[Signal::SIGCHLD, Signal::SIGALRM, Signal::SIGTERM, Signal::SIGINT, Signal::SIGCONT])]
fn a_parent_that_minds_no_children_changes_no_status(
    #[case] ignored: &'static [Signal],
    #[case] blocked: &'static [Signal],
    #[values("-k60", "-k0", "-f")] option: &str,
) {
    for (script, timeout, status) in [("exit 3", "10", 3), ("exec sleep 300", ".1", 124)] {
        let mut command = Tool::Deadbeat.command(&[option, "-s", "KILL", "-p", timeout, "sh", "-c", script]);
        start_with(&mut command, ignored, blocked);
        let expected = if status == 124 { 137 } else { status };
        assert_eq!(command.output().unwrap().status.code(), Some(expected));
    }
}

/// As coreutils' does: the signal that is to end the command is not left ignored, or nothing but SIGKILL would end it.
#[rstest]
#[case::term(&[], &[Signal::SIGTERM])]
#[case::chosen(&["-s", "INT"], &[Signal::SIGINT])]
#[case::chosen_pipe(&["-s", "PIPE"], &[Signal::SIGPIPE])]
fn the_signal_that_ends_the_command_is_not_ignored(
    #[case] signal: &[&str],
    #[case] ignored: &'static [Signal],
    #[values("-k20", "-k0", "-fk20")] option: &str,
) {
    let status = |tool: Tool, options: &[&str]| {
        let mut command = tool.command(&[options, &["--preserve-status"], signal, &[".1", "sleep", "40"]].concat());
        start_with(&mut command, ignored, NONE);
        command.output().unwrap().status.code()
    };
    assert_eq!(status(Tool::Deadbeat, &[option]), Some(128 + ignored[0] as i32));
    if Tool::Coreutils.is_installed() {
        assert_eq!(status(Tool::Coreutils, &[]), Some(128 + ignored[0] as i32));
    }
}

#[rstest]
fn a_request_that_was_ignored_at_the_start_stays_ignored(#[values("-k60", "-k0", "-f")] option: &str) {
    let script = "trap 'echo got it' USR1; echo ready $$; while :; do sleep 1 >/dev/null & wait $!; done";
    let mut command = Tool::Deadbeat.command(&[option, "300", "sh", "-c", script]);
    start_with(&mut command, &[Signal::SIGHUP, Signal::SIGINT, Signal::SIGQUIT], NONE);
    let mut run = Run::start(command);
    let _victim = run.victim();
    for signal in [LinuxSignal::HUP, LinuxSignal::INT, LinuxSignal::QUIT, LinuxSignal::USR1] {
        run.signal(signal);
    }
    assert_eq!(run.line(), "got it");
    run.signal(LinuxSignal::TERM);
    assert_eq!(run.status().signal(), Some(15));
    assert_eq!(run.rest(), "");
}

#[test]
fn the_command_reads_what_deadbeat_was_given_to_read() {
    let mut command = Tool::Deadbeat.command(&["10", "cat"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"some words").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), text(&output.stdout)), (Some(0), "some words".to_owned()));
}

#[test]
fn a_stderr_that_nobody_reads_ends_nothing() {
    let mut command = Tool::Deadbeat.command(&["-v", ".1", "sleep", "300"]);
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stderr.take());
    assert_eq!(child.wait().unwrap().code(), Some(124));
}
