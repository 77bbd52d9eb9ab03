//! Every worker of a multi-thread runtime: each thread keeps its own log, and nobody else waits for it.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::RuntimeMetrics;

use super::episode::{Episode, Judgement, Look, stood_at_most};
use super::hung::ask;
use super::open;
use super::patience::Patience;
use super::sampler::Sampler;
use crate::heartbeat::Heartbeat;
use crate::heartbeat::beacon::Beacon;
use crate::heartbeat::journal::Journal;
use crate::heartbeat::observer::Observer;
use crate::heartbeat::pulse::Pulse;
use crate::heartbeat::reading::thread::Clocks;
use crate::heartbeat::reading::{Reading, ThreadId, sleeps, this_thread};
use crate::heartbeat::stall::{Stall, Stretch};
use crate::heartbeat::verdict::Why;
use crate::heartbeat::watch::stalls;

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
    /// How often each worker had gone idle and come back when this one last came back. It cannot again before it parks.
    parks: Vec<u64>,
    episodes: Vec<Episode>,
    /// Certain by themselves: the driver was not turned, and this thread was to turn it.
    certain: Vec<Stretch>,
    longest: Duration,
}

thread_local!(static MEMBER: RefCell<Option<Arc<Member>>> = const { RefCell::new(None) });

impl Member {
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
        Some(Episode { from: still, to, sleeps: 0, indices: log.indices, blind: to.run_queue.is_none() })
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
        // Sparser looks see less, denser ones cost more: twenty to a budget.
        let every = (self.heartbeat.budget / 20).clamp(Duration::from_millis(1), Duration::from_millis(5));
        *lock(&self.sampler) = arrivals.and_then(|arrivals| Sampler::start(metrics, arrivals, every));
    }

    #[cfg(test)]
    pub(super) fn mute(&self) {
        *lock(&self.sampler) = Some(Sampler::mute());
    }

    pub(super) fn is_complete(&self) -> bool {
        lock(&self.members).len() >= self.workers
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
            let indices = if log.is_the_same(self.parks_of_workers()) {
                log.indices
            } else {
                self.was_unseen(before, now.0);
                was
            };
            log.keep(base, now, indices, self.heartbeat.budget);
        }
    }

    /// Hook: it is back.
    pub(super) fn unparks(&self) {
        let member = self.member();
        let now = (self.reading(), sleeps());
        let mut log = member.log();
        log.comes_back(self.parks_of_workers());
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
        if !log.is_the_same(self.parks_of_workers()) {
            log.keep(base, here, was, self.heartbeat.budget);
            drop(log);
            self.was_unseen(before, now);
            return self.stranger_turns(judged_from);
        }
        let indices = log.indices;
        match Stretch::between(&base.0, &now, due) {
            Some(stretch) if stretch.split.charged() + stretch.split.unexplained() > self.heartbeat.budget => {
                log.certain.push(stretch);
            }
            _ => log.keep(base, here, indices, self.heartbeat.budget),
        }
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
        let queued =
            lock(&self.members).iter().try_fold(Duration::ZERO, |most, member| Some(most.max(member.queued()?)));
        let mut log = member.log();
        log.base = Some((now, sleeps()));
        log.comes_back(self.parks_of_workers());
        let run_queue = now.run_queue.zip(queued).map(|(own, others)| own + others);
        let late = judged_from
            .and_then(|due| Stretch::of_a_stranger(due, &Reading { run_queue, ..now }, self.heartbeat.budget));
        log.certain.extend(late.filter(|stretch| stretch.split.wall > self.heartbeat.budget));
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
        let sampler = lock(&self.sampler).take();
        let looks = sampler.map(|sampler| sampler.finish(patience.half())).unwrap_or_default();
        let opened = self.opened.get().map_or(journal.began, |(at, _)| *at);
        let (mut found, mut undecided) = (Vec::new(), Vec::new());
        // No worker that is new here waits for what is looked at below.
        let members = lock(&self.members).clone();
        for member in &members {
            let open = member.open_spell(patience.half());
            let mut log = member.log();
            pulse.longest = pulse.longest.max(log.longest);
            found.extend(log.certain.drain(..).filter(|stretch| stretch.to > opened));
            for episode in log.episodes.drain(..).chain(open).filter(|episode| episode.to.at > opened) {
                match episode.judge(&looks, self.heartbeat.budget) {
                    Judgement::Stall(stretch) => found.push(stretch),
                    Judgement::Fair => {}
                    Judgement::Undecided(stretch) => undecided.push(stretch),
                }
            }
        }
        if self.unseen().iter().any(|unseen| unseen.to.at > opened && unseen.may_hide(&looks, self.heartbeat.budget)) {
            pulse.uncovered.get_or_insert(Why::WorkerUnseen);
        }
        let decided = found.len();
        found.append(&mut undecided);
        let mut testimonies = ask(observer, &found, patience);
        let of_undecided = testimonies.split_off(decided.min(testimonies.len()));
        pulse.stalls.extend(stalls(&found[..decided], testimonies, journal));
        let undecided = stalls(&found[decided..], of_undecided, journal).into_iter().map(|mut stall| {
            let charged = stall.charged();
            stall.doubt.get_or_insert(Why::Undecided { charged });
            stall
        });
        pulse.stalls.extend(undecided);
        pulse.stalls.sort_by_key(|stall| stall.at);
        pulse.longest = pulse.stalls.iter().map(Stall::charged).fold(pulse.longest, Duration::max);
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

    /// How often each worker has gone idle and come back, as published; of none if they are too many to tell apart. A
    /// worker reads its own number as it left it: even, while it is awake.
    fn parks_of_workers(&self) -> impl Iterator<Item = u64> + Clone {
        let metrics = self.metrics.get().filter(|_| self.workers <= 64);
        let parks = |metrics: &'_ RuntimeMetrics, index| metrics.worker_park_unpark_count(index);
        metrics.into_iter().flat_map(move |metrics| (0..self.workers).map(move |index| parks(metrics, index)))
    }
}

