//! One look at a thread from outside: no signal is sent to it and nothing of it is stopped.

use std::sync::Arc;
use std::time::{Duration, Instant};

#[cfg(all(target_os = "linux", not(deadbeat_portable), any(feature = "cli", feature = "conformance")))]
mod elsewhere;
#[cfg(all(target_os = "linux", not(deadbeat_portable)))]
pub(crate) mod memory;
#[cfg(all(target_os = "linux", not(deadbeat_portable)))]
pub(crate) mod syscall;

#[cfg(all(target_os = "linux", not(deadbeat_portable), any(feature = "cli", feature = "conformance")))]
pub(crate) use elsewhere::what_its_threads_do;
#[cfg(fuzzing)]
pub use syscall::system_call;

#[cfg(all(target_os = "linux", not(deadbeat_portable), feature = "backtrace"))]
use crate::heartbeat::culprit::stack::Registers;
use crate::heartbeat::culprit::stack::{Stack, StackCopies};
use crate::heartbeat::culprit::{Culprit, LOCK_WITH_LIMIT, waits_for_lock, waits_for_memory};
use crate::heartbeat::evidence::{TaskLook, WorkersLook};
use crate::heartbeat::reading::thread::{Account, Status, ThreadId};
use crate::heartbeat::stretch::Spent;

/// What the threads of another process are stuck in: on this system it cannot be seen.
#[cfg(all(not(all(target_os = "linux", not(deadbeat_portable))), any(feature = "cli", feature = "conformance")))]
pub(crate) fn what_its_threads_do(_: i32) -> Vec<String> {
    Vec::new()
}

/// What one look at a thread showed.
#[derive(Debug, Clone)]
pub(crate) struct Sample {
    pub(crate) thread: ThreadId,
    pub(crate) at: Instant,
    pub(crate) doing: Doing,
    /// The top of its stack, if it was copied.
    pub(crate) stack: Option<Arc<Stack>>,
    /// The kernel's account of it, read after the look, of a thread whose time is weighed.
    pub(crate) account: Option<Account>,
    /// The process that traces it, and how often it has lost its CPU; read after the account.
    pub(crate) status: Option<Status>,
    /// If its runtime has no other worker.
    pub(crate) tasks: Option<TaskLook>,
    /// If it has, and they can be seen.
    pub(crate) workers: Option<WorkersLook>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Doing {
    Running,
    #[cfg_attr(
        all(not(test), any(not(target_os = "linux"), deadbeat_portable)),
        expect(dead_code, reason = "it cannot be seen there")
    )]
    Waiting {
        syscall: String,
        detail: Option<String>,
    },
}

impl Sample {
    /// What this look alone says, where it is sure to be of the stretch that is asked about.
    pub(crate) fn culprit(self) -> Culprit {
        let (syscall, detail) = match self.doing {
            Doing::Running => (None, None),
            Doing::Waiting { syscall, detail } => (Some(syscall), detail),
        };
        Culprit::seen(syscall, detail, (1, 1), StackCopies::of(self.stack.into_iter()))
    }

    /// SampleCounts at a thread of this process: some 10 µs. With `deep`, copies the top of its stack too.
    #[cfg(all(target_os = "linux", not(deadbeat_portable)))]
    pub(crate) fn of(thread: ThreadId, deep: bool) -> Option<Self> {
        let at = Instant::now();
        let state = syscall::ThreadState::of(thread)?;
        let stack = deep.then(|| copy_of_stack(&state)).flatten();
        let doing = match state.call {
            None => Doing::Running,
            Some(call) => Doing::Waiting { syscall: call.name(), detail: call.detail() },
        };
        Some(Self { thread, at, doing, stack, account: None, status: None, tasks: None, workers: None })
    }

    #[cfg(not(all(target_os = "linux", not(deadbeat_portable))))]
    pub(crate) fn of(_: ThreadId, _: bool) -> Option<Self> {
        None
    }

    #[cfg(test)]
    pub(crate) fn running(thread: ThreadId, at: Instant) -> Self {
        Self { thread, at, doing: Doing::Running, stack: None, account: None, status: None, tasks: None, workers: None }
    }

    /// With its stack, where one is copied.
    #[cfg(test)]
    pub(crate) fn copied(thread: ThreadId, at: Instant) -> Self {
        let stack = Culprit::with_a_stack().evidence.stacks().first().cloned();
        Self { stack, ..Self::running(thread, at) }
    }

    #[cfg(test)]
    pub(crate) fn asleep(thread: ThreadId, at: Instant, account: Account) -> Self {
        let doing = Doing::Waiting { syscall: "poll".to_owned(), detail: None };
        Self { doing, account: Some(account), ..Self::running(thread, at) }
    }

