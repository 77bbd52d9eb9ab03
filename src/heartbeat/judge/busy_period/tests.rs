use super::*;
use crate::heartbeat::evidence::WorkerNumbers;

const MS: Duration = Duration::from_millis(1);
const THREAD: ThreadId = ThreadId(1);
const BUDGET: Duration = Duration::from_millis(50);

struct Given {
    start: Instant,
    wall: u32,
    on_cpu: u32,
    run_queue: u32,
    sleeps: u64,
}

impl Given {
    fn period(&self) -> BusyPeriod {
        let read = |at, on_cpu, queue| Reading {
            at: self.start + MS * at,
            thread: THREAD,
            on_cpu: MS * on_cpu,
            run_queue: Some(MS * queue),
        };
        BusyPeriod {
            from: read(0, 0, 0),
            to: read(self.wall, self.on_cpu, self.run_queue),
            sleeps: self.sleeps,
            indices: 1,
            published: Default::default(),
            overbooked: Duration::ZERO,
            blind: false,
        }
    }

    /// At `at` ms: the worker's numbers, and the thread's CPU time.
    fn look(&self, at: u32, parks: u64, busy: u32, on_cpu: u32) -> CountersLook {
        let account = Account { on_cpu: MS * on_cpu, run_queue: Duration::ZERO, turns: 1 };
        CountersLook {
            at: self.start + MS * at,
            workers: vec![WorkerNumbers { parks, busy: MS * busy }],
            accounts: vec![(THREAD, account)],
        }
    }
}

fn given(wall: u32, on_cpu: u32, run_queue: u32, sleeps: u64) -> Given {
    Given { start: Instant::now(), wall, on_cpu, run_queue, sleeps }
}

#[test]
fn a_spin_shows_the_same_numbers_in_every_look() {
    let given = given(120, 120, 0, 0);
    let looks: Vec<_> = (1..120).map(|at| given.look(at, 2, 7, at)).collect();
    assert!(matches!(given.period().judge(&looks, BUDGET), PeriodJudgement::Stalls(_)));
}

#[test]
fn many_short_tasks_show_new_numbers_in_every_look() {
    let given = given(120, 120, 0, 0);
    let looks: Vec<_> = (1..120).map(|at| given.look(at, 2, at, at)).collect();
    assert!(matches!(given.period().judge(&looks, BUDGET), PeriodJudgement::Fair { .. }));
}

#[test]
fn a_slow_machine_makes_short_tasks_look_stuck_but_their_cpu_time_tells() {
    let given = given(1000, 60, 940, 0);
    let looks: Vec<_> = (1..10).map(|nth| given.look(nth * 100, 2, nth / 3, nth * 6)).collect();
    assert!(matches!(given.period().judge(&looks, BUDGET), PeriodJudgement::Fair { .. }));
}

#[test]
fn one_sleep_is_one_poll_even_if_nobody_looked() {
    assert!(matches!(given(120, 0, 0, 1).period().judge(&[], BUDGET), PeriodJudgement::Stalls(_)));
    assert!(matches!(given(120, 0, 0, 2).period().judge(&[], BUDGET), PeriodJudgement::Stalls(_)));
    assert!(matches!(given(120, 0, 0, 3).period().judge(&[], BUDGET), PeriodJudgement::Undecided(_)));
}

#[test]
fn many_naps_in_one_poll_are_a_stall() {
    let given = given(120, 0, 0, 100);
    let looks: Vec<_> = (1..120).map(|at| given.look(at, 2, 7, 0)).collect();
    assert!(matches!(given.period().judge(&looks, BUDGET), PeriodJudgement::Stalls(_)));
}

#[test]
fn a_spin_that_nobody_saw_is_undecided() {
    assert!(matches!(given(120, 120, 0, 0).period().judge(&[], BUDGET), PeriodJudgement::Undecided(_)));
}

#[test]
fn among_too_many_workers_to_tell_apart_nobody_is_acquitted() {
    let unknown = |sleeps| BusyPeriod { indices: 0, ..given(120, 0, 0, sleeps).period() };
    let looks: Vec<_> = (1..120).map(|at| given(120, 0, 0, 3).look(at, 2, at, 0)).collect();
    assert!(matches!(unknown(3).judge(&looks, BUDGET), PeriodJudgement::Undecided(_)));
    assert!(matches!(unknown(1).judge(&looks, BUDGET), PeriodJudgement::Stalls(_)));
}

