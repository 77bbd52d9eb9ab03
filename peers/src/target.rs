//! A program of the suite, started by a peer: the handshake, and which of its processes can still run.
//!
//! Peers start the command themselves and do with its stdout as they like, so it writes to a pipe of ours that it opens
//! by name. The leader is not waited for before the kill.

use std::fs;
use std::io::{self, PipeReader, Read};
use std::os::fd::{AsFd, AsRawFd};
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use deadbeat::ProcessGroup;
use deadbeat::fixture::Fixture;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpgid};
use tokio::process::Command;
use tokio::runtime::Runtime;

use crate::peer::Peer;
use crate::started::Started;

/// The suite's own mark: the environment goes wherever a member goes.
const MARK: &str = "DEADBEAT_FIXTURE";

/// Bounds a broken fixture, not a slow machine.
const HANDSHAKE: Duration = Duration::from_secs(30);

pub(crate) struct Target {
    /// What the peer started, if that is a program around the leader.
    wrapper: Option<i32>,
    leader: i32,
    /// Its group; `None` if the peer gave it none and holds it by other means.
    group: Option<ProcessGroup>,
    escaped: Vec<i32>,
    mark: Vec<u8>,
    marker: PathBuf,
    /// Held, so that no process gets SIGPIPE.
    stdout: PipeReader,
}

/// Where children are started: a fork takes time, and no peer is to be charged for it.
fn home() -> &'static Runtime {
    static HOME: OnceLock<Runtime> = OnceLock::new();
    HOME.get_or_init(|| {
        let mut builder = tokio::runtime::Builder::new_multi_thread();
        builder.worker_threads(1).enable_all().build().expect("a runtime")
    })
}

impl Target {
    pub(crate) fn start(peer: &Peer, fixture: &Fixture, grace: Duration) -> io::Result<(Target, Started)> {
        Target::script(peer, fixture.source, fixture.name, grace)
    }

