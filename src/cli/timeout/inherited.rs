//! The signal mask and the disposition of SIGPIPE that deadbeat was started with: it changes them for itself, and the
//! command gets them as they were. Other ignored signals are left alone, and are inherited anyway.

use std::io;

use nix::errno::Errno;
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal as Named, signal};
#[cfg(target_os = "linux")]
use nix::unistd::{getpid, getppid};
use tokio::process::Command;

use super::grammar::TimeoutCall;
use crate::cli::startup::Pipe;

#[derive(Clone, Copy, Debug)]
pub(super) struct Inherited {
    /// Commands are started by `execvp(3)`.
    by_exec: bool,
    pipe: Pipe,
    /// The signals that were blocked at the start.
    blocked: SigSet,
    /// The signals that are blocked now.
    own: SigSet,
}

/// What the hook between fork and exec does. Of a hook's error `std` hands on one number and nothing else, so that
/// number has the step in its upper half, above all error numbers of the system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum HookStep {
    Pipe = 1,
    Death,
    Mask,
}

impl HookStep {
    fn error(self, errno: Errno) -> io::Error {
        io::Error::from_raw_os_error((self as i32) << 16 | errno as i32)
    }
}

/// What the hook could not do, and why; `None` if it was not the hook that failed.
pub(super) fn failure_of_hook(error: &io::Error) -> Option<(&'static str, io::Error)> {
    let number = error.raw_os_error()?;
    let what = match number >> 16 {
        step if step == HookStep::Pipe as i32 => "have it ignore SIGPIPE",
        step if step == HookStep::Death as i32 => "have it signalled when deadbeat dies",
        step if step == HookStep::Mask as i32 => "set its signal mask",
        _ => return None,
    };
    Some((what, io::Error::from_raw_os_error(number & 0xFFFF)))
}

impl Inherited {
    /// Unblocks the awaited signals, which the caller may have blocked. To be called before any other thread is
    /// started: each inherits the mask.
    pub(super) fn change(pipe: Pipe, awaited: &[i32]) -> nix::Result<Inherited> {
        let blocked = SigSet::thread_get_mask()?;
        let mut own = blocked;
        awaited.iter().filter_map(|number| Named::try_from(*number).ok()).for_each(|signal| own.remove(signal));
        own.thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
        Ok(Inherited { by_exec: false, pipe, blocked, own })
    }

    /// Has commands started by `execvp(3)` from here on: it has the shell run a script without a `#!` line, and
    /// `posix_spawnp(3)` does not. Returns `false` if they were before.
    pub(super) fn start_by_exec(&mut self) -> bool {
        !std::mem::replace(&mut self.by_exec, true)
    }

    /// The command of the call, to be started with what deadbeat was started with. It is sent `death` if deadbeat dies.
    #[expect(unsafe_code, reason = "the hook makes system calls only; it allocates nothing and takes no lock")]
    pub(super) fn command(&self, call: &TimeoutCall, death: Option<Named>) -> Command {
        let mut command = Command::new(&call.command);
        command.args(&call.args);
        let changed = self.pipe == Pipe::Ignored || self.own != self.blocked || death.is_some();
        if !changed && !self.by_exec {
            // Without a hook it is started by `posix_spawn`, in half the time.
            return command;
        }
        let Inherited { pipe, blocked, .. } = *self;
        #[cfg(target_os = "linux")]
        let us = getpid();
        let hook = move || -> io::Result<()> {
            if pipe == Pipe::Ignored {
                // SAFETY: no handler is installed.
                unsafe { signal(Named::SIGPIPE, SigHandler::SigIgn) }.map_err(|errno| HookStep::Pipe.error(errno))?;
            }
            #[cfg(target_os = "linux")]
            if let Some(signal) = death {
                nix::sys::prctl::set_pdeathsig(signal).map_err(|errno| HookStep::Death.error(errno))?;
                if getppid() != us {
                    // deadbeat died before this could be asked for.
                    return Err(io::ErrorKind::Interrupted.into());
                }
            }
            blocked.thread_set_mask().map_err(|errno| HookStep::Mask.error(errno))
        };
        // SAFETY: see `reason`.
        unsafe { command.pre_exec(hook) };
        command
    }
}
