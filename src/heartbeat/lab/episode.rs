//! One busy spell of a worker, from coming back to going idle: was it one long poll or many short ones?
//!
//! The worker's own readings at both ends are exact, but say nothing of what lay between. The looks from outside are
//! sparse on a busy machine, but a stuck worker shows the same park count and busy time in all of them. So what is sure
//! is bounded from both sides:
//!
//! - *at least*: what the spell was charged, less all the time in which the numbers were not seen standing still;
//! - *at most*: the CPU time between two looks that differ, plus all blocked time of the spell.
//!
//! Between the two bounds nothing is claimed.

use std::time::{Duration, Instant};

use crate::heartbeat::reading::thread::Account;
use crate::heartbeat::reading::{Reading, ThreadId};
use crate::heartbeat::stall::{Split, Stretch};

/// One look at every worker from outside.
#[derive(Debug, Clone)]
pub(super) struct Look {
    pub(super) at: Instant,
    /// By the runtime's own index.
    pub(super) workers: Vec<Worker>,
    pub(super) accounts: Vec<(ThreadId, Account)>,
}

impl Look {
    fn account(&self, thread: ThreadId) -> Option<Account> {
        self.accounts.iter().find(|(other, _)| *other == thread).map(|(_, account)| *account)
    }
}

/// What the runtime publishes of a worker whenever it is back in its scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Worker {
    /// Odd while it is idle.
    pub(super) parks: u64,
    pub(super) busy: Duration,
}

/// A spell of one thread.
#[derive(Debug, Clone)]
pub(super) struct Episode {
    pub(super) from: Reading,
    pub(super) to: Reading,
    /// How often the thread went to sleep in it.
    pub(super) sleeps: u64,
    /// Which of the runtime's workers it can be, a bit each. None: nobody knows, for there are more workers than bits.
    pub(super) indices: u64,
    /// What of the waits for a CPU that the kernel has booked was none: see [`Split::given`].
    pub(super) overbooked: Duration,
    /// Its end was not read by the thread, nor by the kernel for it: what it did is not known.
    pub(super) blind: bool,
}

#[derive(Debug, Clone)]
pub(super) enum Judgement {
    /// One stretch of it was too long.
    Stall(Stretch),
    /// None was.
    Fair,
    /// The looks were too sparse to say.
    Undecided(Stretch),
}

/// A thread that ran has it in its account after so long: two ticks of a slow kernel.
const BOOKED: Duration = Duration::from_millis(9);

/// A time in which the same two numbers were seen.
struct Run {
    /// The first such look.
    first: usize,
    last: usize,
    idle: bool,
}

impl Episode {
    pub(super) fn thread(&self) -> ThreadId {
        self.to.thread
    }

    pub(super) fn stretch(&self) -> Option<Stretch> {
        Stretch::between(&self.from, &self.to, self.from.at)
    }

    pub(super) fn judge(&self, looks: &[Look], budget: Duration) -> Judgement {
        let Some(whole) = self.stretch() else {
            return Judgement::Fair;
        };
        let split = whole.split;
        let lost = lost(&split);
        if split.on_cpu + lost <= budget {
            return Judgement::Fair;
        }
        let inside: Vec<&Look> = looks.iter().filter(|look| self.from.at <= look.at && look.at <= self.to.at).collect();
        let indices = || {
            let possible = (0..64).filter(|index| self.indices & (1 << index) != 0);
            possible.filter(|index| !self.was_handed_over(&inside, *index))
        };
        if self.indices != 0 && indices().next().is_none() {
            return Judgement::Fair;
        }
        // A thread that slept once slept in one poll, and of several sleeps one is at least as long as the average.
        if self.sleeps > 0 && lost / u32::try_from(self.sleeps).unwrap_or(u32::MAX) > budget {
            return Judgement::Stall(whole);
        }
        if self.blind || self.indices == 0 {
            return Judgement::Undecided(whole);
        }
        let most = indices().map(|index| self.at_most(&inside, index, &split)).max();
        if most.is_some_and(|most| most <= budget) {
            return Judgement::Fair;
        }
        let least = indices().map(|index| self.at_least(&inside, index, &split)).min_by_key(|(sure, _)| *sure);
        match least {
            Some((sure, stretch)) if sure > budget => {
                Judgement::Stall(if sure >= (split.on_cpu + lost) * 2 / 3 { whole } else { stretch })
            }
            _ => Judgement::Undecided(whole),
        }
    }

