//! What a pulse proves, and if nothing, why not and what to do: every doubt carries its remedy.

use std::fmt;
use std::time::Duration;

use crate::heartbeat::config::ConfigError;
use crate::heartbeat::culprit::Culprit;

/// What a watch proved.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize), serde(rename_all = "lowercase"))]
#[non_exhaustive]
pub enum Verdict {
    /// No worker was kept from its scheduler for longer than the budget, and the watch would have seen it.
    Steady,
    /// Some worker was, and it was the code's doing: see [`Pulse::stalls`](super::Pulse::stalls).
    Starved,
    /// Neither was proved.
    Inconclusive {
        /// The reason, and what to do about it.
        why: Why,
    },
}

/// Why a watch, or one stall in it, proves nothing. `Display` says what to do.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Why {
    /// The watch outlasted the budget, but hardly a beat came: the driver of the runtime was not turned.
    TooFewBeats {
        /// How many came.
        beats: u64,
    },
    /// The runtime has several workers, and a beat on one says nothing about the others.
    MultiThread,
    /// The watched future was the root of a multi-thread `block_on`, whose thread is no worker, and blocked there.
    RootBlocked {
        /// For how long.
        charged: Duration,
        /// In what, if it was seen.
        culprit: Option<Culprit>,
    },
    /// The code, or dropping its runtime, was not over at the deadline of its lab, and no worker was seen to stand
    /// still.
    Unfinished,
    /// There is no runtime here, so there are no beats.
    NoRuntime,
    /// The interval or the budget cannot be used.
    Config(ConfigError),
    /// tokio's clock is paused (`start_paused`, `tokio::time::pause`): beats come at once, whatever happens.
    PausedClock,
    /// The whole process stood still: SIGSTOP, a frozen cgroup, a paused virtual machine.
    ProcessStopped {
        /// For how long.
        stood_still: Duration,
    },
    /// The machine slept.
    Suspended {
        /// For how long.
        asleep: Duration,
    },
    /// The hypervisor gave the CPU to another machine.
    Stolen {
        /// For how long, at most, from one CPU.
        stolen: Duration,
    },
    /// A debugger or tracer is attached, or was to the thread, and may have stopped it at any time.
    Traced {
        /// The tracer.
        pid: u32,
    },
    /// The thread waited for memory, in a page fault, in `mmap` and the like, in the kernel's part of the start of a
    /// thread, or for a lock of the C library's (`malloc`, thread stacks): for a page, or for another thread that
    /// itself waited for a page or for a CPU.
    /// Not told from it are a page of a mapped file, which is a read, and the C library's locks on stdio and name
    /// lookups: code that blocks there is doubted.
    Memory,
    /// The thread waited for a lock, a channel or a join, and another thread of this process, which may be the one it
    /// waited for, itself waited for a CPU or for memory meanwhile.
    LockHolder {
        /// For how long: the most that any one thread did.
        waited: Duration,
    },
    /// The thread gave its CPU away again and again (`sched_yield`, as spin locks do), and what it waited for the next
    /// turns is what makes the stall too long: its own choice as much as the machine's doing.
    Yielded {
        /// For how long.
        waited: Duration,
    },
    /// It is not known how long the thread waited for a CPU (no schedstat), and a control thread was late too.
    SlowMachine {
        /// How late.
        control: Duration,
    },
    /// A worker was busy for longer than the budget, and it could not be seen whether with one poll or with many.
    Undecided {
        /// For how long, run-queue wait excluded.
        charged: Duration,
    },
    /// A thread was started while a worker blocked, or woken in the pool, and was late: it had to wait for a CPU
    /// itself, or for memory. If it was to take the worker over (`block_in_place`), the machine alone was to blame. Or
    /// a worker stood still before it was handed over: in a poll, or until the other thread came.
    HandedOver {
        /// How late it was; of a [`Heartbeat::watch`](super::Heartbeat::watch), at least.
        waited: Duration,
    },
    /// A worker of the runtime was never seen, or a thread that took one over (`block_in_place`) was seen too late to
    /// say what it did.
    WorkerUnseen,
    /// The observer, a thread of this library's, could not be started, did not answer in time or never saw what a
    /// thread waited for. Whether that was for the machine is not known.
    Unobserved,
}