#[test]
fn a_long_poll_within_a_longer_busy_spell_is_found_and_only_it() {
    let given = given(1000, 1000, 0, 0);
    let busy = |at| if (400..520).contains(&at) { 400 } else { at };
    let looks: Vec<_> = (1..1000).map(|at| given.look(at, 2, busy(at), at)).collect();
    let PeriodJudgement::Stalls(stretches) = given.period().judge(&looks, BUDGET) else { panic!("not found") };
    let [stretch] = stretches[..] else { panic!("{stretches:?}") };
    assert!((MS * 117..=MS * 120).contains(&stretch.split.charged()), "{stretch:?}");
}

/// Of 120 ms asleep, 110 were seen, and the looks after that have all of it booked as a wait for a CPU.
#[test]
fn what_was_booked_wrongly_is_no_wait_for_a_cpu_in_the_looks_either() {
    let given = given(130, 0, 10, 3);
    let look = |at| {
        let mut look = given.look(at, 2, if at < 120 { 7 } else { at }, 0);
        look.accounts[0].1.run_queue = MS * if at < 120 { 0 } else { 120 };
        look
    };
    let looks: Vec<_> = (1..130).map(look).collect();
    let overbooked = |ms| BusyPeriod { overbooked: MS * ms, ..given.period() }.judge(&looks, BUDGET);
    assert!(matches!(overbooked(110), PeriodJudgement::Stalls(_)));
    assert!(matches!(overbooked(0), PeriodJudgement::Fair { .. }));
}

/// It took the other thread 80 ms to get a CPU, and this one sleeps on.
#[test]
fn a_worker_that_was_handed_over_late_is_no_stall_of_its_old_thread_for_certain() {
    let given = given(160, 1, 0, 3);
    let busy = |at| if at < 80 { 7 } else { at + 7 };
    let looks: Vec<_> = (1..160).map(|at| given.look(at, 2, busy(at), 1)).collect();
    assert_eq!(kind(&given.period().judge(&looks, BUDGET)), "handed over");
    // The same numbers, and a thread that slept 80 ms and then ran many short tasks.
    let given = Given { on_cpu: 81, ..given };
    let worked = |at: u32| at.saturating_sub(79).max(1);
    let looks: Vec<_> = (1..160).map(|at| given.look(at, 2, busy(at), worked(at))).collect();
    assert!(matches!(given.period().judge(&looks, BUDGET), PeriodJudgement::Stalls(_)));
}

#[test]
fn a_worker_that_was_hardly_looked_at_may_have_stood_still_between_the_looks() {
    let given = given(200, 0, 0, 0);
    let at = |ms| given.start + MS * ms;
    // Idle, then in a poll that was seen to begin and to be over, then idle.
    let looks = [given.look(0, 3, 7, 0), given.look(90, 4, 7, 0), given.look(100, 4, 7, 0), given.look(190, 5, 8, 0)];
    assert_eq!(stood_at_most(&looks, at(0), at(200)), MS * 190);
    assert_eq!(stood_at_most(&looks[..1], at(0), at(40)), MS * 40);
    assert_eq!(stood_at_most(&looks, at(95), at(105)), MS * 10, "what was seen before and after says nothing");
    assert_eq!(stood_at_most(&[], at(0), at(200)), MS * 200, "there were no looks");
    let idle: Vec<_> = (0..=20).map(|nth| given.look(nth * 10, 3, 7, 0)).collect();
    assert_eq!(stood_at_most(&idle, at(0), at(200)), Duration::ZERO);
}

fn kind(judgement: &PeriodJudgement) -> &str {
    match judgement {
        PeriodJudgement::Stalls(_) => "stall",
        PeriodJudgement::Fair { .. } => "fair",
        PeriodJudgement::Undecided(_) => "undecided",
        PeriodJudgement::HandedOver(_) => "handed over",
    }
}

#[test]
fn what_was_charged_no_more_than_the_budget_is_fair_though_nobody_looked() {
    for (on_cpu, run_queue, expected) in
        [(50, 0, "undecided"), (50, 69, "undecided"), (50, 70, "fair"), (0, 69, "undecided"), (0, 70, "fair")]
    {
        let judgement = given(120, on_cpu, run_queue, 0).period().judge(&[], BUDGET);
        assert_eq!(kind(&judgement), expected, "{on_cpu} ms on a CPU, {run_queue} ms waiting for one");
    }
}

