//! Where a stretch of a thread's time went: wall = on-CPU + run-queue wait + blocked, and the sum always holds.
//!
//! Run-queue wait is the machine's fault. The other two are the code's, and only they are charged.

use std::time::{Duration, Instant};

use crate::heartbeat::reading::Reading;
use crate::heartbeat::reading::thread::ThreadId;

/// A stretch of one thread's time, on the way to being judged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stretch {
    pub(super) thread: ThreadId,
    pub(super) from: Instant,
    pub(super) to: Instant,
    pub(super) split: Split,
    /// The thread's CPU time at the end.
    pub(super) on_cpu_then: Duration,
    /// What the thread had spent when it was read last before; `None` if it never was.
    pub(super) since: Option<Spent>,
    pub(super) origin: Origin,
}

/// Where a stretch comes from: that says whether its polls can still be told apart, and by what.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// One poll of the watched future.
    Poll,
    /// The time between two returns to the driver, which may have been one poll or many.
    DriverTurns,
    /// What the busy period of a lab's worker was found to hold, with what may be wrong about it.
    BusyPeriod(Option<PollDoubt>),
}

/// Why a stretch may hold no poll that was too long, though by the clocks it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum PollDoubt {
    /// It may have been many polls.
    OneOrMany,
    /// The thread may have handed its worker over, to one that came late.
    HandedOver,
}

/// What a thread has spent on a CPU and waiting for one since it began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spent {
    pub(super) on_cpu: Duration,
    pub(super) run_queue: Duration,
}

impl Stretch {
    /// From one reading to another of the same thread, without what came before `earliest`.
    pub(super) fn between(from: &Reading, to: &Reading, earliest: Instant) -> Option<Self> {
        let skip = earliest.saturating_duration_since(from.at);
        let split = Split::between(from, to)?.after(skip);
        let since = from.run_queue.map(|run_queue| Spent { on_cpu: from.on_cpu, run_queue });
        Some(Self::until(to, from.at.max(earliest).min(to.at), split, since))
    }

    /// A stretch that ends with this reading.
    fn until(to: &Reading, from: Instant, split: Split, since: Option<Spent>) -> Self {
        Self { thread: to.thread, from, to: to.at, split, on_cpu_then: to.on_cpu, since, origin: Origin::DriverTurns }
    }

    /// How long the thread was away, waits for a CPU excluded as far as they are known.
    pub(super) fn away(&self) -> Duration {
        self.split.charged() + self.split.unexplained()
    }

    /// The stretch of a thread that was seen to be blocked for so long: see [`Split::capped_at`].
    pub(super) fn capped_at(self, blocked: Duration) -> Self {
        Self { split: self.split.capped_at(blocked), ..self }
    }

    pub(super) fn doubted(self, doubt: PollDoubt) -> Self {
        Self { origin: Origin::BusyPeriod(Some(doubt)), ..self }
    }

    /// Whether the thread was away for longer than the budget.
    pub(super) fn is_too_long(&self, budget: Duration) -> bool {
        self.away() > budget
    }

    /// Whether nothing but a wait for a CPU, if that is what it was, keeps it from being too long.
    pub(super) fn is_excused(&self, budget: Duration) -> bool {
        self.away() <= budget && self.split.wall > budget
    }

    /// Up to the first reading of a thread that was never read before. If all it ever waited for a CPU was in this
    /// stretch and the rest is still above the budget, that is proof enough; else only the wall clock is known.
    pub(super) fn first_reading(from: Instant, to: &Reading, budget: Duration) -> Option<Self> {
        let wall = to.at.checked_duration_since(from)?;
        let run_queue = to.run_queue.map(|ever| ever.min(wall)).filter(|ever| wall - *ever > budget);
        let on_cpu = run_queue.map_or(Duration::ZERO, |ever| to.on_cpu.min(wall - ever));
        Some(Self::until(to, from, Split { wall, on_cpu, run_queue }, None))
    }
}

/// How a stretch divides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Split {
    pub(super) wall: Duration,
    pub(super) on_cpu: Duration,
    pub(super) run_queue: Option<Duration>,
}

impl Split {
    /// `None` for readings of two threads: their clocks have nothing in common.
    pub(super) fn between(from: &Reading, to: &Reading) -> Option<Self> {
        if from.thread != to.thread {
            return None;
        }
        let wall = to.at.saturating_duration_since(from.at);
        let run_queue = from.run_queue.zip(to.run_queue).map(|(from, to)| to.saturating_sub(from).min(wall));
        let on_cpu = to.on_cpu.saturating_sub(from.on_cpu).min(wall - run_queue.unwrap_or_default());
        Some(Self { wall, on_cpu, run_queue })
    }

    /// The least that must have come after the first `skip`: every wait for a CPU is taken to be in what is left,
    /// so doubt speaks for the code.
    pub(super) fn after(self, skip: Duration) -> Self {
        let wall = self.wall.saturating_sub(skip);
        let run_queue = self.run_queue.map(|wait| wait.min(wall));
        let on_cpu = self.on_cpu.min(wall - run_queue.unwrap_or_default());
        Self { wall, on_cpu, run_queue }
    }

    /// The same for a thread that was seen to be blocked for so long. That leaves less room for waits for a CPU than
    /// the kernel may have booked: since Linux 6.12 a thread that is moved to another CPU while it falls asleep has all
    /// its sleep booked as one, some two in a thousand on a busy machine.
    ///
    /// Charged is then what was seen, or what was charged before if that is more, and never their sum: some of the CPU
    /// time may lie before the stretch.
    pub(super) fn capped_at(self, blocked: Duration) -> Self {
        let room = self.wall.saturating_sub(blocked);
        let run_queue = self.run_queue.map(|wait| wait.min(room));
        Self { run_queue, ..self }
    }

    /// Of a stretch with several sleeps, no more than the longest is known to have taken.
    pub(super) fn asleep(self, time: Duration) -> Self {
        Self { wall: time, on_cpu: Duration::ZERO, run_queue: self.run_queue.map(|_| Duration::ZERO) }
    }

    pub(super) fn blocked(&self) -> Option<Duration> {
        Some(self.wall - self.on_cpu - self.run_queue?)
    }

    /// Time off the CPU that is not known to have been a wait for one.
    pub(super) fn lost(&self) -> Duration {
        self.blocked().unwrap_or(self.unexplained())
    }

    /// On-CPU + blocked where the two can be told from waiting for a CPU, else on-CPU alone.
    pub(super) fn charged(&self) -> Duration {
        self.on_cpu + self.blocked().unwrap_or_default()
    }

    /// Time off the CPU that may or may not be the code's.
    pub(super) fn unexplained(&self) -> Duration {
        if self.run_queue.is_some() { Duration::ZERO } else { self.wall - self.on_cpu }
    }
}

#[cfg(test)]
mod tests;
