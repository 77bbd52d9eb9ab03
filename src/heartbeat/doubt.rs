//! When a stall may not be the code's doing: only then is it withdrawn, and always with the reason.

use std::time::Duration;

use super::stall::Stall;
use super::verdict::Why;

/// A timer's own slack, and a little more.
const PUNCTUAL: Duration = Duration::from_millis(3);

/// What befell the whole process while a stretch lasted.
#[derive(Debug, Clone, Default)]
pub(super) struct Circumstances {
    /// How long the observer overslept without waiting for a CPU.
    pub(super) stood_still: Duration,
    /// The same, with the sleeps in which that must have begun.
    pub(super) stood_still_at_most: Duration,
    /// How late the observer was at worst, for whatever reason.
    pub(super) control: Duration,
    /// From one CPU at most.
    pub(super) stolen: Duration,
    pub(super) asleep: Option<Duration>,
    pub(super) tracer: Option<u32>,
    /// Where the thread was, in all looks at it.
    pub(super) looks: Looks,
    /// Whether no look at the thread says what it did, though it can be looked at: whoever was to look was itself held up.
    pub(super) overlooked: bool,
}

/// In how many looks the thread was where.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Looks {
    pub(super) all: u32,
    /// In a call, or in a page fault.
    pub(super) waiting: u32,
    /// How long it may have waited for memory, where any code may have to: from the look before to the one after.
    pub(super) for_memory: Duration,
    /// How long it may have waited for a lock that another thread held, which itself waited for a CPU or for memory.
    pub(super) for_lock: Duration,
    /// For how long before other threads were not looked at, so that one may have waited then too.
    pub(super) before_lock: Duration,
    /// How long it was blocked at least, whatever its clocks say.
    pub(super) blocked: Duration,
    /// What was seen to trace it meanwhile.
    pub(super) tracer: Option<u32>,
    /// For how long it may have been traced: from the look before to the one after.
    pub(super) traced: Duration,
    /// How long it waited for CPUs that it had given away itself (`sched_yield`).
    pub(super) yielded: Duration,
    /// How long it may have been blocked elsewhere while it was not looked at, if its culprit is what any code may be in.
    pub(super) unseen: Duration,
}

impl Looks {
    /// How much of a stall may have been spent on a CPU, or stolen from there. Who waits for a CPU looks as if it ran.
    fn running(&self, stall: &Stall) -> Duration {
        let running = stall.wall * (self.all - self.waiting).max(u32::from(self.all == 0)) / self.all.max(1);
        running.saturating_sub(stall.run_queue.unwrap_or_default()).min(stall.charged())
    }
}

/// Judges a stretch of `unexplained` time off the CPU by the control, then doubts the stall if the circumstances could
/// have caused it. `None`: it was no stall.
pub(super) fn weigh(mut stall: Stall, unexplained: Duration, budget: Duration, seen: &Circumstances) -> Option<Stall> {
    if !unexplained.is_zero() {
        // No schedstat. A control thread that was punctual all the while proves that CPUs were to be had for those who
        // sleep much. Those who work wait longer, so it speaks only for a thread that did not.
        let few = stall.wall / 20;
        if seen.control <= PUNCTUAL.max(few) && stall.on_cpu <= few {
            stall.blocked = Some(unexplained);
        } else if stall.on_cpu <= budget && stall.on_cpu + unexplained > budget {
            stall.doubt = Some(Why::SlowMachine { control: seen.control });
            return Some(stall);
        }
    }
    if stall.charged() <= budget {
        return None;
    }
    // A stopped process uses no CPU, and who waits in a call has no CPU to be stolen.
    let stopped = seen.stood_still_at_most.min(stall.blocked.unwrap_or_default());
    let by_a_stop = stall.charged() - stopped <= budget;
    if !by_a_stop {
        // What is left was blocked for sure, and only that is charged.
        stall.wall -= stopped;
        stall.blocked = stall.blocked.map(|blocked| blocked - stopped);
    }
    let charged = stall.charged();
    let stolen = seen.stolen.min(seen.looks.running(&stall));
    let of_blocked = |time: Duration| time.min(stall.blocked.unwrap_or_default());
    let (memory, lock) = (of_blocked(seen.looks.for_memory), of_blocked(seen.looks.for_lock));
    let (traced, unseen) = (of_blocked(seen.looks.traced), of_blocked(seen.looks.unseen));
    // The observer looks at other threads when this one is overdue; later, it was held up itself.
    let late = of_blocked(seen.looks.before_lock.saturating_sub(budget / 4));
    // It was taken from the waits for a CPU, see `Testimony::blocked`. What was blocked for sure beside it is charged.
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
        Some(Why::Unwitnessed)
    } else {
        // Enough is left without it, and only that is charged.
        stall.wall -= lock;
        stall.blocked = stall.blocked.map(|blocked| blocked - lock);
        None
    };
    Some(stall)
}

