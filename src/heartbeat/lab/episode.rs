//! One busy spell of a worker, from coming back to going idle: was it one long poll or many short ones?
//!
//! The worker's own readings at both ends are exact, but say nothing of what lay between. The looks from outside are
//! sparse on a busy machine, but a stuck worker shows the same park count and busy time in all of them, and once it is
//! back its busy time has grown by all that its polls took. So each poll is bounded from both sides:
//!
//! - *at least*: what the thread did while the numbers were seen standing still, less what else has room there;
//! - *at most*: the CPU time between the looks around that, plus blocked time, and no more than the busy time has grown.
//!
//! Between the two bounds nothing is claimed. A thread that hands its worker over (`block_in_place`) has no worker from
//! then on: it is not charged for what it does after the worker's numbers moved without it. tokio begins a poll's time
//! anew at the handover, so numbers that stood still for longer than the busy time has grown show one, too.

use std::ops::Range;
use std::time::{Duration, Instant};

use tokio::runtime::RuntimeMetrics;

use crate::heartbeat::reading::thread::Account;
use crate::heartbeat::reading::{Reading, ThreadId};
use crate::heartbeat::stall::{Split, Stretch};

/// One look at every worker from outside.
#[derive(Debug, Clone)]
pub(in crate::heartbeat) struct Look {
    pub(in crate::heartbeat) at: Instant,
    /// By the runtime's own index.
    pub(in crate::heartbeat) workers: Vec<Worker>,
    pub(in crate::heartbeat) accounts: Vec<(ThreadId, Account)>,
}

impl Look {
    fn account(&self, thread: ThreadId) -> Option<Account> {
        self.accounts.iter().find(|(other, _)| *other == thread).map(|(_, account)| *account)
    }
}

/// What the runtime publishes of a worker whenever it is back in its scheduler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::heartbeat) struct Worker {
    /// Odd while it is idle.
    pub(in crate::heartbeat) parks: u64,
    pub(in crate::heartbeat) busy: Duration,
}

impl Worker {
    pub(super) fn of(metrics: &RuntimeMetrics, index: usize) -> Self {
        Self { parks: metrics.worker_park_unpark_count(index), busy: metrics.worker_total_busy_duration(index) }
    }
}

/// What the runtime had published of every worker at one end of a spell.
#[derive(Debug, Clone, Default)]
pub(in crate::heartbeat) struct Published {
    /// By index. None: it is not known.
    pub(in crate::heartbeat) workers: Vec<Worker>,
    /// Whether the poll before is in the busy time of the worker. In a turn of the driver it is not yet.
    pub(in crate::heartbeat) settled: bool,
}

/// A spell of one thread.
#[derive(Debug, Clone)]
pub(in crate::heartbeat) struct Episode {
    pub(in crate::heartbeat) from: Reading,
    pub(in crate::heartbeat) to: Reading,
    /// How often the thread went to sleep in it.
    pub(in crate::heartbeat) sleeps: u64,
    /// Which of the runtime's workers it can be, a bit each. None: nobody knows, for there are more workers than bits.
    pub(in crate::heartbeat) indices: u64,
    /// What the workers showed at `from` and at `to`.
    pub(in crate::heartbeat) published: [Published; 2],
    /// What of the waits for a CPU that the kernel has booked was none: see [`Split::given`].
    pub(in crate::heartbeat) overbooked: Duration,
    /// Its end was not read by the thread, nor by the kernel for it: what it did is not known.
    pub(in crate::heartbeat) blind: bool,
}

#[derive(Debug, Clone)]
pub(in crate::heartbeat) enum Judgement {
    /// These polls were too long.
    Stalls(Vec<Stretch>),
    /// None was.
    Fair {
        /// What the longest was charged at most.
        longest: Duration,
    },
    /// The looks were too sparse to say.
    Undecided(Stretch),
    /// The worker stood still for too long, but its thread may have handed it over, to one that came late.
    HandedOver(Stretch),
}

