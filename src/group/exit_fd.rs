//! A descriptor that tells of the end of a group's leader.

use std::os::fd::{AsRawFd, RawFd};

use super::os::{self, Pidfd};
use super::process_group::ProcessGroup;
use super::watch::{Backend, backend};

/// A descriptor that becomes readable when the leader of a group, a child of this process, has ended.
#[derive(Debug)]
pub(crate) struct ExitFd(Pidfd);

impl ExitFd {
    /// `None` where the system has no such thing, or none to spare; or where the leader was reaped.
    pub(crate) fn of_leader(group: ProcessGroup) -> Option<ExitFd> {
        if backend() == Backend::Probe {
            return None;
        }
        os::open_pidfd(group.pgid()).ok().map(ExitFd)
    }
}

impl AsRawFd for ExitFd {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::os::fd::AsFd;
    use std::time::Duration;

    use nix::poll::{PollFd, PollFlags};

    use super::super::testing::Started;
    use super::super::wait::wait_readable;
    use super::*;

    #[test]
    fn the_exit_of_a_leader_makes_its_descriptor_readable() {
        let mut leader = Started::leader();
        let Some(exit) = ExitFd::of_leader(leader.group()) else {
            return assert_eq!(backend(), Backend::Probe);
        };
        let link = std::fs::read_link(format!("/proc/self/fd/{}", exit.as_raw_fd())).unwrap();
        assert!(link.to_string_lossy().contains("pidfd"), "{link:?}");
        let is_readable = || wait_readable(&mut [PollFd::new(exit.0.as_fd(), PollFlags::POLLIN)], Duration::ZERO);
        assert!(!is_readable());
        leader.kill();
        assert!(is_readable());
    }
}
