//! What a system without Linux's `/proc` and pidfds tells of processes: nothing. The verbs are those of `linux.rs`.

use std::convert::Infallible;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use nix::errno::Errno;

#[cfg(feature = "cli")]
use super::child::has_exited;
use super::member::Member;
use super::seen::Seen;

/// Whether there is a `/proc` that shows all processes; nothing else here is asked where there is none.
pub(super) fn available() -> bool {
    false
}

pub(super) fn members(_pgid: i32) -> io::Result<Vec<Member>> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(feature = "cli")]
pub(super) fn hides_processes() -> bool {
    false
}

#[cfg(feature = "cli")]
pub(super) fn parent(_pid: i32) -> Option<i32> {
    None
}

#[cfg(feature = "cli")]
pub(super) fn command_of(_pid: i32) -> String {
    String::new()
}

#[cfg(feature = "cli")]
pub(super) fn was_handed_out_since(_until: &mut Option<i32>) -> impl Fn(i32) -> bool + use<> {
    |_| false
}

/// Known of children alone.
#[cfg(feature = "cli")]
pub(super) fn runs(pid: i32) -> bool {
    has_exited(pid) == Ok(false)
}

pub(super) fn is_dying(_pid: i32) -> bool {
    false
}

pub(super) fn is_leaving(_pid: i32) -> bool {
    false
}

pub(super) fn started_at(_pid: i32) -> Option<Duration> {
    None
}

pub(super) fn since_boot() -> Duration {
    Duration::ZERO
}

pub(super) fn progress(_pid: i32) -> Option<(bool, Duration)> {
    None
}

pub(super) fn this_thread() -> i32 {
    0
}

/// A pidfd: there is none.
#[derive(Debug)]
pub(super) struct Pidfd(Infallible);

impl AsRawFd for Pidfd {
    fn as_raw_fd(&self) -> RawFd {
        match self.0 {}
    }
}

pub(super) fn open_pidfd(_pid: i32) -> Result<Pidfd, Errno> {
    Err(Errno::ENOSYS)
}

/// The watch that is kept by `/proc`: there is none.
#[derive(Debug)]
pub(super) struct ProcWatch(Infallible);

impl ProcWatch {
    pub(super) fn new(_pgid: i32) -> ProcWatch {
        unreachable!("there is no /proc")
    }

    pub(super) fn again(&self) -> ProcWatch {
        match self.0 {}
    }

    pub(super) fn is_unidentified(&self) -> bool {
        match self.0 {}
    }

    pub(super) fn signal(&self, _signal: i32) -> Result<(), Errno> {
        match self.0 {}
    }

    pub(super) fn expect_leader_reaped(&mut self) -> bool {
        match self.0 {}
    }

    pub(super) fn walk_while_it_dies(&mut self) {
        match self.0 {}
    }

    pub(super) fn held_fd(&self) -> Option<BorrowedFd<'_>> {
        match self.0 {}
    }

    pub(super) fn is_leaving(&self) -> bool {
        match self.0 {}
    }
}

pub(super) fn look<K: Copy>(_watches: &mut [(K, &mut ProcWatch)]) -> Vec<(K, Seen)> {
    Vec::new()
}

/// The watch that is kept on a single process: there is none.
#[derive(Debug)]
pub(super) struct SingleProcess(Infallible);

impl SingleProcess {
    pub(super) fn look(&self) -> Seen {
        match self.0 {}
    }

    pub(super) fn signal(&self, _signal: i32) -> Result<(), Errno> {
        match self.0 {}
    }

    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        match self.0 {}
    }
}
