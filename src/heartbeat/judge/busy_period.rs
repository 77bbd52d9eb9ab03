//! One busy period of a worker, from coming back to going idle: was it one long poll or many short ones?
//!
//! The worker's own readings at both ends are exact, but say nothing of what lay between. The looks from outside are
//! sparse on a busy machine, but a stuck worker shows the same park count and busy time in all of them, and once it is
//! back its busy time has grown by all that its polls took. So each poll is bounded from both sides:
//!
//! - *at least*: what the thread did while the numbers were seen standing still, less what else has room there;
//! - *at most*: the CPU time between the looks around that, plus blocked time, and no more than the busy time has
//!   grown.
//!
//! Between the two bounds nothing is claimed. A thread that hands its worker over (`block_in_place`) has no worker from
//! then on: it is not charged for what it does after the worker's numbers moved without it. tokio begins a poll's time
//! anew at the handover, so numbers that stood still for longer than the busy time has grown show one, too.

use std::ops::Range;
use std::time::{Duration, Instant};

use crate::heartbeat::evidence::{CountersLook, Published};
use crate::heartbeat::judge::one_poll_or_many::{Part, least_of_one_poll, most_of_one_poll};
use crate::heartbeat::reading::thread::{Account, ThreadId};
use crate::heartbeat::reading::{Reading, booked};
use crate::heartbeat::stretch::{Origin, Split, Stretch};

/// A busy period of one thread: the time from its return from being idle until it goes idle again.
#[derive(Debug, Clone)]
pub(crate) struct BusyPeriod {
    pub(crate) from: Reading,
    pub(crate) to: Reading,
    /// How often the thread went to sleep in it.
    pub(crate) sleeps: u64,
    /// Which of the runtime's workers it can be, a bit each. None: it is not known, for there are more workers than
    /// bits.
    pub(crate) indices: u64,
    /// What the workers showed at `from` and at `to`.
    pub(crate) published: [Published; 2],
    /// What of the waits for a CPU that the kernel has booked was none: see [`Split::given`].
    pub(crate) overbooked: Duration,
    /// Its end was not read by the thread, nor by the kernel for it: what it did is not known.
    pub(crate) blind: bool,
}

#[derive(Debug, Clone)]
pub(crate) enum PeriodJudgement {
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

/// The busy time grows by all of a poll but for what the scheduler does around it: less than this.
const AROUND_A_POLL: Duration = Duration::from_millis(1);

/// What was known of one worker and of the thread at one moment of the busy period.
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
struct PollBounds {
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

/// The polls of a busy period, if the thread was that worker.
struct WorkerView {
    polls: Vec<PollBounds>,
    /// From when on it was that worker no more.
    cut: Option<Instant>,
}

impl WorkerView {
    fn most(&self) -> Duration {
        self.polls.iter().map(|poll| poll.most).max().unwrap_or_default()
    }

    /// Without a poll in which the worker was handed over: how much of that the thread was to blame for is not known.
    fn longest(&self) -> Duration {
        self.certain().map(|poll| poll.most).max().unwrap_or_default()
    }

    fn certain(&self) -> impl Iterator<Item = &PollBounds> {
        self.polls.iter().filter(|poll| !poll.handed_over)
    }

    fn least(&self) -> Duration {
        self.certain().map(|poll| poll.least).max().unwrap_or_default()
    }
}

impl BusyPeriod {
    pub(crate) fn thread(&self) -> ThreadId {
        self.to.thread
    }

    pub(crate) fn stretch(&self) -> Option<Stretch> {
        let whole = Stretch::between(&self.from, &self.to, self.from.at)?;
        Some(Stretch { origin: Origin::BusyPeriod(None), ..whole })
    }

