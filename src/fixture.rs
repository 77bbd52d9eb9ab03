//! The programs of `fixtures/`, embedded: start one in a group of its own, shake hands, and leave nothing behind.
//!
//! Nothing is asserted of a fixture before it has said `ready` and each of its processes has said its pid, so no test
//! has to sleep first. The leader is never waited for while the fixture is held (but for `already-gone`): it pins the
//! pgid, as the `Child` of a caller does that has not waited yet.

use std::fmt;
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags};
use rustix::process::{Pid, WaitId, WaitIdOptions, WaitIdStatus, waitid};

use crate::group::mark::Mark;
use crate::group::{Member, ProcessGroup, pause, wait_readable};
use crate::kill::Outcome;
use crate::signal::Signal;

/// The variable that marks a fixture's processes, so that those that left the group are found too.
const MARK: &str = "DEADBEAT_FIXTURE";

/// How long a fixture may take to shake hands. It bounds a broken one, not a slow machine.
const HANDSHAKE: Duration = Duration::from_secs(30);

/// A shell program with one behaviour, to be killed.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fixture {
    /// Its name, that of its file without `.sh`.
    pub name: &'static str,
    /// Its text: POSIX shell, run as `sh -c TEXT NAME`.
    pub source: &'static str,
    /// What a right kill makes of it.
    pub outcome: Outcome,
    /// How many of its processes leave the group, out of a group kill's reach.
    pub escapes: usize,
    /// Whether it shows by a file that it was let finish its cleanup.
    pub marks_cleanup: bool,
    settled: Settled,
}

/// What more than the handshake has to be seen before the fixture is what its name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settled {
    Ready,
    LeaderExited,
    LeaderReaped,
    LeaderStopped,
    PipeFull,
}

macro_rules! fixtures {
    ($($name:literal: $outcome:ident $(, settled $settled:ident)? $(, escapes $escapes:literal)? $(, marks $marks:literal)?;)*) => {
        /// Every fixture, in the order of `fixtures/`.
        pub const ALL: &[Fixture] = &[$(Fixture {
            name: $name,
            source: include_str!(concat!("../fixtures/", $name, ".sh")),
            outcome: Outcome::$outcome,
            escapes: 0 $(+ $escapes)?,
            marks_cleanup: false $(|| $marks)?,
            settled: fixtures!(@settled $($settled)?),
        }),*];
    };
    (@settled) => { Settled::Ready };
    (@settled $settled:ident) => { Settled::$settled };
}

fixtures! {
    "already-gone": AlreadyGone, settled LeaderReaped;
    "deep-tree": Terminated;
    "double-fork": Killed;
    "fast-exit": Terminated;
    "fork-storm": Killed;
    "forking": Terminated;
    "full-pipe": Terminated, settled PipeFull;
    "ignore-term": Killed;
    "late-fork": Killed;
    "orphan": Terminated, settled LeaderExited;
    "respawn": Killed;
    "second-term": Killed;
    "setsid-escape": Terminated, escapes 1;
    "sigterm-exit-code": Terminated;
    "slow-exit": Terminated, marks true;
    "stopped": Terminated, settled LeaderStopped;
    "stubborn-child": Killed;
    "zombie": AlreadyGone, settled LeaderExited;
}

/// The fixture of this name.
pub fn named(name: &str) -> Option<Fixture> {
    ALL.iter().copied().find(|fixture| fixture.name == name)
}

impl Fixture {
    /// Its behaviour in one sentence: the first line of its text.
    pub fn about(&self) -> &'static str {
        let line = self.source.lines().next().unwrap_or_default();
        line.trim_start_matches("# ").split_once(": ").map_or(line, |(_, about)| about)
    }

    /// Starts it under `sh`, in a process group of its own, and shakes hands.
    ///
    /// Blocks until the fixture is what its name says, so start it before the code under watch.
    ///
    /// # Errors
    ///
    /// The shell cannot be started, or the fixture does not shake hands within 30 s; it is killed then.
    pub fn start(self) -> io::Result<Running> {
        self.setup().start()
    }

    /// To be started otherwise than by default.
    pub fn setup(self) -> Setup {
        Setup { fixture: self, shell: "sh".into(), life: Duration::from_secs(120), cleanup: Duration::from_secs(1) }
    }
}

