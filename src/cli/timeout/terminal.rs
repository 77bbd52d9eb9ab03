//! The controlling terminal of this process, and which process group has its foreground.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag, open};
use nix::sys::signal::{SigSet, SigmaskHow, Signal as Named, killpg};
use nix::sys::stat::Mode;
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::{Pid, getpgid, getpgrp, tcgetpgrp, tcsetpgrp};

use crate::group::descendants::parent;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Terminal {
    OnStandardInput,
    /// The terminal by the name `/dev/tty`, as programs open it that ask for a password. Not held open, so that it can
    /// be closed.
    ByName,
}

/// Which process group has the foreground.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// The group of this process.
    Own,
    /// The command's group.
    Command,
    /// Another group within the command, as a shell opens it for a job.
    CommandsOwn,
    /// A group in which no process is left: the process that gave it the terminal takes it back, if that one is there.
    Vacant,
    /// The command of another deadbeat in the group of this process.
    Sibling,
    Another,
}

impl Terminal {
    /// Finds the controlling terminal; `None` if there is none that could be lent.
    pub(super) fn find() -> Option<Terminal> {
        [Terminal::OnStandardInput, Terminal::ByName].into_iter().find(|terminal| terminal.foreground().is_ok())
    }

    fn with<T>(self, ask: impl FnOnce(BorrowedFd<'_>) -> nix::Result<T>) -> nix::Result<T> {
        match self {
            Terminal::OnStandardInput => ask(io::stdin().as_fd()),
            Terminal::ByName => ask(open_by_name()?.as_fd()),
        }
    }

    pub(super) fn open(self) -> io::Result<OwnedFd> {
        self.with(|terminal| Ok(terminal.try_clone_to_owned()))?
    }

    fn foreground(self) -> nix::Result<Pid> {
        self.with(|terminal| tcgetpgrp(terminal))
    }

    /// Which group has the foreground now; `pgid` is the command's group.
    pub(super) fn holder(self, pgid: i32) -> Holder {
        let mut seen = self.foreground();
        loop {
            let holder = match seen {
                Ok(group) if group == getpgrp() => Holder::Own,
                Ok(group) if group.as_raw() == pgid => Holder::Command,
                Ok(group) if group.as_raw() > 1 && is_empty(group) => Holder::Vacant,
                Ok(group) if group.as_raw() > 1 && descends_from_this(group) => Holder::CommandsOwn,
                Ok(group) if group.as_raw() > 1 && is_siblings(group) => Holder::Sibling,
                // Its last process may have ended since it was asked first.
                Ok(group) if group.as_raw() > 1 && is_empty(group) => Holder::Vacant,
                _ => Holder::Another,
            };
            let now = self.foreground();
            if now == seen {
                return holder;
            }
            seen = now;
        }
    }

    pub(super) fn is_ours(self) -> bool {
        self.foreground() == Ok(getpgrp())
    }

    pub(super) fn give(self, pgid: Pid) -> nix::Result<()> {
        // SIGTTOU stops a process in the background that does this, unless it is blocked.
        let mask = [Named::SIGTTOU].into_iter().collect::<SigSet>().thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
        let given = self.with(|terminal| tcsetpgrp(terminal, pgid));
        mask.thread_set_mask()?;
        given
    }

    pub(super) fn take(self) -> nix::Result<()> {
        self.give(getpgrp())
    }

    /// Whether a key sends the foreground a signal now.
    pub(super) fn sends_signals(self) -> bool {
        self.with(|terminal| tcgetattr(terminal)).is_ok_and(|modes| modes.local_flags.contains(LocalFlags::ISIG))
    }
}

/// Held by one deadbeat while it checks that its group has the foreground and gives it away. Others of its group wait:
/// a command that was lent the terminal for a moment would read part of a line that is meant for another.
#[derive(Debug)]
pub(super) struct TerminalLock {
    _lock: Option<Flock<OwnedFd>>,
}

impl TerminalLock {
    /// `None` if another process holds it. Where there is nothing to lock, each process has it.
    pub(super) fn take() -> Option<TerminalLock> {
        // Standard input will not do: processes of one group share that open file, and so its lock.
        let Ok(terminal) = open_by_name() else { return Some(TerminalLock { _lock: None }) };
        match Flock::lock(terminal, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Some(TerminalLock { _lock: Some(lock) }),
            Err((_, Errno::EWOULDBLOCK)) => None,
            Err(_) => Some(TerminalLock { _lock: None }),
        }
    }
}

fn open_by_name() -> nix::Result<OwnedFd> {
    let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    open("/dev/tty", flags, Mode::empty())
}

/// Whether no process is left in a group, not even one that is not reaped.
pub(super) fn is_empty(group: Pid) -> bool {
    killpg(group, None) == Err(Errno::ESRCH)
}

/// Whether a group is the command of another deadbeat: a parent of it is in the group of this process. The other jobs
/// of a shell have a parent elsewhere.
fn is_siblings(group: Pid) -> bool {
    let has_parent_here = |pid| parent(pid).is_some_and(|parent| getpgid(Some(Pid::from_raw(parent))) == Ok(getpgrp()));
    has_parent_here(group.as_raw()) || members(group).into_iter().any(has_parent_here)
}

/// The members of a group. If the leader is reaped, the listener of its command may be left.
#[cfg(target_os = "linux")]
fn members(group: Pid) -> Vec<i32> {
    crate::group::kin::members(group.as_raw())
}

#[cfg(not(target_os = "linux"))]
fn members(_group: Pid) -> Vec<i32> {
    Vec::new()
}

/// Whether a group is within the command, as a shell there opens groups for its jobs.
fn descends_from_this(leader: Pid) -> bool {
    #[cfg(target_os = "linux")]
    return crate::group::descendants::is_descendant(leader.as_raw(), &[]);
    #[cfg(not(target_os = "linux"))]
    return {
        let _ = leader;
        false
    };
}
