//! One thread's clocks at one moment: no reading mixes two moments.
//!
//! Three clocks are read one after the other. If the thread were preempted between two of them, the wait would be
//! on one clock and not on the other, and the next stretch would be charged for it. So the wall clock is read first
//! and last, and a reading that took suspiciously long is taken again.

use std::cell::{Cell, OnceCell};
use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

pub(super) mod host;
pub(super) mod machine;
pub(super) mod poll_clock;
#[cfg(all(target_os = "linux", not(deadbeat_portable)))]
pub(super) mod thread;
#[cfg(not(all(target_os = "linux", not(deadbeat_portable))))]
#[path = "reading/thread_portable.rs"]
pub(super) mod thread;

use thread::ThreadId;

/// How late the kernel books the time that a thread runs: it does so at a tick, or when the thread stops.
pub(super) mod booked {
    use std::time::Duration;

    /// A tick at 250 Hz, the usual rate: a look may show CPU time that is older by this. Counted for each look at a
    /// worker's tasks, where a larger allowance would make many polls of one.
    pub(crate) const AT_A_TICK: Duration = Duration::from_millis(4);
    /// Two such ticks and what they come late: an account that stands still for as long is that of a thread that
    /// sleeps.
    pub(crate) const IN_TWO_TICKS: Duration = Duration::from_millis(9);
    /// A tick at 100 Hz, the slowest that kernels are built with: more CPU time than this is never missing.
    pub(crate) const BY_ANY_KERNEL: Duration = Duration::from_millis(10);
}

/// Longer than this between the first and the last clock, and the thread was off the CPU in between.
const TORN_READING: Duration = Duration::from_micros(60);

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

    /// The calling thread's clocks if they were last read longer than `age` ago, else what they said then, for the
    /// price of the wall clock.
    ///
    /// What the thread has waited for a CPU since will be taken for a part of whatever begins now, and excuse it. So it
    /// is for where that is little, and `age` bounds it.
    pub(super) fn within(age: Duration) -> Self {
        let at = Instant::now();
        match LAST.try_with(Cell::get) {
            Ok(Some(last)) if last.is_younger(age, at) => Self { at, ..last },
            _ => Self::here(),
        }
    }

    /// What the calling thread's clocks said when they were last read.
    pub(super) fn last() -> Option<Self> {
        LAST.try_with(Cell::get).ok().flatten()
    }

    /// At zero `age` none is, whatever the clock.
    fn is_younger(&self, age: Duration, now: Instant) -> bool {
        now.saturating_duration_since(self.at) < age
    }

    fn with(clocks: &thread::Clocks) -> Self {
        untorn(|| {
            let begun = Instant::now();
            let on_cpu = thread_cpu_time();
            let run_queue = clocks.run_queue();
            let at = Instant::now();
            (at - begun, Self { at, thread: clocks.id(), on_cpu, run_queue })
        })
    }
}

/// The first that was not torn, or the fifth.
fn untorn<T>(mut read: impl FnMut() -> (Duration, T)) -> T {
    for _ in 1..5 {
        let (took, reading) = read();
        if took < TORN_READING {
            return reading;
        }
    }
    read().1
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reading_that_took_too_long_is_taken_again_but_not_for_ever() {
        let (whole, torn) = (TORN_READING - Duration::from_nanos(1), TORN_READING);
        for (tries, expected) in [
            ([whole, whole, whole, whole, whole], 1),
            ([torn, whole, whole, whole, whole], 2),
            ([torn, torn, torn, whole, whole], 4),
            ([torn, torn, torn, torn, torn], 5),
        ] {
            let mut nth = 0;
            let read = || {
                nth += 1;
                (tries[nth - 1], nth)
            };
            assert_eq!(untorn(read), expected);
        }
    }

    #[test]
    fn a_reading_is_as_young_as_asked_for_or_taken_anew() {
        let last = Reading::here();
        let age = Duration::from_millis(5);
        let just_before = age - Duration::from_nanos(1);
        assert!(last.is_younger(age, last.at + just_before) && !last.is_younger(age, last.at + age));
        assert!(!last.is_younger(Duration::ZERO, last.at), "none is that young");
    }

    #[test]
    fn what_was_read_not_long_ago_is_not_read_again_except_for_the_time() {
        let first = Reading::here();
        assert!(first.on_cpu > Duration::ZERO && first.thread == this_thread());
        let same = Reading::within(Duration::from_secs(3600));
        assert!(same.at > first.at && same.on_cpu == first.on_cpu, "{first:?} {same:?}");
        let fresh = Reading::within(Duration::ZERO);
        assert!(fresh.at > same.at && fresh.on_cpu > first.on_cpu, "{first:?} {fresh:?}");
        assert_eq!(Reading::last().map(|last| last.at), Some(fresh.at), "what was reused is not news");
        std::thread::spawn(|| assert!(Reading::last().is_none(), "of a thread that never read any")).join().unwrap();
    }

    #[test]
    #[cfg(all(target_os = "linux", not(deadbeat_portable)))]
    fn a_thread_that_sleeps_knows_that_it_did() {
        let before = sleeps();
        let slept = (0..1000).any(|_| {
            std::thread::park_timeout(Duration::from_millis(1));
            sleeps() > before
        });
        assert!(slept, "{before} times, it says, before and after");
    }
}
