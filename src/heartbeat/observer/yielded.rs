//! A thread that gives its CPU away with `sched_yield`, time and again, waits for the next turn by its own choice.
//!
//! The kernel books such a wait like any other wait for a CPU. What tells them apart is the turn before: a thread that
//! was preempted had its CPU for a slice, which is milliseconds; one that spins on `sched_yield`, for some 30 µs.
//! Sleeps end a turn too, but are counted apart, as voluntary.

use std::time::Duration;

use crate::heartbeat::observer::sample::Sample;

/// A slice is many times as long. On a machine with many short turns for others, and by a thread that it wakes, a
/// thread is preempted earlier, but hardly as early as this so often in a row.
const SHORT_TURN: Duration = Duration::from_micros(100);

/// So many lost CPUs are weighed together: the first and the last turn may be parts of one.
const IN_A_ROW: u64 = 6;

/// How long the thread waited for a CPU after turns that are too short for it to have been preempted.
pub(crate) fn yielded(samples: &[&Sample]) -> Duration {
    let known = |sample: &&Sample| Some((sample.account?, sample.status?.displaced));
    let mut looks = samples.iter().filter_map(known);
    let Some(mut first) = looks.next() else { return Duration::ZERO };
    let mut waited = Duration::ZERO;
    for (account, displaced) in looks {
        let (before, lost) = (first.0, displaced.saturating_sub(first.1));
        if lost < IN_A_ROW {
            continue;
        }
        let on_cpu = account.on_cpu.saturating_sub(before.on_cpu);
        if on_cpu < SHORT_TURN.saturating_mul(lost.try_into().unwrap_or(u32::MAX)) {
            waited += account.run_queue.saturating_sub(before.run_queue);
        }
        first = (account, displaced);
    }
    waited
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::heartbeat::reading::thread::{Account, Status, ThreadId};

    const MS: Duration = Duration::from_millis(1);

    /// Looks at a thread that had spent so many us on a CPU, ms waiting for one, and had lost it so often.
    fn looks(seen: &[(u32, u32, u64)]) -> Vec<Sample> {
        let start = Instant::now();
        let look = |(on_cpu, run_queue, displaced): &(u32, u32, u64)| {
            let account =
                Account { on_cpu: Duration::from_micros(u64::from(*on_cpu)), run_queue: MS * *run_queue, turns: 0 };
            let status = Status { tracer: None, displaced: *displaced };
            Sample { account: Some(account), status: Some(status), ..Sample::running(ThreadId(1), start) }
        };
        seen.iter().map(look).collect()
    }

    fn yielded(seen: &[(u32, u32, u64)]) -> Duration {
        let looks = looks(seen);
        super::yielded(&looks.iter().collect::<Vec<_>>())
    }

    #[test]
    fn a_spin_on_sched_yield_waits_by_choice_and_a_preempted_thread_does_not() {
        assert_eq!(yielded(&[(0, 0, 10), (60, 6, 12), (186, 18, 16), (372, 36, 22)]), MS * 36);
        assert_eq!(yielded(&[(0, 0, 10), (6000, 6, 12), (18_000, 18, 16), (36_000, 36, 22)]), Duration::ZERO);
    }

    #[test]
    fn sleeps_end_no_turn_and_a_few_short_turns_prove_nothing() {
        assert_eq!(yielded(&[(0, 0, 10), (300, 200, 10)]), Duration::ZERO, "a thread that naps");
        assert_eq!(yielded(&[(0, 0, 10), (90, 150, 15)]), Duration::ZERO);
        assert_eq!(yielded(&[(0, 0, 10), (599, 150, 16)]), MS * 150);
        assert_eq!(yielded(&[(0, 0, 10), (600, 150, 16)]), Duration::ZERO);
        assert_eq!(yielded(&[]), Duration::ZERO);
    }

    #[test]
    fn only_the_waits_after_short_turns_count() {
        assert_eq!(yielded(&[(0, 0, 0), (9000, 40, 6), (9100, 60, 12), (30_000, 100, 18)]), MS * 20);
    }
}
