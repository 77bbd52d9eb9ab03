//! A single process, whatever group it is in: held by its pidfd, and only signalled while it is the one that is meant.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::signal::kill;
use nix::unistd::Pid;

use super::super::raw;
use super::super::seen::Seen;
use super::pidfd::{self, Pidfd, has_exited};
use super::table::runs;

/// Whether a process is still the one that is meant, for a number that may have been given to another.
type IsIt = Box<dyn Fn(i32) -> bool + Send>;

/// The watch kept on a single process, whatever group it is in.
pub(in crate::group) struct SingleProcess {
    pid: i32,
    /// `None` where no descriptor is left; then the process is looked at again before each signal.
    pidfd: Option<Pidfd>,
    is_it: IsIt,
}

impl SingleProcess {
    /// Holds the process by its pidfd, and only then looks whether it is the one that is meant.
    pub(in crate::group) fn hold(pid: i32, is_it: IsIt) -> Option<SingleProcess> {
        let pidfd = match pidfd::open(pid) {
            Ok(pidfd) => Some(pidfd),
            Err(Errno::ESRCH) => return None,
            Err(_) => None,
        };
        is_it(pid).then_some(SingleProcess { pid, pidfd, is_it })
    }

    pub(in crate::group) fn look(&self) -> Seen {
        let is_gone = match self.fd() {
            Some(fd) => has_exited(fd),
            None => !((self.is_it)(self.pid) && runs(self.pid)),
        };
        if is_gone { Seen::Gone } else { Seen::Alive }
    }

    pub(in crate::group) fn signal(&self, signal: i32) -> Result<(), Errno> {
        match self.fd() {
            Some(fd) => raw::pidfd_kill(fd, signal),
            // Only the instant between the look and the signal is left to chance.
            None if (self.is_it)(self.pid) => raw::kill(self.pid, signal),
            None => Err(Errno::ESRCH),
        }
    }

    pub(in crate::group) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(|pidfd| pidfd.as_fd())
    }
}

impl fmt::Debug for SingleProcess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SingleProcess({})", self.pid)
    }
}

/// SIGKILL to one process, which is held by its pidfd while `sure` looks at it once more.
pub(in crate::group) fn kill_if(pid: i32, sure: impl Fn() -> bool) {
    match pidfd::open(pid) {
        Ok(pidfd) if sure() => {
            // It may be gone by now, which will do.
            let _ = raw::pidfd_kill(pidfd.as_fd(), nix::libc::SIGKILL);
        }
        Ok(_) | Err(Errno::ESRCH) => {}
        // No descriptor is left to hold it by: only the instant between the look and the signal is left to chance.
        Err(_) if sure() => {
            let _ = kill(Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
        Err(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use nix::libc;

    use super::super::super::testing::{Started, failing};
    use super::super::table::is_dying;
    use super::*;

    #[test]
    fn only_the_one_that_is_meant_is_held() {
        let cat = Started::leader();
        let pid = cat.pid();
        let hold = |is_it: bool| SingleProcess::hold(pid, Box::new(move |it| it == pid && is_it));
        let process = hold(true).unwrap();
        assert_eq!((process.fd().is_some(), format!("{process:?}")), (true, format!("SingleProcess({pid})")));
        assert!(hold(false).is_none() && SingleProcess::hold(i32::MAX, Box::new(|_| true)).is_none());
        let (fd, other) = failing(&[libc::SYS_pidfd_open], Errno::EMFILE, || {
            (hold(true).map(|process| process.fd().is_some()), hold(false).is_some())
        });
        assert_eq!((fd, other), (Some(false), false), "without a descriptor");
    }

    #[test]
    fn one_that_is_held_is_gone_when_it_has_ended_and_signalled_until_then() {
        let mut cat = Started::leader();
        let process = SingleProcess::hold(cat.pid(), Box::new(|_| true)).unwrap();
        assert!(process.look() == Seen::Alive);
        assert_eq!(process.signal(libc::SIGKILL), Ok(()));
        assert!(is_dying(cat.pid()));
        cat.kill();
        assert!(process.look() == Seen::Gone, "a zombie");
        cat.reap();
        assert!(process.look() == Seen::Gone);
        assert_eq!(process.signal(0), Err(Errno::ESRCH));
    }

    #[test]
    fn without_a_descriptor_it_is_looked_at_before_each_signal() {
        let mut cat = Started::leader();
        let pid = cat.pid();
        let unheld = |is_it| SingleProcess { pid, pidfd: None, is_it: Box::new(move |_| is_it) };
        assert!(unheld(true).look() == Seen::Alive && unheld(false).look() == Seen::Gone);
        assert_eq!(unheld(false).signal(libc::SIGKILL), Err(Errno::ESRCH));
        assert!(!is_dying(pid));
        assert_eq!(unheld(true).signal(libc::SIGKILL), Ok(()));
        assert!(is_dying(pid));
        cat.kill();
        assert!(unheld(true).look() == Seen::Gone, "a zombie");
    }

    #[test]
    fn only_the_process_that_is_surely_meant_is_killed_with_a_descriptor_or_without() {
        let kills: [fn(i32, bool); 2] = [
            |pid, sure| kill_if(pid, || sure),
            |pid, sure| failing(&[libc::SYS_pidfd_open], Errno::EMFILE, || kill_if(pid, || sure)),
        ];
        for kill in kills {
            let cat = Started::leader();
            kill(cat.pid(), false);
            assert!(!is_dying(cat.pid()));
            kill(cat.pid(), true);
            assert!(is_dying(cat.pid()));
        }
    }
}
