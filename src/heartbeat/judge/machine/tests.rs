use super::*;
use crate::heartbeat::evidence::SampleCounts;

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

fn doubt(seen: MachineEffects) -> Option<Why> {
    blame_machine(stall(0, Some(120)), Duration::ZERO, MS * 50, &seen).unwrap().doubt
}

#[test]
fn a_stall_on_an_undisturbed_machine_is_not_doubted() {
    assert_eq!(doubt(MachineEffects::default()), None);
}

#[test]
fn what_explains_the_excess_is_a_doubt_and_what_does_not_is_none() {
    let stood = |ms| MachineEffects { stood_still: MS * ms, stood_still_at_most: MS * ms, ..MachineEffects::default() };
    assert_eq!(doubt(stood(69)), None, "51 ms are left");
    assert_eq!(doubt(stood(70)), Some(Why::ProcessStopped { stood_still: MS * 70 }));
    let stolen = MachineEffects { stolen: MS * 80, ..MachineEffects::default() };
    assert_eq!(doubt(stolen), Some(Why::Stolen { stolen: MS * 80 }));
}

#[test]
fn steal_is_no_excuse_for_who_was_seen_waiting_in_a_call() {
    let looks = |all, waiting| SampleCounts { all, waiting, ..SampleCounts::default() };
    let stolen = |looks| MachineEffects { stolen: MS * 80, looks, ..MachineEffects::default() };
    assert_eq!(doubt(stolen(looks(100, 100))), None);
    assert_eq!(doubt(stolen(looks(100, 10))), Some(Why::Stolen { stolen: MS * 80 }));
}

#[test]
fn a_wait_for_a_cpu_was_not_stolen() {
    let looks = SampleCounts { all: 100, waiting: 40, ..SampleCounts::default() };
    let seen = MachineEffects { stolen: MS * 80, looks, ..MachineEffects::default() };
    let doubt = |queued| {
        let stall = Stall { wall: MS * 240, run_queue: Some(MS * queued), ..stall(0, Some(120)) };
        blame_machine(stall, Duration::ZERO, MS * 50, &seen).unwrap().doubt
    };
    assert_eq!(doubt(120), None, "most looks that found it in no call found it waiting for a CPU");
    assert_eq!(doubt(40), Some(Why::Stolen { stolen: MS * 80 }));
}

#[test]
fn waiting_for_memory_excuses_as_much_as_it_was_seen() {
    let memory = |ms| {
        let looks = SampleCounts { all: 100, waiting: 90, for_memory: MS * ms, ..SampleCounts::default() };
        MachineEffects { looks, ..MachineEffects::default() }
    };
    assert_eq!(doubt(memory(70)), Some(Why::Memory));
    assert_eq!(doubt(memory(69)), None, "51 ms are left");
    assert_eq!(doubt(memory(0)), None);
}

#[test]
fn what_the_holder_of_a_lock_waited_for_a_cpu_excuses_as_much_and_so_do_it_and_memory_together() {
    let looks = |lock, memory| SampleCounts {
        all: 100,
        waiting: 90,
        for_lock: lock,
        for_memory: memory,
        ..SampleCounts::default()
    };
    let seen = |lock, memory| MachineEffects { looks: looks(MS * lock, MS * memory), ..MachineEffects::default() };
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
        let looks = SampleCounts {
            all: 9,
            waiting: 9,
            for_lock: MS * lock,
            before_lock: MS * before,
            ..SampleCounts::default()
        };
        doubt(MachineEffects { looks, ..MachineEffects::default() })
    };
    let holder = Some(Why::LockHolder { waited: MS * 40 });
    assert_eq!((doubt(40, 12), doubt(40, 43)), (None, holder));
    assert_eq!((doubt(0, 82), doubt(0, 83)), (None, Some(Why::Unobserved)));
}

#[test]
fn what_the_holder_of_a_lock_waited_is_not_charged_where_it_decides_nothing() {
    let looks = SampleCounts { all: 100, waiting: 90, for_lock: MS * 60, ..SampleCounts::default() };
    let seen = MachineEffects { looks, ..MachineEffects::default() };
    let left = blame_machine(stall(0, Some(120)), Duration::ZERO, MS * 50, &seen).unwrap();
    assert_eq!((left.doubt.clone(), left.charged(), left.wall), (None, MS * 60, MS * 60));
    let memory = SampleCounts { for_memory: MS * 20, ..looks };
    let seen = MachineEffects { looks: memory, ..seen };
    let doubted = blame_machine(stall(0, Some(120)), Duration::ZERO, MS * 50, &seen).unwrap();
    assert_eq!((doubted.doubt.clone(), doubted.charged()), (Some(Why::LockHolder { waited: MS * 60 }), MS * 120));
}

#[test]
fn a_tracer_that_was_seen_excuses_as_much_as_it_was_seen() {
    let traced = |ms| {
        let looks = SampleCounts { all: 100, waiting: 90, tracer: Some(7), traced: MS * ms, ..SampleCounts::default() };
        doubt(MachineEffects { looks, ..MachineEffects::default() })
    };
    assert_eq!((traced(69), traced(70)), (None, Some(Why::Traced { pid: 7 })));
}

