//! What the machine had to wait for in a stretch of time, in the kernel's own counters: for reports of what came late.

use std::collections::HashMap;
use std::fmt;
use std::fs::read_to_string;
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};

use super::host;
use crate::heartbeat::reading::thread::{Clocks, ThreadId, others_than};

/// What the machine can be short of, as `/proc/pressure` names it.
const RESOURCES: [&str; 3] = ["cpu", "io", "memory"];

/// The machine's counters at one moment.
#[derive(Debug)]
pub(crate) struct Machine {
    at: Instant,
    /// For how long some process has waited for each of the [`RESOURCES`]; `None` where the kernel does not count it.
    pressure: [Option<Duration>; 3],
    /// From each CPU.
    stolen: Vec<Duration>,
    /// Of this process.
    major_faults: u64,
    /// What each thread of this process has waited for a CPU.
    threads: HashMap<ThreadId, Waited>,
}

/// What a thread waited for a CPU, and how often it was given one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Waited {
    run_queue: Duration,
    turns: u64,
}

/// What happened between two moments.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Meanwhile {
    took: Duration,
    pressure: [Option<Duration>; 3],
    /// From one CPU at most.
    stolen: Duration,
    major_faults: u64,
    /// Of each thread of this process that waited for a CPU.
    threads: Vec<Waited>,
    /// In kB, at the end: what is to be written to disks, and what is being written.
    dirty: Option<u64>,
    writeback: Option<u64>,
}

impl Machine {
    pub(crate) fn now() -> Machine {
        let waited = |thread| {
            let account = Clocks::of(thread)?.account()?;
            Some((thread, Waited { run_queue: account.run_queue, turns: account.turns }))
        };
        Machine {
            at: Instant::now(),
            pressure: RESOURCES.map(|what| some_waited(&read_to_string(format!("/proc/pressure/{what}")).ok()?)),
            stolen: host::stolen(),
            major_faults: getrusage(UsageWho::RUSAGE_SELF)
                .map_or(0, |usage| u64::try_from(usage.major_page_faults()).unwrap_or(0)),
            threads: others_than(&[]).into_iter().filter_map(waited).collect(),
        }
    }

    /// What has happened since `before`.
    pub(crate) fn since(&self, before: &Machine) -> Meanwhile {
        let waited = |(thread, now): (&ThreadId, &Waited)| {
            let before = before.threads.get(thread).copied().unwrap_or_default();
            let run_queue = now.run_queue.saturating_sub(before.run_queue);
            Waited { run_queue, turns: now.turns.saturating_sub(before.turns) }
        };
        let mut pressure = [None; 3];
        for (waited, (now, before)) in pressure.iter_mut().zip(self.pressure.iter().zip(before.pressure)) {
            *waited = now.zip(before).map(|(now, before)| now.saturating_sub(before));
        }
        let stolen = self.stolen.iter().zip(&before.stolen).map(|(now, before)| now.saturating_sub(*before));
        let memory = read_to_string("/proc/meminfo").unwrap_or_default();
        Meanwhile {
            took: self.at.saturating_duration_since(before.at),
            pressure,
            stolen: stolen.max().unwrap_or_default(),
            major_faults: self.major_faults.saturating_sub(before.major_faults),
            threads: self.threads.iter().map(waited).filter(|waited| !waited.run_queue.is_zero()).collect(),
            dirty: kilobytes(&memory, "Dirty:"),
            writeback: kilobytes(&memory, "Writeback:"),
        }
    }
}

impl Meanwhile {
    /// What any one thread of this process waited for a CPU, at most.
    pub(crate) fn run_queue(&self) -> Duration {
        self.threads.iter().map(|waited| waited.run_queue).max().unwrap_or_default()
    }

    /// The same of so many turns, at most: one that is woken again and again waits each time, and needs not all of it.
    pub(crate) fn run_queue_of(&self, turns: u32) -> Duration {
        let of = |waited: &Waited| match u32::try_from(waited.turns) {
            Ok(had) if had <= turns => waited.run_queue,
            Ok(had) => waited.run_queue / had * turns,
            Err(_) => Duration::ZERO,
        };
        self.threads.iter().map(of).max().unwrap_or_default()
    }

    /// In which one thread waited so long for a CPU, in so many turns.
    #[cfg(test)]
    pub(crate) fn with_a_thread_that_waited(run_queue: Duration, turns: u64) -> Meanwhile {
        Meanwhile { threads: vec![Waited { run_queue, turns }], ..Meanwhile::default() }
    }
}