/// A thread that ran has it in its account after so long: two ticks of a slow kernel.
const BOOKED: Duration = Duration::from_millis(9);

/// The busy time grows by all of a poll but for what the scheduler does around it: less than this.
const AROUND_A_POLL: Duration = Duration::from_millis(1);

/// What was known of one worker and of the thread at one moment of the spell.
#[derive(Debug, Clone, Copy)]
struct Point {
    at: Instant,
    parks: Option<u64>,
    busy: Option<Duration>,
    on_cpu: Option<Duration>,
    run_queue: Option<Duration>,
    /// In a look from outside.
    account: Option<Account>,
}

/// A time in which a worker showed the same numbers, so that it was in one poll.
#[derive(Debug, Clone, Copy)]
struct Poll {
    /// What it was charged, at least and at most.
    least: Duration,
    most: Duration,
    /// The worker was, or may have been, handed over in it.
    handed_over: bool,
    /// What it is sure of: `least` of it is charged.
    part: Stretch,
    /// The time around that, in which it lay: `most` of it is charged.
    around: Stretch,
}

/// The polls of a spell, if the thread was that worker.
struct View {
    polls: Vec<Poll>,
    /// From when on it was that worker no more.
    cut: Option<Instant>,
}

impl View {
    fn most(&self) -> Duration {
        self.polls.iter().map(|poll| poll.most).max().unwrap_or_default()
    }

    /// Without a poll in which the worker was handed over: how much of that the thread was to blame for is not known.
    fn longest(&self) -> Duration {
        self.certain().map(|poll| poll.most).max().unwrap_or_default()
    }

    fn certain(&self) -> impl Iterator<Item = &Poll> {
        self.polls.iter().filter(|poll| !poll.handed_over)
    }

    fn least(&self) -> Duration {
        self.certain().map(|poll| poll.least).max().unwrap_or_default()
    }
}

impl Episode {
    pub(in crate::heartbeat) fn thread(&self) -> ThreadId {
        self.to.thread
    }

    pub(super) fn stretch(&self) -> Option<Stretch> {
        Stretch::between(&self.from, &self.to, self.from.at)
    }

    pub(in crate::heartbeat) fn judge(&self, looks: &[Look], budget: Duration) -> Judgement {
        let Some(whole) = self.stretch() else {
            return Judgement::Fair { longest: Duration::ZERO };
        };
        let charged = whole.split.on_cpu + lost(&whole.split);
        let views = self.views(looks, &whole.split);
        if charged <= budget || (!views.is_empty() && views.iter().all(|view| view.most() <= budget)) {
            let longest = views.iter().map(View::longest).max();
            return Judgement::Fair { longest: longest.map_or(charged, |longest| longest.min(charged)) };
        }
        if let Some(slept) = self.one_sleep(&views, &whole, budget) {
            return Judgement::Stalls(slept);
        }
        if self.blind || self.indices == 0 {
            return Judgement::Undecided(whole);
        }
        let too_long = |poll: &&Poll| poll.least > budget;
        match views.iter().min_by_key(|view| view.least()) {
            Some(view) if view.least() > budget => {
                let polls: Vec<Stretch> = view.certain().filter(too_long).map(|poll| poll.part).collect();
                let is_all = polls.len() == 1 && view.cut.is_none() && view.least() >= charged * 2 / 3;
                return Judgement::Stalls(if is_all { vec![whole] } else { polls });
            }
            _ => {}
        }
        let polls = || views.iter().flat_map(|view| &view.polls);
        let handed_over = polls().filter(|poll| poll.handed_over).filter(too_long);
        if let Some(handed_over) = handed_over.max_by_key(|poll| poll.least) {
            return Judgement::HandedOver(handed_over.part);
        }
        match polls().max_by_key(|poll| poll.most) {
            Some(poll) if poll.handed_over => Judgement::HandedOver(poll.around),
            Some(poll) => Judgement::Undecided(poll.around),
            None => Judgement::Undecided(whole),
        }
    }

