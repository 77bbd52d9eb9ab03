//! What this process was started with and has to change for itself, the command gets as it was: the signals blocked, and
//! SIGPIPE ignored or not. Ignored signals that are left alone pass through anyway.

use std::io;

use nix::errno::Errno;
use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal as Named, signal};
#[cfg(target_os = "linux")]
use nix::unistd::{getpid, getppid};
use tokio::process::Command;

use crate::cli::startup::Pipe;

#[derive(Clone, Copy, Debug)]
pub(super) struct Inherited {
    by_exec: bool,
    pipe: Pipe,
    blocked: SigSet,
    own: SigSet,
}

/// What the hook does, by numbers that begin where the system's error numbers have ended: of a hook's error `std` hands on
/// one number and nothing else.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Pipe = 1,
    Death,
    Mask,
}

impl Step {
    fn error(self, errno: Errno) -> io::Error {
        io::Error::from_raw_os_error((self as i32) << 16 | errno as i32)
    }
}

/// What the hook could not do, if it was the hook that failed.
pub(super) fn failure_of_hook(error: &io::Error) -> Option<(&'static str, io::Error)> {
    let number = error.raw_os_error()?;
    let what = match number >> 16 {
        step if step == Step::Pipe as i32 => "have it ignore SIGPIPE",
        step if step == Step::Death as i32 => "have it signalled when deadbeat dies",
        step if step == Step::Mask as i32 => "set its signal mask",
        _ => return None,
    };
    Some((what, io::Error::from_raw_os_error(number & 0xFFFF)))
}

/// What else is special about the command's start.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Start {
    /// It is sent this when we die.
    pub(super) death: Option<Named>,
}

impl Inherited {
    /// Has the signals that we wait for reach us, even if whoever started us has blocked them. Before any other thread is
    /// started, so that none of them has them blocked.
    pub(super) fn change(pipe: Pipe, awaited: &[i32]) -> nix::Result<Inherited> {
        let blocked = SigSet::thread_get_mask()?;
        let mut own = blocked;
        awaited.iter().filter_map(|number| Named::try_from(*number).ok()).for_each(|signal| own.remove(signal));
        own.thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
        Ok(Inherited { by_exec: false, pipe, blocked, own })
    }

    /// From here on commands are started by `execvp(3)`, which has the shell run a script that does not say whose it is;
    /// `posix_spawnp(3)` does not. `false`: they were before.
    pub(super) fn start_by_exec(&mut self) -> bool {
        !std::mem::replace(&mut self.by_exec, true)
    }

    #[expect(unsafe_code, reason = "the hook makes system calls only; it allocates nothing and takes no lock")]
    pub(super) fn give_to(&self, command: &mut Command, start: Start) {
        let changed = self.pipe == Pipe::Ignored || self.own != self.blocked || start != Start::default();
        if !changed && !self.by_exec {
            // Without a hook it is `posix_spawn`, in half the time.
            return;
        }
        let Inherited { pipe, blocked, .. } = *self;
        #[cfg(target_os = "linux")]
        let us = getpid();
        let hook = move || -> io::Result<()> {
            if pipe == Pipe::Ignored {
                // SAFETY: no handler is installed.
                unsafe { signal(Named::SIGPIPE, SigHandler::SigIgn) }.map_err(|errno| Step::Pipe.error(errno))?;
            }
            #[cfg(target_os = "linux")]
            if let Some(signal) = start.death {
                nix::sys::prctl::set_pdeathsig(signal).map_err(|errno| Step::Death.error(errno))?;
                if getppid() != us {
                    // We died before it was asked for.
                    return Err(io::ErrorKind::Interrupted.into());
                }
            }
            blocked.thread_set_mask().map_err(|errno| Step::Mask.error(errno))
        };
        // SAFETY: see `reason`.
        unsafe { command.pre_exec(hook) };
    }
}
