//! When a stall may not be the code's doing: only then is it withdrawn, and always with the reason.

use std::time::Duration;

use crate::heartbeat::evidence::{MachineEffects, SampleCounts};
use crate::heartbeat::stall::Stall;
use crate::heartbeat::verdict::Why;

/// A timer's own slack, and a little more.
const CONTROL_ON_TIME: Duration = Duration::from_millis(3);

/// Judges a stretch of `unexplained` time off the CPU by the control thread, then doubts the stall if the machine may
/// have caused it. `None`: it was no stall.
pub(crate) fn blame_machine(
    mut stall: Stall,
    unexplained: Duration,
    budget: Duration,
    seen: &MachineEffects,
) -> Option<Stall> {
    if !unexplained.is_zero() {
        // No schedstat. A control thread that was punctual all the while proves that CPUs were to be had for threads
        // that sleep much. Threads that work wait longer, so it speaks only for a thread that did not work.
        let few = stall.wall / 20;
        if seen.control <= CONTROL_ON_TIME.max(few) && stall.on_cpu <= few {
            stall.blocked = Some(unexplained);
        } else if stall.on_cpu <= budget && stall.on_cpu + unexplained > budget {
            stall.doubt = Some(Why::SlowMachine { control: seen.control });
            return Some(stall);
        }
    }
    if stall.charged() <= budget {
        return None;
    }
    // A stopped process uses no CPU, and a thread that waits in a call has no CPU to be stolen.
    let stopped = seen.stood_still_at_most.min(stall.blocked.unwrap_or_default());
    let by_a_stop = stall.charged() - stopped <= budget;
    if !by_a_stop {
        // What is left was blocked for sure, and only that is charged.
        stall.wall -= stopped;
        stall.blocked = stall.blocked.map(|blocked| blocked - stopped);
    }
    let charged = stall.charged();
    let stolen = seen.stolen.min(running(&seen.looks, &stall));
    let of_blocked = |time: Duration| time.min(stall.blocked.unwrap_or_default());
    let (memory, lock) = (of_blocked(seen.looks.for_memory), of_blocked(seen.looks.for_lock));
    let (traced, unseen) = (of_blocked(seen.looks.traced), of_blocked(seen.looks.unseen));
    // The observer looks at other threads when this one is overdue; later, it was held up itself.
    let late = of_blocked(seen.looks.before_lock.saturating_sub(budget / 4));
    // It was taken from the waits for a CPU, see `Observed::blocked`. What was blocked for sure beside it is charged.
    let yielded = of_blocked(seen.looks.yielded.min(charged.saturating_sub(seen.looks.blocked)));
    let explains = |time: Duration| !time.is_zero() && charged.saturating_sub(time) <= budget;
    stall.doubt = if let Some(pid) = seen.tracer {
        Some(Why::Traced { pid })
    } else if let Some(asleep) = seen.asleep {
        Some(Why::Suspended { asleep })
    } else if by_a_stop {
        Some(Why::ProcessStopped { stood_still: seen.stood_still.min(stopped) })
    } else if explains(stolen) {
        Some(Why::Stolen { stolen: seen.stolen })
    } else if let Some(pid) = seen.looks.tracer.filter(|_| explains(traced)) {
        Some(Why::Traced { pid })
    } else if explains(yielded) {
        Some(Why::Yielded { waited: seen.looks.yielded })
    } else if explains(memory) {
        Some(Why::Memory)
    } else if !lock.is_zero() && explains(lock + late + memory) {
        Some(Why::LockHolder { waited: lock })
    } else if (seen.overlooked && stall.on_cpu <= budget) || explains(lock + late + memory + unseen) {
        // It may have waited for memory, or for a thread that did, as the observer may have.
        Some(Why::Unobserved)
    } else {
        // Enough is left without it, and only that is charged.
        stall.wall -= lock;
        stall.blocked = stall.blocked.map(|blocked| blocked - lock);
        None
    };
    Some(stall)
}

/// How much of a stall may have been spent on a CPU, or stolen from there. A thread that waits for a CPU looks as if it
/// ran.
fn running(looks: &SampleCounts, stall: &Stall) -> Duration {
    let running = stall.wall * (looks.all - looks.waiting).max(u32::from(looks.all == 0)) / looks.all.max(1);
    running.saturating_sub(stall.run_queue.unwrap_or_default()).min(stall.charged())
}

/// Judges a stretch without the observer: what the machine did meanwhile is not known, so a stretch that may be a stall
/// is a doubt. `None`: it was no stall even if all of its unexplained time was blocked.
pub(crate) fn unobserved(mut stall: Stall, unexplained: Duration, budget: Duration) -> Option<Stall> {
    stall.doubt = Some(Why::Unobserved);
    (stall.charged() + unexplained > budget).then_some(stall)
}

#[cfg(test)]
mod tests;