    /// What the thread had spent by when it was first seen to have lost its worker, if it has been given that worker again
    /// by the end, with the same park count: what it did in between is not read.
    pub(in crate::heartbeat) fn lost_its_worker(&self, looks: &[Look]) -> Option<Reading> {
        let [begin, over] = &self.published;
        let mut same =
            begin.workers.iter().zip(&over.workers).map(|(begin, over)| begin.parks == over.parks).enumerate();
        same.find(|(index, same)| *same && *index < 64 && self.indices & (1 << index) != 0)?;
        let views = self.views(looks, &self.stretch()?.split);
        let cuts: Option<Vec<Instant>> = views.iter().map(|view| view.cut).collect();
        let at = cuts?.into_iter().max()?;
        let account = looks.iter().find(|look| look.at == at)?.account(self.thread())?;
        let run_queue = self.to.run_queue.map(|_| account.run_queue);
        Some(Reading { at, thread: self.thread(), on_cpu: account.on_cpu, run_queue })
    }

    /// Of the workers that it may have been, those that it can have been all the time; if there are none, it has handed its
    /// worker over, and each is seen as far as it can have been it.
    fn views(&self, looks: &[Look], split: &Split) -> Vec<View> {
        let inside = within(looks, self.from.at, self.to.at);
        let possible = (0..64).filter(|index| self.indices & (1 << index) != 0);
        let mut views: Vec<View> = possible.map(|index| self.view(inside, index, split)).collect();
        if views.iter().any(|view| view.cut.is_none()) {
            views.retain(|view| view.cut.is_none());
        }
        views
    }

    fn view(&self, inside: &[Look], index: usize, split: &Split) -> View {
        let mut points = self.points(inside, index);
        let cut = self.handed_over(&points);
        points.truncate(cut.map_or(points.len(), |cut| cut + 1));
        let bounds = |group: &(usize, usize)| self.poll(&points, *group, cut.is_some(), split);
        let polls = groups(&points[..cut.unwrap_or(points.len())]).iter().map(bounds).collect();
        View { polls, cut: cut.map(|cut| points[cut].at) }
    }

    /// The beginning of the spell, every look in it, and its end.
    fn points(&self, inside: &[Look], index: usize) -> Vec<Point> {
        let end = |reading: &Reading, published: &Published| {
            let worker = published.workers.get(index);
            Point {
                at: reading.at,
                parks: worker.map(|worker| worker.parks),
                busy: worker.filter(|_| published.settled).map(|worker| worker.busy),
                on_cpu: Some(reading.on_cpu),
                run_queue: reading.run_queue,
                account: None,
            }
        };
        let look = |look: &Look| {
            let (worker, account) = (look.workers.get(index), look.account(self.thread()));
            Point {
                at: look.at,
                parks: worker.map(|worker| worker.parks),
                busy: worker.map(|worker| worker.busy),
                on_cpu: account.map(|account| account.on_cpu),
                run_queue: account.map(|account| account.run_queue),
                account,
            }
        };
        let [begin, over] = &self.published;
        let looks = inside.iter().map(look);
        std::iter::once(end(&self.from, begin)).chain(looks).chain([end(&self.to, over)]).collect()
    }

    /// The first point at which this thread is that worker no more: the worker has gone idle, which this thread would have
    /// told, or its numbers moved while this thread slept on.
    fn handed_over(&self, points: &[Point]) -> Option<usize> {
        let parks = points.iter().find_map(|point| point.parks);
        let has_parked = |point: &Point| point.parks.is_some_and(|now| now % 2 == 1 || Some(now) != parks);
        let parked = points.iter().position(has_parked);
        let slept_on = points.windows(2).enumerate().find_map(|(nth, pair)| {
            let moved = (pair[0].parks, pair[0].busy) != (pair[1].parks, pair[1].busy);
            let before = pair[0].account.filter(|_| moved && pair[1].account.is_some())?;
            let later = points[nth..].iter().find(|point| point.at >= pair[1].at + BOOKED);
            (later?.account == Some(before)).then_some(nth + 1)
        });
        parked.into_iter().chain(slept_on).min()
    }