impl fmt::Debug for Fixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fixture({})", self.name)
    }
}

/// The fixtures that run in this process, and the programs that are to kill them, by leader, with their marks; `None`
/// once no more may start.
///
/// A leader is listed before anybody can signal it and taken off before it is reaped, both under this lock: whoever
/// holds it can signal every group listed.
static RUNNING: Mutex<Option<Vec<(ProcessGroup, Mark)>>> = Mutex::new(Some(Vec::new()));

fn running() -> MutexGuard<'static, Option<Vec<(ProcessGroup, Mark)>>> {
    RUNNING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Under the lock from before the start to the listing, so that [`kill_all`] misses nothing.
pub(crate) fn spawn_listed(command: &mut Command, mark: &Mark) -> io::Result<(Child, ProcessGroup)> {
    let mut running = running();
    let running = running.as_mut().ok_or_else(|| io::Error::other("every fixture was told to end"))?;
    let child = command.spawn()?;
    let pgid = i32::try_from(child.id()).map_err(io::Error::other)?;
    let group = ProcessGroup::new(pgid).map_err(io::Error::other)?;
    running.push((group, mark.clone()));
    Ok((child, group))
}

/// Collects the exit of a leader that has been told to end; the pgid is nobody's from here on.
pub(crate) fn reap_listed(leader: &mut Child, group: ProcessGroup) -> io::Result<ExitStatus> {
    if let Some(others) = running().as_mut() {
        others.retain(|(other, _)| *other != group);
    }
    leader.wait()
}

/// Kills every fixture of this process, and lets no other start: for the end of a program that was interrupted.
pub fn kill_all() {
    for (group, mark) in running().take().unwrap_or_default() {
        let _ = group.signal(Signal::KILL);
        mark.kill();
    }
}

/// How to start a fixture.
#[derive(Clone, Debug)]
pub struct Setup {
    fixture: Fixture,
    shell: String,
    life: Duration,
    cleanup: Duration,
}

impl Setup {
    /// The shell to run it under: a program and its arguments, separated by blanks (`busybox sh`). Default `sh`.
    #[must_use]
    pub fn shell(mut self, shell: &str) -> Setup {
        self.shell = shell.to_owned();
        self
    }

    /// After how long it has ended by itself, whatever happens to us; default 120 s, in whole seconds.
    #[must_use]
    pub fn life(mut self, life: Duration) -> Setup {
        self.life = life;
        self
    }

    /// How long `slow-exit` takes to clean up; default 1 s.
    #[must_use]
    pub fn cleanup(mut self, cleanup: Duration) -> Setup {
        self.cleanup = cleanup;
        self
    }

    /// Starts the fixture, as [`Fixture::start`].
    ///
    /// # Errors
    ///
    /// As there.
    pub fn start(&self) -> io::Result<Running> {
        let mark = Mark::fresh(MARK);
        let (name, id) = mark.variable();
        let marker = std::env::temp_dir().join(format!("deadbeat-{id}"));
        let mut words = self.shell.split_ascii_whitespace();
        let program = words.next().unwrap_or("sh");
        let mut command = Command::new(program);
        command
            .args(words)
            .args(["-c", self.fixture.source, self.fixture.name])
            .env("DEADBEAT_SH", &self.shell)
            .env("DEADBEAT_LIFE", self.life.as_secs().max(1).to_string())
            .env("DEADBEAT_CLEANUP", self.cleanup.as_secs_f64().to_string())
            .env("DEADBEAT_MARKER", &marker)
            .env(name, id)
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            // Shells announce there whom a signal has ended.
            .stderr(Stdio::null());
        let (mut child, group) = spawn_listed(&mut command, &mark)
            .map_err(|error| self.failed(error.kind(), &format!("cannot start {:?}: {error}", self.shell)))?;
        let stdout = child.stdout.take().ok_or_else(|| io::Error::other("stdout was not piped"))?;
        // From here on dropping it cleans up.
        let mut running = Running {
            fixture: self.fixture,
            leader: child,
            reaped: false,
            ended: false,
            group,
            stdout,
            pids: Vec::new(),
            roles: Vec::new(),
            escaped: Vec::new(),
            marker,
            mark,
        };
        let deadline = Instant::now() + HANDSHAKE;
        running
            .shake_hands(deadline)
            .and_then(|()| running.settle(deadline))
            .map_err(|e| self.failed(e.kind(), &e.to_string()))?;
        Ok(running)
    }

