//! The number of a process group, checked: it is never the caller's own group, nor what `killpg` takes for all
//! processes.

use std::fmt;
use std::io;

use nix::errno::Errno;
use nix::unistd::{Pid, getpgid, getpgrp};

use super::child::has_exited;
use super::member::Member;
use super::{os, raw};
use crate::error::{KillError, KillErrorKind};
use crate::signal::Signal;

/// A process group that may be signalled: never 0, 1, a negative number or the caller's own group.
///
/// It is a number, not a hold on the group: once the leader was waited for and the last member is gone, the system
/// may give the number to another. [`KillPolicy::kill_child`](crate::kill::KillPolicy::kill_child) holds the
/// group from the first signal to the last.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProcessGroup {
    pgid: i32,
}

impl ProcessGroup {
    /// Checks the number, and makes no other system call than asking for the caller's own group.
    ///
    /// # Errors
    ///
    /// [`KillErrorKind::InvalidGroup`] for 0 (the caller's group), 1 (to `killpg(3)` every process), a negative
    /// number, and the caller's own group.
    pub fn new(pgid: i32) -> Result<ProcessGroup, KillError> {
        if pgid <= 1 || pgid == getpgrp().as_raw() {
            return Err(KillError::new(pgid, KillErrorKind::InvalidGroup));
        }
        Ok(ProcessGroup { pgid })
    }

    /// The group that this child leads, if it was started with `process_group(0)`.
    ///
    /// # Errors
    ///
    /// [`KillErrorKind::AlreadyReaped`] after its exit was collected, [`KillErrorKind::NotLeader`] for a child in
    /// another process's group, which is what `Command` starts by default: `killpg` would miss it.
    pub fn led_by(child: &tokio::process::Child) -> Result<ProcessGroup, KillError> {
        // tokio forgets the pid when it reaps; -1 stands for it in the message.
        let Some(pid) = child.id() else {
            return Err(KillError::new(-1, KillErrorKind::AlreadyReaped));
        };
        let pid = i32::try_from(pid).map_err(|_| KillError::new(i32::MAX, KillErrorKind::InvalidGroup))?;
        match getpgid(Some(Pid::from_raw(pid))) {
            Ok(pgid) if pgid.as_raw() == pid => ProcessGroup::new(pid),
            Ok(_) => Err(KillError::new(pid, KillErrorKind::NotLeader)),
            // It was reaped elsewhere, or by the system because SIGCHLD is ignored.
            Err(Errno::ESRCH) => Err(KillError::new(pid, KillErrorKind::AlreadyReaped)),
            Err(errno) => Err(KillError::os(pid, errno.into())),
        }
    }

    /// The checked number.
    pub fn pgid(self) -> i32 {
        self.pgid
    }

    /// `killpg(3)`: sends `signal` to every member that may be signalled.
    ///
    /// # Errors
    ///
    /// The system's: `ESRCH` when nothing of the group is in the process table, `EPERM` when no member at all could
    /// be signalled (if at least one could, the call succeeds).
    pub fn signal(self, signal: Signal) -> io::Result<()> {
        raw::killpg(self.pgid, signal.as_raw()).map_err(io::Error::from)
    }

    /// The members that can still run. Zombies are none; one whose main thread has ended while others run on is one.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::Unsupported`] where there is no `/proc` to read that is known to show this process's world.
    pub fn members(self) -> io::Result<Vec<Member>> {
        match os::available() {
            true => os::members(self.pgid),
            false => {
                Err(io::Error::new(io::ErrorKind::Unsupported, "members of a group cannot be listed without /proc"))
            }
        }
    }

    /// Whether the leader, a child of this process, has ended and can be waited for, or was reaped elsewhere. Does not
    /// wait for it.
    pub(crate) fn leader_has_exited(self) -> bool {
        matches!(has_exited(self.pgid), Ok(true) | Err(Errno::ECHILD))
    }

    /// Whether the leader is dying and only waits for a CPU, as far as that can be seen.
    pub(crate) fn leader_is_leaving(self) -> bool {
        os::available() && os::is_leaving(self.pgid)
    }
}

impl fmt::Debug for ProcessGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProcessGroup({})", self.pgid)
    }
}

impl fmt::Display for ProcessGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pgid.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use super::super::testing::Started;
    use super::super::watch::{Backend, backend};
    use super::*;

    #[test]
    fn a_pgid_that_killpg_would_read_as_more_than_one_group_is_refused() {
        let own = getpgrp().as_raw();
        for pgid in [0, 1, -1, -4242, i32::MIN, own] {
            let error = ProcessGroup::new(pgid).expect_err("accepted");
            assert_eq!((error.kind(), error.pgid()), (KillErrorKind::InvalidGroup, pgid));
            assert!(error.to_string().contains(&format!("process group {pgid}:")), "{error}");
        }
    }

    #[test]
    fn a_group_that_does_not_exist_is_gone() {
        // Beyond any pid_max, so that no process can carry it.
        let group = ProcessGroup::new(i32::MAX).unwrap();
        assert!(group.is_gone());
        assert_eq!(group.signal(Signal::TERM).unwrap_err().raw_os_error(), Some(Errno::ESRCH as i32));
    }

    #[test]
    fn a_group_is_shown_by_its_number() {
        let group = ProcessGroup::new(i32::MAX).unwrap();
        assert_eq!(group.pgid(), i32::MAX);
        assert_eq!(
            (format!("{group}"), format!("{group:?}")),
            ("2147483647".into(), "ProcessGroup(2147483647)".into())
        );
    }

    #[tokio::test]
    async fn of_a_child_only_the_group_that_it_leads_is_had() {
        let start = |command: &mut tokio::process::Command| command.stdin(Stdio::piped()).spawn().unwrap();
        let mut leader = start(tokio::process::Command::new("cat").process_group(0));
        let mut follower = start(&mut tokio::process::Command::new("cat"));
        let (group, none) = (ProcessGroup::led_by(&leader), ProcessGroup::led_by(&follower));
        let pids = [&leader, &follower].map(|child| i32::try_from(child.id().unwrap()).unwrap());
        for child in [&mut leader, &mut follower] {
            child.kill().await.unwrap();
        }
        assert_eq!(group.unwrap().pgid(), pids[0]);
        let none = none.unwrap_err();
        assert_eq!((none.kind(), none.pgid()), (KillErrorKind::NotLeader, pids[1]));
        let reaped = ProcessGroup::led_by(&leader).unwrap_err();
        assert_eq!((reaped.kind(), reaped.pgid()), (KillErrorKind::AlreadyReaped, -1));
    }

    #[test]
    fn a_living_group_is_not_gone_and_can_be_asked_for_its_members() {
        let mut leader = Started::leader();
        let group = leader.group();
        assert!(!group.is_gone() && !group.leader_has_exited());
        group.signal(Signal::CONT).unwrap();
        match group.members() {
            Ok(members) => assert_eq!(members.iter().map(|member| member.pid).collect::<Vec<_>>(), [leader.pid()]),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::Unsupported),
        }
        leader.kill();
        assert!(group.leader_has_exited(), "it can be waited for");
        assert_eq!(group.is_gone(), backend() == Backend::Proc, "a zombie");
        leader.reap();
        assert!(group.leader_has_exited(), "it was waited for");
        assert!(group.is_gone());
    }
}