    /// Whether the worker's numbers moved while this thread slept on: then another thread has taken it over
    /// (`block_in_place`), and this one keeps nobody waiting.
    fn was_handed_over(&self, inside: &[&Look], index: usize) -> bool {
        let account = |look: &Look| look.account(self.thread());
        inside.windows(2).enumerate().any(|(nth, pair)| {
            let moved = pair[0].workers.get(index) != pair[1].workers.get(index);
            let later = inside[nth..].iter().find(|look| look.at >= pair[1].at + BOOKED);
            let before = account(pair[0]);
            moved && before.is_some() && later.is_some_and(|later| account(later) == before)
        })
    }

    /// The most that any one stretch can have been charged, if this is worker `index`.
    fn at_most(&self, inside: &[&Look], index: usize, split: &Split) -> Duration {
        if inside.is_empty() {
            return split.on_cpu + lost(split);
        }
        let bound = |from: Option<usize>, to: Option<usize>| {
            let begin = from.map_or(self.from.at, |look| inside[look].at);
            let end = to.map_or(self.to.at, |look| inside[look].at);
            let wall = end - begin;
            let on_cpu = self.cpu(inside, from, true).zip(self.cpu(inside, to, false));
            let on_cpu = on_cpu.map_or(wall, |(from, to)| to.saturating_sub(from).min(wall));
            let queued = self.run_queue(inside, from, true).zip(self.run_queue(inside, to, false));
            let queued = queued.map_or(Duration::ZERO, |(from, to)| to.saturating_sub(from));
            // A wait that had begun before `from` is booked after it.
            let queued = queued.saturating_sub(if to.is_some() { self.overbooked } else { Duration::ZERO });
            let queued = queued.saturating_sub(from.map_or(Duration::ZERO, |look| self.unchanged_since(inside, look)));
            on_cpu + lost(split).min((wall - on_cpu).saturating_sub(queued))
        };
        let bounds = runs(inside, index).into_iter().map(|run| {
            let before = run.first.checked_sub(1);
            let after = Some(run.last + 1).filter(|next| *next < inside.len());
            match run.idle {
                true => bound(before, Some(run.first)).max(bound(Some(run.last), after)),
                false => bound(before, after),
            }
        });
        bounds.max().unwrap_or_default()
    }

    /// The most that one stretch must have been charged, if this is worker `index`, and that stretch.
    fn at_least(&self, inside: &[&Look], index: usize, split: &Split) -> (Duration, Stretch) {
        let runs = runs(inside, index).into_iter().filter(|run| !run.idle);
        let sure = runs.map(|run| {
            let (from, to) = (inside[run.first].at, inside[run.last].at);
            let wall = to - from;
            let seen = self.cpu(inside, Some(run.first), true).zip(self.cpu(inside, Some(run.last), false));
            let on_cpu = seen.map_or(Duration::ZERO, |(from, to)| to.saturating_sub(from).min(wall));
            // Of the blocked time, what does not fit into the rest of the spell.
            let rest = split.wall.saturating_sub(wall).saturating_sub(split.on_cpu.saturating_sub(on_cpu));
            let blocked = lost(split).saturating_sub(rest).min(wall - on_cpu);
            // What the account does not tell may all have been work.
            let work = if seen.is_some() { on_cpu } else { split.on_cpu.min(wall - blocked) };
            let run_queue = split.run_queue.map(|_| wall - work - blocked);
            let split = Split { wall, on_cpu: work, run_queue };
            (on_cpu + blocked, self.part(from, to, split))
        });
        let none = self.part(self.from.at, self.from.at, Split::NONE);
        sure.max_by_key(|(sure, _)| *sure).unwrap_or((Duration::ZERO, none))
    }