    fn failed(&self, kind: io::ErrorKind, why: &str) -> io::Error {
        io::Error::new(kind, format!("fixture {} under {:?}: {why}", self.fixture.name, self.shell))
    }
}

/// A fixture that runs. Dropping it kills whatever is left of it, in the group and outside.
#[derive(Debug)]
pub struct Running {
    fixture: Fixture,
    leader: Child,
    reaped: bool,
    ended: bool,
    group: ProcessGroup,
    stdout: ChildStdout,
    pids: Vec<i32>,
    roles: Vec<(i32, String)>,
    escaped: Vec<i32>,
    marker: PathBuf,
    mark: Mark,
}

impl Running {
    /// Its process group: the pid of its leader.
    pub fn pgid(&self) -> i32 {
        self.group.pgid()
    }

    /// The same, checked.
    pub fn group(&self) -> ProcessGroup {
        self.group
    }

    /// The pids of the handshake that were in the group, the leader's included.
    pub fn pids(&self) -> &[i32] {
        &self.pids
    }

    /// What the fixture calls this process: `leader`, `child`; `None` for one that was born later, or left the group.
    pub fn role(&self, pid: i32) -> Option<&str> {
        self.roles.iter().find(|(other, _)| *other == pid).map(|(_, role)| role.as_str())
    }

    /// Whether `slow-exit` was let finish its cleanup.
    pub fn cleaned_up(&self) -> bool {
        self.marker.exists()
    }

    /// Live members of the group.
    ///
    /// # Errors
    ///
    /// As [`ProcessGroup::members`].
    pub fn leftover(&self) -> io::Result<Vec<Member>> {
        self.group.members()
    }

    /// Live processes of the fixture that left the group.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::Unsupported`] where there is no `/proc` to find them in.
    pub fn escaped(&self) -> io::Result<Vec<Member>> {
        let inside = self.group.members()?;
        let mut all = self.mark.members()?;
        all.retain(|member| !inside.iter().any(|other| other.pid == member.pid));
        Ok(all)
    }

    /// The signal that ended the leader, if one did and it has ended. Does not reap it.
    pub fn leader_ended_by(&self) -> Option<Signal> {
        let status = self.peek(WaitIdOptions::EXITED).ok()??;
        status.terminating_signal().and_then(Signal::from_raw)
    }

    /// Whether nothing of the fixture can run any more, in the group or outside it. Where that cannot be seen, whether
    /// its leader has ended.
    pub fn has_ended(&self) -> bool {
        match self.mark.members() {
            Ok(members) => members.is_empty(),
            Err(_) => self.reaped || self.peek(WaitIdOptions::EXITED).is_ok_and(|status| status.is_some()),
        }
    }

    /// Kills what is left of it, in the group and outside, and reaps the leader; as dropping it does, without the panic.
    ///
    /// # Errors
    ///
    /// [`Leak`] if anything can still run after that.
    pub fn finish(mut self) -> Result<(), Leak> {
        self.end()
    }