#[test]
fn of_several_sleeps_one_is_as_long_as_the_average_and_that_must_be_above_the_budget() {
    for (wall, sleeps, expected) in [(100, 2, "undecided"), (101, 2, "stall"), (150, 3, "undecided")] {
        let judgement = given(wall, 0, 0, sleeps).period().judge(&[], BUDGET);
        assert_eq!(kind(&judgement), expected, "{sleeps} sleeps in {wall} ms");
    }
}

#[test]
fn a_spell_whose_end_nobody_read_is_undecided_whatever_was_seen() {
    let given = given(120, 120, 0, 0);
    let looks: Vec<_> = (1..120).map(|at| given.look(at, 2, 7, at)).collect();
    let blind = BusyPeriod { blind: true, ..given.period() };
    assert_eq!(
        (kind(&given.period().judge(&looks, BUDGET)), kind(&blind.judge(&looks, BUDGET))),
        ("stall", "undecided")
    );
}

#[test]
fn looks_at_either_end_count_and_those_beyond_do_not() {
    let before = given(60, 60, 0, 0);
    let given = Given { start: before.start + MS * 100, ..before };
    let judge = |looks: &[CountersLook]| kind(&given.period().judge(looks, BUDGET)).to_owned();
    let looks: Vec<_> = (0..=60).map(|at| given.look(at, 2, 7, at)).collect();
    assert_eq!(judge(&looks[5..=55]), "undecided", "it stood still for 50 ms");
    assert_eq!((judge(&looks[..=51]), judge(&looks[9..])), ("stall".to_owned(), "stall".to_owned()), "for 51 ms");
    let beyond = [(90, 0), (170, 60)].map(|(at, on_cpu)| before.look(at, 2, 7, on_cpu));
    assert_eq!(judge(&beyond), "undecided");
}

#[test]
fn whichever_worker_it_may_have_been_must_have_stood_still() {
    let given = given(120, 120, 0, 0);
    let look = |at| {
        let worker = |busy| WorkerNumbers { parks: 2, busy: MS * busy };
        CountersLook { workers: [at, 7, 7].map(worker).to_vec(), ..given.look(at, 2, 0, at) }
    };
    let looks: Vec<_> = (1..120).map(look).collect();
    for (indices, expected) in [(0b001, "fair"), (0b010, "stall"), (0b110, "stall"), (0b011, "undecided")] {
        let period = BusyPeriod { indices, ..given.period() };
        assert_eq!(kind(&period.judge(&looks, BUDGET)), expected, "{indices:b}");
    }
}

#[test]
fn a_poll_that_was_two_thirds_of_its_spell_is_shown_as_the_whole_of_it_and_any_other_by_itself() {
    // It works first and then sleeps; its numbers stand still from here to there.
    let charged = |on_cpu: u32, still: std::ops::RangeInclusive<u32>| {
        let given = given(120, on_cpu, 0, 0);
        let busy = |at| if still.contains(&at) { 500 } else { at };
        let looks: Vec<_> = (0..=120).map(|at| given.look(at, 2, busy(at), at.min(on_cpu))).collect();
        let judgement = given.period().judge(&looks, BUDGET);
        let PeriodJudgement::Stalls(stretches) = judgement else { panic!("{}", kind(&judgement)) };
        stretches.iter().map(|stretch| stretch.split.charged()).sum::<Duration>()
    };
    assert_eq!((charged(120, 20..=100), charged(120, 20..=99)), (MS * 120, MS * 79));
    assert_eq!((charged(60, 40..=120), charged(60, 40..=119)), (MS * 120, MS * 79));
}

/// A busy period of 100 ms, and looks at it: when, the worker's numbers, and how long the thread had been on a CPU by
/// then and had waited for one.
fn looked_at(
    on_cpu: u32,
    run_queue: u32,
    looks: &[(u32, u64, u32, u32, u32)],
) -> (Instant, BusyPeriod, Vec<CountersLook>) {
    let given = given(100, on_cpu, run_queue, 0);
    let look = |(at, parks, busy, on_cpu, run_queue): &(u32, u64, u32, u32, u32)| {
        let mut look = given.look(*at, *parks, *busy, *on_cpu);
        look.accounts[0].1.run_queue = MS * *run_queue;
        look
    };
    (given.start, given.period(), looks.iter().map(look).collect())
}

