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

    pub(crate) fn is_on(&self, pid: i32) -> bool {
        let mut text = environment(pid).unwrap_or_default();
        // In the middle of an execve it reads empty: look again rather than take it for a stranger.
        for _ in 0..100 {
            if !text.is_empty() || !is_in_exec(pid) {
                break;
            }
            std::thread::yield_now();
            text = environment(pid).unwrap_or_default();
        }
        text.split(|b| *b == 0).any(|entry| entry == self.entry.as_bytes())
    }
}

/// A process with a variable of some name in its environment.
#[derive(Debug)]
pub(crate) struct Carrier {
    pub(crate) pid: i32,
    pub(crate) pgid: i32,
    pub(crate) value: String,
}

/// What one walk through the process table showed of a variable.
#[derive(Debug, Default)]
pub(crate) struct Carriers {
    /// Those that can still run.
    pub(crate) found: Vec<Carrier>,
    /// Whether some process was in the middle of an exec, with no environment to be seen yet.
    pub(crate) some_in_exec: bool,
}

/// Everybody who carries the variable. Without a `/proc` to read it is nobody.
pub(crate) fn carriers(name: &str) -> Carriers {
    let mut carriers = Carriers::default();
    #[cfg(target_os = "linux")]
    if super::linux::available() {
        // What was seen before an error counts.
        let _ = super::linux::walk(|pid, pgid| {
            let environment = environment(pid);
            carriers.some_in_exec |= environment.as_ref().is_ok_and(|text| text.is_empty()) && is_in_exec(pid);
            let value = environment.ok().and_then(|text| value_in(&text, name));
            let found = value.filter(|_| super::linux::runs(pid)).map(|value| Carrier { pid, pgid, value });
            carriers.found.extend(found);
        });
    }
    let _ = name;
    carriers
}

/// Fails for one of somebody else's; empty for a zombie, too.
fn environment(pid: i32) -> io::Result<Vec<u8>> {
    fs::read(format!("/proc/{pid}/environ"))
}

/// Its new program is there and has no arguments yet. Zombies and the kernel's own have no program.
fn is_in_exec(pid: i32) -> bool {
    fs::read_link(format!("/proc/{pid}/exe")).is_ok()
        && fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|arguments| arguments.is_empty())
}

#[cfg(target_os = "linux")]
fn value_in(environment: &[u8], name: &str) -> Option<String> {
    let value = |entry: &[u8]| Some(entry.strip_prefix(name.as_bytes())?.strip_prefix(b"=")?.to_vec());
    let value = environment.split(|b| *b == 0).find_map(value)?;
    String::from_utf8(value).ok()
}