    /// One poll, in which the worker showed the same numbers from the one point to the other.
    fn poll(&self, points: &[Point], (first, last): (usize, usize), cut: bool, split: &Split) -> Poll {
        let next = Some(last + 1).filter(|next| *next < points.len());
        let at_the_cut = cut && next == Some(points.len() - 1);
        let (least, part) = self.at_least(&points[first], &points[last], split);
        let grown = next.and_then(|next| points[next].busy?.checked_sub(points[last].busy?));
        let grown = grown.filter(|_| !at_the_cut);
        let handed_over = at_the_cut || grown.is_some_and(|grown| least > grown + AROUND_A_POLL);
        let queued = next.map_or(Duration::ZERO, |next| self.queued_in(points, first, last, next));
        let limit = grown.filter(|_| !handed_over).map(|grown| grown.saturating_sub(queued).max(least));
        let around = self.at_most(points, first.saturating_sub(1)..next.unwrap_or(last), split, limit);
        let most = around.split.charged() + around.split.unexplained();
        Poll { least, most, handed_over, part, around }
    }

    /// How long the thread waited for a CPU, at least, in the poll that was seen from `first` to `last` and was over at
    /// `next`. What it waited in the poll before was booked when the new numbers were published, which a look reads last.
    fn queued_in(&self, points: &[Point], first: usize, last: usize, next: usize) -> Duration {
        let first = if points[first].account.is_some() { first + 1 } else { first };
        let booked = |from: usize, to: usize| {
            let waited = points[to].run_queue.zip(points[from].run_queue);
            waited.map_or(Duration::ZERO, |(now, then)| now.saturating_sub(then))
        };
        if first > last {
            return Duration::ZERO;
        }
        // The poll may have been over right after `last`, and what comes then is not part of it.
        let at_its_end = booked(last, next).saturating_sub(points[next].at - points[last].at);
        (booked(first, last) + at_its_end).saturating_sub(self.overbooked)
    }

    /// The most that any one poll can have been charged between two points, and no more than `limit`.
    fn at_most(&self, points: &[Point], range: Range<usize>, split: &Split, limit: Option<Duration>) -> Stretch {
        let (begin, end) = (&points[range.start], &points[range.end]);
        let wall = end.at - begin.at;
        let spent = |from: Option<Duration>, to: Option<Duration>| Some(to?.saturating_sub(from?));
        let on_cpu = spent(begin.on_cpu, end.on_cpu).map_or(wall, |on_cpu| on_cpu.min(wall));
        let queued = spent(begin.run_queue, end.run_queue).unwrap_or_default();
        // A wait that had begun before `from` is booked after it.
        let queued = queued.saturating_sub(if end.account.is_some() { self.overbooked } else { Duration::ZERO });
        let queued = queued.saturating_sub(self.unchanged_since(points, range.start));
        let most = on_cpu + lost(split).min((wall - on_cpu).saturating_sub(queued));
        let most = limit.map_or(most, |limit| most.min(limit));
        let run_queue = split.run_queue.map(|_| queued.min(wall - most));
        let split = Split { wall: most + run_queue.unwrap_or_default(), on_cpu: on_cpu.min(most), run_queue };
        self.part(begin.at, end.at, split)
    }