/// Nobody can say what befell the process meanwhile: that acquits no stall, and convicts none. `None`: it was no stall.
pub(super) fn unwitnessed(mut stall: Stall, unexplained: Duration, budget: Duration) -> Option<Stall> {
    stall.doubt = Some(Why::Unwitnessed);
    (stall.charged() + unexplained > budget).then_some(stall)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn stall(on_cpu: u32, blocked: Option<u32>) -> Stall {
        Stall {
            at: Duration::ZERO,
            wall: MS * 120,
            on_cpu: MS * on_cpu,
            run_queue: None,
            blocked: blocked.map(|ms| MS * ms),
            culprit: None,
            doubt: None,
        }
    }

    fn doubt(seen: Circumstances) -> Option<Why> {
        weigh(stall(0, Some(120)), Duration::ZERO, MS * 50, &seen).unwrap().doubt
    }

    #[test]
    fn a_stall_on_an_undisturbed_machine_is_not_doubted() {
        assert_eq!(doubt(Circumstances::default()), None);
    }

    #[test]
    fn what_explains_the_excess_is_a_doubt_and_what_does_not_is_none() {
        let stood =
            |ms| Circumstances { stood_still: MS * ms, stood_still_at_most: MS * ms, ..Circumstances::default() };
        assert_eq!(doubt(stood(69)), None, "51 ms are left");
        assert_eq!(doubt(stood(70)), Some(Why::ProcessStopped { stood_still: MS * 70 }));
        let stolen = Circumstances { stolen: MS * 80, ..Circumstances::default() };
        assert_eq!(doubt(stolen), Some(Why::Stolen { stolen: MS * 80 }));
    }

    #[test]
    fn steal_is_no_excuse_for_who_was_seen_waiting_in_a_call() {
        let looks = |all, waiting| Looks { all, waiting, ..Looks::default() };
        let stolen = |looks| Circumstances { stolen: MS * 80, looks, ..Circumstances::default() };
        assert_eq!(doubt(stolen(looks(100, 100))), None);
        assert_eq!(doubt(stolen(looks(100, 10))), Some(Why::Stolen { stolen: MS * 80 }));
    }

    #[test]
    fn a_wait_for_a_cpu_was_not_stolen() {
        let looks = Looks { all: 100, waiting: 40, ..Looks::default() };
        let seen = Circumstances { stolen: MS * 80, looks, ..Circumstances::default() };
        let doubt = |queued| {
            let stall = Stall { wall: MS * 240, run_queue: Some(MS * queued), ..stall(0, Some(120)) };
            weigh(stall, Duration::ZERO, MS * 50, &seen).unwrap().doubt
        };
        assert_eq!(doubt(120), None, "most looks that found it in no call found it waiting for a CPU");
        assert_eq!(doubt(40), Some(Why::Stolen { stolen: MS * 80 }));
    }

    #[test]
    fn waiting_for_memory_excuses_as_much_as_it_was_seen() {
        let memory = |ms| {
            let looks = Looks { all: 100, waiting: 90, for_memory: MS * ms, ..Looks::default() };
            Circumstances { looks, ..Circumstances::default() }
        };
        assert_eq!(doubt(memory(70)), Some(Why::Memory));
        assert_eq!(doubt(memory(69)), None, "51 ms are left");
        assert_eq!(doubt(memory(0)), None);
    }

    #[test]
    fn what_the_holder_of_a_lock_waited_for_a_cpu_excuses_as_much_and_so_do_it_and_memory_together() {
        let looks =
            |lock, memory| Looks { all: 100, waiting: 90, for_lock: lock, for_memory: memory, ..Looks::default() };
        let seen = |lock, memory| Circumstances { looks: looks(MS * lock, MS * memory), ..Circumstances::default() };
        let holder = |ms| Some(Why::LockHolder { waited: MS * ms });
        assert_eq!(doubt(seen(70, 0)), holder(70));
        assert_eq!(doubt(seen(69, 0)), None, "51 ms are left");
        assert_eq!((doubt(seen(40, 30)), doubt(seen(40, 29))), (holder(40), None));
        assert_eq!(doubt(seen(500, 0)), holder(120), "no more than the wait itself");
    }

    /// An eighth of the budget and a beat go by before the observer looks at all.
    #[test]
    fn what_went_by_before_other_threads_were_looked_at_may_have_been_a_wait_of_theirs_too() {
        let doubt = |lock, before| {
            let looks = Looks { all: 9, waiting: 9, for_lock: MS * lock, before_lock: MS * before, ..Looks::default() };
            doubt(Circumstances { looks, ..Circumstances::default() })
        };
        let holder = Some(Why::LockHolder { waited: MS * 40 });
        assert_eq!((doubt(40, 12), doubt(40, 43)), (None, holder));
        assert_eq!((doubt(0, 82), doubt(0, 83)), (None, Some(Why::Unwitnessed)));
    }

    #[test]
    fn what_the_holder_of_a_lock_waited_is_not_charged_where_it_decides_nothing() {
        let looks = Looks { all: 100, waiting: 90, for_lock: MS * 60, ..Looks::default() };
        let seen = Circumstances { looks, ..Circumstances::default() };
        let left = weigh(stall(0, Some(120)), Duration::ZERO, MS * 50, &seen).unwrap();
        assert_eq!((left.doubt.clone(), left.charged(), left.wall), (None, MS * 60, MS * 60));
        let memory = Looks { for_memory: MS * 20, ..looks };
        let seen = Circumstances { looks: memory, ..seen };
        let doubted = weigh(stall(0, Some(120)), Duration::ZERO, MS * 50, &seen).unwrap();
        assert_eq!((doubted.doubt.clone(), doubted.charged()), (Some(Why::LockHolder { waited: MS * 60 }), MS * 120));
    }

    #[test]
    fn a_tracer_that_was_seen_excuses_as_much_as_it_was_seen() {
        let traced = |ms| {
            let looks = Looks { all: 100, waiting: 90, tracer: Some(7), traced: MS * ms, ..Looks::default() };
            doubt(Circumstances { looks, ..Circumstances::default() })
        };
        assert_eq!((traced(69), traced(70)), (None, Some(Why::Traced { pid: 7 })));
    }

    #[test]
    fn what_was_blocked_while_nobody_looked_is_a_doubt_where_it_decides() {
        let unseen = |unseen, memory| {
            let looks = Looks { all: 3, waiting: 3, unseen: MS * unseen, for_memory: MS * memory, ..Looks::default() };
            doubt(Circumstances { looks, ..Circumstances::default() })
        };
        assert_eq!((unseen(69, 0), unseen(70, 0)), (None, Some(Why::Unwitnessed)));
        assert_eq!((unseen(40, 29), unseen(40, 30)), (None, Some(Why::Unwitnessed)), "either may have been for memory");
    }

    #[test]
    fn a_wait_for_cpus_that_were_given_away_is_a_doubt_and_no_conviction_and_beside_a_block_or_a_computation_it_is_none()
     {
        let doubt = |on_cpu, blocked, yielded, blocked_for_sure| {
            let looks = Looks { all: 90, yielded: MS * yielded, blocked: MS * blocked_for_sure, ..Looks::default() };
            let seen = Circumstances { looks, ..Circumstances::default() };
            weigh(stall(on_cpu, Some(blocked)), Duration::ZERO, MS * 50, &seen).unwrap().doubt
        };
        let yielded = |ms| Some(Why::Yielded { waited: MS * ms });
        assert_eq!(doubt(0, 110, 110, 0), yielded(110), "all that is charged");
        assert_eq!(doubt(0, 110, 60, 50), yielded(60), "and a block within the budget");
        assert_eq!(doubt(0, 110, 110, 51), None, "it was blocked");
        assert_eq!(doubt(51, 0, 200, 0), None, "it was on a CPU");
    }

    #[test]
    fn a_block_that_outlasts_the_budget_without_the_stop_in_it_is_charged_without_it() {
        let (stood_still, stood_still_at_most) = (MS * 60, MS * 65);
        let seen = Circumstances { stood_still, stood_still_at_most, ..Circumstances::default() };
        let left = weigh(stall(0, Some(120)), Duration::ZERO, MS * 50, &seen).unwrap();
        assert_eq!((left.doubt.clone(), left.charged(), left.wall), (None, MS * 55, MS * 55));
        let stopped = Some(Why::ProcessStopped { stood_still });
        let weigh = |budget| weigh(stall(0, Some(120)), Duration::ZERO, budget, &seen).unwrap();
        assert_eq!((weigh(MS * 55).doubt, weigh(MS * 55).charged()), (stopped, MS * 120), "nothing is certain");
    }

    #[test]
    fn a_wait_that_nobody_looked_at_may_have_been_for_memory_and_a_computation_cannot() {
        let seen = Circumstances { overlooked: true, ..Circumstances::default() };
        let doubt =
            |on_cpu, blocked| weigh(stall(on_cpu, Some(blocked)), Duration::ZERO, MS * 50, &seen).unwrap().doubt;
        assert_eq!(doubt(50, 70), Some(Why::Unwitnessed));
        assert_eq!(doubt(51, 69), None);
    }

    #[test]
    fn a_process_that_stood_still_cannot_have_been_computing() {
        let (stood_still, stood_still_at_most) = (MS * 100, MS * 100);
        let seen = Circumstances { stood_still, stood_still_at_most, ..Circumstances::default() };
        let spin = weigh(stall(110, Some(10)), Duration::ZERO, MS * 50, &seen).unwrap();
        assert_eq!(spin.doubt, None);
    }

    #[test]
    fn a_debugger_and_a_suspended_machine_make_any_stall_doubtful() {
        assert_eq!(doubt(Circumstances { tracer: Some(7), ..Circumstances::default() }), Some(Why::Traced { pid: 7 }));
        let asleep = Some(MS * 5);
        assert_eq!(
            doubt(Circumstances { asleep, ..Circumstances::default() }),
            Some(Why::Suspended { asleep: MS * 5 })
        );
    }

    #[test]
    fn without_a_schedstat_a_punctual_control_proves_the_block() {
        let stall = weigh(stall(0, None), MS * 120, MS * 50, &Circumstances::default()).unwrap();
        assert_eq!((stall.charged(), stall.doubt), (MS * 120, None));
    }

    #[test]
    fn without_a_schedstat_a_late_control_makes_it_doubtful() {
        let seen = Circumstances { control: MS * 90, ..Circumstances::default() };
        let stall = weigh(stall(0, None), MS * 120, MS * 50, &seen).unwrap();
        assert_eq!(stall.doubt, Some(Why::SlowMachine { control: MS * 90 }));
    }

    #[test]
    fn without_a_schedstat_what_keeps_to_the_budget_with_all_that_is_not_explained_is_no_stall() {
        let seen = Circumstances { control: MS * 90, ..Circumstances::default() };
        for (unexplained, is_doubt) in [(30, false), (31, true)] {
            let weighed = weigh(stall(20, None), MS * unexplained, MS * 50, &seen);
            assert_eq!(weighed.is_some_and(|stall| stall.doubt.is_some()), is_doubt, "{unexplained}");
            let unwitnessed = unwitnessed(stall(20, None), MS * unexplained, MS * 50);
            assert_eq!(unwitnessed.map(|stall| stall.doubt), is_doubt.then_some(Some(Why::Unwitnessed)));
        }
    }

    #[test]
    fn without_a_schedstat_a_spin_is_a_spin() {
        let seen = Circumstances { control: MS * 90, ..Circumstances::default() };
        let stall = weigh(stall(100, None), MS * 20, MS * 50, &seen).unwrap();
        assert_eq!((stall.charged(), stall.doubt), (MS * 100, None));
    }
}
