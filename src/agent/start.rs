//! Which step of a start has failed, found out after the failure: a start that succeeds costs nothing more.
//!
//! The system tells no more than an error number, whichever step it is of. So the start is rehearsed, with a last hook
//! that ends the new process before it executes anything:
//!
//! 1. Our own preparation, without what the caller's command brings along. If it fails, it was that.
//! 2. The caller's command, hooks and all. If the last hook is reached, it was the exec that failed.
//! 3. If it is not, once more in another directory: it was the directory, if that makes the difference; else a hook.
//!
//! A hook of our own in every start would tell at once, but takes away `posix_spawn`, which starts a short command in
//! half the time and copies no page tables.

use std::fmt;
use std::io;
use std::os::unix::process::CommandExt;

use nix::errno::Errno;
use tokio::process::Command;
use tokio::sync::oneshot;

use super::options::Stdin;
use crate::guardian;

/// What the last hook of a rehearsal fails with: no system has such an error number.
const REACHED: i32 = 0x0DEA_DBEA;

/// Linux has no larger error number (`MAX_ERRNO`), and no other system has so many.
const LAST_ERRNO: i32 = 4095;

/// Which step of the start of a command failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StartStep {
    /// What is done for every command before anything of its own: a new process, its standard input, a process group of
    /// its own, the message to the guardian.
    Preparation,
    /// The directory of `Command::current_dir` cannot be entered.
    CurrentDir,
    /// A hook of `Command::pre_exec`, or a change of user or groups (`Command::uid`, `Command::gid`).
    PreExec,
    /// `exec`: the program, or its interpreter, is not there, or may not or cannot be executed.
    Exec,
}

/// Why a command was not started.
#[derive(Debug)]
#[non_exhaustive]
pub struct StartError {
    /// What failed. Found out afterwards, by starting the command again up to the `exec` and no further: its hooks may
    /// have run in two or three processes, of which none executed anything.
    pub step: StartStep,
    /// As the system tells it. Of a hook's error `std` hands on the OS error number alone, and `EINVAL` where it has
    /// none.
    pub error: io::Error,
}

impl StartError {
    pub(super) fn in_preparation(error: io::Error) -> StartError {
        StartError { step: StartStep::Preparation, error }
    }

    /// The kind of the system's error.
    pub fn kind(&self) -> io::ErrorKind {
        self.error.kind()
    }

    /// Does what [`find_out`](StartError::find_out) does on a thread of its own: each rehearsal forks this process and
    /// waits, for as long as the caller's hooks take. On this thread if no other can be started.
    pub(super) async fn find_out_off_worker(mut command: Command, error: io::Error, own: Preparation) -> StartError {
        let (told, found) = oneshot::channel();
        guardian::on_new_thread_or_here(move || {
            // The caller may have gone.
            let _ = told.send(StartError::find_out(&mut command, error, own));
        });
        let panicked = |_| StartError::in_preparation(io::Error::other("which step failed could not be found out"));
        found.await.unwrap_or_else(panicked)
    }

    /// Finds out which step of the start of `command` has failed; `own` is what this crate did to prepare it.
    pub(crate) fn find_out(command: &mut Command, error: io::Error, own: Preparation) -> StartError {
        let step = match error.raw_os_error() {
            // An argument with a NUL byte in it, which no exec takes.
            None => StartStep::Exec,
            // No other call fails with this error.
            Some(number) if number == Errno::ENOEXEC as i32 => StartStep::Exec,
            // A number that no system has: it is a hook's own.
            Some(number) if number > LAST_ERRNO => StartStep::PreExec,
            Some(number) => judge(number, own.rehearse(), || Rehearsal::of(command.as_std_mut())),
        };
        StartError { step, error }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let error = &self.error;
        match self.step {
            StartStep::Preparation => write!(f, "its process could not be prepared: {error}"),
            StartStep::CurrentDir => write!(f, "its working directory cannot be entered: {error}"),
            StartStep::Exec => write!(f, "the exec failed: {error}"),
            StartStep::PreExec => {
                write!(f, "a pre_exec hook of the command, or its change of user or group, failed: {error}")?;
                f.write_str(match error.raw_os_error().map(Errno::from_raw) {
                    Some(Errno::EPERM) => {
                        "; setsid() fails so in a hook: the command leads a process group of its own already, \
                         so leave setsid() out"
                    }
                    Some(Errno::EINVAL) => "; a hook's error that has no OS error number arrives as this one",
                    _ => "",
                })
            }
        }
    }
}

impl std::error::Error for StartError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.error)
    }
}

/// What is done to prepare every command, whatever the caller asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Preparation {
    pub(crate) stdin: Stdin,
    /// Whether it leads a process group of its own.
    pub(crate) leads: bool,
}

impl Preparation {
    fn rehearse(self) -> Result<(), i32> {
        // Which program does not matter: it is not executed.
        let mut command = std::process::Command::new("/");
        command.stdin(self.stdin.stdio());
        if self.leads {
            command.process_group(0);
        }
        Rehearsal::of(&mut command).start()
    }
}

/// A command that gets as far as its exec and no further.
struct Rehearsal<'a> {
    command: &'a mut std::process::Command,
}

impl Rehearsal<'_> {
    #[expect(unsafe_code, reason = "the hook returns a number; it allocates nothing and takes no lock")]
    fn of(command: &mut std::process::Command) -> Rehearsal<'_> {
        // SAFETY: see `reason`. Hooks run in the order of their registration, so all others have run before.
        unsafe { command.pre_exec(|| Err(io::Error::from_raw_os_error(REACHED))) };
        Rehearsal { command }
    }

    /// Starts it. `Ok`: all but the exec was done. Else the error number.
    fn start(&mut self) -> Result<(), i32> {
        match self.command.spawn() {
            Err(error) if error.raw_os_error() == Some(REACHED) => Ok(()),
            Err(error) => Err(error.raw_os_error().unwrap_or(Errno::EINVAL as i32)),
            Ok(mut child) => {
                // A hook has executed a program itself this time, in place of the one whose exec was to fail.
                let _ = child.kill();
                let _ = child.wait();
                Ok(())
            }
        }
    }

    /// Whether it fails with another error, or not at all, in a directory that every process can enter.
    fn differs_elsewhere(&mut self, number: i32) -> bool {
        let has_one = self.command.get_current_dir().is_some();
        has_one && {
            self.command.current_dir("/");
            self.start() != Err(number)
        }
    }
}

/// The step of which `number` is the error.
fn judge<'a>(number: i32, own: Result<(), i32>, command: impl FnOnce() -> Rehearsal<'a>) -> StartStep {
    if own.is_err() {
        return StartStep::Preparation;
    }
    let mut command = command();
    match command.start() {
        // What was scarce for a moment was missing before there was a process, rather than in the exec.
        Ok(()) if is_scarce(number) => StartStep::Preparation,
        Ok(()) => StartStep::Exec,
        Err(again) if command.differs_elsewhere(again) => StartStep::CurrentDir,
        Err(_) => StartStep::PreExec,
    }
}

/// Whether no process, descriptor or memory was to be had.
fn is_scarce(number: i32) -> bool {
    [Errno::EAGAIN, Errno::EMFILE, Errno::ENFILE, Errno::ENOMEM].map(|errno| errno as i32).contains(&number)
}