    /// A shell program that shakes hands as the fixtures do.
    pub(crate) fn script(peer: &Peer, text: &str, name: &str, grace: Duration) -> io::Result<(Target, Started)> {
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let id = format!("peers-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let marker = std::env::temp_dir().join(&id);
        let (stdout, writer) = io::pipe()?;
        let mut command = Command::new("sh");
        command
            .args(["-c", &format!("exec >\"$DEADBEAT_STDOUT\"\n{text}"), name])
            .env("DEADBEAT_STDOUT", format!("/proc/{}/fd/{}", std::process::id(), writer.as_raw_fd()))
            .env("DEADBEAT_SH", "sh")
            .env("DEADBEAT_CLEANUP", (grace / 5).as_secs_f64().to_string())
            .env("DEADBEAT_MARKER", &marker)
            .env(MARK, &id)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let started = {
            let _inside = home().enter();
            (peer.start)(command, grace)?
        };
        let mut target = Target {
            wrapper: Some(started.pid),
            leader: started.pid,
            group: None,
            escaped: Vec::new(),
            mark: format!("{MARK}={id}").into_bytes(),
            marker,
            stdout,
        };
        target.shake_hands()?;
        drop(writer);
        target.settle(name)?;
        Ok((target, started))
    }

    /// Reads `ROLE PID` lines until `ready N` and N of them have come.
    fn shake_hands(&mut self) -> io::Result<()> {
        let deadline = Instant::now() + HANDSHAKE;
        let (mut text, mut expected, mut pids) = (Vec::new(), None, Vec::new());
        while expected != Some(pids.len() + self.escaped.len()) {
            if !self.readable_before(deadline)? {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "it did not shake hands"));
            }
            let mut chunk = [0; 256];
            let length = self.stdout.read(&mut chunk)?;
            text.extend_from_slice(&chunk[..length]);
            while let Some(end) = text.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = text.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line).trim().to_owned();
                let (role, number) = line.split_once(' ').unwrap_or_default();
                let number: i32 = number.parse().map_err(|_| io::Error::other(format!("unexpected {line:?}")))?;
                match role {
                    "ready" => expected = Some(number as usize),
                    "leader" => {
                        self.leader = number;
                        pids.push(number);
                    }
                    "escaped" => self.escaped.push(number),
                    _ => pids.push(number),
                }
            }
        }
        // A leader that has been reaped has no group any more; another member has.
        let pgid = pids.iter().find_map(|pid| getpgid(Some(Pid::from_raw(*pid))).ok());
        // Our own is of the namespace outside, and reads as 0 here: no group to be signalled.
        self.group = pgid.and_then(|pgid| ProcessGroup::new(pgid.as_raw()).ok());
        self.wrapper = self.wrapper.filter(|pid| !pids.contains(pid));
        Ok(())
    }

    fn readable_before(&self, deadline: Instant) -> io::Result<bool> {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        Ok(poll(&mut [PollFd::new(self.stdout.as_fd(), PollFlags::POLLIN)], left)? > 0)
    }

    /// Some are what their name says only a moment after the handshake.
    fn settle(&self, name: &str) -> io::Result<()> {
        let deadline = Instant::now() + HANDSHAKE;
        loop {
            let named = match name {
                // GNU timeout reaps the command at once, and ends with it.
                "orphan" | "zombie" => !can_run(self.leader),
                "stopped" => self.live().iter().any(|pid| state(*pid) == Some(b'T')),
                "full-pipe" => waiting(&self.stdout)? >= 4096,
                _ => true,
            };
            if named && self.wrapper.is_none_or(waits_for_signals) {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(io::Error::new(io::ErrorKind::TimedOut, "it did not settle"));
            }
            pause(Duration::from_millis(1));
        }
    }

    /// Whether only those that left can run; the program around it does not count.
    pub(crate) fn is_gone(&self) -> bool {
        match self.group.map(ProcessGroup::members) {
            Some(Ok(members)) => members.iter().all(|member| Some(member.pid) == self.wrapper),
            // One walk is a hint: a member may fork behind its back, and reads as none in the middle of an exec.
            _ => {
                self.leftover().is_empty() && {
                    pause(Duration::from_millis(5));
                    self.leftover().is_empty()
                }
            }
        }
    }

    pub(crate) fn leader_can_run(&self) -> bool {
        can_run(self.leader)
    }

    /// Ends it without a look at every process for each of a thousand. What is alive of a group is ours: nothing else
    /// starts processes in this pid namespace.
    pub(crate) fn leave(self) {
        match self.group {
            Some(group) if !self.is_gone() => drop(group.signal(deadbeat::Signal::KILL)),
            None if self.leader_can_run() => drop(kill(Pid::from_raw(self.leader), Signal::SIGKILL)),
            _ => {}
        }
        std::mem::forget(self);
    }

    /// What of it can run and did not leave the group by itself.
    pub(crate) fn leftover(&self) -> Vec<i32> {
        let mut all = self.live();
        all.retain(|pid| !self.escaped.contains(pid) && Some(*pid) != self.wrapper);
        all
    }

    /// Whether `slow-exit` was let finish.
    pub(crate) fn cleaned_up(&self) -> bool {
        self.marker.exists()
    }

    fn live(&self) -> Vec<i32> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
        pids.filter(|pid| self.is_marked(*pid) && can_run(*pid)).collect()
    }

    fn is_marked(&self, pid: i32) -> bool {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|b| *b == 0).any(|entry| entry == self.mark)
    }
}

impl Drop for Target {
    /// Whatever the peer has left. We are in a pid namespace of our own: a number that was reused meanwhile is another
    /// target's at worst, and it ends with the namespace.
    fn drop(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let left = self.live();
            if left.is_empty() || Instant::now() > deadline {
                break;
            }
            for pid in left {
                let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
            }
            pause(Duration::from_millis(1));
        }
        let _ = fs::remove_file(&self.marker);
    }
}

/// Whether a program around the leader has set itself up, or is over: it is not to be told to end before.
fn waits_for_signals(pid: i32) -> bool {
    let call = fs::read_to_string(format!("/proc/{pid}/syscall")).unwrap_or_default();
    let number = call.split(' ').next().and_then(|number| number.parse().ok());
    number == Some(nix::libc::SYS_rt_sigsuspend) || !can_run(pid)
}

/// How many bytes have not been read yet.
fn waiting(pipe: &PipeReader) -> io::Result<usize> {
    rustix::io::ioctl_fionread(pipe).map(|n| n as usize).map_err(io::Error::from)
}

fn state(pid: i32) -> Option<u8> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let end = stat.iter().rposition(|b| *b == b')')?;
    stat.get(end + 2).copied()
}

pub(crate) fn can_run(pid: i32) -> bool {
    state(pid).is_some_and(|state| !b"ZX".contains(&state))
}

#[expect(clippy::disallowed_methods, reason = "never on a runtime's thread: between two looks at the system")]
pub(crate) fn pause(time: Duration) {
    std::thread::sleep(time);
}
