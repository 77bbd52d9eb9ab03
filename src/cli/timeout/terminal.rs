//! The terminal's foreground: the command has it while it runs, as under a shell, so Ctrl-C and Ctrl-Z are the command's.
//!
//! Under a shell with job control:
//!
//! 1. The shell puts us into a group of our own and into the foreground.
//! 2. The command, in its own group, is handed the foreground.
//! 3. Ctrl-Z stops the command. We take the foreground back and stop our own group, which the shell sees.
//! 4. `fg` puts us into the foreground and continues us; we hand it on and continue the command. `bg` only continues.

use std::io;

use nix::errno::Errno;
use nix::sys::signal::{Signal as Named, kill, killpg};
use nix::sys::stat::{SFlag, fstat};
use nix::sys::termios::{LocalFlags, tcgetattr};
use nix::unistd::{Pid, getpgrp, tcgetpgrp, tcsetpgrp};
use rustix::process::{WaitId, WaitIdOptions, waitid};

/// The terminal on standard input.
#[derive(Clone, Copy, Debug)]
pub(super) struct Terminal {
    ours: Pid,
}

/// What became of a stop of the command's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// We were stopped as well, and are continued.
    Followed,
    /// We run on, so that it ends when its time is over. A shell that brings us to the foreground does not tell us.
    InBackground,
}

impl Terminal {
    /// `None`: standard input is no terminal of ours. Nor is it where standard output is a pipe: whoever reads that is in
    /// our group, and may want to read the terminal as well (`.. | less`).
    pub(super) fn find() -> Option<Terminal> {
        tcgetpgrp(io::stdin()).ok()?;
        let piped = fstat(io::stdout())
            .is_ok_and(|stat| SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFIFO);
        (!piped).then(|| Terminal { ours: getpgrp() })
    }

    /// Whether its foreground is ours to hand on.
    pub(super) fn is_ours(self) -> bool {
        tcgetpgrp(io::stdin()) == Ok(self.ours)
    }

    /// Hands it on, if it is ours.
    pub(super) fn give(self, pgid: i32) {
        if self.is_ours() {
            // A command that has just ended takes nothing.
            let _ = tcsetpgrp(io::stdin(), Pid::from_raw(pgid));
        }
    }

    /// If the terminal has stopped the command: stops us too, if it had the foreground, and returns when we are continued.
    pub(super) fn follow_stop(self, pgid: i32) -> Option<Stop> {
        let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
        let leader = rustix::process::Pid::from_raw(pgid)?;
        let signal = waitid(WaitId::Pid(leader), options).ok()??.stopping_signal()?;
        // By somebody's SIGSTOP it is stopped for that somebody to continue.
        if ![Named::SIGTSTP, Named::SIGTTIN, Named::SIGTTOU].map(|signal| signal as i32).contains(&signal) {
            return None;
        }
        if !self.take_back(pgid) {
            return Some(Stop::InBackground);
        }
        // All of the job, as Ctrl-Z would have. Where nobody could continue us the system does not stop us.
        let _ = kill(Pid::from_raw(0), Named::SIGTSTP);
        Some(Stop::Followed)
    }

    /// Whether a key sends the foreground a signal now.
    pub(super) fn sends_signals(self) -> bool {
        tcgetattr(io::stdin()).is_ok_and(|modes| modes.local_flags.contains(LocalFlags::ISIG))
    }

    /// If the command has it, or has died with it.
    pub(super) fn take_back(self, pgid: i32) -> bool {
        let theirs = match tcgetpgrp(io::stdin()) {
            Ok(group) if group == self.ours => false,
            Ok(group) => group.as_raw() == pgid || (group.as_raw() > 1 && killpg(group, None) == Err(Errno::ESRCH)),
            Err(_) => false,
        };
        theirs && tcsetpgrp(io::stdin(), self.ours).is_ok()
    }
}
