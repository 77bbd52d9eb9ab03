//! What these tests share: a run that says when it is ready, and processes to be outlived, each held by its pidfd.
//!
//! A shell that is to hear a signal does so in `wait`: dash loses one that comes while it starts a command, or before a
//! `read`.

use std::fmt::Display;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};

#[path = "../common/eventually.rs"]
mod eventually;
pub(crate) use eventually::{SOON, eventually};

#[path = "../common/marked.rs"]
mod marked;
use marked::{kill, marked};

/// The victim, as a child of a shell with a trap. It says itself that it is ready: until its exec a shell's child has
/// the handler of its parent, which takes a signal for nothing.
pub(crate) const SLEEPER: &str = "sh -c 'echo ready $$; exec sleep 300'";

/// Which program is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tool {
    Deadbeat,
    /// The control.
    Coreutils,
}

impl Tool {
    pub(crate) fn command(self, args: &[&str]) -> Command {
        let mut command = match self {
            Tool::Deadbeat => Command::new(env!("CARGO_BIN_EXE_deadbeat")),
            Tool::Coreutils => Command::new("timeout"),
        };
        if self == Tool::Deadbeat {
            command.arg("timeout");
        }
        command.args(args).stdin(Stdio::null());
        command
    }

    /// Whether it can be run here. Says so if not.
    pub(crate) fn is_installed(self) -> bool {
        let version = self.command(&["--version"]).output();
        let is =
            self == Tool::Deadbeat || version.is_ok_and(|output| output.stdout.starts_with(b"timeout (GNU coreutils)"));
        if !is {
            eprintln!("skipped: the control needs the timeout of GNU coreutils");
        }
        is
    }
}

/// `deadbeat timeout` with these arguments, to its end.
pub(crate) fn output(args: &[&str]) -> Output {
    Tool::Deadbeat.command(args).output().unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A run under way. Dropping it kills the tool and what it has left, but for who has cleared the environment.
pub(crate) struct Run {
    child: Child,
    stdout: BufReader<ChildStdout>,
    mark: String,
}

impl Run {
    pub(crate) fn of(tool: Tool, args: &[&str]) -> Run {
        Run::start(tool.command(args))
    }

    pub(crate) fn start(mut command: Command) -> Run {
        static RUNS: AtomicU32 = AtomicU32::new(0);
        let mark = format!("{}-{}", std::process::id(), RUNS.fetch_add(1, Ordering::Relaxed));
        command.env("TEST_RUN", &mark);
        // Its own group, so that a shell's signal to "its" group is not ours.
        let mut child = command.process_group(0).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        Run { child, stdout, mark: format!("TEST_RUN={mark}") }
    }

    /// What of it can run, but for what has cleared the environment.
    pub(crate) fn alive(&self) -> Vec<i32> {
        marked(&self.mark)
    }

    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// The next line of the command is `ready PID`, of a process that is to die.
    #[track_caller]
    pub(crate) fn victim(&mut self) -> Victim {
        let line = self.line();
        let pid = line.strip_prefix("ready ").and_then(|pid| pid.parse().ok());
        Victim::hold(pid.unwrap_or_else(|| panic!("not ready: {line:?}")))
    }

    /// A line for the command to read; its standard input is a pipe.
    pub(crate) fn go(&mut self) {
        self.say("go");
    }

    /// The same with this line.
    pub(crate) fn say(&mut self, line: impl Display) {
        writeln!(self.child.stdin.take().unwrap(), "{line}").unwrap();
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Of the tool itself.
    pub(crate) fn state(&self) -> Option<char> {
        state(self.pid() as i32)
    }

    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    pub(crate) fn status(&mut self) -> ExitStatus {
        self.child.wait().unwrap()
    }

    /// What was said on its standard error; to be asked for when all that have it are dead.
    pub(crate) fn stderr(&mut self) -> String {
        let mut words = String::new();
        self.child.stderr.as_mut().unwrap().read_to_string(&mut words).unwrap();
        words
    }

    /// Whether each process that had its standard output has ended. What it said meanwhile is passed over.
    pub(crate) fn has_said_all(&mut self) -> bool {
        loop {
            let mut fds = [PollFd::new(self.stdout.get_ref().as_fd(), PollFlags::POLLIN)];
            if poll(&mut fds, PollTimeout::ZERO).unwrap() == 0 {
                return false;
            }
            let length = self.stdout.fill_buf().unwrap().len();
            if length == 0 {
                return true;
            }
            self.stdout.consume(length);
        }
    }

    /// What is left of its output; to be asked for when all are dead.
    pub(crate) fn rest(&mut self) -> String {
        let mut rest = String::new();
        self.stdout.read_to_string(&mut rest).unwrap();
        rest
    }
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        // Coreutils' timeout leaves them, and one may be starting another.
        let start = Instant::now();
        while start.elapsed() < SOON {
            let left = self.alive();
            if left.is_empty() {
                return;
            }
            left.into_iter().for_each(|pid| kill(pid, &self.mark));
        }
    }
}

/// A process that is to die. Dropping it kills it.
pub(crate) struct Victim {
    pub(crate) pid: i32,
    pidfd: OwnedFd,
}

impl Victim {
    pub(crate) fn hold(pid: i32) -> Victim {
        Victim { pid, pidfd: pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap() }
    }

    pub(crate) fn is_alive(&self) -> bool {
        !self.ends_within(Duration::ZERO)
    }

    /// The end of the process, seen without any race.
    pub(crate) fn ends_within(&self, time: Duration) -> bool {
        let timeout = PollTimeout::try_from(time).unwrap();
        poll(&mut [PollFd::new(self.pidfd.as_fd(), PollFlags::POLLIN)], timeout).unwrap() > 0
    }

    /// To itself, past the tool.
    pub(crate) fn signal(&self, signal: Signal) {
        pidfd_send_signal(&self.pidfd, signal).unwrap();
    }

    pub(crate) fn state(&self) -> Option<char> {
        state(self.pid)
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        let _ = pidfd_send_signal(&self.pidfd, Signal::KILL);
    }
}

/// A process's state as in `proc_pid_stat(5)`.
fn state(pid: i32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}