/// The polls that are seen in that, of the only worker there is.
fn polls(on_cpu: u32, run_queue: u32, looks: &[(u32, u64, u32, u32, u32)], told: bool) -> (Instant, Vec<PollBounds>) {
    let (start, period, mut looks) = looked_at(on_cpu, run_queue, looks);
    looks.iter_mut().filter(|_| !told).for_each(|look| look.accounts.clear());
    let split = period.stretch().unwrap().split;
    (start, period.view(&looks, 0, &split).polls)
}

#[test]
fn at_most_a_poll_was_charged_what_was_done_from_the_look_before_it_to_the_look_after_it() {
    let at_most = |on_cpu, run_queue, looks: &[_]| {
        polls(on_cpu, run_queue, looks, true).1.iter().map(|poll| poll.most.as_millis()).collect::<Vec<_>>()
    };
    assert_eq!(at_most(60, 10, &[]), [90, 90], "without a look");
    // From 10 to 90 ms it ran for 50. How much of the 8 that it waited had begun before, is not known.
    let first = [(10, 2, 0, 5, 1), (20, 2, 1, 10, 2), (60, 2, 1, 45, 7), (90, 2, 99, 55, 9)];
    assert_eq!(at_most(60, 10, &first)[2], 80);
    // From 30 ms to the end it ran for 18 and waited 39, of which no more than 2 had begun before.
    let long = [(28, 2, 0, 1, 1), (30, 2, 1, 2, 1), (90, 2, 99, 19, 39)];
    assert_eq!(at_most(20, 40, &long)[3], 33);
    // From the beginning to 80 ms it ran for 15 and waited 35.
    let at_once = [(49, 2, 0, 9, 19), (50, 2, 0, 10, 20), (80, 2, 99, 15, 35)];
    assert_eq!(at_most(20, 40, &at_once)[1], 45);
}

/// It grows by the whole poll when that is over, and by nothing before.
#[test]
fn no_poll_took_longer_than_the_busy_time_grew_without_what_it_waited_for_a_cpu_in_it() {
    let most = |busy, waited: [u32; 3]| {
        let looks = [(10, 2, 0, 1, 0), (20, 2, 0, 1, waited[0]), (60, 2, 0, 1, waited[1]), (70, 2, busy, 1, waited[2])];
        polls(1, waited[2], &looks, true).1[1].most.as_millis()
    };
    assert_eq!((most(55, [0, 0, 0]), most(90, [0, 0, 0])), (55, 70), "nor than the time from look to look");
    assert_eq!(most(55, [5, 25, 25]), 35, "20 ms in the middle of it");
    assert_eq!(most(55, [5, 5, 25]), 45, "of these it may have waited 10 after it was over");
}

/// tokio begins a poll's time anew when another thread takes the worker over.
#[test]
fn a_worker_that_stood_still_for_longer_than_its_busy_time_grew_was_handed_over() {
    for (busy, expected) in [(84, "stall"), (70, "stall"), (68, "handed over"), (1, "handed over")] {
        let looks: Vec<_> = (1..10).map(|at| (at * 10, 2, if at == 9 { busy } else { 0 }, 1, 0)).collect();
        let (_, period, looks) = looked_at(1, 0, &looks);
        assert_eq!(kind(&period.judge(&looks, BUDGET)), expected, "{busy} ms");
    }
}

fn published(parks: u64, busy: u32) -> Published {
    Published { workers: vec![WorkerNumbers { parks, busy: MS * busy }], settled: true }
}

/// It slept 70 ms in `block_in_place` and then in the pool, and its worker went idle before the first look.
#[test]
fn a_thread_whose_worker_went_idle_without_it_is_charged_nothing_after_that() {
    let given = given(160, 1, 0, 2);
    let looks: Vec<_> = (1..80).map(|at| given.look(at * 2, 3, 7, 1)).collect();
    let judge = |begin, over| {
        let period = BusyPeriod { published: [published(begin, 7), over], ..given.period() };
        kind(&period.judge(&looks, BUDGET)).to_owned()
    };
    assert_eq!(judge(2, published(4, 8)), "fair");
    assert_eq!(judge(2, Published::default()), "fair", "it has not been back since");
    let period = BusyPeriod { published: [published(2, 7), published(2, 167)], ..given.period() };
    assert_eq!(kind(&period.judge(&[], BUDGET)), "stall", "nothing moved, and the busy time grew by all of it");
    let period = BusyPeriod { published: [published(2, 7), published(2, 60)], ..given.period() };
    assert_eq!(kind(&period.judge(&[], BUDGET)), "undecided", "it slept where it had no worker");
}

