//! The parent's end: the guardian it started, and the socket that holds it to us.
//!
//! What counts is that nobody else has our end of the socket, so that it closes when we die. It is closed on exec: a
//! child that was forked but has not become its program yet still keeps it open, and that is well so, because by the
//! time the guardian sees the end, that child can be found by its mark.

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
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use super::letter::{LENGTH, Letter, VERSION};
use super::{ANSWER, MARKS, NAME, REQUEST, remove_marks};
use crate::group::{GroupWatch, ProcessGroup, hold_nothing, wait_readable};
use crate::signal::Signal;

/// How long a program may take to say that it is a guardian. It bounds one that is none, not a slow machine.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long a guardian may leave its letters unread. A few hundred lie in the socket before anybody waits for it.
const UNREAD: Duration = Duration::from_secs(if cfg!(test) { 40 } else { 10 });

/// Where guardians come from.
#[derive(Debug)]
pub(super) enum Program {
    /// The one that runs here. From a process that is small enough to be `forked` it is in a session of its own from the
    /// start, so that nobody need wait until it is up.
    This {
        forked: bool,
    },
    Named(PathBuf),
}

impl Program {
    #[expect(
        unsafe_code,
        reason = "what is called between fork and exec makes system calls only and allocates nothing"
    )]
    fn command(&self) -> io::Result<Command> {
        match self {
            Program::Named(path) => Ok(Command::new(path)),
            Program::This { forked } => {
                let path = std::env::current_exe()?;
                // The same program even if its file was replaced or deleted since.
                let link = Path::new("/proc/self/exe");
                let mut command = Command::new(if link.exists() { link } else { &path });
                command.arg0(NAME);
                if *forked {
                    // SAFETY: see `reason`.
                    unsafe { command.pre_exec(leave_between_fork_and_exec) };
                }
                Ok(command)
            }
        }
    }
}

/// What cannot be left here is left by the program, see `retreat.rs`.
fn leave_between_fork_and_exec() -> io::Result<()> {
    setsid()?;
    hold_nothing();
    Ok(())
}

#[derive(Debug)]
pub(super) struct Line {
    socket: UnixStream,
    guardian: Child,
    /// The group it starts in, and leads again as soon as it has a session of its own.
    group: GroupWatch,
    /// A thread reads what it has to say.
    is_heard: bool,
    /// The process that started it, and no copy of that one, which has the same socket.
    owner: u32,
}

impl Line {
    /// Starts a guardian; it is cut off again if `greet` fails.
    pub(super) fn open(
        program: &Program,
        mark: &str,
        greet: impl FnOnce(&mut Line) -> io::Result<()>,
    ) -> io::Result<Line> {
        let (socket, theirs) = UnixStream::pair()?;
        #[cfg(target_vendor = "apple")]
        rustix::net::sockopt::set_socket_nosigpipe(&socket, true)?;
        let mut command = program.command()?;
        command.args([REQUEST, VERSION, mark.strip_prefix(MARKS).unwrap_or(mark)]);
        // Somebody who kills all that carries an outer mark means us, and the guardian sees to what we leave.
        remove_marks(&mut command);
        // What is sent to our group from now on does not reach it, however long it takes to start. A group outside our pid
        // namespace (it reads 0) it could not join, and a leader that can join no other group can open no session.
        if getpgrp().as_raw() != 0 && !matches!(program, Program::This { forked: true }) {
            command.process_group(0);
        }
        let guardian = command.stdin(OwnedFd::from(theirs)).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        // It keeps the guardian's end of the line, which we would never see closed.
        drop(command);
        let group = ProcessGroup::new(i32::try_from(guardian.id()).map_err(io::Error::other)?);
        let group = GroupWatch::new(group.map_err(io::Error::other)?);
        let mut line = Line { socket, guardian, group, is_heard: false, owner: std::process::id() };
        match greet(&mut line) {
            Ok(()) => Ok(line),
            Err(error) => {
                line.cut();
                Err(error)
            }
        }
    }

    pub(super) fn pid(&self) -> i32 {
        self.group.group().pgid()
    }

