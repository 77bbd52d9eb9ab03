//! Pidfds: hold a process so that its number cannot be taken for another's, and be woken by its exit.
//!
//! All kills together never hold more than half of what this process may open.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use rustix::process::{PidfdFlags, pidfd_open};

use super::super::raw;
use super::super::wait::wait_readable;

/// A pidfd, counted against this process's share of descriptors.
#[derive(Debug)]
pub(in crate::group) struct Pidfd {
    fd: OwnedFd,
}

static PIDFDS: AtomicUsize = AtomicUsize::new(0);

/// Half of what this process may open: the other half is its own.
fn most_pidfds() -> usize {
    static MOST: OnceLock<usize> = OnceLock::new();
    *MOST.get_or_init(|| half_of(rustix::process::getrlimit(rustix::process::Resource::Nofile).current))
}

fn half_of(limit: Option<u64>) -> usize {
    limit.map_or(usize::MAX, |limit| usize::try_from(limit / 2).unwrap_or(usize::MAX))
}

/// `pidfd_open(2)`: `ESRCH` for a process that is not there, `EMFILE` also when the share for pidfds is used up.
pub(in crate::group) fn open(pid: i32) -> Result<Pidfd, Errno> {
    let pid = rustix::process::Pid::from_raw(pid).ok_or(Errno::ESRCH)?;
    counted(|| pidfd_open(pid, PidfdFlags::empty()))
}

fn counted(open: impl FnOnce() -> rustix::io::Result<OwnedFd>) -> Result<Pidfd, Errno> {
    if PIDFDS.fetch_add(1, Ordering::Relaxed) >= most_pidfds() {
        PIDFDS.fetch_sub(1, Ordering::Relaxed);
        return Err(Errno::EMFILE);
    }
    match open() {
        Ok(fd) => Ok(Pidfd { fd }),
        Err(error) => {
            PIDFDS.fetch_sub(1, Ordering::Relaxed);
            Err(Errno::from_raw(error.raw_os_error()))
        }
    }
}

impl Pidfd {
    /// Another pidfd of the same process, even if its number is a stranger's by now.
    pub(super) fn again(&self) -> Result<Pidfd, Errno> {
        counted(|| rustix::io::fcntl_dupfd_cloexec(&self.fd, 0))
    }
}

impl Drop for Pidfd {
    fn drop(&mut self) {
        PIDFDS.fetch_sub(1, Ordering::Relaxed);
    }
}

impl AsFd for Pidfd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// For a wait for several descriptors at once.
impl AsRawFd for Pidfd {
    fn as_raw_fd(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

/// Whether the process has exited: a pidfd is readable from the exit of the last thread on, reaped or not.
pub(super) fn has_exited(pidfd: BorrowedFd<'_>) -> bool {
    wait_readable(&mut [PollFd::new(pidfd, PollFlags::POLLIN)], Duration::ZERO)
}

/// Whether the process was reaped: a zombie still takes the null signal.
pub(super) fn is_reaped(pidfd: &Pidfd) -> bool {
    raw::pidfd_kill(pidfd.as_fd(), 0) == Err(Errno::ESRCH)
}

/// Whether the kernel can signal a group by its leader's pidfd (6.9). Without the flag it is `EINVAL`; a leader that
/// leads no group is `ESRCH`.
pub(super) fn reach_groups(leader: &Pidfd) -> bool {
    static REACH: OnceLock<bool> = OnceLock::new();
    if let Some(reach) = REACH.get() {
        return *reach;
    }
    match pidfd_open(rustix::process::getpid(), PidfdFlags::empty()) {
        Ok(own) => *REACH.get_or_init(|| matches!(raw::pidfd_killpg(own.as_fd(), 0), Ok(()) | Err(Errno::ESRCH))),
        // Without a descriptor to ask with, this leader's own may tell; the next kill asks again.
        Err(_) => matches!(raw::pidfd_killpg(leader.as_fd(), 0), Ok(()) | Err(Errno::ESRCH | Errno::EPERM)),
    }
}

#[cfg(test)]
mod tests {
    use nix::libc;

    use super::super::super::inside::inside;
    use super::super::super::testing::{Started, before_6_9, failing};
    use super::*;

    #[test]
    fn half_of_no_limit_is_none() {
        assert_eq!([half_of(Some(64)), half_of(Some(3)), half_of(None)], [32, 1, usize::MAX]);
    }

    #[test]
    fn all_together_never_hold_more_than_half_of_what_may_be_open() {
        let place = ["sh", "-c", "ulimit -n 64; exec \"$@\"", "sh"];
        if !inside(all_together_never_hold_more_than_half_of_what_may_be_open, &place) {
            return;
        }
        let us = std::process::id() as i32;
        let first = open(us).unwrap();
        // No descriptor was to be had there, and none is held.
        let refused = || [(); 40].map(|()| open(us).err());
        assert_eq!(failing(&[libc::SYS_pidfd_open], Errno::ENFILE, refused), [Some(Errno::ENFILE); 40]);
        let mut held: Vec<_> = (1..32).map(|_| first.again().unwrap()).collect();
        for _ in 0..2 {
            assert_eq!([open(us), first.again()].map(Result::err), [Some(Errno::EMFILE); 2]);
        }
        held.pop();
        held.push(open(us).expect("what is let go can be had again"));
        assert_eq!(open(us).err(), Some(Errno::EMFILE));
    }

    #[test]
    fn a_process_is_held_until_it_is_reaped() {
        let mut leader = Started::leader();
        let pidfd = open(leader.pid()).unwrap();
        assert_eq!(pidfd.as_raw_fd(), pidfd.as_fd().as_raw_fd());
        let again = pidfd.again().unwrap();
        let ask = || [&pidfd, &again].map(|pidfd| (has_exited(pidfd.as_fd()), is_reaped(pidfd)));
        assert_eq!(ask(), [(false, false); 2]);
        leader.kill();
        assert_eq!(ask(), [(true, false); 2]);
        leader.reap();
        assert_eq!(ask(), [(true, true); 2]);
        assert_eq!([open(i32::MAX), open(0)].map(Result::err), [Some(Errno::ESRCH); 2]);
    }

    #[test]
    fn whether_groups_are_in_reach_is_asked_of_the_kernel() {
        if !inside(whether_groups_are_in_reach_is_asked_of_the_kernel, &[]) {
            return;
        }
        let leader = Started::leader();
        let pidfd = open(leader.pid()).unwrap();
        let reach = raw::pidfd_killpg(pidfd.as_fd(), 0) != Err(Errno::EINVAL);
        // Without a descriptor for it nothing is settled; with one it is, for ever.
        let without = || failing(&[libc::SYS_pidfd_open], Errno::EMFILE, || reach_groups(&pidfd));
        assert_eq!(without(), reach);
        before_6_9(|| assert!(!without() && !reach_groups(&pidfd)));
        assert!(!reach_groups(&pidfd), "it was settled");
    }

    #[test]
    fn groups_are_in_reach_if_the_kernel_knows_the_flag() {
        let leader = Started::leader();
        let pidfd = open(leader.pid()).unwrap();
        assert_eq!(reach_groups(&pidfd), raw::pidfd_killpg(pidfd.as_fd(), 0) != Err(Errno::EINVAL));
    }
}
