//! Every worker of a multi-thread runtime: each thread keeps its own log, and nobody else waits for it.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::RuntimeMetrics;

use super::episode::{Episode, Judgement, Look, Published, Worker, stood_at_most};
use super::hung::{ask, hear};
use super::open;
use super::patience::Patience;
use super::sampler::Sampler;
use crate::heartbeat::Heartbeat;
use crate::heartbeat::beacon::Beacon;
use crate::heartbeat::journal::Journal;
#[cfg(deadbeat_record)]
use crate::heartbeat::judge::record;
use crate::heartbeat::judge::{capped, stalls, too_long};
use crate::heartbeat::observer::Observer;
use crate::heartbeat::pulse::Pulse;
use crate::heartbeat::reading::thread::Clocks;
use crate::heartbeat::reading::{Reading, ThreadId, sleeps, this_thread};
use crate::heartbeat::stall::{Excused, Stall, Stretch};
use crate::heartbeat::verdict::Why;

#[derive(Debug)]
pub(in crate::heartbeat) struct Fleet {
    workers: usize,
    heartbeat: Heartbeat,
    members: Mutex<Vec<Arc<Member>>>,
    news: Sender<Arc<Member>>,
    arrivals: Mutex<Option<Receiver<Arc<Member>>>>,
    metrics: OnceLock<RuntimeMetrics>,
    sampler: Mutex<Option<Sampler>>,
    closed: AtomicBool,
    unseen: Mutex<Vec<Unseen>>,
    /// When the watch began, and on which thread: the root, which is no worker.
    opened: OnceLock<(Instant, ThreadId)>,
}

/// A thread became a worker some time between these two readings of its own, or another than it was (`block_in_place`).
/// What it did before the second, nobody has read.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unseen {
    pub(super) from: Reading,
    pub(super) to: Reading,
}

/// A thread that was seen to be a worker.
#[derive(Debug)]
pub(in crate::heartbeat) struct Member {
    thread: ThreadId,
    beacon: Arc<Beacon>,
    busy: AtomicBool,
    log: Mutex<Log>,
}

#[derive(Debug, Default)]
struct Log {
    base: Option<(Reading, u64)>,
    /// Which of the workers it can be, a bit each. None: nobody knows.
    indices: u64,
    /// What each worker showed when this one last came back. Its park count cannot change before it parks.
    published: Published,
    episodes: Vec<Episode>,
    /// Of those that are not too long, the longest, and what they were charged; in that order.
    short: Vec<(Duration, Episode)>,
    /// Excused by a wait for a CPU, though the thread has slept.
    excused: Excused<Episode>,
    /// Excused so without a sleep, which a spin on `sched_yield` is too.
    awake: Excused<Episode>,
    /// Certain by themselves: the driver was not turned, and this thread was to turn it.
    certain: Vec<Stretch>,
}

/// What the sampler saw is waited for so long if no verdict depends on it, only how long the longest poll was.
const FOR_THE_LONGEST: Duration = Duration::from_millis(50);

/// So many spells below the budget are kept, of each thread, for the longest poll in them: a spell of many short polls may
/// be longer than one that is a single long poll.
const SHORT_ONES: usize = 16;

/// Why a stretch is doubted that was too long by what could be seen.
#[derive(Debug, Clone, Copy)]
enum Doubt {
    OneOrMany,
    HandedOver,
}

thread_local!(static MEMBER: RefCell<Option<Arc<Member>>> = const { RefCell::new(None) });

impl Member {
    #[cfg(test)]
    pub(super) fn of_this_thread(busy: bool) -> Arc<Self> {
        let beacon = Arc::new(Beacon::new(Duration::ZERO, Duration::ZERO));
        Arc::new(Self { thread: this_thread(), beacon, busy: AtomicBool::new(busy), log: Mutex::default() })
    }

    pub(super) fn thread(&self) -> ThreadId {
        self.thread
    }

    pub(super) fn is_busy(&self) -> bool {
        self.busy.load(Ordering::Relaxed)
    }

    /// The spell that has not ended, as seen from outside. How often the thread slept in it cannot be.
    fn open_spell(&self, until: Instant) -> Option<Episode> {
        let (from, _) = self.log().base?;
        let away = || self.log().base.is_some_and(|(base, _)| base.at == from.at);
        let to = open::reading(&from, until, away)?;
        let log = self.log();
        // If it ended while it was looked at, it is in the log.
        let (still, _) = log.base.filter(|(base, _)| base.at == from.at)?;
        let (indices, blind) = (log.indices, to.run_queue.is_none());
        let published = [log.published.clone(), Published::default()];
        Some(Episode { from: still, to, sleeps: 0, indices, published, overbooked: Duration::ZERO, blind })
    }

