//! The parent's end of the socket to its guardian, and the guardian process behind it.
//!
//! The guardian learns of the parent's death by the end of this socket, so no other process may keep it open for long.
//! It is closed on exec. A child between fork and exec still has a copy; when the guardian sees the end, that child is
//! past its exec, and can be found by its mark.

use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags};
use nix::unistd::{getpgrp, setsid};
use rustix::net::{SendFlags, send};

use super::identity::{GUARDIAN_REQUEST, MARK_PREFIX, NAME, remove_marks};
use super::message::{HANDSHAKE_REPLY, LENGTH, Message, VERSION};
use crate::group::{GroupWatch, ProcessGroup, child, hold_nothing, wait_readable};
use crate::signal::Signal;

/// How long a program may take to answer as a guardian. It bounds a program that is none, not a slow machine.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a guardian may leave its messages unread. The socket holds a few hundred before a writer has to wait.
const UNREAD_TIMEOUT: Duration = Duration::from_secs(if cfg!(test) { 40 } else { 10 });

/// The program that is started as a guardian.
#[derive(Debug)]
pub(super) enum GuardianProgram {
    /// The running program. `forked`: this process is small enough to be copied, and the copy opens its session between
    /// fork and exec, so that its start need not be waited for.
    This {
        forked: bool,
    },
    Named(PathBuf),
}

impl GuardianProgram {
    #[expect(
        unsafe_code,
        reason = "what is called between fork and exec makes system calls only and allocates nothing"
    )]
    fn command(&self) -> io::Result<Command> {
        match self {
            GuardianProgram::Named(path) => Ok(Command::new(path)),
            GuardianProgram::This { forked } => {
                let path = std::env::current_exe()?;
                // The link leads to the same program even if its file was replaced or deleted since.
                let link = Path::new("/proc/self/exe");
                let mut command = Command::new(if link.exists() { link } else { &path });
                command.arg0(NAME);
                if *forked {
                    // SAFETY: see `reason`.
                    unsafe { command.pre_exec(detach_between_fork_and_exec) };
                }
                Ok(command)
            }
        }
    }
}

/// Detaches a forked guardian as far as that can be done before its exec; `daemonize.rs` does the rest.
fn detach_between_fork_and_exec() -> io::Result<()> {
    setsid()?;
    hold_nothing();
    Ok(())
}

#[derive(Debug)]
pub(super) struct Connection {
    socket: UnixStream,
    guardian: Child,
    /// The group that the guardian is started in, and leads again as soon as it has opened a session.
    group: GroupWatch,
    /// A thread reads what the guardian sends.
    has_listener: bool,
    /// The process that started the guardian; a forked copy of it has the same socket and must not shut it down.
    owner: u32,
}

impl Connection {
    /// Starts a guardian and calls `greet`; kills it if `greet` fails.
    pub(super) fn open(
        program: &GuardianProgram,
        mark: &str,
        greet: impl FnOnce(&mut Connection) -> io::Result<()>,
    ) -> io::Result<Connection> {
        let (socket, guardians) = UnixStream::pair()?;
        #[cfg(target_vendor = "apple")]
        rustix::net::sockopt::set_socket_nosigpipe(&socket, true)?;
        let mut command = program.command()?;
        command.args([GUARDIAN_REQUEST, VERSION, mark.strip_prefix(MARK_PREFIX).unwrap_or(mark)]);
        // A kill of all that carry the mark of an outer run is meant for this process; its guardian has to survive
        // that.
        remove_marks(&mut command);
        // In a group of its own the guardian is out of reach of a signal to this process's group, however long it takes
        // to start. Two cases are left out: a forked guardian has opened a session by then; and where our group is
        // outside our pid namespace (it reads 0), the guardian could not leave its own group again, and a leader cannot
        // open a session.
        if getpgrp().as_raw() != 0 && !matches!(program, GuardianProgram::This { forked: true }) {
            command.process_group(0);
        }
        let guardian = command.stdin(OwnedFd::from(guardians)).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        // The command holds the guardian's end of the socket: kept, it would hide the guardian's death from us.
        drop(command);
        let group = ProcessGroup::new(i32::try_from(guardian.id()).map_err(io::Error::other)?);
        let group = GroupWatch::new(group.map_err(io::Error::other)?);
        let mut connection = Connection { socket, guardian, group, has_listener: false, owner: std::process::id() };
        match greet(&mut connection) {
            Ok(()) => Ok(connection),
            Err(error) => {
                connection.kill();
                Err(error)
            }
        }
    }

    pub(super) fn pid(&self) -> i32 {
        self.group.group().pgid()
    }

