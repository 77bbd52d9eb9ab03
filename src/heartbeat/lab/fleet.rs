//! Every worker of a multi-thread runtime: each thread keeps its own log, and nobody else waits for it.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use tokio::runtime::RuntimeMetrics;

use super::episode::{Episode, Judgement, stood};
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
    /// When the watch began, and on which thread: the root, which is no worker.
    opened: OnceLock<(Instant, ThreadId)>,
}

/// A thread that was seen to be a worker.
#[derive(Debug)]
pub(in crate::heartbeat) struct Member {
    thread: ThreadId,
    /// When it was first seen; what it did before as a worker, nobody has read.
    arrived: Instant,
    beacon: Arc<Beacon>,
    busy: AtomicBool,
    log: Mutex<Log>,
}

#[derive(Debug, Default)]
struct Log {
    base: Option<(Reading, u64)>,
    indices: u64,
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
        let now = (self.reading(), sleeps());
        member.busy.store(false, Ordering::Relaxed);
        member.beacon.idle();
        let mut log = member.log();
        log.narrow(self.awake_workers());
        if let Some(base) = log.base.take() {
            log.keep(base, now, self.heartbeat.budget);
        }
    }

    /// Hook: it is back.
    pub(super) fn unparks(&self) {
        let member = self.member();
        let now = (self.reading(), sleeps());
        let mut log = member.log();
        log.narrow(self.awake_workers());
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
        let now = self.reading();
        let here = (now, sleeps());
        match Stretch::between(&base.0, &now, due) {
            Some(stretch) if stretch.split.charged() + stretch.split.unexplained() > self.heartbeat.budget => {
                log.certain.push(stretch);
            }
            _ => log.keep(base, here, self.heartbeat.budget),
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
        let now = self.reading();
        let queued =
            lock(&self.members).iter().try_fold(Duration::ZERO, |most, member| Some(most.max(member.queued()?)));
        let member = self.member();
        let mut log = member.log();
        log.base = Some((now, sleeps()));
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
        let arrivals = lock(&self.members).iter().map(|member| member.arrived).filter(|at| *at > opened).max();
        if arrivals.is_some_and(|last| stood(&looks, last) > self.heartbeat.budget) {
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

    fn enlist(&self) -> Arc<Member> {
        let member = Arc::new(Member {
            thread: this_thread(),
            arrived: Instant::now(),
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

    /// A worker reads its own published numbers as it left them, so its own bit is always among these.
    fn awake_workers(&self) -> u64 {
        let Some(metrics) = self.metrics.get() else {
            return u64::MAX;
        };
        if self.workers > 64 {
            return 0;
        }
        let awake = |index: &usize| metrics.worker_park_unpark_count(*index) % 2 == 0;
        (0..self.workers).filter(awake).fold(0, |bits, index| bits | 1 << index)
    }
}

impl Log {
    /// Which workers this thread can be, by what is known so far. A thread that took over another worker
    /// (`block_in_place`) contradicts what was known, and starts afresh.
    fn narrow(&mut self, awake: u64) {
        let both = self.indices & awake;
        self.indices = if both == 0 { awake } else { both };
    }

    fn keep(&mut self, from: (Reading, u64), to: (Reading, u64), budget: Duration) {
        let episode = Episode {
            from: from.0,
            to: to.0,
            sleeps: to.1.saturating_sub(from.1),
            indices: self.indices,
            blind: false,
        };
        let Some(stretch) = episode.stretch() else { return };
        let charged = stretch.split.charged();
        if charged + stretch.split.unexplained() > budget {
            self.episodes.push(episode);
        } else {
            self.longest = self.longest.max(charged);
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
