//! A single process, whatever group it is in: held by its pidfd, and only signalled while it is the one that is meant.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::super::raw;
use super::pidfd::{self, Pidfd, has_exited};
use super::table::runs;

/// Whether a process is still the one that is meant, for a number that may have been given to another.
type IsIt = Box<dyn Fn(i32) -> bool + Send>;

/// The watch kept on a single process, whatever group it is in.
pub(in crate::group) struct Stray {
    pid: i32,
    /// `None` where there is none to be had; then it is looked at again before each signal.
    pidfd: Option<Pidfd>,
    is_it: IsIt,
}

impl Stray {
    /// Holds the process by its pidfd, and only then looks whether it is the one that is meant.
    pub(in crate::group) fn hold(pid: i32, is_it: IsIt) -> Option<Stray> {
        let pidfd = match pidfd::open(pid) {
            Ok(pidfd) => Some(pidfd),
            Err(Errno::ESRCH) => return None,
            Err(_) => None,
        };
        is_it(pid).then_some(Stray { pid, pidfd, is_it })
    }

    pub(in crate::group) fn is_gone(&self) -> bool {
        match self.fd() {
            Some(fd) => has_exited(fd),
            None => !((self.is_it)(self.pid) && runs(self.pid)),
        }
    }

    pub(in crate::group) fn signal(&self, signal: i32) -> Result<(), Errno> {
        match self.fd() {
            Some(fd) => raw::pidfd_kill(fd, signal),
            // The instant between the look and the signal is all that is left to chance.
            None if (self.is_it)(self.pid) => raw::kill(self.pid, signal),
            None => Err(Errno::ESRCH),
        }
    }

    pub(in crate::group) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(|pidfd| pidfd.as_fd())
    }
}

impl fmt::Debug for Stray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stray({})", self.pid)
    }
}

/// SIGKILL to one process, which is held by its pidfd while `sure` looks at it once more.
pub(in crate::group) fn kill_if(pid: i32, sure: impl Fn() -> bool) {
    match pidfd::open(pid) {
        Ok(pidfd) if sure() => {
            // It may be gone by now, which is as good.
            let _ = raw::pidfd_kill(pidfd.as_fd(), nix::libc::SIGKILL);
        }
        Ok(_) | Err(Errno::ESRCH) => {}
        // No descriptor to hold it by: the instant between the look and the signal is all that is left to chance.
        Err(_) if sure() => {
            let _ = kill(Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
        Err(_) => {}
    }
}
