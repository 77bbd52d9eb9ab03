//! Our controlling terminal, and which process group has its foreground.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sys::signal::{SigSet, SigmaskHow, Signal as Named, killpg};
use nix::sys::stat::Mode;
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::{Pid, getpgid, getpgrp, tcgetpgrp, tcsetpgrp};

use crate::group::family::parent;

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
    /// Another group of the command's, or one in which no process is left.
    CommandsOwn,
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
            Terminal::ByName => {
                let flags = OFlag::O_RDWR | OFlag::O_NOCTTY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
                ask(open("/dev/tty", flags, Mode::empty())?.as_fd())
            }
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
        match self.foreground() {
            Ok(group) if group == getpgrp() => Holder::Us,
            Ok(group) if group.as_raw() == pgid => Holder::Command,
            Ok(group) if group.as_raw() > 1 && (is_empty(group) || descends_from_us(group)) => Holder::CommandsOwn,
            Ok(group) if group.as_raw() > 1 && is_child_of_our_group(group) => Holder::Sibling,
            _ => Holder::Another,
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

fn is_empty(group: Pid) -> bool {
    killpg(group, None) == Err(Errno::ESRCH)
}

/// A shell's other jobs have a parent in another group than this one.
fn is_child_of_our_group(leader: Pid) -> bool {
    parent(leader.as_raw()).is_some_and(|parent| getpgid(Some(Pid::from_raw(parent))) == Ok(getpgrp()))
}

/// As the groups do that a shell within the command opens for its own jobs.
fn descends_from_us(leader: Pid) -> bool {
    #[cfg(target_os = "linux")]
    return crate::group::family::is_descendant(leader.as_raw(), &[]);
    #[cfg(not(target_os = "linux"))]
    return {
        let _ = leader;
        false
    };
}
