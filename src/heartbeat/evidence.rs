//! What the judging is given: what was observed of a stretch from outside, while it lasted.

use std::time::{Duration, Instant};

use tokio::runtime::RuntimeMetrics;

use crate::heartbeat::culprit::Culprit;
use crate::heartbeat::reading::thread::{Account, ThreadId};
use crate::heartbeat::stretch::{Spent, Stretch};

/// What the observer is asked about: a stretch of a thread's time, and what the thread's own clocks say of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Query {
    pub(crate) thread: ThreadId,
    pub(crate) from: Instant,
    pub(crate) to: Instant,
    /// Whether the clocks say that it waited rather than computed, if they do.
    pub(crate) waited: Option<bool>,
    /// What the thread had spent before, if it was read then.
    pub(crate) since: Option<Spent>,
    /// And at the end of the stretch.
    pub(crate) until: Option<Spent>,
}

impl From<&Stretch> for Query {
    fn from(stretch: &Stretch) -> Self {
        let waited = stretch.split.blocked().map(|blocked| blocked > stretch.split.on_cpu);
        let until = stretch
            .since
            .zip(stretch.split.run_queue)
            .map(|(since, queued)| Spent { on_cpu: stretch.on_cpu_then, run_queue: since.run_queue + queued });
        Self { thread: stretch.thread, from: stretch.from, to: stretch.to, waited, since: stretch.since, until }
    }
}

/// What the observer saw of a stretch. By default nothing, which is no proof of anything.
#[derive(Debug, Clone, Default)]
pub(crate) struct Observed {
    pub(crate) culprit: Option<Culprit>,
    pub(crate) machine: Option<MachineEffects>,
    pub(crate) tasks: Vec<TaskLook>,
    pub(crate) workers: Vec<WorkersLook>,
}

impl Observed {
    /// How long the thread was blocked at least, whatever its clocks say, or waited for CPUs that it had given away.
    pub(crate) fn blocked(&self) -> Duration {
        self.machine.as_ref().map_or(Duration::ZERO, |seen| seen.looks.blocked + seen.looks.yielded)
    }
}

/// What one look from outside showed of the tasks of a worker.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TaskLook {
    pub(crate) at: Instant,
    pub(crate) alive: usize,
    pub(crate) on_cpu: Duration,
    /// How often the thread had been given a CPU.
    pub(crate) turns: u64,
    /// It was in a call.
    pub(crate) waiting: bool,
}

impl TaskLook {
    /// With an account that was just read.
    pub(crate) fn at(account: Account, alive: usize, waiting: bool) -> Self {
        Self { at: Instant::now(), alive, on_cpu: account.on_cpu, turns: account.turns, waiting }
    }

    /// In a call then and later, and had no CPU in between: it was blocked all the while, in one poll.
    pub(crate) fn blocked_until(&self, later: &Self) -> bool {
        self.waiting && later.waiting && (self.turns, self.on_cpu) == (later.turns, later.on_cpu)
    }
}

/// What one look from outside showed of every worker.
#[derive(Debug, Clone)]
pub(crate) struct WorkersLook {
    /// When it was over.
    pub(crate) at: Instant,
    pub(crate) workers: Vec<WorkerNumbers>,
    /// A thread that is younger than the poll had not begun to wait for anything but memory.
    pub(crate) begins: bool,
}

impl WorkersLook {
    pub(crate) fn at(metrics: &RuntimeMetrics, begins: bool) -> Self {
        Self { workers: WorkerNumbers::of_all(metrics), at: Instant::now(), begins }
    }
}

/// What befell the whole process while a stretch lasted.
#[derive(Debug, Clone, Default)]
pub(crate) struct MachineEffects {
    /// How long the observer overslept without waiting for a CPU.
    pub(crate) stood_still: Duration,
    /// How long the process may have stood still at most: with the sleeps of the observer in which that must have
    /// begun.
    pub(crate) stood_still_at_most: Duration,
    /// How late the observer was at worst, for whatever reason.
    pub(crate) control: Duration,
    /// From one CPU at most.
    pub(crate) stolen: Duration,
    pub(crate) asleep: Option<Duration>,
    pub(crate) tracer: Option<u32>,
    /// Where the thread was, in all looks at it.
    pub(crate) looks: SampleCounts,
    /// Whether no look at the thread says what it did, though it can be looked at: the observer was itself held up.
    pub(crate) overlooked: bool,
}

/// In how many looks the thread was where.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct SampleCounts {
    pub(crate) all: u32,
    /// In a call, or in a page fault.
    pub(crate) waiting: u32,
    /// How long it may have waited for memory, where any code may have to: from the look before to the one after.
    pub(crate) for_memory: Duration,
    /// How long it may have waited for a lock that another thread held, which itself waited for a CPU or for memory.
    pub(crate) for_lock: Duration,
    /// For how long before other threads were not looked at, so that one may have waited then too.
    pub(crate) before_lock: Duration,
    /// How long it was blocked at least, whatever its clocks say.
    pub(crate) blocked: Duration,
    /// What was seen to trace it meanwhile.
    pub(crate) tracer: Option<u32>,
    /// For how long it may have been traced: from the look before to the one after.
    pub(crate) traced: Duration,
    /// How long it waited for CPUs that it had given away itself (`sched_yield`).
    pub(crate) yielded: Duration,
    /// How long it may have been blocked elsewhere while it was not looked at, if its culprit is what any code may be
    /// in.
    pub(crate) unseen: Duration,
}

/// One look at every worker from outside.
#[derive(Debug, Clone)]
pub(crate) struct CountersLook {
    pub(crate) at: Instant,
    /// By the runtime's own index.
    pub(crate) workers: Vec<WorkerNumbers>,
    pub(crate) accounts: Vec<(ThreadId, Account)>,
}

impl CountersLook {
    pub(crate) fn account(&self, thread: ThreadId) -> Option<Account> {
        self.accounts.iter().find(|(other, _)| *other == thread).map(|(_, account)| *account)
    }
}

/// What the runtime publishes of a worker whenever it is back in its scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct WorkerNumbers {
    /// Odd while it is idle.
    pub(crate) parks: u64,
    pub(crate) busy: Duration,
}

impl WorkerNumbers {
    pub(crate) fn of(metrics: &RuntimeMetrics, index: usize) -> Self {
        Self { parks: metrics.worker_park_unpark_count(index), busy: metrics.worker_total_busy_duration(index) }
    }

    pub(crate) fn of_all(metrics: &RuntimeMetrics) -> Vec<Self> {
        (0..metrics.num_workers()).map(|index| Self::of(metrics, index)).collect()
    }

    /// A worker reads its own count as it left it, and from outside it is even too while the worker is awake.
    pub(crate) fn is_awake(&self) -> bool {
        self.parks % 2 == 0
    }
}

/// What the runtime had published of every worker at one end of a busy period.
#[derive(Debug, Clone, Default)]
pub(crate) struct Published {
    /// By index. None: it is not known.
    pub(crate) workers: Vec<WorkerNumbers>,
    /// Whether the poll before is in the busy time of the worker. In a turn of the driver it is not yet.
    pub(crate) settled: bool,
}
