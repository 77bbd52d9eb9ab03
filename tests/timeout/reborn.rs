//! A number that was the command's and has come round: the process that has it now is none of the command's.

use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;

use crate::inside::{inside, skip};
use crate::strangers::parent;
use crate::support::{Run, eventually};

/// A child from before deadbeat that reads a number and then starts a daemon which gets it, and loses its parent.
const STRANGER: &str = "(read s <&3; echo $((s - 1)) >/proc/sys/kernel/ns_last_pid; \
                        setsid sh -c 'echo ready $$; exec sleep 300 >&- 2>&- 3>&-' &) &";

/// A process that begins a session, is deaf to SIGTERM and has the command for its parent, which outlives it.
const COMMAND: &str =
    "trap '' TERM; setsid sh -c 'trap \"\" TERM; echo ready $$; exec sleep 300' & echo begun; wait; exec sleep 300";

/// Whether it came to what is to be shown: another process may have got the number first.
fn the_stranger_lives() -> bool {
    let script = format!("exec 3<&0; {STRANGER} exec \"$0\" timeout -k 100 300 sh -c \"$1\"");
    let mut shell = Command::new("sh");
    shell.args(["-c", &script, env!("CARGO_BIN_EXE_deadbeat"), COMMAND]).stdin(Stdio::piped());
    let mut run = Run::start(shell);
    let lines = [run.line(), run.line()];
    let opener = lines.iter().find_map(|line| line.strip_prefix("ready ")?.parse::<i32>().ok()).expect("a pid");
    // From here on deadbeat takes note of the command's sessions, every 100 ms. That is waited for by the clock, since
    // nothing shows it: where it came too late, the run shows less, and is none the worse.
    run.signal(Signal::ALARM);
    std::thread::park_timeout(Duration::from_millis(500));
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(opener), nix::sys::signal::Signal::SIGKILL).unwrap();
    eventually("the opener is reaped", || !std::path::Path::new(&format!("/proc/{opener}")).exists());
    run.say(opener);
    let stranger = run.victim();
    let deadbeat = run.pid();
    eventually("it is deadbeat's child", || parent(stranger.pid) == Some(deadbeat));
    // Two requests: at once. Of two that are the same one may be lost.
    run.signal(Signal::TERM);
    run.signal(Signal::HUP);
    run.status();
    let came_round = stranger.pid == opener;
    assert!(!came_round || stranger.is_alive(), "process {opener}, a stranger, was killed");
    came_round
}

#[test]
fn a_session_whose_number_has_come_round_is_a_strangers() {
    let test = a_session_whose_number_has_come_round_is_a_strangers;
    // The shell is the first process, and reaps.
    let place = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", "\"$@\"; exit $?", "sh"];
    if !inside(test, &place) {
        return;
    }
    if !(0..20).any(|_| the_stranger_lives()) {
        skip("another process had the number first, twenty times");
    }
}