impl Unseen {
    /// Whether one poll in it may have been too long. Idle before it took a worker over, a thread seems blocked.
    fn may_hide(&self, looks: &[Look], budget: Duration) -> bool {
        Stretch::between(&self.from, &self.to, self.from.at).is_none_or(|stretch| stretch.away() > budget)
            && stood_at_most(looks, self.from.at, self.to.at) > budget
    }
}

impl Log {
    /// A worker that is awake comes back from being idle, or from another thread.
    fn comes_back(&mut self, parks: impl Iterator<Item = u64>) {
        self.parks.clear();
        self.parks.extend(parks);
        let awake = bits(self.parks.iter().map(|parks| parks % 2 == 0));
        let both = self.indices & awake;
        self.indices = if both == 0 { awake } else { both };
    }

    /// Whether it can still be the worker that it was when it came back; whichever it can be now is known afterwards. It
    /// has not parked since, so its number is what it was. If all of those that it may have been have moved, other threads
    /// have taken them over, and this one has been given another.
    fn is_the_same(&mut self, parks: impl Iterator<Item = u64> + Clone) -> bool {
        let stayed = bits(parks.clone().zip(&self.parks).map(|(now, then)| now % 2 == 0 && now == *then));
        let both = self.indices & stayed;
        let same = both != 0 || self.indices == 0;
        self.indices = if both == 0 { bits(parks.map(|parks| parks % 2 == 0)) } else { both };
        same
    }

    fn keep(&mut self, from: (Reading, u64), to: (Reading, u64), indices: u64, budget: Duration) {
        let sleeps = to.1.saturating_sub(from.1);
        let episode = Episode { from: from.0, to: to.0, sleeps, indices, blind: false };
        let Some(stretch) = episode.stretch() else { return };
        let charged = stretch.split.charged();
        if charged + stretch.split.unexplained() > budget {
            self.episodes.push(episode);
        } else {
            self.longest = self.longest.max(charged);
        }
    }
}

/// One for each that is true.
fn bits(of: impl Iterator<Item = bool>) -> u64 {
    of.enumerate().fold(0, |bits, (index, is)| bits | u64::from(is) << index)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_whose_worker_went_idle_without_it_serves_another() {
        let mut log = Log::default();
        log.comes_back([2, 5].into_iter());
        assert_eq!(log.indices, 0b01, "the other is idle");
        log.comes_back([4, 6].into_iter());
        assert!(log.is_the_same([4, 8].into_iter()));
        assert_eq!(log.indices, 0b01);
        // It blocked in `block_in_place`, and both are awake; so that both are does not tell who it is.
        assert!(!log.is_the_same([6, 8].into_iter()));
        assert_eq!(log.indices, 0b11, "it may have been given either");
    }

    #[test]
    fn who_is_never_known_is_never_another() {
        let mut log = Log::default();
        log.comes_back([].into_iter());
        assert!(log.is_the_same([].into_iter()) && log.indices == 0);
    }
}
