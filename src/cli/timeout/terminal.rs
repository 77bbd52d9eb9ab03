//! Our controlling terminal, and which process group has its foreground.

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
    /// By the name `/dev/tty`, as programs open it that ask for a password. Not held open, so that it can be closed.
    ByName,
}

/// Who has the foreground.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holder {
    /// The group that we are in.
    Us,
    /// The command's group.
    Command,
    /// Another group of the command's.
    CommandsOwn,
    /// A group in which no process is left: the one that it had it from takes it back, if that is there.
    Vacant,
    /// A command of another deadbeat in our group, to which it was lent.
    Sibling,
    Another,
}

impl Terminal {
    /// `None`: there is no terminal that could be lent, or be asked for.
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

    /// `pgid` is the command's group.
    pub(super) fn holder(self, pgid: i32) -> Holder {
        let mut seen = self.foreground();
        loop {
            let holder = match seen {
                Ok(group) if group == getpgrp() => Holder::Us,
                Ok(group) if group.as_raw() == pgid => Holder::Command,
                Ok(group) if group.as_raw() > 1 && is_empty(group) => Holder::Vacant,
                Ok(group) if group.as_raw() > 1 && descends_from_us(group) => Holder::CommandsOwn,
                Ok(group) if group.as_raw() > 1 && is_a_childs_of_our_group(group) => Holder::Sibling,
                // It may have ended since.
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
        // A process in the background is stopped for that, unless it has this blocked.
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

/// The turn of one deadbeat to see that its group has the foreground and to give that away. Others of its group wait: a
/// command that was lent it for a moment reads part of a line that is another's.
#[derive(Debug)]
pub(super) struct Turn {
    _lock: Option<Flock<OwnedFd>>,
}

impl Turn {
    /// `None`: another process has it. Where there is nothing to lock each has it.
    pub(super) fn take() -> Option<Turn> {
        // Not standard input, which those of one group share with its lock.
        let Ok(terminal) = open_by_name() else { return Some(Turn { _lock: None }) };
        match Flock::lock(terminal, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => Some(Turn { _lock: Some(lock) }),
            Err((_, Errno::EWOULDBLOCK)) => None,
            Err(_) => Some(Turn { _lock: None }),
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

/// A shell's other jobs have a parent in another group than this one.
fn is_a_childs_of_our_group(group: Pid) -> bool {
    let is_theirs = |pid| parent(pid).is_some_and(|parent| getpgid(Some(Pid::from_raw(parent))) == Ok(getpgrp()));
    is_theirs(group.as_raw()) || others(group).into_iter().any(is_theirs)
}

/// The members of a group whose leader is reaped: of a command that is over, its listener.
#[cfg(target_os = "linux")]
fn others(group: Pid) -> Vec<i32> {
    crate::group::kin::members(group.as_raw())
}

#[cfg(not(target_os = "linux"))]
fn others(_group: Pid) -> Vec<i32> {
    Vec::new()
}

/// As the groups do that a shell within the command opens for its own jobs.
fn descends_from_us(leader: Pid) -> bool {
    #[cfg(target_os = "linux")]
    return crate::group::descendants::is_descendant(leader.as_raw(), &[]);
    #[cfg(not(target_os = "linux"))]
    return {
        let _ = leader;
        false
    };
}
