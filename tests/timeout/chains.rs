//! A chain in which each process forks the next and ends, and which has left the command's group: it has no number for
//! long enough to be signalled by it, and no look at the process table is as fast.
//!
//! The links are this test program again, with one test to run. All of them hold its standard output, so its end is
//! theirs.

use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigHandler, Signal as Named, signal};
use nix::unistd::{ForkResult, Pid, setpgid, setsid};
use rstest::rstest;
use rustix::process::Signal;

use crate::support::{Run, Tool};

/// How long each link lives, in microseconds, and how the first one has left the group.
const LINK: &str = "DEADBEAT_TEST_LINK";

/// A chain ends by itself after this.
const LIFE: Duration = Duration::from_secs(60);

/// So many links in, the chain says that it is on its way.
const READY: u32 = 20;

#[rstest]
fn a_chain_that_forks_on_is_dead_when_deadbeat_has_ended(
    #[values("0", "100", "200", "3000")] micros: &str,
    #[values("session", "group")] left_for: &str,
) {
    for _ in 0..5 {
        let begun = Instant::now();
        let mut run = chain_of(Tool::Deadbeat, micros, left_for, false);
        assert_eq!(run.status().code(), Some(124));
        // Long before the chain would have ended by itself.
        assert!(begun.elapsed() < LIFE / 2, "it was waited for, not killed");
        assert!(run.has_said_all(), "a chain of links of {micros} us, in a {left_for} of its own, survived");
    }
}

/// There the links are told by their mark, which one that is ending has no more.
#[rstest]
fn a_chain_is_dead_beside_a_child_from_before_deadbeat(#[values("session", "group")] left_for: &str) {
    for _ in 0..5 {
        let begun = Instant::now();
        let mut run = chain_of(Tool::Deadbeat, "100", left_for, true);
        assert_eq!(run.status().code(), Some(124));
        assert!(begun.elapsed() < LIFE / 2, "it was waited for, not killed");
        assert!(run.has_said_all(), "a chain in a {left_for} of its own survived");
    }
}

/// What the tests above show is no accident of the chain.
#[test]
fn a_chain_survives_the_timeout_of_coreutils() {
    if Tool::Coreutils.is_installed() {
        let mut run = chain_of(Tool::Coreutils, "3000", "session", false);
        assert_eq!(run.status().code(), Some(124));
        assert!(!run.has_said_all(), "the control shows nothing");
    }
}

/// A run that is past its timeout, and whose command has started a chain; beside a child from before it, or alone.
fn chain_of(tool: Tool, micros: &str, left_for: &str, beside: bool) -> Run {
    let this = std::env::current_exe().unwrap();
    let script = "\"$0\" --exact chains::the_links --nocapture --test-threads=1 >&3 & exec sleep 300 3>&- >&- 2>&-";
    let script = format!("exec 3>&1; {script}");
    let mut command = tool.command(&["-k", ".2", "300", "sh", "-c", &script, this.to_str().unwrap()]);
    if beside {
        let mut shell = Command::new("sh");
        shell
            .args(["-c", "sleep 300 >&- 2>&- & exec \"$@\"", "sh"])
            .arg(command.get_program())
            .args(command.get_args());
        shell.stdin(Stdio::null());
        command = shell;
    }
    command.env(LINK, format!("{micros} {left_for}"));
    let mut run = Run::start(command);
    // Behind what the test's own harness says.
    loop {
        let line = run.line();
        assert!(!line.is_empty() || run.state() != Some('Z'), "the chain has not begun");
        if line.ends_with("linked") {
            break;
        }
    }
    run.signal(Signal::ALARM);
    run
}

/// No test of its own: what the chain is made of.
#[test]
fn the_links() {
    let Ok(link) = std::env::var(LINK) else { return };
    let (micros, left_for) = link.split_once(' ').unwrap();
    let life = Duration::from_micros(micros.parse().unwrap());
    let begin = Instant::now();
    if !is_next() {
        std::process::exit(0);
    }
    let left = if left_for == "session" { setsid().map(drop) } else { setpgid(Pid::this(), Pid::this()) };
    left.unwrap();
    // A link obeys SIGTERM only while it is there.
    ignore_sigterm();
    for n in 0.. {
        if n == READY {
            let _ = std::io::stdout().write_all(b"linked\n");
        }
        if !life.is_zero() {
            std::thread::park_timeout(life);
        }
        // The reader is gone: whatever was to be shown is shown.
        if is_hung_up(std::io::stdout().as_fd()) || begin.elapsed() > LIFE || !is_next() {
            std::process::exit(0);
        }
    }
}

#[expect(unsafe_code, reason = "no handler is installed")]
fn ignore_sigterm() {
    // SAFETY: see `reason`.
    unsafe { signal(Named::SIGTERM, SigHandler::SigIgn) }.unwrap();
}

/// Forks. Whether this is the child.
#[expect(
    unsafe_code,
    reason = "the child forks on, writes a line and ends; it takes no lock that another thread can hold"
)]
fn is_next() -> bool {
    // SAFETY: see `reason`.
    matches!(unsafe { nix::unistd::fork() }, Ok(ForkResult::Child))
}

fn is_hung_up(pipe: BorrowedFd<'_>) -> bool {
    let mut fds = [PollFd::new(pipe, PollFlags::empty())];
    poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
}