    /// How long it has waited for a CPU since it was last back, as far as that is booked; `None` if nobody knows.
    fn queued(&self) -> Option<Duration> {
        let Some((base, _)) = self.log().base else {
            return Some(Duration::ZERO);
        };
        Some(Clocks::of(self.thread)?.run_queue()?.saturating_sub(base.run_queue?))
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Fleet {
    pub(super) fn new(workers: usize, heartbeat: Heartbeat) -> Arc<Self> {
        let (news, arrivals) = channel();
        Arc::new(Self {
            workers,
            heartbeat,
            members: Mutex::default(),
            news,
            arrivals: Mutex::new(Some(arrivals)),
            metrics: OnceLock::new(),
            sampler: Mutex::default(),
            closed: AtomicBool::new(false),
            unseen: Mutex::default(),
            opened: OnceLock::new(),
        })
    }

    /// Begins to look at the workers from outside.
    pub(super) fn observe(&self, metrics: RuntimeMetrics) {
        let arrivals = lock(&self.arrivals).take();
        let _ = self.metrics.set(metrics.clone());
        let every = between_looks(self.heartbeat.budget);
        *lock(&self.sampler) = arrivals.and_then(|arrivals| Sampler::start(metrics, arrivals, every));
    }

    #[cfg(test)]
    pub(super) fn mute(&self) {
        *lock(&self.sampler) = Some(Sampler::mute());
    }

    pub(super) fn is_complete(&self) -> bool {
        lock(&self.members).len() >= self.workers
    }

    /// Whether more threads have been workers than there are workers.
    pub(super) fn has_handed_over(&self) -> bool {
        lock(&self.members).len() > self.workers
    }

    pub(super) fn has_member(&self, thread: ThreadId) -> bool {
        lock(&self.members).iter().any(|member| member.thread == thread)
    }

    /// What was before is not part of the watch.
    pub(super) fn open(&self, at: Instant) {
        let _ = self.opened.set((at, this_thread()));
    }

    /// Hook: this thread is a worker and goes idle.
    pub(super) fn parks(&self) {
        let member = self.member();
        let before = Reading::last();
        let now = (self.reading(), sleeps());
        member.busy.store(false, Ordering::Relaxed);
        member.beacon.idle();
        let mut log = member.log();
        if let Some(base) = log.base.take() {
            let was = log.indices;
            let indices = if log.is_the_same(self.workers_now()) {
                log.indices
            } else {
                self.was_unseen(before, now.0);
                was
            };
            log.keep([base, now], indices, || self.published(true), self.heartbeat.budget);
        }
    }

    /// Hook: it is back.
    pub(super) fn unparks(&self) {
        let member = self.member();
        let now = (self.reading(), sleeps());
        let mut log = member.log();
        log.comes_back(self.workers_now(), true);
        log.base = Some(now);
        drop(log);
        member.busy.store(true, Ordering::Relaxed);
        member.beacon.busy(&now.0);
    }

    /// A beat was delivered on this thread. If it was busy since before the beat was due, nobody turned the driver in
    /// between, and it would have done so after every poll. What came before may have been long too, while others
    /// turned the driver: that is an episode like any other.
    pub(in crate::heartbeat) fn turn(&self, judged_from: Option<Instant>) {
        let Some(member) = MEMBER.with_borrow(Clone::clone) else {
            return self.stranger_turns(judged_from);
        };
        let mut log = member.log();
        let (Some(base), Some(due)) = (log.base, judged_from) else {
            return;
        };
        let (before, was) = (Reading::last(), log.indices);
        let now = self.reading();
        let here = (now, sleeps());
        let over = self.published(false);
        if !log.is_the_same(over.workers.iter().copied()) {
            log.keep([base, here], was, || over, self.heartbeat.budget);
            drop(log);
            self.was_unseen(before, now);
            return self.stranger_turns(judged_from);
        }
        let indices = log.indices;
        match Stretch::between(&base.0, &now, due).filter(|late| too_long(late, self.heartbeat.budget)) {
            Some(late) => log.certain.push(late),
            None => log.keep([base, here], indices, || over.clone(), self.heartbeat.budget),
        }
        log.published = over;
        log.base = Some(here);
        drop(log);
        member.beacon.busy(&now);
    }

    /// The same on a thread that has not gone idle yet: it took a worker over (`block_in_place`). Before that the worker
    /// was another's, who may have waited for a CPU; so what any of them did since it was last back speaks for this one.
    fn stranger_turns(&self, judged_from: Option<Instant>) {
        if self.opened.get().is_none_or(|(_, root)| *root == this_thread()) {
            return;
        }
        let member = self.member();
        let now = self.reading();
        // Nobody else who is new here waits for these looks.
        let members = lock(&self.members).clone();
        let queued = members.iter().try_fold(Duration::ZERO, |most, member| Some(most.max(member.queued()?)));
        let mut log = member.log();
        log.base = Some((now, sleeps()));
        log.comes_back(self.workers_now(), false);
        log.certain.extend(judged_from.and_then(|due| late(due, now, queued, self.heartbeat.budget)));
        drop(log);
        member.busy.store(true, Ordering::Relaxed);
        member.beacon.busy(&now);
    }

    /// Ends the looking, judges every spell and adds what was found to the pulse, by the end of `patience`. Called on the
    /// root thread, which is no worker and may wait, or from outside when the deadline has passed. Whoever comes second
    /// finds nothing left to judge.
    pub(super) fn close(&self, journal: &Journal, pulse: &mut Pulse, observer: Option<&Observer>, patience: Patience) {
        if self.closed.swap(true, Ordering::SeqCst) {
            pulse.uncovered = Some(Why::Unwitnessed);
            return;
        }
        let opened = self.opened.get().map_or(journal.began, |(at, _)| *at);
        let (mut found, mut undecided) = (Vec::new(), Vec::new());
        // No worker that is new here waits for what is looked at below.
        let members = lock(&self.members).clone();
        let (mut spells, mut excused) = (Vec::new(), Vec::new());
        for member in &members {
            let open = member.open_spell(patience.half());
            let mut log = member.log();
            found.extend(log.certain.drain(..).filter(|stretch| stretch.to > opened));
            spells.append(&mut log.episodes);
            spells.extend(log.short.drain(..).map(|(_, short)| short).chain(open));
            excused.extend(log.excused.take());
            excused.extend(log.awake.take());
        }
        spells.retain(|spell| spell.to.at > opened);
        let is_long =
            |spell: &Episode| spell.stretch().is_some_and(|stretch| too_long(&stretch, self.heartbeat.budget));
        let looks = self.looks(!excused.is_empty() || spells.iter().any(is_long), opened, patience);
        match reconsidered(excused, observer, patience) {
            Some(again) => spells.extend(again),
            None => drop(pulse.uncovered.get_or_insert(Why::Unwitnessed)),
        }
        for episode in &spells {
            #[cfg(deadbeat_record)]
            record::keep(&record::period_judged(episode, &looks, self.heartbeat.budget));
            match episode.judge(&looks, self.heartbeat.budget) {
                Judgement::Stalls(stretches) => found.extend(stretches),
                Judgement::Fair { longest } => pulse.longest = pulse.longest.max(longest),
                Judgement::Undecided(stretch) => undecided.push((stretch, Doubt::OneOrMany)),
                Judgement::HandedOver(stretch) => undecided.push((stretch, Doubt::HandedOver)),
            }
            let lost = episode.lost_its_worker(&looks);
            lost.into_iter().for_each(|from| self.was_unseen(Some(from), episode.to));
        }
        if self.unseen().iter().any(|unseen| unseen.to.at > opened && unseen.may_hide(&looks, self.heartbeat.budget)) {
            pulse.uncovered.get_or_insert(Why::WorkerUnseen);
        }
        let decided = found.len();
        let (of_undecided, doubts): (Vec<_>, Vec<_>) = undecided.into_iter().unzip();
        found.extend(of_undecided);
        let mut testimonies = ask(observer, &found, patience);
        let of_undecided = testimonies.split_off(decided.min(testimonies.len()));
        pulse.stalls.extend(stalls(&found[..decided], testimonies, journal.began, self.heartbeat.budget));
        let of_undecided = of_undecided.into_iter().map(Some).chain(std::iter::repeat_with(|| None));
        let doubted =
            found[decided..].iter().zip(doubts).zip(of_undecided).flat_map(|((stretch, doubt), testimony)| {
                let stalls = stalls(
                    std::slice::from_ref(stretch),
                    testimony.into_iter().collect(),
                    journal.began,
                    self.heartbeat.budget,
                );
                stalls.into_iter().map(move |stall| doubt.cast_on(stall))
            });
        let undecided: Vec<Stall> = doubted.collect();
        pulse.stalls.extend(undecided);
        pulse.stalls.sort_by_key(|stall| stall.at);
        pulse.longest = pulse.stalls.iter().map(Stall::charged).fold(pulse.longest, Duration::max);
    }

    /// Ends the looking. What was seen is waited for as long as may be if the verdict depends on it (`needed`, or a worker
    /// was not seen for too long), else for as long as the longest poll is worth.
    fn looks(&self, needed: bool, opened: Instant, patience: Patience) -> Vec<Look> {
        let may_hide = |unseen: &Unseen| unseen.to.at > opened && unseen.is_too_long(self.heartbeat.budget);
        let all = patience.half();
        let until =
            if needed || self.unseen().iter().any(may_hide) { all } else { all.min(Instant::now() + FOR_THE_LONGEST) };
        let sampler = lock(&self.sampler).take();
        sampler.map(|sampler| sampler.finish(until)).unwrap_or_default()
    }

    pub(super) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    fn member(&self) -> Arc<Member> {
        MEMBER.with_borrow_mut(|mine| Arc::clone(mine.get_or_insert_with(|| self.enlist())))
    }

    /// What nobody has read of threads that took a worker over.
    pub(super) fn unseen(&self) -> Vec<Unseen> {
        lock(&self.unseen).clone()
    }

    pub(super) fn was_unseen(&self, from: Option<Reading>, to: Reading) {
        lock(&self.unseen).extend(from.map(|from| Unseen { from, to }));
    }

    fn enlist(&self) -> Arc<Member> {
        self.was_unseen(Reading::last(), self.reading());
        let member = Arc::new(Member {
            thread: this_thread(),
            beacon: Arc::new(Beacon::new(self.heartbeat.patience(), self.heartbeat.round())),
            busy: AtomicBool::new(false),
            log: Mutex::default(),
        });
        if let Some(observer) = Observer::get() {
            observer.watch(Arc::downgrade(&member.beacon));
        }
        // Nobody listens if the sampler could not be started; then nothing can be decided from outside.
        let _ = self.news.send(Arc::clone(&member));
        lock(&self.members).push(Arc::clone(&member));
        member
    }

    fn reading(&self) -> Reading {
        self.heartbeat.reading()
    }

    /// What the runtime publishes of each worker; of none if they are too many to tell apart. A worker reads its own park
    /// count as it left it: even, while it is awake.
    fn workers_now(&self) -> impl Iterator<Item = Worker> + Clone {
        let metrics = self.metrics.get().filter(|_| self.workers <= 64);
        metrics.into_iter().flat_map(move |metrics| (0..self.workers).map(move |index| Worker::of(metrics, index)))
    }

    fn published(&self, settled: bool) -> Published {
        Published { workers: self.workers_now().collect(), settled }
    }
}

/// The spells as they are once the observer has said for how long the thread was blocked. `None`: it does not answer.
fn reconsidered(excused: Vec<Episode>, observer: Option<&Observer>, patience: Patience) -> Option<Vec<Episode>> {
    let excused = excused.into_iter().filter_map(|episode| episode.stretch().zip(Some(episode)));
    let (stretches, episodes): (Vec<_>, Vec<_>) = excused.unzip();
    if stretches.is_empty() {
        return Some(episodes);
    }
    let heard = hear(observer, &stretches, patience)?;
    let given = |((episode, stretch), seen): ((Episode, Stretch), &Stretch)| {
        let wait = |stretch: &Stretch| stretch.split.run_queue.unwrap_or_default();
        let overbooked = wait(&stretch) - wait(seen);
        let run_queue = episode.to.run_queue.map(|wait| wait - overbooked);
        Episode { to: Reading { run_queue, ..episode.to }, overbooked, ..episode }
    };
    let seen: Vec<_> = capped(&stretches, &heard).collect();
    Some(episodes.into_iter().zip(stretches).zip(&seen).map(given).collect())
}

/// Sparser looks see less, denser ones cost more: twenty to a budget.
fn between_looks(budget: Duration) -> Duration {
    (budget / 20).clamp(Duration::from_millis(1), Duration::from_millis(5))
}

/// What a thread that was never read before was late by, if that is too long. `queued`: for how long the one that it took
/// the worker over from may have waited for a CPU, if that is known.
fn late(due: Instant, now: Reading, queued: Option<Duration>, budget: Duration) -> Option<Stretch> {
    let run_queue = now.run_queue.zip(queued).map(|(own, others)| own + others);
    let stretch = Stretch::of_a_stranger(due, &Reading { run_queue, ..now }, budget)?;
    (stretch.split.wall > budget).then_some(stretch)
}

impl Unseen {
    fn is_too_long(&self, budget: Duration) -> bool {
        Stretch::between(&self.from, &self.to, self.from.at).is_none_or(|stretch| too_long(&stretch, budget))
    }

    /// Whether one poll in it may have been too long. Idle before it took a worker over, a thread seems blocked.
    fn may_hide(&self, looks: &[Look], budget: Duration) -> bool {
        self.is_too_long(budget) && stood_at_most(looks, self.from.at, self.to.at) > budget
    }
}

impl Log {
    /// A worker that is awake comes back from being idle, or from another thread. `settled`: see [`Published`].
    fn comes_back(&mut self, workers: impl Iterator<Item = Worker>, settled: bool) {
        self.published.settled = settled;
        self.published.workers.clear();
        self.published.workers.extend(workers);
        let awake = bits(self.published.workers.iter().map(|worker| worker.parks % 2 == 0));
        let both = self.indices & awake;
        self.indices = if both == 0 { awake } else { both };
    }

    /// Whether it can still be the worker that it was when it came back; whichever it can be now is known afterwards. It
    /// has not parked since, so its number is what it was. If all of those that it may have been have moved, other threads
    /// have taken them over, and this one has been given another.
    fn is_the_same(&mut self, workers: impl Iterator<Item = Worker> + Clone) -> bool {
        let parks = workers.map(|worker| worker.parks);
        let then = self.published.workers.iter().map(|worker| worker.parks);
        let stayed = bits(parks.clone().zip(then).map(|(now, then)| now % 2 == 0 && now == then));
        let both = self.indices & stayed;
        let same = both != 0 || self.indices == 0;
        self.indices = if both == 0 { bits(parks.map(|parks| parks % 2 == 0)) } else { both };
        same
    }

    /// `over`: what the workers show now.
    fn keep(&mut self, ends: [(Reading, u64); 2], indices: u64, over: impl FnOnce() -> Published, budget: Duration) {
        let [(from, before), (to, after)] = ends;
        let sleeps = after.saturating_sub(before);
        let Some(stretch) = Stretch::between(&from, &to, from.at) else { return };
        let charged = stretch.split.charged();
        let (is_long, is_excused) = (too_long(&stretch, budget), stretch.is_excused(budget));
        if !is_long && !is_excused && charged <= self.shortest_kept() {
            return;
        }
        let published = [self.published.clone(), over()];
        let episode = Episode { from, to, sleeps, indices, published, overbooked: Duration::ZERO, blind: false };
        if is_long {
            self.episodes.push(episode);
            return;
        }
        if is_excused {
            let like = if sleeps > 0 { &mut self.excused } else { &mut self.awake };
            like.push(episode.clone());
        }
        self.keep_short(charged, episode);
    }

    /// Any shorter than this is shorter than all of those that are kept to find the longest.
    fn shortest_kept(&self) -> Duration {
        if self.short.len() < SHORT_ONES { Duration::ZERO } else { self.short[0].0 }
    }

    fn keep_short(&mut self, charged: Duration, episode: Episode) {
        if self.short.len() == SHORT_ONES {
            self.short.remove(0);
        }
        let place = self.short.partition_point(|(other, _)| *other < charged);
        self.short.insert(place, (charged, episode));
    }
}

impl Doubt {
    fn cast_on(self, mut stall: Stall) -> Stall {
        let charged = stall.charged();
        stall.doubt.get_or_insert(match self {
            Self::OneOrMany => Why::Undecided { charged },
            Self::HandedOver => Why::HandedOver { waited: charged },
        });
        stall
    }
}

/// One for each that is true.
fn bits(of: impl Iterator<Item = bool>) -> u64 {
    of.enumerate().map(|(index, is)| u64::from(is) << index).sum()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::super::episode::Worker;
    use super::*;

    #[test]
    fn a_thread_whose_worker_went_idle_without_it_serves_another() {
        let mut log = Log::default();
        let workers = |parks: [u64; 2]| parks.into_iter().map(|parks| Worker { parks, busy: Duration::ZERO });
        log.comes_back(workers([2, 5]), true);
        assert_eq!(log.indices, 0b01, "the other is idle");
        log.comes_back(workers([4, 6]), true);
        assert_eq!(log.indices, 0b01, "now the other is awake too, but it was not when this one was told apart");
        assert!(log.is_the_same(workers([4, 8])));
        assert_eq!(log.indices, 0b01);
        // It blocked in `block_in_place`, and both are awake; so that both are does not tell who it is.
        assert!(!log.is_the_same(workers([6, 8])));
        assert_eq!(log.indices, 0b11, "it may have been given either");
    }

    #[test]
    fn who_is_never_known_is_never_another() {
        let mut log = Log::default();
        log.comes_back([].into_iter(), true);
        assert!(log.is_the_same([].into_iter()) && log.indices == 0);
    }

    const MS: Duration = Duration::from_millis(1);
    /// So long that nothing a slow machine does to a test counts beside it. Nobody waits for it.
    const BUDGET: Duration = Duration::from_secs(10);

    fn fleet(workers: usize) -> Arc<Fleet> {
        Fleet::new(workers, Heartbeat::new().budget(BUDGET))
    }

    /// On a thread that is nobody's worker yet.
    fn elsewhere<T: Send>(what: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| scope.spawn(what).join().unwrap())
    }

    /// This thread is back since so long ago, as far as it knows, and has slept ever since.
    fn back_since(fleet: &Fleet, ago: Duration) -> (Arc<Member>, Instant) {
        fleet.unparks();
        let member = fleet.member();
        let mut log = member.log();
        let (base, _) = log.base.as_mut().unwrap();
        base.at -= ago;
        let at = base.at;
        drop(log);
        (member, at)
    }

    /// A reading after so many ms, on a CPU for none of them.
    fn reading(thread: u32, start: Instant, at: u32, run_queue: Option<u32>) -> Reading {
        let run_queue = run_queue.map(|ms| MS * ms);
        Reading { at: start + MS * at, thread: ThreadId(thread), on_cpu: Duration::ZERO, run_queue }
    }

    #[test]
    fn a_fleet_is_complete_once_each_worker_has_shown_up() {
        let fleet = fleet(2);
        let shows_up = || {
            elsewhere(|| {
                fleet.parks();
                this_thread()
            })
        };
        assert!(!fleet.is_complete());
        let one = shows_up();
        assert!(!fleet.is_complete() && fleet.has_member(one) && !fleet.has_member(this_thread()));
        shows_up();
        assert!(fleet.is_complete());
    }

    #[test]
    fn a_worker_is_busy_from_when_it_comes_back_until_it_goes_idle_and_a_long_spell_is_to_be_judged() {
        for (away, spells) in [(BUDGET * 2, 1), (BUDGET / 2, 0)] {
            elsewhere(|| {
                let fleet = fleet(1);
                let (member, _) = back_since(&fleet, away);
                assert!(member.is_busy());
                fleet.parks();
                assert!(!member.is_busy());
                assert_eq!(member.log().episodes.len(), spells, "{away:?}");
                fleet.parks();
                assert_eq!(member.log().episodes.len(), spells, "it was idle");
            });
        }
    }

    #[test]
    fn a_late_beat_on_a_busy_thread_is_certain_as_far_as_the_driver_was_not_turned() {
        // Since when the thread is back, how long after that a beat was due, and what is certain, and what is to be judged.
        for (away, due, certain, judged) in [(20, 5, 1, 0), (20, 15, 0, 1), (5, 0, 0, 0)] {
            elsewhere(|| {
                let fleet = fleet(1);
                let (member, from) = back_since(&fleet, Duration::from_secs(away));
                fleet.turn(Some(from + Duration::from_secs(due)));
                let log = member.log();
                assert_eq!((log.certain.len(), log.episodes.len()), (certain, judged), "{away} s, due after {due} s");
                assert!(log.base.is_some_and(|(base, _)| base.at > from), "it has been back");
            });
        }
    }

    #[test]
    fn a_spell_above_the_budget_is_to_be_judged_and_any_other_may_be_the_longest() {
        let start = Instant::now();
        let mut log = Log::default();
        let mut keep = |at, run_queue: Option<u32>| {
            let from = reading(1, start, 0, run_queue.map(|_| 0));
            log.keep([(from, 3), (reading(1, start, at, run_queue), 5)], 1, Published::default, MS * 50);
            (log.episodes.len(), log.short.iter().map(|(charged, _)| charged.as_millis()).collect::<Vec<_>>())
        };
        assert_eq!(keep(50, Some(0)), (0, vec![50]));
        assert_eq!(keep(120, Some(80)), (0, vec![40, 50]), "most of it was a wait for a CPU");
        assert_eq!(keep(51, Some(0)), (1, vec![40, 50]));
        assert_eq!(keep(51, None), (2, vec![40, 50]), "it may have been blocked");
        assert!(log.episodes.iter().all(|episode| episode.sleeps == 2 && episode.indices == 1 && !episode.blind));
    }

    /// The others would take their places: only so many are kept.
    #[test]
    fn those_that_a_wait_for_a_cpu_excuses_are_kept_apart_by_whether_they_slept() {
        let start = Instant::now();
        let kept = |sleeps, at, run_queue| {
            let mut log = Log::default();
            let ends = [(reading(1, start, 0, Some(0)), 0), (reading(1, start, at, Some(run_queue)), sleeps)];
            log.keep(ends, 1, Published::default, MS * 50);
            [log.excused.take().len(), log.awake.take().len()]
        };
        assert_eq!(kept(1, 120, 80), [1, 0]);
        assert_eq!(kept(0, 120, 80), [0, 1]);
        assert_eq!(kept(1, 40, 30), [0, 0], "it needs no excuse");
    }

    #[test]
    fn a_wait_for_a_cpu_is_no_excuse_for_a_worker_that_was_seen_to_sleep() {
        for (sleeps, blocked, found) in [(1, 11, 1), (1, 9, 0), (0, 11, 0)] {
            let (fleet, journal) = (fleet(1), Journal::new(Heartbeat::new().budget(BUDGET), false, None));
            let opened = Instant::now();
            fleet.open(opened);
            let member = fleet.member();
            let (from, to) = (reading(1, opened, 0, Some(5)), reading(1, opened, 12_000, Some(12_005)));
            member.log().keep([(from, 0), (to, sleeps)], 1, Published::default, BUDGET);
            let mut pulse = Pulse::empty(journal.config, journal.began);
            let observer = Observer::sure(Duration::from_secs(blocked));
            fleet.close(&journal, &mut pulse, Some(&observer), Patience::of(Duration::from_secs(60)));
            assert_eq!(pulse.stalls.len(), found, "{sleeps} sleeps, blocked for {blocked} s");
        }
    }

    #[test]
    fn what_was_booked_wrongly_is_taken_off_the_wait_and_remembered() {
        let start = Instant::now();
        let (from, to) = (reading(1, start, 0, Some(5)), reading(1, start, 12_000, Some(12_005)));
        let episode = Episode {
            from,
            to,
            sleeps: 1,
            indices: 1,
            published: Default::default(),
            overbooked: Duration::ZERO,
            blind: false,
        };
        let observer = Observer::sure(Duration::from_secs(11));
        let again = reconsidered(vec![episode], Some(&observer), Patience::of(Duration::from_secs(60))).unwrap();
        let told: Vec<_> = again.iter().map(|episode| (episode.to.run_queue, episode.overbooked)).collect();
        assert_eq!(told, [(Some(MS * 1005), MS * 11_000)]);
    }

    #[test]
    fn a_beat_on_a_thread_that_never_went_idle_makes_it_a_worker_unless_it_is_the_root() {
        let fleet = fleet(1);
        let turn = || fleet.turn(Some(Instant::now() - BUDGET * 2));
        elsewhere(turn);
        assert!(!fleet.is_complete(), "the watch has not begun");
        fleet.open(Instant::now());
        turn();
        assert!(!fleet.is_complete(), "the root is no worker");
        elsewhere(turn);
        let members = lock(&fleet.members);
        let [member] = &members[..] else { panic!("{members:?}") };
        assert_eq!((member.log().certain.len(), member.is_busy()), (1, true), "it was late, and is back");
    }

    #[test]
    fn a_stranger_is_not_charged_what_it_waited_for_a_cpu_nor_what_the_one_before_it_did() {
        let due = Instant::now();
        let late = |wall, own, queued: Option<u32>| {
            let stretch = late(due, reading(1, due, wall, own), queued.map(|ms| MS * ms), MS * 50)?;
            Some((stretch.split.wall, stretch.split.run_queue))
        };
        assert_eq!(late(120, Some(30), Some(20)), Some((MS * 120, Some(MS * 50))));
        assert_eq!(late(120, Some(30), None), Some((MS * 120, None)), "nobody knows of the other");
        assert_eq!(late(51, Some(0), Some(0)), Some((MS * 51, Some(Duration::ZERO))));
        assert_eq!(late(50, Some(0), Some(0)), None);
    }

    #[test]
    fn a_member_has_waited_for_a_cpu_since_it_was_back_what_the_kernel_says_if_it_says_so() {
        let member = Member::of_this_thread(true);
        assert_eq!(member.queued(), Some(Duration::ZERO), "it was never away");
        let ever = Clocks::open().run_queue();
        let now = Reading::here();
        member.log().base = Some((Reading { run_queue: Some(Duration::ZERO), ..now }, 0));
        let queued = member.queued();
        assert!(queued >= ever && queued.is_some() == ever.is_some(), "{queued:?} after {ever:?}");
        member.log().base = Some((Reading { run_queue: None, ..now }, 0));
        assert_eq!(member.queued(), None);
    }

    /// Nobody keeps an account of that number, so the thread is given time to come back by itself.
    #[test]
    fn a_spell_that_goes_on_is_waited_for_and_then_described() {
        let member = Member { thread: ThreadId(0), ..Arc::into_inner(Member::of_this_thread(true)).unwrap() };
        assert!(member.open_spell(Instant::now()).is_none(), "it is idle");
        let base = reading(0, Instant::now(), 0, Some(0));
        *member.log() = Log { base: Some((base, 7)), indices: 0b10, ..Log::default() };
        let begun = Instant::now();
        let spell = member.open_spell(begun + MS * 5).unwrap();
        assert!(begun.elapsed() >= MS * 5, "it may have come back");
        assert!(spell.blind && spell.from.at == base.at && (spell.sleeps, spell.indices) == (0, 0b10), "{spell:?}");
    }

    #[test]
    fn workers_are_looked_at_twenty_times_a_budget_but_not_all_the_time_nor_hardly_ever() {
        for (budget, every) in [(10, 1000), (20, 1000), (50, 2500), (100, 5000), (1000, 5000)] {
            assert_eq!(between_looks(MS * budget), Duration::from_micros(every), "{budget} ms");
        }
    }

    #[test]
    fn workers_are_told_apart_by_what_they_publish_unless_they_are_too_many() {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
        for (workers, told) in [(2, 2), (65, 0)] {
            let fleet = fleet(workers);
            assert_eq!(fleet.workers_now().count(), 0, "none is observed");
            fleet.observe(runtime.metrics());
            assert_eq!(fleet.workers_now().count(), told, "{workers}");
        }
    }

    #[test]
    fn a_thread_that_nobody_read_may_hide_a_stall_if_it_was_away_for_too_long_and_so_was_a_worker() {
        let start = Instant::now();
        let hides = |thread, wall, waited, looks: &[Look]| {
            let unseen = Unseen { from: reading(1, start, 0, Some(0)), to: reading(thread, start, wall, Some(waited)) };
            unseen.may_hide(looks, MS * 50)
        };
        assert!(hides(1, 51, 0, &[]) && !hides(1, 50, 0, &[]));
        assert!(hides(1, 60, 9, &[]) && !hides(1, 60, 10, &[]), "it waited for a CPU");
        assert!(hides(2, 51, 0, &[]) && !hides(2, 50, 0, &[]), "of two threads nothing is known but the time");
        let idle = Worker { parks: 1, busy: Duration::ZERO };
        let looks = [0, 40, 80].map(|at| Look { at: start + MS * at, workers: vec![idle], accounts: Vec::new() });
        assert!(!hides(1, 80, 0, &looks), "the only worker was idle");
    }

    #[test]
    fn what_was_over_when_the_watch_began_is_no_part_of_it() {
        let (fleet, journal) = (fleet(1), Journal::new(Heartbeat::new().budget(BUDGET), false, None));
        let opened = Instant::now();
        fleet.open(opened);
        let member = fleet.member();
        // One that ended before, one that ended just then and one that ended after; told by how long they took.
        let (ends, seconds) = ([opened - MS, opened, opened + MS], [21, 22, 23]);
        for (to, wall) in ends.into_iter().zip(seconds).map(|(to, s)| (to, Duration::from_secs(s))) {
            let to = reading(1, to, 0, Some(0));
            let certain = Reading { at: to.at - wall, ..to };
            member.log().certain.extend(Stretch::between(&certain, &to, certain.at));
            // It slept once, so it was one poll.
            let from = Reading { at: to.at - wall - BUDGET, ..to };
            let overbooked = Duration::ZERO;
            let published = Default::default();
            let episode = Episode { from, to, sleeps: 1, indices: 0, published, overbooked, blind: false };
            member.log().episodes.push(episode);
        }
        let mut pulse = Pulse::empty(journal.config, journal.began);
        fleet.close(&journal, &mut pulse, None, Patience::of(Duration::ZERO));
        let mut walls: Vec<_> = pulse.stalls.iter().map(|stall| stall.wall.as_secs()).collect();
        walls.sort_unstable();
        assert_eq!((walls, pulse.uncovered.clone()), (vec![23, 33], None));
        fleet.close(&journal, &mut pulse, None, Patience::of(Duration::ZERO));
        assert_eq!((pulse.stalls.len(), pulse.uncovered), (2, Some(Why::Unwitnessed)), "nothing is left to judge");
    }

    /// A sampler that has no CPU holds up what may be a stall, and nothing else.
    #[test]
    fn looks_are_waited_for_only_if_the_verdict_depends_on_them() {
        for (wall, waits) in [(BUDGET / 2, false), (BUDGET * 2, true)] {
            let (fleet, journal) = (fleet(1), Journal::new(Heartbeat::new().budget(BUDGET), false, None));
            let opened = Instant::now();
            fleet.open(opened);
            fleet.mute();
            let ends = [(reading(1, opened, 0, Some(0)), 0), (reading(1, opened, 0, Some(0)), 0)];
            let ends = [ends[0], (Reading { at: opened + wall, ..ends[1].0 }, 0)];
            elsewhere(|| fleet.member().log().keep(ends, 1, Published::default, BUDGET));
            let mut pulse = Pulse::empty(journal.config, journal.began);
            let begun = Instant::now();
            let patience = Duration::from_secs(2);
            fleet.close(&journal, &mut pulse, None, Patience::of(patience));
            // On a slow machine the one may take as long as the other has to.
            assert!(!waits || begun.elapsed() >= patience / 2, "{wall:?}: {:?}", begun.elapsed());
            assert!(waits || begun.elapsed() < patience / 2, "{wall:?}: {:?}", begun.elapsed());
        }
    }

    #[test]
    fn a_worker_that_was_not_seen_for_too_long_leaves_the_watch_uncovered() {
        let opened = Instant::now();
        for (to, away, why) in [
            (opened, BUDGET * 2, None),
            (opened + MS, BUDGET / 2, None),
            (opened + MS, BUDGET * 2, Some(Why::WorkerUnseen)),
        ] {
            let (fleet, journal) = (fleet(1), Journal::new(Heartbeat::new().budget(BUDGET), false, None));
            fleet.open(opened);
            let to = reading(1, to, 0, Some(0));
            fleet.was_unseen(Some(Reading { at: to.at - away, ..to }), to);
            let mut pulse = Pulse::empty(journal.config, journal.began);
            fleet.close(&journal, &mut pulse, None, Patience::of(Duration::ZERO));
            assert_eq!(pulse.uncovered, why);
        }
    }
}