#[test]
fn what_was_blocked_while_nobody_looked_is_a_doubt_where_it_decides() {
    let unseen = |unseen, memory| {
        let looks = SampleCounts {
            all: 3,
            waiting: 3,
            unseen: MS * unseen,
            for_memory: MS * memory,
            ..SampleCounts::default()
        };
        doubt(MachineEffects { looks, ..MachineEffects::default() })
    };
    assert_eq!((unseen(69, 0), unseen(70, 0)), (None, Some(Why::Unobserved)));
    assert_eq!((unseen(40, 29), unseen(40, 30)), (None, Some(Why::Unobserved)), "either may have been for memory");
}

#[test]
fn a_wait_for_cpus_that_were_given_away_is_a_doubt_and_no_conviction_and_beside_a_block_or_a_computation_it_is_none() {
    let doubt = |on_cpu, blocked, yielded, blocked_for_sure| {
        let looks =
            SampleCounts { all: 90, yielded: MS * yielded, blocked: MS * blocked_for_sure, ..SampleCounts::default() };
        let seen = MachineEffects { looks, ..MachineEffects::default() };
        blame_machine(stall(on_cpu, Some(blocked)), Duration::ZERO, MS * 50, &seen).unwrap().doubt
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
    let seen = MachineEffects { stood_still, stood_still_at_most, ..MachineEffects::default() };
    let left = blame_machine(stall(0, Some(120)), Duration::ZERO, MS * 50, &seen).unwrap();
    assert_eq!((left.doubt.clone(), left.charged(), left.wall), (None, MS * 55, MS * 55));
    let stopped = Some(Why::ProcessStopped { stood_still });
    let blame_machine = |budget| blame_machine(stall(0, Some(120)), Duration::ZERO, budget, &seen).unwrap();
    assert_eq!(
        (blame_machine(MS * 55).doubt, blame_machine(MS * 55).charged()),
        (stopped, MS * 120),
        "nothing is certain"
    );
}

#[test]
fn a_wait_that_nobody_looked_at_may_have_been_for_memory_and_a_computation_cannot() {
    let seen = MachineEffects { overlooked: true, ..MachineEffects::default() };
    let doubt =
        |on_cpu, blocked| blame_machine(stall(on_cpu, Some(blocked)), Duration::ZERO, MS * 50, &seen).unwrap().doubt;
    assert_eq!(doubt(50, 70), Some(Why::Unobserved));
    assert_eq!(doubt(51, 69), None);
}

#[test]
fn a_process_that_stood_still_cannot_have_been_computing() {
    let (stood_still, stood_still_at_most) = (MS * 100, MS * 100);
    let seen = MachineEffects { stood_still, stood_still_at_most, ..MachineEffects::default() };
    let spin = blame_machine(stall(110, Some(10)), Duration::ZERO, MS * 50, &seen).unwrap();
    assert_eq!(spin.doubt, None);
}

#[test]
fn a_debugger_and_a_suspended_machine_make_any_stall_doubtful() {
    assert_eq!(doubt(MachineEffects { tracer: Some(7), ..MachineEffects::default() }), Some(Why::Traced { pid: 7 }));
    let asleep = Some(MS * 5);
    assert_eq!(doubt(MachineEffects { asleep, ..MachineEffects::default() }), Some(Why::Suspended { asleep: MS * 5 }));
}

#[test]
fn without_a_schedstat_a_punctual_control_proves_the_block() {
    let stall = blame_machine(stall(0, None), MS * 120, MS * 50, &MachineEffects::default()).unwrap();
    assert_eq!((stall.charged(), stall.doubt), (MS * 120, None));
}

#[test]
fn without_a_schedstat_a_late_control_makes_it_doubtful() {
    let seen = MachineEffects { control: MS * 90, ..MachineEffects::default() };
    let stall = blame_machine(stall(0, None), MS * 120, MS * 50, &seen).unwrap();
    assert_eq!(stall.doubt, Some(Why::SlowMachine { control: MS * 90 }));
}

#[test]
fn without_a_schedstat_what_keeps_to_the_budget_with_all_that_is_not_explained_is_no_stall() {
    let seen = MachineEffects { control: MS * 90, ..MachineEffects::default() };
    for (unexplained, is_doubt) in [(30, false), (31, true)] {
        let weighed = blame_machine(stall(20, None), MS * unexplained, MS * 50, &seen);
        assert_eq!(weighed.is_some_and(|stall| stall.doubt.is_some()), is_doubt, "{unexplained}");
        let unobserved = unobserved(stall(20, None), MS * unexplained, MS * 50);
        assert_eq!(unobserved.map(|stall| stall.doubt), is_doubt.then_some(Some(Why::Unobserved)));
    }
}

#[test]
fn without_a_schedstat_a_spin_is_a_spin() {
    let seen = MachineEffects { control: MS * 90, ..MachineEffects::default() };
    let stall = blame_machine(stall(100, None), MS * 20, MS * 50, &seen).unwrap();
    assert_eq!((stall.charged(), stall.doubt), (MS * 100, None));
}