    /// How long the thread's account may have been standing still at a look.
    fn unchanged_since(&self, inside: &[&Look], look: usize) -> Duration {
        let now = inside[look].account(self.thread());
        let before = inside[..look].iter().rev().find(|before| before.account(self.thread()) != now);
        inside[look].at - before.map_or(self.from.at, |before| before.at)
    }

    /// How long the thread had waited for a CPU at a look, or at the spell's beginning or end.
    fn run_queue(&self, inside: &[&Look], look: Option<usize>, beginning: bool) -> Option<Duration> {
        match look {
            Some(look) => inside[look].account(self.thread()).map(|account| account.run_queue),
            None if beginning => self.from.run_queue,
            None => self.to.run_queue,
        }
    }

    fn part(&self, from: Instant, to: Instant, split: Split) -> Stretch {
        Stretch { thread: self.thread(), from, to, split, on_cpu_then: self.to.on_cpu, since: None, one_poll: false }
    }

    /// The thread's CPU time at a look, or at the spell's beginning or end.
    fn cpu(&self, inside: &[&Look], look: Option<usize>, beginning: bool) -> Option<Duration> {
        let Some(look) = look else {
            return Some(if beginning { self.from.on_cpu } else { self.to.on_cpu });
        };
        inside[look].account(self.thread()).map(|account| account.on_cpu)
    }
}

/// Off the CPU and not known to have waited for one.
fn lost(split: &Split) -> Duration {
    split.blocked().unwrap_or(split.unexplained())
}

fn runs(inside: &[&Look], index: usize) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for at in 0..inside.len() {
        let Some(worker) = inside[at].workers.get(index) else {
            continue;
        };
        match runs.last_mut() {
            Some(run) if inside[run.last].workers[index] == *worker => run.last = at,
            _ => runs.push(Run { first: at, last: at, idle: worker.parks % 2 == 1 }),
        }
    }
    runs
}