    /// Reads `ROLE PID` lines until `ready N` and N of them have come.
    fn shake_hands(&mut self, deadline: Instant) -> io::Result<()> {
        let (mut text, mut expected, mut roles) = (Vec::new(), None, 0);
        while expected != Some(roles) {
            let left = deadline.saturating_duration_since(Instant::now());
            let mut chunk = [0; 256];
            let ready =
                !left.is_zero() && wait_readable(&mut [PollFd::new(self.stdout.as_fd(), PollFlags::POLLIN)], left);
            let length = if ready { self.stdout.read(&mut chunk)? } else { 0 };
            if length == 0 && (ready || left.is_zero()) {
                let said = String::from_utf8_lossy(&text).into_owned();
                let what =
                    if ready { "ended before the handshake was complete" } else { "did not shake hands in time" };
                // Not a word: a shell would have come as far as the first.
                let hint = if ready && text.is_empty() && roles == 0 { "; is that a POSIX shell?" } else { "" };
                let why = format!("{what}; it still had to say {said:?}{hint}");
                return Err(io::Error::new(io::ErrorKind::TimedOut, why));
            }
            text.extend_from_slice(&chunk[..length]);
            // The blocked writer of full-pipe may follow its handshake at once, with no newline in sight.
            while let Some(end) = text.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = text.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line);
                let number =
                    |word: &str| word.trim().parse().map_err(|_| io::Error::other(format!("unexpected {line:?}")));
                match line.split_once(' ') {
                    Some(("ready", n)) => expected = Some(number(n)?),
                    Some(("escaped", pid)) => self.escaped.push(number(pid)?),
                    Some((role, pid)) => {
                        let pid = number(pid)?;
                        self.pids.push(pid);
                        self.roles.push((pid, role.to_owned()));
                    }
                    None => return Err(io::Error::other(format!("unexpected {line:?}"))),
                }
                roles = self.pids.len() as i32 + self.escaped.len() as i32;
            }
        }
        Ok(())
    }

    fn settle(&mut self, deadline: Instant) -> io::Result<()> {
        let settled = self.fixture.settled;
        loop {
            let done = match settled {
                Settled::Ready => true,
                Settled::LeaderExited => self.peek(WaitIdOptions::EXITED)?.is_some(),
                Settled::LeaderReaped => {
                    let exited = self.peek(WaitIdOptions::EXITED)?.is_some();
                    if exited {
                        self.reap();
                    }
                    exited
                }
                Settled::LeaderStopped => self.peek(WaitIdOptions::STOPPED)?.is_some(),
                // The smallest pipe a shell may have got holds a page.
                Settled::PipeFull => rustix::io::ioctl_fionread(&self.stdout)? >= 4096,
            };
            if done {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(io::Error::new(io::ErrorKind::TimedOut, format!("did not settle in time: {settled:?}")));
            }
            pause(Duration::from_millis(1));
        }
    }

    fn peek(&self, event: WaitIdOptions) -> io::Result<Option<WaitIdStatus>> {
        let leader = Pid::from_raw(self.group.pgid()).ok_or_else(|| io::Error::other("no pid"))?;
        Ok(waitid(WaitId::Pid(leader), event | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT)?)
    }

    /// Collects the leader's exit, which it must have reached; the pgid is nobody's from here on.
    fn reap(&mut self) {
        let _ = reap_listed(&mut self.leader, self.group);
        self.reaped = true;
    }

    fn end(&mut self) -> Result<(), Leak> {
        if std::mem::replace(&mut self.ended, true) {
            return Ok(());
        }
        let mopped = self.mop_up();
        let _ = std::fs::remove_file(&self.marker);
        // Only now: until here the un-reaped leader pinned the pgid. One that does not end is not waited for.
        if mopped.is_ok() {
            self.reap();
        }
        mopped
    }

    /// SIGKILL to all of it until nothing can run, or `Err` with those that outlive that.
    fn mop_up(&mut self) -> Result<(), Leak> {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            // With the leader reaped the number is nobody's, and may be a stranger's by now.
            if !self.reaped {
                let _ = self.group.signal(Signal::KILL);
            }
            self.mark.kill();
            if self.has_ended() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let members = self.mark.members().unwrap_or_default();
                return Err(Leak { fixture: self.fixture.name, members });
            }
            pause(Duration::from_millis(1));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        match self.end() {
            Ok(()) => {}
            Err(leak) if std::thread::panicking() => eprintln!("{leak}"),
            Err(leak) => panic!("{leak}"),
        }
    }
}

/// Processes of a fixture that could still run when nothing of it should.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Leak {
    /// The fixture's name.
    pub fixture: &'static str,
    /// Who is left.
    pub members: Vec<Member>,
}

impl fmt::Display for Leak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "fixture {} leaks {} process(es):", self.fixture, self.members.len())?;
        self.members.iter().try_for_each(|member| write!(f, " {member};"))
    }
}

impl std::error::Error for Leak {}