#[test]
fn a_thread_that_is_given_its_worker_again_was_not_read_in_between() {
    let given = given(160, 9, 0, 3);
    let busy = |at| if at < 20 { 7 } else { at };
    let looks: Vec<_> = (1..160).map(|at| given.look(at, 2, busy(at), 1)).collect();
    let lost = |over| {
        let period = BusyPeriod { published: [published(2, 7), published(over, 160)], ..given.period() };
        period.lost_its_worker(&looks).map(|reading| (reading.at - given.start, reading.on_cpu))
    };
    assert_eq!((lost(2), lost(4)), (Some((MS * 20, MS)), None));
}

#[test]
fn polls_with_a_yield_between_them_count_each_for_itself() {
    // 200 ms in polls of so many, slept or computed; looked at every 2 ms.
    let judge = |poll: u32, sleeps: bool| {
        let on_cpu = if sleeps { 0 } else { 200 };
        let given = given(200, on_cpu, 0, if sleeps { u64::from(200 / poll) } else { 0 });
        let look = |at: u32| {
            let mut look = given.look(at, 2, at / poll * poll, if sleeps { 0 } else { at });
            // It woke to end each poll.
            look.accounts[0].1.turns += u64::from(at / poll);
            look
        };
        let looks: Vec<_> = (1..100).map(|at| look(at * 2)).collect();
        BusyPeriod { published: [published(2, 0), published(2, 200)], ..given.period() }.judge(&looks, BUDGET)
    };
    for sleeps in [true, false] {
        let PeriodJudgement::Stalls(stalls) = judge(66, sleeps) else { panic!("not found") };
        assert!((2..=3).contains(&stalls.len()), "{stalls:?}");
        assert!(stalls.iter().all(|stall| (MS * 60..=MS * 66).contains(&stall.split.charged())), "{stalls:?}");
        let PeriodJudgement::Fair { longest } = judge(40, sleeps) else { panic!("accused") };
        assert_eq!(longest, MS * 40);
    }
}

#[test]
fn at_least_a_poll_was_charged_what_does_not_fit_into_the_rest_of_its_spell_and_its_parts_sum_up() {
    let at_least = |on_cpu, run_queue, looks: &[_], told: bool, nth: usize| {
        let (start, polls) = polls(on_cpu, run_queue, looks, told);
        let PollBounds { least, part: Stretch { from, to, split, .. }, .. } = polls[nth];
        let parts = [split.on_cpu, split.run_queue.unwrap(), split.blocked().unwrap()];
        ([from - start, to - start, least].map(|time| time.as_millis()), parts.map(|part| part.as_millis()))
    };
    // From 20 to 60 ms it ran for 35. In the rest of the period it ran for 25 of 60 ms, so all of the block may be
    // there.
    let short = [(10, 2, 0, 5, 1), (20, 2, 1, 10, 2), (60, 2, 1, 45, 7), (90, 2, 99, 55, 9)];
    assert_eq!(at_least(60, 10, &short, true, 2), ([20, 60, 35], [35, 5, 0]));
    // From 20 to 90 ms it ran for 30. In the rest it ran for 10 of 30 ms, so 20 of the 50 may be there.
    let long = [(20, 2, 0, 5, 1), (90, 2, 0, 35, 9)];
    assert_eq!(at_least(40, 10, &long, true, 1), ([20, 90, 60], [30, 10, 30]));
    // The kernel books a tick at a time, and here more than the thread knows of.
    assert_eq!(at_least(60, 0, &[(10, 2, 0, 0, 0), (90, 2, 0, 70, 0)], true, 1), ([10, 90, 80], [70, 0, 10]));
    // Its account was never read. It may have worked for all the time that it was not blocked for sure.
    assert_eq!(at_least(60, 10, &long, false, 1), ([20, 90, 30], [40, 0, 30]));
}

#[test]
fn another_thread_serving_the_worker_meanwhile_clears_this_one() {
    // block_in_place: this thread sleeps, its worker goes on elsewhere and is idle at times.
    let given = given(120, 0, 0, 3);
    let looks: Vec<_> = (1..120).map(|at| given.look(at, u64::from(at), at, 0)).collect();
    assert!(matches!(given.period().judge(&looks, BUDGET), PeriodJudgement::Fair { .. }));
}
