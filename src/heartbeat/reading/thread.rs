//! The kernel's own account of a thread, from inside and from outside: `/proc/self/task/TID/schedstat`.
//!
//! From inside the run-queue wait is exact, because a thread that reads it has just been given a CPU. From outside
//! a wait that has not ended is not in it yet.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

/// The kernel's number of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ThreadId(pub(crate) u32);

impl ThreadId {
    pub(crate) fn here() -> Self {
        Self(nix::unistd::gettid().as_raw().unsigned_abs())
    }
}

/// An open account of one thread.
#[derive(Debug)]
pub(crate) struct Clocks {
    id: ThreadId,
    schedstat: Option<File>,
}

impl Clocks {
    /// The calling thread's.
    pub(crate) fn open() -> Self {
        let id = ThreadId::here();
        Self { id, schedstat: own_proc().then(|| File::open("/proc/thread-self/schedstat").ok()).flatten() }
    }

    /// Without an open file: for a thread whose locals are being torn down.
    pub(crate) fn bare() -> Self {
        Self { id: ThreadId::here(), schedstat: None }
    }

    /// Another thread's of this process; `None` when it is gone or the kernel keeps no account.
    pub(crate) fn of(id: ThreadId) -> Option<Self> {
        let file = File::open(format!("/proc/self/task/{}/schedstat", id.0)).ok()?;
        Some(Self { id, schedstat: Some(file) })
    }

    pub(crate) fn id(&self) -> ThreadId {
        self.id
    }

    pub(crate) fn run_queue(&self) -> Option<Duration> {
        self.account().map(|account| account.run_queue)
    }

    /// On-CPU time as of the last tick or switch, and run-queue wait as of the last time it got a CPU.
    pub(crate) fn account(&self) -> Option<Account> {
        let mut text = [0; 80];
        let read = self.schedstat.as_ref()?.read_at(&mut text, 0).ok()?;
        Account::parse(&text[..read])
    }
}

/// A schedstat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) on_cpu: Duration,
    pub(crate) run_queue: Duration,
    /// How often it was given a CPU.
    pub(crate) turns: u64,
}

impl Account {
    fn parse(text: &[u8]) -> Option<Self> {
        let mut fields = std::str::from_utf8(text).ok()?.split_ascii_whitespace();
        let mut number = || fields.next()?.parse::<u64>().ok();
        let (on_cpu, run_queue, turns) = (number()?, number()?, number()?);
        Some(Self { on_cpu: Duration::from_nanos(on_cpu), run_queue: Duration::from_nanos(run_queue), turns })
    }
}

/// Whether `/proc` is this process's own view: in a container it can be somebody else's.
fn own_proc() -> bool {
    let link = std::fs::read_link("/proc/thread-self").ok();
    let number = link.as_deref().and_then(Path::file_name).and_then(|name| name.to_str()?.parse().ok());
    number == Some(ThreadId::here().0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_schedstat_is_cpu_time_run_queue_wait_and_turns() {
        let account = Account::parse(b"1500 2500000 12\n").unwrap();
        assert_eq!(account.on_cpu, Duration::from_nanos(1500));
        assert_eq!(account.run_queue, Duration::from_micros(2500));
        assert_eq!(account.turns, 12);
    }

    #[test]
    fn a_schedstat_that_is_not_one_is_refused() {
        assert_eq!(Account::parse(b""), None);
        assert_eq!(Account::parse(b"12 x 3"), None);
    }
}
