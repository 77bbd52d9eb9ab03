//! Finds a tree of processes by a mark in its environment, wherever its members have gone.
//!
//! A group is what `killpg` reaches; a member that calls `setsid` leaves it. What stays is the environment a process was
//! started with, readable in `/proc/PID/environ` by the same user. Its limit: a member that cleared its environment
//! (`env -i`) or wrote over it is not found.

use std::fs;
use std::io;

use super::Member;

/// One marked tree. The mark is a `NAME=VALUE` that nobody else has in their environment.
#[derive(Clone, Debug)]
pub(crate) struct Mark {
    entry: String,
}

impl Mark {
    pub(crate) fn new(name: &str, value: &str) -> Mark {
        Mark { entry: format!("{name}={value}") }
    }

    /// Every marked process that can still run.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::Unsupported`] where there is no `/proc` to read.
    pub(crate) fn members(&self) -> io::Result<Vec<Member>> {
        #[cfg(target_os = "linux")]
        if super::linux::available() {
            return super::linux::members_where(|pid, _| self.is_on(pid));
        }
        Err(io::Error::new(io::ErrorKind::Unsupported, "marked processes cannot be found without /proc"))
    }

    /// Sends SIGKILL to every marked process, each held by its pidfd while its mark is read again, so that no number
    /// that was reused meanwhile can be hit.
    pub(crate) fn kill(&self) {
        #[cfg(target_os = "linux")]
        for member in self.members().unwrap_or_default() {
            super::linux::kill_if(member.pid, || self.is_on(member.pid));
        }
    }

    fn is_on(&self, pid: i32) -> bool {
        // In the middle of an execve the environment reads empty: look again rather than take it for a stranger.
        for _ in 0..5 {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            if !environment.is_empty() {
                return environment.split(|b| *b == 0).any(|entry| entry == self.entry.as_bytes());
            }
            std::thread::yield_now();
        }
        false
    }
}