    pub(crate) fn has_stack(&self) -> bool {
        self.stack.is_some()
    }

    /// Running, or ready to.
    pub(crate) fn is_running(&self) -> bool {
        self.doing == Doing::Running
    }

    /// As a thread does that has not come to what it was started for.
    pub(crate) fn begins(&self) -> bool {
        self.is_running() || self.doing.waits_for_memory()
    }

    /// Waiting for another thread of this process, with no limit of its own.
    pub(crate) fn waits_for_lock(&self) -> bool {
        self.doing.waits_for_lock()
    }

    /// Waiting where any code may have to.
    pub(crate) fn waits_for_memory(&self) -> bool {
        self.doing.waits_for_memory()
    }

    /// The call as the look before this one saw it, where the thread has had no CPU since and so is in it still:
    /// another thread may have closed its descriptor meanwhile, and the number may have become another file's.
    pub(crate) fn keeps_to(&mut self, before: &CallSeen) {
        let same =
            self.account.is_some_and(|account| account.turns == before.turns) && self.doing.same_call(&before.doing);
        if same {
            self.doing = before.doing.clone();
        }
    }

    /// What the next look is to be compared with.
    pub(crate) fn call_seen(&self) -> Option<CallSeen> {
        let account = self.account.filter(|_| !self.is_running())?;
        Some(CallSeen { doing: self.doing.clone(), turns: account.turns })
    }

    /// How long the thread had been blocked since `from`, at least. One that is in a call waits for no CPU, so what it
    /// waited for one before is all in its account, and this sleep is not, however it will be booked at its end.
    pub(crate) fn blocked(&self, from: Instant, since: Spent) -> Option<Duration> {
        let account = self.account.filter(|_| !self.is_running())?;
        let (on_cpu, queued) =
            (account.on_cpu.checked_sub(since.on_cpu)?, account.run_queue.checked_sub(since.run_queue)?);
        self.at.checked_duration_since(from)?.checked_sub(on_cpu + queued)
    }

    pub(crate) fn tracer(&self) -> Option<u32> {
        self.status.and_then(|status| status.tracer)
    }

    /// Waiting for events, as an idle worker does.
    pub(crate) fn is_parked(&self) -> bool {
        matches!(&self.doing, Doing::Waiting { syscall, .. } if syscall.starts_with("epoll_"))
    }

    /// As a worker waits for events and a thread of the blocking pool for work, the latter with a limit: such a thread
    /// holds no lock.
    pub(crate) fn is_idle(&self) -> bool {
        let with_limit = |detail: &Option<String>| detail.as_deref() == Some(LOCK_WITH_LIMIT);
        self.is_parked() || matches!(&self.doing, Doing::Waiting { detail, .. } if with_limit(detail))
    }

    /// In a call that a worker idles in too: for events, or for the worker that turns the driver.
    pub(crate) fn may_idle(&self) -> bool {
        self.is_parked() || matches!(&self.doing, Doing::Waiting { syscall, .. } if syscall == "futex")
    }
}

/// The call that a thread was in, and how often it had been given a CPU by then.
#[derive(Debug)]
pub(crate) struct CallSeen {
    doing: Doing,
    turns: u64,
}

impl Doing {
    pub(crate) fn same_call(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Running, Self::Running) => true,
            (Self::Waiting { syscall: one, .. }, Self::Waiting { syscall: two, .. }) => one == two,
            _ => false,
        }
    }

    fn waits_for_memory(&self) -> bool {
        matches!(self, Self::Waiting { syscall, detail } if waits_for_memory(syscall, detail.as_deref()))
    }

    fn waits_for_lock(&self) -> bool {
        matches!(self, Self::Waiting { syscall, detail } if waits_for_lock(syscall, detail.as_deref()))
    }

    pub(crate) fn detail(&self) -> Option<&str> {
        match self {
            Self::Running => None,
            Self::Waiting { detail, .. } => detail.as_deref(),
        }
    }
}

/// Of a thread that waits; the kernel does not show where one is that runs.
#[cfg(all(target_os = "linux", not(deadbeat_portable), feature = "backtrace"))]
pub(crate) fn copy_of_stack(state: &syscall::ThreadState) -> Option<Arc<Stack>> {
    state.call?;
    let registers = Registers::of_wait(state.program_counter, state.stack_pointer);
    let words = memory::stack(state.stack_pointer);
    (!words.is_empty()).then(|| Arc::new(Stack::new(registers, words)))
}

#[cfg(all(target_os = "linux", not(deadbeat_portable), not(feature = "backtrace")))]
fn copy_of_stack(_: &syscall::ThreadState) -> Option<Arc<Stack>> {
    None
}