/// The `total` of the line `some` of a file in `/proc/pressure`: microseconds.
fn some_waited(text: &str) -> Option<Duration> {
    let line = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let total = line.split_ascii_whitespace().find_map(|field| field.strip_prefix("total="))?;
    total.parse().ok().map(Duration::from_micros)
}

/// One field of `proc_meminfo(5)`.
fn kilobytes(text: &str, field: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(field))?;
    value.split_ascii_whitespace().next()?.parse().ok()
}

impl fmt::Display for Meanwhile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "in these {:.1?} the machine", self.took)?;
        for (what, waited) in RESOURCES.iter().zip(self.pressure) {
            if let Some(waited) = waited {
                write!(f, " waited {waited:.1?} for {what},")?;
            }
        }
        write!(f, " lost {:.1?} of a CPU to its host", self.stolen)?;
        if let (Some(dirty), Some(writeback)) = (self.dirty, self.writeback) {
            write!(f, ", had {} MB to write and {} MB in writing", dirty / 1024, writeback / 1024)?;
        }
        let (faults, run_queue) = (self.major_faults, self.run_queue());
        write!(f, "; a thread of this process waited up to {run_queue:.1?} for a CPU; {faults} page faults read a disk")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn machine(at: Instant, count: u32, threads: &[(u32, u32)]) -> Machine {
        Machine {
            at: at + MS * count,
            pressure: [Some(MS * count), None, Some(MS * (count * 2))],
            stolen: vec![MS * count, MS * (count * 3)],
            major_faults: u64::from(count),
            threads: threads
                .iter()
                .map(|(thread, ms)| (ThreadId(*thread), Waited { run_queue: MS * *ms, turns: u64::from(*ms) }))
                .collect(),
        }
    }

    #[test]
    fn what_happened_is_the_difference_of_the_counters_and_of_the_cpu_and_the_thread_that_waited_most() {
        let at = Instant::now();
        let meanwhile =
            machine(at, 30, &[(1, 107), (2, 40), (3, 1)]).since(&machine(at, 10, &[(1, 100), (2, 10), (9, 0)]));
        assert_eq!((meanwhile.took, meanwhile.pressure), (MS * 20, [Some(MS * 20), None, Some(MS * 40)]));
        assert_eq!((meanwhile.stolen, meanwhile.major_faults, meanwhile.run_queue()), (MS * 60, 20, MS * 30));
        // One that was born meanwhile has waited for all that it has.
        assert_eq!(machine(at, 0, &[(7, 5)]).since(&machine(at, 0, &[])).run_queue(), MS * 5);
    }

    #[test]
    fn a_few_turns_of_many_waited_for_their_share() {
        let waited = |ms, turns| Meanwhile::with_a_thread_that_waited(MS * ms, turns);
        assert_eq!(waited(3000, 60).run_queue_of(16), MS * (16 * 50));
        assert_eq!(waited(3000, 16).run_queue_of(16), MS * 3000);
        assert_eq!((waited(3000, 60).run_queue(), Meanwhile::default().run_queue_of(16)), (MS * 3000, Duration::ZERO));
    }

    #[test]
    fn it_is_said_in_one_line() {
        let at = Instant::now();
        let meanwhile = machine(at, 30, &[(1, 7)]).since(&machine(at, 10, &[]));
        let meanwhile = Meanwhile { dirty: Some(20_480), writeback: Some(2_048), ..meanwhile };
        assert_eq!(
            meanwhile.to_string(),
            "in these 20.0ms the machine waited 20.0ms for cpu, waited 40.0ms for memory, lost 60.0ms of a CPU to its \
             host, had 20 MB to write and 2 MB in writing; a thread of this process waited up to 7.0ms for a CPU; 20 \
             page faults read a disk"
        );
    }

    #[test]
    fn the_kernels_counters_are_read_from_its_files() {
        let text = "some avg10=0.10 avg60=1.47 avg300=2.25 total=15968100\nfull avg10=0.00 total=7\n";
        assert_eq!(some_waited(text), Some(Duration::from_micros(15_968_100)));
        assert_eq!(some_waited("full avg10=0.00 total=7\n"), None);
        let text = "Dirty:             12345 kB\nWriteback:           7 kB\nWritebackTmp:  9 kB\n";
        assert_eq!((kilobytes(text, "Dirty:"), kilobytes(text, "Writeback:")), (Some(12_345), Some(7)));
        assert_eq!(kilobytes(text, "Cached:"), None);
    }
}
