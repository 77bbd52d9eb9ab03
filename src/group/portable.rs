//! What POSIX alone can tell of a group: `killpg(pgid, 0)`, asked again and again.
//!
//! Zombies cannot be told from the living by it. An un-reaped leader therefore takes the whole grace here; the answer
//! comes late, but never too early.

use nix::errno::Errno;

use super::child::has_exited;
use super::raw;
use super::seen::Seen;

/// The watch that is kept on one group by `killpg(pgid, 0)`.
#[derive(Debug)]
pub(super) struct ProbeWatch {
    pgid: i32,
}

impl ProbeWatch {
    pub(super) fn new(pgid: i32) -> ProbeWatch {
        ProbeWatch { pgid }
    }

    /// Gone: nothing of the group is left in the process table.
    pub(super) fn look(&self) -> Seen {
        if raw::killpg(self.pgid, 0) == Err(Errno::ESRCH) { Seen::Gone } else { Seen::Alive }
    }

    pub(super) fn signal(&self, signal: i32) -> Result<(), Errno> {
        match raw::killpg(self.pgid, signal) {
            // macOS says EPERM of a group of zombies too: with the leader dead it decides nothing.
            Err(Errno::EPERM) if !cfg!(target_os = "linux") && has_exited(self.pgid) == Ok(true) => Ok(()),
            result => result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Started;
    use super::*;

    #[test]
    fn a_group_is_there_until_its_last_zombie_is_reaped() {
        let mut leader = Started::leader();
        let watch = ProbeWatch::new(leader.pid());
        assert_eq!(watch.look(), Seen::Alive);
        leader.kill();
        assert_eq!(watch.look(), Seen::Alive, "a zombie is not told from the living");
        leader.reap();
        assert_eq!(watch.look(), Seen::Gone);
        assert_eq!(watch.signal(0), Err(Errno::ESRCH));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_group_that_may_not_be_signalled_is_an_error_whatever_became_of_its_leader() {
        let mut leader = Started::leader();
        let watch = ProbeWatch::new(leader.pid());
        let forbidden = || super::super::testing::failing(&[nix::libc::SYS_kill], Errno::EPERM, || watch.signal(0));
        assert_eq!(forbidden(), Err(Errno::EPERM));
        leader.kill();
        assert_eq!(forbidden(), Err(Errno::EPERM), "on Linux that is no answer for the dead");
    }
}