    /// The least that one poll must have been charged that was seen at both points, and that stretch.
    fn at_least(&self, first: &Point, last: &Point, split: &Split) -> (Duration, Stretch) {
        let wall = last.at - first.at;
        let seen = first.on_cpu.zip(last.on_cpu);
        let on_cpu = seen.map_or(Duration::ZERO, |(from, to)| to.saturating_sub(from).min(wall));
        // Of the blocked time, what does not fit into the rest of the spell.
        let rest = split.wall.saturating_sub(wall).saturating_sub(split.on_cpu.saturating_sub(on_cpu));
        let blocked = lost(split).saturating_sub(rest).min(wall - on_cpu);
        // What the account does not tell may all have been work.
        let work = if seen.is_some() { on_cpu } else { split.on_cpu.min(wall - blocked) };
        let run_queue = split.run_queue.map(|_| wall - work - blocked);
        let split = Split { wall, on_cpu: work, run_queue };
        (on_cpu + blocked, self.part(first.at, last.at, split))
    }

    /// A thread that slept once slept in one poll, and of several sleeps one is at least as long as the average. That goes
    /// for sleeps in its polls, which are in the busy time, if that is known: those of a thread that has no worker are not.
    fn one_sleep(&self, views: &[View], whole: &Stretch, budget: Duration) -> Option<Vec<Stretch>> {
        let sleeps = u32::try_from(self.sleeps).unwrap_or(u32::MAX);
        if sleeps == 0 || views.iter().any(|view| view.cut.is_some()) {
            return None;
        }
        let outside = whole.split.wall.saturating_sub(self.busy().unwrap_or(whole.split.wall));
        let asleep = lost(&whole.split).saturating_sub(outside) / sleeps;
        if asleep <= budget {
            return None;
        }
        let seen: Vec<&Poll> = views.first().map(|view| view.certain().collect()).unwrap_or_default();
        let seen: Vec<Stretch> = seen.iter().filter(|poll| poll.least > budget).map(|poll| poll.part).collect();
        Some(match seen[..] {
            _ if sleeps == 1 => vec![*whole],
            [] => vec![Stretch { split: whole.split.asleep(asleep), ..*whole }],
            [one] if one.split.charged() >= whole.split.charged() * 2 / 3 => vec![*whole],
            _ => seen,
        })
    }

    /// By how much the busy time of the worker has grown, if the thread was known to be that worker at both ends.
    fn busy(&self) -> Option<Duration> {
        let [begin, over] = &self.published;
        let index = Some(self.indices.trailing_zeros() as usize).filter(|_| self.indices.count_ones() == 1)?;
        let known = begin.settled && over.settled;
        over.workers.get(index).filter(|_| known)?.busy.checked_sub(begin.workers.get(index)?.busy)
    }

    /// How long the thread's account may have been standing still at a look.
    fn unchanged_since(&self, points: &[Point], look: usize) -> Duration {
        let Some(now) = points[look].account else {
            return Duration::ZERO;
        };
        let before = points[..look].iter().rev().find(|before| before.account != Some(now));
        points[look].at - before.map_or(self.from.at, |before| before.at)
    }

    fn part(&self, from: Instant, to: Instant, split: Split) -> Stretch {
        Stretch { thread: self.thread(), from, to, split, on_cpu_then: self.to.on_cpu, since: None, one_poll: false }
    }
}

/// Off the CPU and not known to have waited for one.
fn lost(split: &Split) -> Duration {
    split.blocked().unwrap_or(split.unexplained())
}

/// The first and the last of points in a row that show the same numbers.
fn groups(points: &[Point]) -> Vec<(usize, usize)> {
    let mut groups: Vec<(usize, usize)> = Vec::new();
    for (at, point) in points.iter().enumerate() {
        match groups.last_mut() {
            Some((_, last)) if point.busy.is_some() && points[*last].busy == point.busy => *last = at,
            _ => groups.push((at, at)),
        }
    }
    groups
}

/// They are in the order of their times.
fn within(looks: &[Look], from: Instant, to: Instant) -> &[Look] {
    let begin = looks.partition_point(|look| look.at < from);
    let end = looks.partition_point(|look| look.at <= to).max(begin);
    &looks[begin..end]
}

