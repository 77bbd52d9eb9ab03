//! A thread's account where there is no schedstat: run-queue wait is unknown, and nothing here guesses it.

use std::cell::Cell;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// A number of our own for a thread: only equality matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ThreadId(pub(crate) u32);

impl ThreadId {
    pub(crate) fn here() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(1);
        thread_local!(static MINE: Cell<u32> = const { Cell::new(0) });
        let mine = MINE.try_with(|mine| {
            if mine.get() == 0 {
                mine.set(NEXT.fetch_add(1, Ordering::Relaxed));
            }
            mine.get()
        });
        Self(mine.unwrap_or(0))
    }
}

#[derive(Debug)]
pub(crate) struct Clocks(ThreadId);

impl Clocks {
    pub(crate) fn open() -> Self {
        Self(ThreadId::here())
    }

    pub(crate) fn bare() -> Self {
        Self::open()
    }

    pub(crate) fn of(_: ThreadId) -> Option<Self> {
        None
    }

    pub(crate) fn id(&self) -> ThreadId {
        self.0
    }

    pub(crate) fn run_queue(&self) -> Option<Duration> {
        None
    }

    pub(crate) fn account(&self) -> Option<Account> {
        None
    }
}

/// Of another thread it cannot be had.
pub(crate) fn cpu_time(_: ThreadId) -> Option<Duration> {
    None
}

/// See the Linux one; here it is not to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Status {
    pub(crate) tracer: Option<u32>,
    pub(crate) displaced: u64,
}

#[derive(Debug)]
pub(crate) struct StatusFile;

impl StatusFile {
    pub(crate) fn of(_: ThreadId) -> Option<Self> {
        None
    }

    pub(crate) fn read(&self) -> Option<Status> {
        None
    }
}

/// Always `None`: it is not known.
pub(crate) fn younger_than(_: Duration, _: ThreadId) -> Vec<ThreadId> {
    Vec::new()
}

/// No list of threads is kept here.
pub(crate) fn others_than(_: &[ThreadId]) -> Vec<ThreadId> {
    Vec::new()
}

pub(crate) fn is_a_watchers(_: ThreadId) -> bool {
    false
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) on_cpu: Duration,
    pub(crate) run_queue: Duration,
    pub(crate) turns: u64,
}
