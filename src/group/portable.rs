//! What POSIX alone can tell of a group: `killpg(pgid, 0)`, asked again and again.
//!
//! It cannot tell zombies from the living. An un-reaped leader therefore holds the grace here; the answer is late, but
//! never "gone" too early.

use nix::errno::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use super::raw;

#[derive(Debug)]
pub(super) struct ProbeWatch {
    pgid: i32,
}

impl ProbeWatch {
    pub(super) fn new(pgid: i32) -> ProbeWatch {
        ProbeWatch { pgid }
    }

    /// Whether nothing of the group is left in the process table.
    pub(super) fn look(&mut self) -> bool {
        raw::killpg(self.pgid, 0) == Err(Errno::ESRCH)
    }

    pub(super) fn signal(&self, signal: i32) -> Result<(), Errno> {
        match raw::killpg(self.pgid, signal) {
            // macOS says EPERM of a group of zombies too: with the leader dead it decides nothing.
            Err(Errno::EPERM) if !cfg!(target_os = "linux") && has_exited(self.pgid) == Ok(true) => Ok(()),
            result => result,
        }
    }
}

/// Whether our child has ended and can be waited for. Asks without reaping: the status belongs to the child's owner.
pub(super) fn has_exited(pid: i32) -> Result<bool, Errno> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let pid = Pid::from_raw(pid).ok_or(Errno::ECHILD)?;
    let status = waitid(WaitId::Pid(pid), options).map_err(|error| Errno::from_raw(error.raw_os_error()))?;
    Ok(status.is_some())
}

#[cfg(test)]
mod tests {
    use super::super::tests::Started;
    use super::*;

    #[test]
    fn a_group_is_there_until_its_last_zombie_is_reaped() {
        let mut leader = Started::leader();
        let mut watch = ProbeWatch::new(leader.pid());
        assert!(!watch.look());
        leader.kill();
        assert!(!watch.look(), "a zombie is not told from the living");
        leader.reap();
        assert!(watch.look());
        assert_eq!(watch.signal(0), Err(Errno::ESRCH));
    }

    #[test]
    fn an_exit_is_seen_without_being_collected() {
        let mut child = Started::leader();
        let pid = child.pid();
        assert_eq!(has_exited(pid), Ok(false));
        child.kill();
        assert_eq!([has_exited(pid), has_exited(pid)], [Ok(true); 2]);
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&child.0.wait().unwrap()), Some(9));
        assert_eq!([has_exited(pid), has_exited(0)], [Err(Errno::ECHILD); 2]);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn who_may_not_signal_a_group_is_told_so_whatever_became_of_its_leader() {
        let mut leader = Started::leader();
        let watch = ProbeWatch::new(leader.pid());
        let forbidden = || super::super::tests::failing(&[nix::libc::SYS_kill], Errno::EPERM, || watch.signal(0));
        assert_eq!(forbidden(), Err(Errno::EPERM));
        leader.kill();
        assert_eq!(forbidden(), Err(Errno::EPERM), "on Linux that is no answer for the dead");
    }
}