    /// The period of a thread that was seen to be blocked for so long. What is taken off its wait for a CPU is
    /// remembered: the looks from outside show the kernel's account, which still has it.
    pub(crate) fn capped_at(self, blocked: Duration) -> Self {
        let wait = |stretch: Stretch| stretch.split.run_queue.unwrap_or_default();
        let overbooked = self.stretch().map_or(Duration::ZERO, |whole| wait(whole) - wait(whole.capped_at(blocked)));
        let run_queue = self.to.run_queue.map(|wait| wait - overbooked);
        Self { to: Reading { run_queue, ..self.to }, overbooked, ..self }
    }

    pub(crate) fn judge(&self, looks: &[CountersLook], budget: Duration) -> PeriodJudgement {
        let Some(whole) = self.stretch() else {
            return PeriodJudgement::Fair { longest: Duration::ZERO };
        };
        let charged = whole.split.on_cpu + whole.split.lost();
        let views = self.views(looks, &whole.split);
        if charged <= budget || (!views.is_empty() && views.iter().all(|view| view.most() <= budget)) {
            let longest = views.iter().map(WorkerView::longest).max();
            return PeriodJudgement::Fair { longest: longest.map_or(charged, |longest| longest.min(charged)) };
        }
        if let Some(slept) = self.one_sleep(&views, &whole, budget) {
            return PeriodJudgement::Stalls(slept);
        }
        if self.blind || self.indices == 0 {
            return PeriodJudgement::Undecided(whole);
        }
        let too_long = |poll: &&PollBounds| poll.least > budget;
        match views.iter().min_by_key(|view| view.least()) {
            Some(view) if view.least() > budget => {
                let polls: Vec<Stretch> = view.certain().filter(too_long).map(|poll| poll.part).collect();
                let is_all = polls.len() == 1 && view.cut.is_none() && view.least() >= charged * 2 / 3;
                return PeriodJudgement::Stalls(if is_all { vec![whole] } else { polls });
            }
            _ => {}
        }
        let polls = || views.iter().flat_map(|view| &view.polls);
        let handed_over = polls().filter(|poll| poll.handed_over).filter(too_long);
        if let Some(handed_over) = handed_over.max_by_key(|poll| poll.least) {
            return PeriodJudgement::HandedOver(handed_over.part);
        }
        match polls().max_by_key(|poll| poll.most) {
            Some(poll) if poll.handed_over => PeriodJudgement::HandedOver(poll.around),
            Some(poll) => PeriodJudgement::Undecided(poll.around),
            None => PeriodJudgement::Undecided(whole),
        }
    }