/// For how long at most some worker can have been in one poll between `from` and `to`, as far as it was looked at.
pub(super) fn stood_at_most(looks: &[Look], from: Instant, to: Instant) -> Duration {
    let inside: Vec<&Look> = looks.iter().filter(|look| from <= look.at && look.at <= to).collect();
    let Some(workers) = inside.first().map(|look| look.workers.len()) else {
        return to.saturating_duration_since(from);
    };
    let stood = |run: Run| {
        let begin = run.first.checked_sub(1).map_or(from, |before| inside[before].at);
        let end = inside.get(run.last + 1).map_or(to, |after| after.at);
        let (first, last) = (inside[run.first].at, inside[run.last].at);
        if run.idle { (first - begin).max(end - last) } else { end - begin }
    };
    (0..workers).flat_map(|index| runs(&inside, index)).map(stood).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const THREAD: ThreadId = ThreadId(1);
    const BUDGET: Duration = Duration::from_millis(50);

    struct Spell {
        start: Instant,
        wall: u32,
        on_cpu: u32,
        run_queue: u32,
        sleeps: u64,
    }

    impl Spell {
        fn episode(&self) -> Episode {
            let read = |at, on_cpu, queue| Reading {
                at: self.start + MS * at,
                thread: THREAD,
                on_cpu: MS * on_cpu,
                run_queue: Some(MS * queue),
            };
            Episode {
                from: read(0, 0, 0),
                to: read(self.wall, self.on_cpu, self.run_queue),
                sleeps: self.sleeps,
                indices: 1,
                overbooked: Duration::ZERO,
                blind: false,
            }
        }

        /// At `at` ms: the worker's numbers, and the thread's CPU time.
        fn look(&self, at: u32, parks: u64, busy: u32, on_cpu: u32) -> Look {
            let account = Account { on_cpu: MS * on_cpu, run_queue: Duration::ZERO, turns: 1 };
            Look {
                at: self.start + MS * at,
                workers: vec![Worker { parks, busy: MS * busy }],
                accounts: vec![(THREAD, account)],
            }
        }
    }

    fn spell(wall: u32, on_cpu: u32, run_queue: u32, sleeps: u64) -> Spell {
        Spell { start: Instant::now(), wall, on_cpu, run_queue, sleeps }
    }

    #[test]
    fn a_spin_shows_the_same_numbers_in_every_look() {
        let spell = spell(120, 120, 0, 0);
        let looks: Vec<_> = (1..120).map(|at| spell.look(at, 2, 7, at)).collect();
        assert!(matches!(spell.episode().judge(&looks, BUDGET), Judgement::Stall(_)));
    }

    #[test]
    fn many_short_tasks_show_new_numbers_in_every_look() {
        let spell = spell(120, 120, 0, 0);
        let looks: Vec<_> = (1..120).map(|at| spell.look(at, 2, at, at)).collect();
        assert!(matches!(spell.episode().judge(&looks, BUDGET), Judgement::Fair));
    }

    #[test]
    fn a_slow_machine_makes_short_tasks_look_stuck_but_their_cpu_time_tells() {
        let spell = spell(1000, 60, 940, 0);
        let looks: Vec<_> = (1..10).map(|nth| spell.look(nth * 100, 2, nth / 3, nth * 6)).collect();
        assert!(matches!(spell.episode().judge(&looks, BUDGET), Judgement::Fair));
    }

    #[test]
    fn one_sleep_is_one_poll_even_if_nobody_looked() {
        assert!(matches!(spell(120, 0, 0, 1).episode().judge(&[], BUDGET), Judgement::Stall(_)));
        assert!(matches!(spell(120, 0, 0, 2).episode().judge(&[], BUDGET), Judgement::Stall(_)));
        assert!(matches!(spell(120, 0, 0, 3).episode().judge(&[], BUDGET), Judgement::Undecided(_)));
    }

    #[test]
    fn many_naps_in_one_poll_are_a_stall() {
        let spell = spell(120, 0, 0, 100);
        let looks: Vec<_> = (1..120).map(|at| spell.look(at, 2, 7, 0)).collect();
        assert!(matches!(spell.episode().judge(&looks, BUDGET), Judgement::Stall(_)));
    }

    #[test]
    fn a_spin_that_nobody_saw_is_undecided() {
        assert!(matches!(spell(120, 120, 0, 0).episode().judge(&[], BUDGET), Judgement::Undecided(_)));
    }

    #[test]
    fn among_too_many_workers_to_tell_apart_nobody_is_acquitted() {
        let unknown = |sleeps| Episode { indices: 0, ..spell(120, 0, 0, sleeps).episode() };
        let looks: Vec<_> = (1..120).map(|at| spell(120, 0, 0, 3).look(at, 2, at, 0)).collect();
        assert!(matches!(unknown(3).judge(&looks, BUDGET), Judgement::Undecided(_)));
        assert!(matches!(unknown(1).judge(&looks, BUDGET), Judgement::Stall(_)));
    }

    #[test]
    fn a_long_poll_within_a_longer_busy_spell_is_found_and_only_it() {
        let spell = spell(1000, 1000, 0, 0);
        let busy = |at| if (400..520).contains(&at) { 400 } else { at };
        let looks: Vec<_> = (1..1000).map(|at| spell.look(at, 2, busy(at), at)).collect();
        let Judgement::Stall(stretch) = spell.episode().judge(&looks, BUDGET) else { panic!("not found") };
        assert!((MS * 117..=MS * 120).contains(&stretch.split.charged()), "{stretch:?}");
    }

    /// Of 120 ms asleep, 110 were seen, and the looks after that have all of it booked as a wait for a CPU.
    #[test]
    fn what_was_booked_wrongly_is_no_wait_for_a_cpu_in_the_looks_either() {
        let spell = spell(130, 0, 10, 3);
        let look = |at| {
            let mut look = spell.look(at, 2, if at < 120 { 7 } else { at }, 0);
            look.accounts[0].1.run_queue = MS * if at < 120 { 0 } else { 120 };
            look
        };
        let looks: Vec<_> = (1..130).map(look).collect();
        let overbooked = |ms| Episode { overbooked: MS * ms, ..spell.episode() }.judge(&looks, BUDGET);
        assert!(matches!(overbooked(110), Judgement::Stall(_)));
        assert!(matches!(overbooked(0), Judgement::Fair));
    }

    /// It took the other thread 80 ms to get a CPU, and this one sleeps on.
    #[test]
    fn a_worker_that_was_handed_over_late_clears_its_old_thread() {
        let spell = spell(160, 1, 0, 3);
        let busy = |at| if at < 80 { 7 } else { at };
        let looks: Vec<_> = (1..160).map(|at| spell.look(at, 2, busy(at), 1)).collect();
        assert!(matches!(spell.episode().judge(&looks, BUDGET), Judgement::Fair));
        // The same numbers, and a thread that slept 80 ms and then ran many short tasks.
        let spell = Spell { on_cpu: 81, ..spell };
        let worked = |at: u32| at.saturating_sub(79).max(1);
        let looks: Vec<_> = (1..160).map(|at| spell.look(at, 2, busy(at), worked(at))).collect();
        assert!(matches!(spell.episode().judge(&looks, BUDGET), Judgement::Stall(_)));
    }

    #[test]
    fn a_worker_that_was_hardly_looked_at_may_have_stood_still_between_the_looks() {
        let spell = spell(200, 0, 0, 0);
        let at = |ms| spell.start + MS * ms;
        // Idle, then in a poll that was seen to begin and to be over, then idle.
        let looks =
            [spell.look(0, 3, 7, 0), spell.look(90, 4, 7, 0), spell.look(100, 4, 7, 0), spell.look(190, 5, 8, 0)];
        assert_eq!(stood_at_most(&looks, at(0), at(200)), MS * 190);
        assert_eq!(stood_at_most(&looks[..1], at(0), at(40)), MS * 40);
        assert_eq!(stood_at_most(&looks, at(95), at(105)), MS * 10, "what was seen before and after says nothing");
        assert_eq!(stood_at_most(&[], at(0), at(200)), MS * 200, "nobody looked");
        let idle: Vec<_> = (0..=20).map(|nth| spell.look(nth * 10, 3, 7, 0)).collect();
        assert_eq!(stood_at_most(&idle, at(0), at(200)), Duration::ZERO);
    }

    fn kind(judgement: &Judgement) -> &str {
        match judgement {
            Judgement::Stall(_) => "stall",
            Judgement::Fair => "fair",
            Judgement::Undecided(_) => "undecided",
        }
    }

    #[test]
    fn what_was_charged_no_more_than_the_budget_is_fair_though_nobody_looked() {
        for (on_cpu, run_queue, expected) in
            [(50, 0, "undecided"), (50, 69, "undecided"), (50, 70, "fair"), (0, 69, "undecided"), (0, 70, "fair")]
        {
            let judgement = spell(120, on_cpu, run_queue, 0).episode().judge(&[], BUDGET);
            assert_eq!(kind(&judgement), expected, "{on_cpu} ms on a CPU, {run_queue} ms waiting for one");
        }
    }

    #[test]
    fn of_several_sleeps_one_is_as_long_as_the_average_and_that_must_be_above_the_budget() {
        for (wall, sleeps, expected) in [(100, 2, "undecided"), (101, 2, "stall"), (150, 3, "undecided")] {
            let judgement = spell(wall, 0, 0, sleeps).episode().judge(&[], BUDGET);
            assert_eq!(kind(&judgement), expected, "{sleeps} sleeps in {wall} ms");
        }
    }

    #[test]
    fn a_spell_whose_end_nobody_read_is_undecided_whatever_was_seen() {
        let spell = spell(120, 120, 0, 0);
        let looks: Vec<_> = (1..120).map(|at| spell.look(at, 2, 7, at)).collect();
        let blind = Episode { blind: true, ..spell.episode() };
        assert_eq!(
            (kind(&spell.episode().judge(&looks, BUDGET)), kind(&blind.judge(&looks, BUDGET))),
            ("stall", "undecided")
        );
    }

    #[test]
    fn looks_at_either_end_count_and_those_beyond_do_not() {
        let before = spell(60, 60, 0, 0);
        let spell = Spell { start: before.start + MS * 100, ..before };
        let judge = |looks: &[Look]| kind(&spell.episode().judge(looks, BUDGET)).to_owned();
        let looks: Vec<_> = (0..=60).map(|at| spell.look(at, 2, 7, at)).collect();
        assert_eq!(judge(&looks[5..=55]), "undecided", "it stood still for 50 ms");
        assert_eq!((judge(&looks[..=51]), judge(&looks[9..])), ("stall".to_owned(), "stall".to_owned()), "for 51 ms");
        let beyond = [(90, 0), (170, 60)].map(|(at, on_cpu)| before.look(at, 2, 7, on_cpu));
        assert_eq!(judge(&beyond), "undecided");
    }

    #[test]
    fn whichever_worker_it_may_have_been_must_have_stood_still() {
        let spell = spell(120, 120, 0, 0);
        let look = |at| {
            let worker = |busy| Worker { parks: 2, busy: MS * busy };
            Look { workers: [at, 7, 7].map(worker).to_vec(), ..spell.look(at, 2, 0, at) }
        };
        let looks: Vec<_> = (1..120).map(look).collect();
        for (indices, expected) in [(0b001, "fair"), (0b010, "stall"), (0b110, "stall"), (0b011, "undecided")] {
            let episode = Episode { indices, ..spell.episode() };
            assert_eq!(kind(&episode.judge(&looks, BUDGET)), expected, "{indices:b}");
        }
    }

    #[test]
    fn a_poll_that_was_two_thirds_of_its_spell_is_shown_as_the_whole_of_it_and_any_other_by_itself() {
        // It works first and then sleeps; its numbers stand still from here to there.
        let charged = |on_cpu: u32, still: std::ops::RangeInclusive<u32>| {
            let spell = spell(120, on_cpu, 0, 0);
            let busy = |at| if still.contains(&at) { 500 } else { at };
            let looks: Vec<_> = (0..=120).map(|at| spell.look(at, 2, busy(at), at.min(on_cpu))).collect();
            let judgement = spell.episode().judge(&looks, BUDGET);
            let Judgement::Stall(stretch) = judgement else { panic!("{}", kind(&judgement)) };
            stretch.split.charged()
        };
        assert_eq!((charged(120, 20..=100), charged(120, 20..=99)), (MS * 120, MS * 79));
        assert_eq!((charged(60, 40..=120), charged(60, 40..=119)), (MS * 120, MS * 79));
    }

    /// A spell of 100 ms, and looks at it: when, the worker's numbers, and how long the thread had been on a CPU by then
    /// and had waited for one.
    fn looked_at(on_cpu: u32, run_queue: u32, looks: &[(u32, u64, u32, u32, u32)]) -> (Instant, Episode, Vec<Look>) {
        let spell = spell(100, on_cpu, run_queue, 0);
        let look = |(at, parks, busy, on_cpu, run_queue): &(u32, u64, u32, u32, u32)| {
            let mut look = spell.look(*at, *parks, *busy, *on_cpu);
            look.accounts[0].1.run_queue = MS * *run_queue;
            look
        };
        (spell.start, spell.episode(), looks.iter().map(look).collect())
    }

    #[test]
    fn at_most_a_poll_was_charged_what_was_done_from_the_look_before_it_to_the_look_after_it() {
        let at_most = |on_cpu, run_queue, looks: &[_]| {
            let (_, episode, looks) = looked_at(on_cpu, run_queue, looks);
            let split = episode.stretch().unwrap().split;
            episode.at_most(&looks.iter().collect::<Vec<_>>(), 0, &split).as_millis()
        };
        assert_eq!(at_most(60, 10, &[]), 90, "nobody looked");
        // From 10 to 90 ms it ran for 50. How much of the 8 that it waited had begun before, nobody knows.
        let idle_first = [(10, 1, 0, 5, 1), (20, 2, 0, 10, 2), (60, 2, 0, 45, 7), (90, 2, 9, 55, 9)];
        assert_eq!(at_most(60, 10, &idle_first), 80);
        // From 30 ms to the end it ran for 18 and waited 39, of which no more than 2 had begun before.
        let idle_long = [(28, 1, 0, 1, 1), (30, 1, 0, 2, 1), (90, 2, 5, 19, 39)];
        assert_eq!(at_most(20, 40, &idle_long), 33);
        // From the beginning to 80 ms it ran for 15 and waited 35.
        let at_once = [(49, 2, 0, 9, 19), (50, 2, 0, 10, 20), (80, 2, 9, 15, 35)];
        assert_eq!(at_most(20, 40, &at_once), 45);
    }

    #[test]
    fn at_least_a_poll_was_charged_what_does_not_fit_into_the_rest_of_its_spell_and_its_parts_sum_up() {
        let at_least = |on_cpu, run_queue, looks: &[_], told: bool| {
            let (start, episode, mut looks) = looked_at(on_cpu, run_queue, looks);
            looks.iter_mut().filter(|_| !told).for_each(|look| look.accounts.clear());
            let split = episode.stretch().unwrap().split;
            let (sure, Stretch { from, to, split, .. }) =
                episode.at_least(&looks.iter().collect::<Vec<_>>(), 0, &split);
            let parts = [split.on_cpu, split.run_queue.unwrap(), split.blocked().unwrap()];
            ([from - start, to - start, sure].map(|time| time.as_millis()), parts.map(|part| part.as_millis()))
        };
        // From 20 to 60 ms it ran for 35. In the rest of the spell it ran for 25 of 60 ms, so all of the block may be there.
        let short = [(10, 1, 0, 5, 1), (20, 2, 0, 10, 2), (60, 2, 0, 45, 7), (90, 2, 9, 55, 9)];
        assert_eq!(at_least(60, 10, &short, true), ([20, 60, 35], [35, 5, 0]));
        // From 20 to 90 ms it ran for 30. In the rest it ran for 10 of 30 ms, so 20 of the 50 may be there.
        let long = [(20, 2, 0, 5, 1), (90, 2, 0, 35, 9)];
        assert_eq!(at_least(40, 10, &long, true), ([20, 90, 60], [30, 10, 30]));
        // The kernel books a tick at a time, and here more than the thread knows of.
        assert_eq!(at_least(60, 0, &[(10, 2, 0, 0, 0), (90, 2, 0, 70, 0)], true), ([10, 90, 80], [70, 0, 10]));
        // Nobody told of its account. It may have worked for all the time that it was not blocked for sure.
        assert_eq!(at_least(60, 10, &long, false), ([20, 90, 30], [40, 0, 30]));
    }

    #[test]
    fn another_thread_serving_the_worker_meanwhile_clears_this_one() {
        // block_in_place: this thread sleeps, its worker goes on elsewhere and is idle at times.
        let spell = spell(120, 0, 0, 3);
        let looks: Vec<_> = (1..120).map(|at| spell.look(at, u64::from(at), at, 0)).collect();
        assert!(matches!(spell.episode().judge(&looks, BUDGET), Judgement::Fair));
    }
}
