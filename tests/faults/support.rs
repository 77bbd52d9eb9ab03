//! What these tests share: places where something is missing, groups to be killed, members held by their pidfds.

use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open};

#[path = "../common/eventually.rs"]
mod eventually;
pub(crate) use eventually::{SOON, eventually};
#[path = "../common/inside.rs"]
mod inside;
pub(crate) use inside::{inside, skip};

/// A grace that nothing takes the whole of, unless it has gone wrong.
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// Two processes that do as they are told; the second's pid is said when both are there.
pub(crate) const OBEDIENT: &str = "sleep 60 & echo $!; wait";

/// Two that ignore SIGTERM, likewise.
pub(crate) const STUBBORN: &str = "trap '' TERM; sleep 60 & echo $!; wait";

/// A pid namespace with mounts of its own: no process in it can reach a stranger. Its command is the first process.
pub(crate) const NAMESPACE: [&str; 6] = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"];

/// The program.
pub(crate) fn deadbeat(args: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_deadbeat"));
    command.args(args.split_ascii_whitespace()).stdin(Stdio::null());
    command
}

/// What `deadbeat kill --format json` says of one group.
pub(crate) fn report(stdout: &[u8]) -> serde_json::Value {
    serde_json::from_slice(stdout).unwrap_or_else(|_| panic!("no report: {}", String::from_utf8_lossy(stdout)))
}

/// When it was sent this signal, in milliseconds since the kill began.
pub(crate) fn sent_at(report: &serde_json::Value, signal: &str) -> Option<f64> {
    report["signals"].as_array()?.iter().find(|sent| sent["signal"] == signal)?["at_ms"].as_f64()
}

/// A group of this process's own; dead and reaped when dropped.
pub(crate) struct Group {
    leader: Child,
    lines: Lines<BufReader<ChildStdout>>,
    reaped: bool,
}

impl Group {
    pub(crate) fn of(script: &str) -> Group {
        Group::start(Command::new("sh").args(["-c", script]))
    }

    pub(crate) fn start(command: &mut Command) -> Group {
        let mut leader = command.process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(leader.stdout.take().unwrap()).lines();
        Group { leader, lines, reaped: false }
    }

    pub(crate) fn pgid(&self) -> i32 {
        self.leader.id() as i32
    }

    /// What it says next.
    #[track_caller]
    pub(crate) fn line(&mut self) -> String {
        self.lines.next().expect("it has ended").unwrap()
    }

    /// The leader and the member whose pid it says next, each held.
    #[track_caller]
    pub(crate) fn members(&mut self) -> [Held; 2] {
        let member = self.line().parse().expect("a pid");
        [Held::of(self.pgid()), Held::of(member)]
    }

    /// A line for it to read.
    pub(crate) fn go(&mut self) {
        self.leader.stdin.as_mut().unwrap().write_all(b"go\n").unwrap();
    }

    /// To its leader alone, which is not reaped yet.
    pub(crate) fn signal_leader(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.leader), signal).unwrap();
    }

    /// The leader's state, as in `proc_pid_stat(5)`.
    pub(crate) fn leader_state(&self) -> char {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.pgid())).unwrap();
        stat.rsplit_once(") ").unwrap().1.chars().next().unwrap()
    }

    /// All that it has said on standard error, of one that was started with a pipe there and has ended.
    pub(crate) fn said(&mut self) -> String {
        let mut said = String::new();
        self.leader.stderr.take().expect("a pipe").read_to_string(&mut said).unwrap();
        said
    }

    /// Waits for the leader's end and collects it.
    pub(crate) fn reap(&mut self) -> ExitStatus {
        let status = self.leader.wait().unwrap();
        self.reaped = true;
        status
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Un-reaped, the leader holds the number.
        if !self.reaped {
            let _ =
                nix::sys::signal::killpg(nix::unistd::Pid::from_raw(self.pgid()), nix::sys::signal::Signal::SIGKILL);
            let _ = self.leader.wait();
        }
    }
}

/// A process whose end is seen whether or not there is a `/proc`, and whatever reaps it.
pub(crate) struct Held(OwnedFd);

impl Held {
    pub(crate) fn of(pid: i32) -> Held {
        Held(pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap())
    }

    pub(crate) fn has_ended(&self) -> bool {
        poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO).unwrap() > 0
    }
}