    /// Waits until the program has answered as a guardian.
    pub(super) fn shake_hands(&mut self) -> io::Result<()> {
        let ended = || no_guardian("it ended without an answer");
        self.send(&Message::Handshake).map_err(|_| ended())?;
        let deadline = Instant::now() + HANDSHAKE_TIMEOUT;
        let mut answer = Vec::new();
        while answer.len() < HANDSHAKE_REPLY.len() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(no_guardian(&format!("it did not answer within {} s", HANDSHAKE_TIMEOUT.as_secs())));
            }
            if !wait_readable(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)], left) {
                continue;
            }
            let mut chunk = [0; HANDSHAKE_REPLY.len()];
            match self.socket.read(&mut chunk) {
                Ok(0) => return Err(ended()),
                Ok(length) => answer.extend_from_slice(&chunk[..length]),
                // Interrupted; or the program has ended with our message unread, which the next read reports as the
                // end.
                Err(_) => {}
            }
        }
        if answer == HANDSHAKE_REPLY { Ok(()) } else { Err(no_guardian("its answer was none")) }
    }

    /// Sends a message in one write, never with a SIGPIPE. It blocks only while the socket is full.
    pub(super) fn send(&self, message: &Message) -> io::Result<()> {
        self.send_within(message, UNREAD_TIMEOUT)
    }

    /// Sends a message if the socket has room for it within `patience`; if not, writes nothing and returns
    /// [`io::ErrorKind::WouldBlock`].
    pub(super) fn send_within(&self, message: &Message, patience: Duration) -> io::Result<()> {
        let flags = SendFlags::DONTWAIT;
        #[cfg(not(target_vendor = "apple"))]
        let flags = flags | SendFlags::NOSIGNAL;
        let deadline = Instant::now() + patience;
        let left = || deadline.saturating_duration_since(Instant::now());
        loop {
            match send(&self.socket, &message.encode(), flags) {
                Ok(LENGTH) => return Ok(()),
                Ok(_) => {
                    return Err(io::Error::new(io::ErrorKind::WriteZero, "half a message was sent to the guardian"));
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::NOBUFS) if !left().is_zero() => {
                    wait_readable(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLOUT)], left());
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Starts a thread that logs what the guardian sends and ends with the guardian, unless there is one.
    pub(super) fn start_listener(&mut self) {
        if self.has_listener {
            return;
        }
        // Without a thread nothing is logged; the next call tries again.
        let Ok(socket) = self.socket.try_clone() else { return };
        let listener = std::thread::Builder::new().name("guardian-listener".into());
        self.has_listener = listener.spawn(move || log_unattributed(socket)).is_ok();
    }

    /// Kills the guardian, or the other program that was started in its place, before it can see the end of the socket
    /// and take it for our death.
    pub(super) fn kill(mut self) {
        // A process that was reaped already, by other code or by the system because SIGCHLD is ignored, may have lost
        // its number to another.
        if child::has_exited(self.guardian.id() as i32).is_ok() {
            // The group, since a program that is no guardian may have children; and the process alone, which may lead
            // none.
            let _ = self.group.signal(Signal::KILL);
            let _ = self.guardian.kill();
        }
        self.close();
    }

    /// Closes our end of the socket: to the guardian that is the parent's death, and it ends when its work is done.
    pub(super) fn close(self) {
        let Connection { socket, mut guardian, group, has_listener, owner } = self;
        // The listener has a copy of the socket, which stays open until the guardian has ended.
        if has_listener && owner == std::process::id() {
            let _ = socket.shutdown(std::net::Shutdown::Write);
        }
        drop((socket, group));
        // Without a thread the guardian stays a zombie until this process ends, which does no other harm.
        let _ = std::thread::Builder::new().name("guardian-reaper".into()).spawn(move || guardian.wait());
    }
}

/// Warns of each process that the guardian could not attribute to a run, until the guardian has ended.
fn log_unattributed(mut socket: UnixStream) {
    let mut message = [0; LENGTH];
    while socket.read_exact(&mut message).is_ok() {
        if let Some(Message::Unattributed { pid, .. }) = Message::decode(&message) {
            let command = command_of(pid);
            tracing::warn!(
                pid,
                "process {pid} ({command}) may be of a guarded run that is over, and lives on: its environment cannot \
                 be read, and nothing else tells whose it is. It was not signalled"
            );
        }
    }
}

#[cfg(target_os = "linux")]
fn command_of(pid: i32) -> String {
    crate::group::kin::command(pid)
}

/// The empty text: only Linux tells descent, so elsewhere a guardian sends no process to be named.
#[cfg(not(target_os = "linux"))]
fn command_of(_pid: i32) -> String {
    String::new()
}

fn no_guardian(why: &str) -> io::Error {
    let remedy = "its main() must begin with deadbeat::guardian::main_if_requested(), of this version of deadbeat";
    io::Error::other(format!("the program is no guardian, {why}: {remedy}"))
}

#[cfg(test)]
mod tests;