/// For how long at most some worker can have been in one poll between `from` and `to`, as far as it was looked at.
pub(super) fn stood_at_most(looks: &[Look], from: Instant, to: Instant) -> Duration {
    let inside = within(looks, from, to);
    let Some(workers) = inside.first().map(|look| look.workers.len()) else {
        return to.saturating_duration_since(from);
    };
    let stood = |index: usize| {
        let same = |one: &Look, next: &Look| one.workers.get(index) == next.workers.get(index);
        let mut begin = from;
        let mut stood = Duration::ZERO;
        let mut runs = inside.chunk_by(same).peekable();
        while let Some(run) = runs.next() {
            let (first, last) = (run[0].at, run[run.len() - 1].at);
            let end = runs.peek().map_or(to, |next| next[0].at);
            let idle = run[0].workers.get(index).is_some_and(|worker| worker.parks % 2 == 1);
            stood = stood.max(if idle { (first - begin).max(end - last) } else { end - begin });
            begin = last;
        }
        stood
    };
    (0..workers).map(stood).max().unwrap_or_default()
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
                published: Default::default(),
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
        assert!(matches!(spell.episode().judge(&looks, BUDGET), Judgement::Stalls(_)));
    }

    #[test]
    fn many_short_tasks_show_new_numbers_in_every_look() {
        let spell = spell(120, 120, 0, 0);
        let looks: Vec<_> = (1..120).map(|at| spell.look(at, 2, at, at)).collect();
        assert!(matches!(spell.episode().judge(&looks, BUDGET), Judgement::Fair { .. }));
    }

    #[test]
    fn a_slow_machine_makes_short_tasks_look_stuck_but_their_cpu_time_tells() {
        let spell = spell(1000, 60, 940, 0);
        let looks: Vec<_> = (1..10).map(|nth| spell.look(nth * 100, 2, nth / 3, nth * 6)).collect();
        assert!(matches!(spell.episode().judge(&looks, BUDGET), Judgement::Fair { .. }));
    }

    #[test]
    fn one_sleep_is_one_poll_even_if_nobody_looked() {
        assert!(matches!(spell(120, 0, 0, 1).episode().judge(&[], BUDGET), Judgement::Stalls(_)));
        assert!(matches!(spell(120, 0, 0, 2).episode().judge(&[], BUDGET), Judgement::Stalls(_)));
        assert!(matches!(spell(120, 0, 0, 3).episode().judge(&[], BUDGET), Judgement::Undecided(_)));
    }

    #[test]
    fn many_naps_in_one_poll_are_a_stall() {
        let spell = spell(120, 0, 0, 100);
        let looks: Vec<_> = (1..120).map(|at| spell.look(at, 2, 7, 0)).collect();
        assert!(matches!(spell.episode().judge(&looks, BUDGET), Judgement::Stalls(_)));
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
        assert!(matches!(unknown(1).judge(&looks, BUDGET), Judgement::Stalls(_)));
    }

    #[test]
    fn a_long_poll_within_a_longer_busy_spell_is_found_and_only_it() {
        let spell = spell(1000, 1000, 0, 0);
        let busy = |at| if (400..520).contains(&at) { 400 } else { at };
        let looks: Vec<_> = (1..1000).map(|at| spell.look(at, 2, busy(at), at)).collect();
        let Judgement::Stalls(stretches) = spell.episode().judge(&looks, BUDGET) else { panic!("not found") };
        let [stretch] = stretches[..] else { panic!("{stretches:?}") };
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
        assert!(matches!(overbooked(110), Judgement::Stalls(_)));
        assert!(matches!(overbooked(0), Judgement::Fair { .. }));
    }

    /// It took the other thread 80 ms to get a CPU, and this one sleeps on.
    #[test]
    fn a_worker_that_was_handed_over_late_is_no_stall_of_its_old_thread_for_certain() {
        let spell = spell(160, 1, 0, 3);
        let busy = |at| if at < 80 { 7 } else { at + 7 };
        let looks: Vec<_> = (1..160).map(|at| spell.look(at, 2, busy(at), 1)).collect();
        assert_eq!(kind(&spell.episode().judge(&looks, BUDGET)), "handed over");
        // The same numbers, and a thread that slept 80 ms and then ran many short tasks.
        let spell = Spell { on_cpu: 81, ..spell };
        let worked = |at: u32| at.saturating_sub(79).max(1);
        let looks: Vec<_> = (1..160).map(|at| spell.look(at, 2, busy(at), worked(at))).collect();
        assert!(matches!(spell.episode().judge(&looks, BUDGET), Judgement::Stalls(_)));
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
            Judgement::Stalls(_) => "stall",
            Judgement::Fair { .. } => "fair",
            Judgement::Undecided(_) => "undecided",
            Judgement::HandedOver(_) => "handed over",
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
            let Judgement::Stalls(stretches) = judgement else { panic!("{}", kind(&judgement)) };
            stretches.iter().map(|stretch| stretch.split.charged()).sum::<Duration>()
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

    /// The polls that are seen in that, of the only worker there is.
    fn polls(on_cpu: u32, run_queue: u32, looks: &[(u32, u64, u32, u32, u32)], told: bool) -> (Instant, Vec<Poll>) {
        let (start, episode, mut looks) = looked_at(on_cpu, run_queue, looks);
        looks.iter_mut().filter(|_| !told).for_each(|look| look.accounts.clear());
        let split = episode.stretch().unwrap().split;
        (start, episode.view(&looks, 0, &split).polls)
    }

    #[test]
    fn at_most_a_poll_was_charged_what_was_done_from_the_look_before_it_to_the_look_after_it() {
        let at_most = |on_cpu, run_queue, looks: &[_]| {
            polls(on_cpu, run_queue, looks, true).1.iter().map(|poll| poll.most.as_millis()).collect::<Vec<_>>()
        };
        assert_eq!(at_most(60, 10, &[]), [90, 90], "without a look");
        // From 10 to 90 ms it ran for 50. How much of the 8 that it waited had begun before, nobody knows.
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
            let looks =
                [(10, 2, 0, 1, 0), (20, 2, 0, 1, waited[0]), (60, 2, 0, 1, waited[1]), (70, 2, busy, 1, waited[2])];
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
            let (_, episode, looks) = looked_at(1, 0, &looks);
            assert_eq!(kind(&episode.judge(&looks, BUDGET)), expected, "{busy} ms");
        }
    }

    fn published(parks: u64, busy: u32) -> Published {
        Published { workers: vec![Worker { parks, busy: MS * busy }], settled: true }
    }

    /// It slept 70 ms in `block_in_place` and then in the pool, and its worker went idle before the first look.
    #[test]
    fn a_thread_whose_worker_went_idle_without_it_is_charged_nothing_after_that() {
        let spell = spell(160, 1, 0, 2);
        let looks: Vec<_> = (1..80).map(|at| spell.look(at * 2, 3, 7, 1)).collect();
        let judge = |begin, over| {
            let episode = Episode { published: [published(begin, 7), over], ..spell.episode() };
            kind(&episode.judge(&looks, BUDGET)).to_owned()
        };
        assert_eq!(judge(2, published(4, 8)), "fair");
        assert_eq!(judge(2, Published::default()), "fair", "it has not been back since");
        let episode = Episode { published: [published(2, 7), published(2, 167)], ..spell.episode() };
        assert_eq!(kind(&episode.judge(&[], BUDGET)), "stall", "nothing moved, and the busy time grew by all of it");
        let episode = Episode { published: [published(2, 7), published(2, 60)], ..spell.episode() };
        assert_eq!(kind(&episode.judge(&[], BUDGET)), "undecided", "it slept where it had no worker");
    }

    #[test]
    fn a_thread_that_is_given_its_worker_again_was_not_read_in_between() {
        let spell = spell(160, 9, 0, 3);
        let busy = |at| if at < 20 { 7 } else { at };
        let looks: Vec<_> = (1..160).map(|at| spell.look(at, 2, busy(at), 1)).collect();
        let lost = |over| {
            let episode = Episode { published: [published(2, 7), published(over, 160)], ..spell.episode() };
            episode.lost_its_worker(&looks).map(|reading| (reading.at - spell.start, reading.on_cpu))
        };
        assert_eq!((lost(2), lost(4)), (Some((MS * 20, MS)), None));
    }

    #[test]
    fn polls_with_a_yield_between_them_count_each_for_itself() {
        // 200 ms in polls of so many, slept or computed; looked at every 2 ms.
        let judge = |poll: u32, sleeps: bool| {
            let on_cpu = if sleeps { 0 } else { 200 };
            let spell = spell(200, on_cpu, 0, if sleeps { u64::from(200 / poll) } else { 0 });
            let look = |at: u32| {
                let mut look = spell.look(at, 2, at / poll * poll, if sleeps { 0 } else { at });
                // It woke to end each poll.
                look.accounts[0].1.turns += u64::from(at / poll);
                look
            };
            let looks: Vec<_> = (1..100).map(|at| look(at * 2)).collect();
            Episode { published: [published(2, 0), published(2, 200)], ..spell.episode() }.judge(&looks, BUDGET)
        };
        for sleeps in [true, false] {
            let Judgement::Stalls(stalls) = judge(66, sleeps) else { panic!("not found") };
            assert!((2..=3).contains(&stalls.len()), "{stalls:?}");
            assert!(stalls.iter().all(|stall| (MS * 60..=MS * 66).contains(&stall.split.charged())), "{stalls:?}");
            let Judgement::Fair { longest } = judge(40, sleeps) else { panic!("accused") };
            assert_eq!(longest, MS * 40);
        }
    }

    #[test]
    fn at_least_a_poll_was_charged_what_does_not_fit_into_the_rest_of_its_spell_and_its_parts_sum_up() {
        let at_least = |on_cpu, run_queue, looks: &[_], told: bool, nth: usize| {
            let (start, polls) = polls(on_cpu, run_queue, looks, told);
            let Poll { least, part: Stretch { from, to, split, .. }, .. } = polls[nth];
            let parts = [split.on_cpu, split.run_queue.unwrap(), split.blocked().unwrap()];
            ([from - start, to - start, least].map(|time| time.as_millis()), parts.map(|part| part.as_millis()))
        };
        // From 20 to 60 ms it ran for 35. In the rest of the spell it ran for 25 of 60 ms, so all of the block may be there.
        let short = [(10, 2, 0, 5, 1), (20, 2, 1, 10, 2), (60, 2, 1, 45, 7), (90, 2, 99, 55, 9)];
        assert_eq!(at_least(60, 10, &short, true, 2), ([20, 60, 35], [35, 5, 0]));
        // From 20 to 90 ms it ran for 30. In the rest it ran for 10 of 30 ms, so 20 of the 50 may be there.
        let long = [(20, 2, 0, 5, 1), (90, 2, 0, 35, 9)];
        assert_eq!(at_least(40, 10, &long, true, 1), ([20, 90, 60], [30, 10, 30]));
        // The kernel books a tick at a time, and here more than the thread knows of.
        assert_eq!(at_least(60, 0, &[(10, 2, 0, 0, 0), (90, 2, 0, 70, 0)], true, 1), ([10, 90, 80], [70, 0, 10]));
        // Nobody told of its account. It may have worked for all the time that it was not blocked for sure.
        assert_eq!(at_least(60, 10, &long, false, 1), ([20, 90, 30], [40, 0, 30]));
    }

    #[test]
    fn another_thread_serving_the_worker_meanwhile_clears_this_one() {
        // block_in_place: this thread sleeps, its worker goes on elsewhere and is idle at times.
        let spell = spell(120, 0, 0, 3);
        let looks: Vec<_> = (1..120).map(|at| spell.look(at, u64::from(at), at, 0)).collect();
        assert!(matches!(spell.episode().judge(&looks, BUDGET), Judgement::Fair { .. }));
    }
}