impl Why {
    /// Whether it lies with what the machine did meanwhile, so that the same may prove something the next time.
    pub(super) fn is_the_machines(&self) -> bool {
        match self {
            Self::ProcessStopped { .. }
            | Self::Suspended { .. }
            | Self::Stolen { .. }
            | Self::Memory
            | Self::LockHolder { .. }
            | Self::Yielded { .. }
            | Self::SlowMachine { .. }
            | Self::Undecided { .. }
            | Self::HandedOver { .. }
            | Self::WorkerUnseen
            | Self::Unobserved => true,
            Self::TooFewBeats { .. }
            | Self::MultiThread
            | Self::RootBlocked { .. }
            | Self::Unfinished
            | Self::NoRuntime
            | Self::Config(_)
            | Self::PausedClock
            | Self::Traced { .. } => false,
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooFewBeats { beats } => write!(
                f,
                "only {beats} beats came: the runtime's driver was not turned; watch inside `Runtime::block_on`, a \
                task, or a `Lab`"
            ),
            Self::MultiThread => f.write_str(
                "a beat on one worker of a multi-thread runtime says nothing about the others; use `Lab`, or a \
                current_thread runtime",
            ),
            Self::RootBlocked { charged, culprit } => {
                write!(f, "the root future of `block_on` blocked for {charged:.1?}")?;
                if let Some(culprit) = culprit {
                    write!(f, ", {culprit}")?;
                }
                f.write_str(", but its thread is no worker; put the code in `tokio::spawn`")
            }
            Self::Unfinished => f.write_str(
                "no worker was seen to stand still, but the code, or dropping its runtime, was not over at the \
                deadline: it awaits what did not come; see to that, or raise `Lab::deadline`",
            ),
            Self::NoRuntime => f.write_str(
                "there is no tokio runtime here, so no beat can come; watch inside one, \
            or use `Lab`",
            ),
            Self::Config(error) => error.fmt(f),
            Self::PausedClock => f.write_str(
                "tokio's clock is paused, so beats prove nothing; run without `start_paused` and \
                `tokio::time::pause`",
            ),
            Self::ProcessStopped { stood_still } => write!(
                f,
                "the whole process stood still for {stood_still:.1?} (SIGSTOP, a frozen cgroup or machine); run \
                again undisturbed"
            ),
            Self::Suspended { asleep } => write!(f, "the machine was suspended for {asleep:.1?}; run again"),
            Self::Stolen { stolen } => {
                write!(f, "the hypervisor took {stolen:.1?} of CPU time; run again, or on a quieter host")
            }
            Self::Traced { pid } => write!(
                f,
                "process {pid} traces this one, or traced a thread of it, and may \
            have stopped it; run without it"
            ),
            Self::Memory => f.write_str(
                "the worker waited for memory, which any code may have to; run again, or start fewer threads at once",
            ),
            Self::LockHolder { waited } => write!(
                f,
                "the worker waited for another thread, and one of this process waited {waited:.1?} for a CPU or for \
                memory meanwhile; run again on a quieter machine"
            ),
            Self::Yielded { waited } => write!(
                f,
                "the worker gave its CPU away again and again (`sched_yield`, a spin lock) and waited {waited:.1?} \
                to get it back; await instead, or run again on a quieter machine"
            ),
            Self::SlowMachine { control } => write!(
                f,
                "how long the worker waited for a CPU is not known, and a control thread was {control:.1?} late \
                too; run on a quieter machine"
            ),
            Self::Undecided { charged } => write!(
                f,
                "a worker was busy for {charged:.1?}, but the machine was too busy to see with one poll or with \
                many; run again, or with `Flavor::CurrentThread`"
            ),
            Self::HandedOver { waited } => write!(
                f,
                "a thread that may have been meant to take the worker over (`block_in_place`) came {waited:.1?} \
                late; run again on a quieter machine"
            ),
            Self::WorkerUnseen => f.write_str("a worker of the runtime was not seen all the time; run again"),
            Self::Unobserved => f.write_str(
                "the thread that looks at the workers could not be started or was held up itself; run again on a \
                quieter machine, or raise the limit on threads",
            ),
        }
    }
}

/// As its text.
#[cfg(feature = "serde")]
impl serde::Serialize for Why {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Steady => f.write_str("steady"),
            Self::Starved => f.write_str("starved"),
            Self::Inconclusive { why } => write!(f, "inconclusive: {why}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_that_proves_nothing_says_why_and_what_to_do() {
        let verdict = Verdict::Inconclusive { why: Why::Suspended { asleep: Duration::from_secs(2) } };
        assert_eq!(verdict.to_string(), "inconclusive: the machine was suspended for 2.0s; run again");
        assert_eq!([Verdict::Steady, Verdict::Starved].map(|verdict| verdict.to_string()), ["steady", "starved"]);
        #[cfg(feature = "serde")]
        assert_eq!(
            serde_json::to_value(&verdict).unwrap(),
            serde_json::json!({ "inconclusive": { "why": "the machine was suspended for 2.0s; run again" } })
        );
    }
}
