//! One thread's clocks at one moment: no reading mixes two moments.
//!
//! Three clocks are read one after the other. If the thread were preempted between two of them, the wait would be
//! on one clock and not on the other, and the next stretch would be charged for it. So the wall clock is read first
//! and last, and a reading that took suspiciously long is taken again.

use std::cell::{Cell, OnceCell};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

pub(super) mod host;
pub(super) mod poll_clock;
#[cfg(all(target_os = "linux", not(deadbeat_portable)))]
pub(super) mod thread;
#[cfg(not(all(target_os = "linux", not(deadbeat_portable))))]
#[path = "reading/thread_portable.rs"]
pub(super) mod thread;

pub(super) use poll_clock::PollClock;
pub(super) use thread::ThreadId;

/// Longer than this between the first and the last clock, and the thread was off the CPU in between.
const TORN: Duration = Duration::from_micros(60);

/// What a thread's clocks said, read by the thread itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    pub(super) at: Instant,
    pub(super) thread: ThreadId,
    /// Time on a CPU since the thread began (`CLOCK_THREAD_CPUTIME_ID`).
    pub(super) on_cpu: Duration,
    /// Time runnable but waiting for a CPU since the thread began; `None` where the kernel does not say.
    pub(super) run_queue: Option<Duration>,
}

thread_local! {
    static CLOCKS: OnceCell<thread::Clocks> = const { OnceCell::new() };
    static LAST: Cell<Option<Reading>> = const { Cell::new(None) };
}

impl Reading {
    /// Reads the calling thread's clocks: 1 to 3 µs, and up to 10 if it has just woken.
    pub(super) fn here() -> Self {
        let reading = CLOCKS
            .try_with(|clocks| Self::with(clocks.get_or_init(thread::Clocks::open)))
            .unwrap_or_else(|_| Self::with(&thread::Clocks::bare()));
        let _ = LAST.try_with(|last| last.set(Some(reading)));
        reading
    }

    /// The calling thread's clocks if they were last read longer than `age` ago, else what they said then, for the price
    /// of the wall clock.
    ///
    /// What the thread has waited for a CPU since will be taken for a part of whatever begins now, and excuse it. So it
    /// is for where that is little, and `age` bounds it.
    pub(super) fn within(age: Duration) -> Self {
        let at = Instant::now();
        match LAST.try_with(Cell::get) {
            Ok(Some(last)) if at.saturating_duration_since(last.at) < age => Self { at, ..last },
            _ => Self::here(),
        }
    }

    /// What the calling thread's clocks said when they were last read.
    pub(super) fn last() -> Option<Self> {
        LAST.try_with(Cell::get).ok().flatten()
    }

    fn with(clocks: &thread::Clocks) -> Self {
        let mut tries = 0;
        loop {
            let begun = Instant::now();
            let on_cpu = thread_cpu_time();
            let run_queue = clocks.run_queue();
            let at = Instant::now();
            tries += 1;
            if at - begun < TORN || tries == 5 {
                return Self { at, thread: clocks.id(), on_cpu, run_queue };
            }
        }
    }
}

/// The calling thread, without asking the kernel again.
pub(super) fn this_thread() -> ThreadId {
    CLOCKS.try_with(|clocks| clocks.get_or_init(thread::Clocks::open).id()).unwrap_or_else(|_| ThreadId::here())
}

/// How often the calling thread has gone to sleep of its own accord.
#[cfg(all(target_os = "linux", not(deadbeat_portable)))]
pub(super) fn sleeps() -> u64 {
    use nix::sys::resource::{UsageWho, getrusage};

    let switches = getrusage(UsageWho::RUSAGE_THREAD).map_or(0, |usage| usage.voluntary_context_switches());
    switches.try_into().unwrap_or(0)
}

/// Unknown: zero sleeps prove nothing.
#[cfg(not(all(target_os = "linux", not(deadbeat_portable))))]
pub(super) fn sleeps() -> u64 {
    0
}

fn thread_cpu_time() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from)
}