    /// What the thread had spent by when it was first seen to have lost its worker, if it has been given that worker
    /// again by the end, with the same park count: what it did in between is not read.
    pub(crate) fn lost_its_worker(&self, looks: &[CountersLook]) -> Option<Reading> {
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

    /// Of the workers that it may have been, those that it can have been all the time; if there are none, it has handed
    /// its worker over, and each is seen as far as it can have been it.
    fn views(&self, looks: &[CountersLook], split: &Split) -> Vec<WorkerView> {
        let inside = within(looks, self.from.at, self.to.at);
        let possible = (0..64).filter(|index| self.indices & (1 << index) != 0);
        let mut views: Vec<WorkerView> = possible.map(|index| self.view(inside, index, split)).collect();
        if views.iter().any(|view| view.cut.is_none()) {
            views.retain(|view| view.cut.is_none());
        }
        views
    }

    fn view(&self, inside: &[CountersLook], index: usize, split: &Split) -> WorkerView {
        let mut points = self.points(inside, index);
        let cut = self.handed_over(&points);
        points.truncate(cut.map_or(points.len(), |cut| cut + 1));
        let bounds = |group: &(usize, usize)| self.poll(&points, *group, cut.is_some(), split);
        let polls = groups(&points[..cut.unwrap_or(points.len())]).iter().map(bounds).collect();
        WorkerView { polls, cut: cut.map(|cut| points[cut].at) }
    }

    /// The beginning of the period, every look in it, and its end.
    fn points(&self, inside: &[CountersLook], index: usize) -> Vec<Point> {
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
        let look = |look: &CountersLook| {
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

    /// The first point at which this thread is that worker no more: the worker has gone idle, which this thread would
    /// have told, or its numbers moved while this thread slept on.
    fn handed_over(&self, points: &[Point]) -> Option<usize> {
        let parks = points.iter().find_map(|point| point.parks);
        let has_parked = |point: &Point| point.parks.is_some_and(|now| now % 2 == 1 || Some(now) != parks);
        let parked = points.iter().position(has_parked);
        let slept_on = points.windows(2).enumerate().find_map(|(nth, pair)| {
            let moved = (pair[0].parks, pair[0].busy) != (pair[1].parks, pair[1].busy);
            let before = pair[0].account.filter(|_| moved && pair[1].account.is_some())?;
            let later = points[nth..].iter().find(|point| point.at >= pair[1].at + booked::IN_TWO_TICKS);
            (later?.account == Some(before)).then_some(nth + 1)
        });
        parked.into_iter().chain(slept_on).min()
    }

    /// One poll, in which the worker showed the same numbers from the one point to the other.
    fn poll(&self, points: &[Point], (first, last): (usize, usize), cut: bool, split: &Split) -> PollBounds {
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
        PollBounds { least, most, handed_over, part, around }
    }

    /// How long the thread waited for a CPU, at least, in the poll that was seen from `first` to `last` and was over at
    /// `next`. What it waited in the poll before was booked when the new numbers were published, which a look reads
    /// last.
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
        let most = most_of_one_poll(split, Part { wall, on_cpu }, queued, Duration::ZERO);
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
        let least = least_of_one_poll(split, Part { wall, on_cpu }, Duration::ZERO);
        let blocked = least - on_cpu;
        // What the account does not tell may all have been work.
        let work = if seen.is_some() { on_cpu } else { split.on_cpu.min(wall - blocked) };
        let run_queue = split.run_queue.map(|_| wall - work - blocked);
        let split = Split { wall, on_cpu: work, run_queue };
        (least, self.part(first.at, last.at, split))
    }

    /// A thread that slept once slept in one poll, and of several sleeps one is at least as long as the average. That
    /// goes for sleeps in its polls, which are in the busy time, if that is known: those of a thread that has no worker
    /// are not.
    fn one_sleep(&self, views: &[WorkerView], whole: &Stretch, budget: Duration) -> Option<Vec<Stretch>> {
        let sleeps = u32::try_from(self.sleeps).unwrap_or(u32::MAX);
        if sleeps == 0 || views.iter().any(|view| view.cut.is_some()) {
            return None;
        }
        let outside = whole.split.wall.saturating_sub(self.busy().unwrap_or(whole.split.wall));
        let asleep = whole.split.lost().saturating_sub(outside) / sleeps;
        if asleep <= budget {
            return None;
        }
        let seen: Vec<&PollBounds> = views.first().map(|view| view.certain().collect()).unwrap_or_default();
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
        Stretch {
            thread: self.thread(),
            from,
            to,
            split,
            on_cpu_then: self.to.on_cpu,
            since: None,
            origin: Origin::BusyPeriod(None),
        }
    }
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
fn within(looks: &[CountersLook], from: Instant, to: Instant) -> &[CountersLook] {
    let begin = looks.partition_point(|look| look.at < from);
    let end = looks.partition_point(|look| look.at <= to).max(begin);
    &looks[begin..end]
}

/// For how long at most some worker can have been in one poll between `from` and `to`, as far as it was looked at.
pub(crate) fn stood_at_most(looks: &[CountersLook], from: Instant, to: Instant) -> Duration {
    let inside = within(looks, from, to);
    let Some(workers) = inside.first().map(|look| look.workers.len()) else {
        return to.saturating_duration_since(from);
    };
    let stood = |index: usize| {
        let same = |one: &CountersLook, next: &CountersLook| one.workers.get(index) == next.workers.get(index);
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
mod tests;