    /// Waits until the program has said that it is a guardian.
    pub(super) fn shake_hands(&mut self) -> io::Result<()> {
        let ended = || no_guardian("it ended without an answer");
        self.send(&Letter::Answer).map_err(|_| ended())?;
        let deadline = Instant::now() + HANDSHAKE;
        let mut answer = Vec::new();
        while answer.len() < ANSWER.len() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(no_guardian(&format!("it did not answer within {} s", HANDSHAKE.as_secs())));
            }
            if !wait_readable(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)], left) {
                continue;
            }
            let mut chunk = [0; ANSWER.len()];
            match self.socket.read(&mut chunk) {
                Ok(0) => return Err(ended()),
                Ok(length) => answer.extend_from_slice(&chunk[..length]),
                // Interrupted; or it has ended with our letter unread, and after that error comes the end.
                Err(_) => {}
            }
        }
        if answer == ANSWER { Ok(()) } else { Err(no_guardian("its answer was none")) }
    }

    /// One letter in one write. Never a SIGPIPE, and hardly ever a wait.
    pub(super) fn send(&self, letter: &Letter) -> io::Result<()> {
        self.send_within(letter, UNREAD)
    }

    /// [`io::ErrorKind::WouldBlock`] if the guardian has left so much unread for so long. Nothing was written then.
    pub(super) fn send_within(&self, letter: &Letter, patience: Duration) -> io::Result<()> {
        let flags = SendFlags::DONTWAIT;
        #[cfg(not(target_vendor = "apple"))]
        let flags = flags | SendFlags::NOSIGNAL;
        let deadline = Instant::now() + patience;
        let left = || deadline.saturating_duration_since(Instant::now());
        loop {
            match send(&self.socket, &letter.encode(), flags) {
                Ok(LENGTH) => return Ok(()),
                Ok(_) => {
                    return Err(io::Error::new(io::ErrorKind::WriteZero, "half a letter was sent to the guardian"));
                }
                Err(rustix::io::Errno::INTR) => {}
                Err(rustix::io::Errno::AGAIN | rustix::io::Errno::NOBUFS) if !left().is_zero() => {
                    wait_readable(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLOUT)], left());
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Logs what it has to say, on a thread that ends with it.
    pub(super) fn listen(&mut self) {
        if self.is_heard {
            return;
        }
        // Without a thread nothing is heard of it; the next use tries again.
        let Ok(socket) = self.socket.try_clone() else { return };
        let listen = std::thread::Builder::new().name("guardian-listener".into());
        self.is_heard = listen.spawn(move || hear(socket)).is_ok();
    }

    /// Ends the guardian before it can take the end of the line for ours, or whatever program that was.
    pub(super) fn cut(mut self) {
        // It has not been reaped: not by somebody else, nor by the system because SIGCHLD is ignored.
        let ask = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        if waitid(WaitId::Pid(Pid::from_child(&self.guardian)), ask).is_ok() {
            // By its group, for a program that is no guardian and has children; alone, for when it leads none.
            let _ = self.group.signal(Signal::KILL);
            let _ = self.guardian.kill();
        }
        self.hang_up();
    }

    /// Lets go of the guardian: it takes that for our end, and ends too when it has done what it is there for.
    pub(super) fn hang_up(self) {
        let Line { socket, mut guardian, group, is_heard, owner } = self;
        // The thread that listens has the socket too, and goes on until the guardian has ended.
        if is_heard && owner == std::process::id() {
            let _ = socket.shutdown(std::net::Shutdown::Write);
        }
        drop((socket, group));
        // Without a thread it stays a zombie until we end; nothing worse.
        let _ = std::thread::Builder::new().name("guardian-reaper".into()).spawn(move || guardian.wait());
    }
}

/// Until the guardian has ended.
fn hear(mut socket: UnixStream) {
    let mut letter = [0; LENGTH];
    while socket.read_exact(&mut letter).is_ok() {
        if let Some(Letter::Doubt { pid, .. }) = Letter::decode(&letter) {
            let command = command_of(pid);
            tracing::warn!(
                pid,
                "process {pid} ({command}) may be of a guarded run that is over, and lives on: its environment cannot be \
                 read, and nothing else tells whose it is. It was not signalled"
            );
        }
    }
}

#[cfg(target_os = "linux")]
fn command_of(pid: i32) -> String {
    crate::group::kin::command(pid)
}

/// No process is in doubt where descent cannot be told.
#[cfg(not(target_os = "linux"))]
fn command_of(_pid: i32) -> String {
    String::new()
}

fn no_guardian(why: &str) -> io::Error {
    let remedy = "its main() must begin with deadbeat::guardian::main_if_requested(), of this version of deadbeat";
    io::Error::other(format!("the program is no guardian, {why}: {remedy}"))
}

#[cfg(test)]
pub(super) mod tests {
    use std::io::Write;
    use std::net::Shutdown;

    use super::*;
    use crate::group::pause;

    #[test]
    fn a_program_has_as_long_to_answer_as_the_documentation_promises() {
        let promised =
            crate::promised::time(include_str!("../guardian.rs"), "answer as a guardian within {} is killed");
        assert_eq!(HANDSHAKE, promised);
    }

    /// What must come, comes well within this; it bounds a broken test, not a slow machine.
    pub(in crate::guardian) const SOON: Duration = Duration::from_secs(40);

    /// A line whose other end the test has, in place of a guardian that has ended.
    pub(in crate::guardian) fn held() -> (Line, UnixStream) {
        let line = Line::open(&Program::Named("true".into()), "DEADBEAT_TEST_LINE", |_| Ok(())).unwrap();
        let (socket, theirs) = UnixStream::pair().unwrap();
        (Line { socket, ..line }, theirs)
    }

    #[test]
    fn a_letter_waits_for_room_as_long_as_it_may() {
        let (line, theirs) = held();
        let mut sent = 0;
        let error = loop {
            match line.send_within(&Letter::Release { ward: sent }, Duration::ZERO) {
                Ok(()) => sent += 1,
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert!(sent >= 100, "there was room for {sent}");
        let last_of = |letters: u64| {
            let mut read = vec![0; letters as usize * LENGTH];
            (&theirs).read_exact(&mut read).unwrap();
            read.chunks_exact(LENGTH).last().and_then(|letter| Letter::decode(letter.first_chunk()?))
        };
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                // There is no room yet when the next one is sent.
                pause(Duration::from_millis(20));
                last_of(sent)
            });
            line.send_within(&Letter::Release { ward: sent }, SOON).unwrap();
            assert_eq!(reader.join().unwrap(), Some(Letter::Release { ward: sent - 1 }));
        });
        assert_eq!(last_of(1), Some(Letter::Release { ward: sent }), "what was refused was not written");
    }

    /// Set in a child that is to say what it holds.
    #[cfg(feature = "cli")]
    const SAYS: &str = "DEADBEAT_TEST_SAYS_WHAT_IT_HOLDS";

    /// What a program holds that is started in a guardian's place, in another directory and with a file that is open to
    /// every child: its directory, its descriptors, its session.
    #[cfg(feature = "cli")]
    #[test]
    fn a_guardian_that_is_forked_holds_nothing_of_the_callers_from_its_first_instruction_on() {
        if std::env::var_os(SAYS).is_some() {
            let listed =
                Command::new("ls").args(["-l", &format!("/proc/{}/fd/", std::process::id())]).output().unwrap();
            let session = nix::unistd::getsid(None).unwrap().as_raw() == std::process::id() as i32;
            let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
            println!("dir={} session={session}\n{listed}", std::env::current_dir().unwrap().display());
            return;
        }
        let file = std::fs::File::open("/etc/passwd").unwrap();
        rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).unwrap();
        let test = "guardian::line::tests::a_guardian_that_is_forked_holds_nothing_of_the_callers_from_its_first_instruction_on";
        let said = |mut command: Command| {
            command.args(["--exact", test, "--nocapture"]).env(SAYS, "1").current_dir("/usr");
            String::from_utf8(command.output().unwrap().stdout).unwrap()
        };
        let control = said(Command::new("/proc/self/exe"));
        assert!(control.contains("dir=/usr session=false") && control.contains("/etc/passwd"), "{control}");
        let said = said(Program::This { forked: true }.command().unwrap());
        assert!(said.contains("dir=/ session=true") && !said.contains("/etc/passwd"), "{said}");
    }

    #[test]
    fn a_guardian_is_known_by_its_answer() {
        let why = |answer: &[u8]| {
            let (mut line, mut theirs) = held();
            theirs.write_all(answer).unwrap();
            theirs.shutdown(Shutdown::Write).unwrap();
            line.shake_hands().err().map(|error| error.to_string())
        };
        assert_eq!(why(&ANSWER), None);
        for (answer, expected) in [
            (&b"DEADBEAT"[..], "its answer was none"),
            (&ANSWER[1..], "it ended without an answer"),
            (b"", "it ended without an answer"),
        ] {
            let why = why(answer).expect("taken for a guardian");
            assert!(why.contains(expected), "{answer:?}: {why}");
        }
    }

    #[test]
    fn an_answer_may_come_in_pieces() {
        let (mut line, mut theirs) = held();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                let mut letter = [0; LENGTH];
                theirs.read_exact(&mut letter).unwrap();
                assert_eq!(Letter::decode(&letter), Some(Letter::Answer));
                for byte in ANSWER {
                    theirs.write_all(&[byte]).unwrap();
                    std::thread::yield_now();
                }
            });
            line.shake_hands().unwrap();
        });
    }

    #[test]
    fn who_ends_with_our_letter_unread_is_no_guardian() {
        let (mut line, theirs) = held();
        std::thread::scope(|scope| {
            scope.spawn(move || wait_readable(&mut [PollFd::new(theirs.as_fd(), PollFlags::POLLIN)], SOON));
            let why = line.shake_hands().unwrap_err().to_string();
            assert!(why.contains("it ended without an answer"), "{why}");
        });
    }
}
