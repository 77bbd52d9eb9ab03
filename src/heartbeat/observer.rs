//! The observer: one OS thread outside every runtime, which a starved runtime cannot starve.
//!
//! It looks at threads that are overdue, and keeps a beat of its own: what made the observer oversleep without waiting
//! for a CPU stopped the whole process, and no stall found meanwhile is the code's.
//!
//! Nothing that a worker waits for is ever held here. The observer may be preempted at any point for as long as the
//! machine likes, and a worker that waited for it would be stalled by the very thing that looks for stalls. So workers
//! publish through atomics, ask through a channel and get the answer through another.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{OnceLock, Weak};
use std::task::Waker;
use std::time::{Duration, Instant};

pub(super) mod ask;
pub(super) mod away_since;
mod other_threads;
mod own_lateness;
pub(super) mod sample;
pub(super) mod summary;
mod yielded;

use crate::heartbeat::culprit::Culprit;
use crate::heartbeat::evidence::{MachineEffects, Observed, Query, TaskLook};
use crate::heartbeat::observer::away_since::AwaySince;
use crate::heartbeat::observer::other_threads::OtherThreads;
use crate::heartbeat::observer::own_lateness::Control;
use crate::heartbeat::observer::sample::{CallSeen, Sample};
use crate::heartbeat::observer::summary::{looks, majority};
use crate::heartbeat::reading::this_thread;
use crate::heartbeat::reading::thread::{Clocks, StatusFile, ThreadId, younger_than};

/// Samples kept, over all watches: at one a millisecond, some seconds.
const SAMPLES_KEPT: usize = 8192;
/// Waits for a lock kept, over all watches.
const LOCK_WAITS: usize = 256;
/// The time between looks at an overdue thread, at first.
const FIRST_LOOKS: Duration = Duration::from_millis(1);

type Answer = Box<dyn FnOnce(Vec<Observed>) + Send>;

enum ObserverCommand {
    Watch(Weak<AwaySince>),
    Ask(Vec<Query>, Answer),
    Alarm(Instant, Waker),
}

/// A line to the observer.
#[derive(Clone)]
pub(super) struct Observer(Sender<ObserverCommand>);

impl Observer {
    /// The process's observer, started at the first call; `None` if no thread can be started.
    pub(super) fn get() -> Option<Self> {
        static OBSERVER: OnceLock<Option<Sender<ObserverCommand>>> = OnceLock::new();
        let start = || {
            let (sender, receiver) = channel();
            let thread = std::thread::Builder::new().name("deadbeat-observer".to_owned());
            thread.spawn(move || ObserverLoop::default().walk(&receiver)).ok().map(|_| sender)
        };
        OBSERVER.get_or_init(start).clone().map(Self)
    }

    /// SampleCounts at this beacon's thread whenever it is overdue, until the beacon is dropped.
    pub(super) fn watch(&self, away: Weak<AwaySince>) {
        self.tell(ObserverCommand::Watch(away));
    }

    /// An observer that answers nothing.
    #[cfg(test)]
    pub(super) fn deaf() -> Self {
        let (sender, receiver) = channel();
        std::mem::forget(receiver);
        Self(sender)
    }

    /// An observer that says of every thread that it was blocked for so long.
    #[cfg(test)]
    pub(super) fn sure(blocked: Duration) -> Self {
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            for command in receiver {
                let ObserverCommand::Ask(questions, answer) = command else { continue };
                let looks = crate::heartbeat::evidence::SampleCounts { blocked, ..Default::default() };
                let observed = || Observed {
                    machine: Some(MachineEffects { looks, ..MachineEffects::default() }),
                    ..Observed::default()
                };
                answer(questions.iter().map(|_| observed()).collect());
            }
        });
        Self(sender)
    }

    /// Answers on the observer's thread with one testimony for each question, in order.
    pub(super) fn ask(&self, questions: Vec<Query>, answer: impl FnOnce(Vec<Observed>) + Send + 'static) {
        self.tell(ObserverCommand::Ask(questions, Box::new(answer)));
    }

    /// Wakes `waker` at `at`, even if no timer of the runtime runs.
    pub(super) fn alarm(&self, at: Instant, waker: Waker) {
        self.tell(ObserverCommand::Alarm(at, waker));
    }

    fn tell(&self, command: ObserverCommand) {
        // The observer never ends while there is a sender, so this cannot fail.
        let _ = self.0.send(command);
    }
}

#[derive(Default)]
struct ObserverLoop {
    posts: Vec<WatchedThread>,
    alarms: Vec<(Instant, Waker)>,
    samples: VecDeque<Sample>,
    /// The waits for a lock that are over.
    lock_waits: VecDeque<OtherThreads>,
    control: Control,
    /// Whether the system lets a thread be looked at.
    can_look: bool,
}

/// One beacon, and how often it was looked at in its present stretch.
struct WatchedThread {
    away: Weak<AwaySince>,
    stretch: Option<Instant>,
    looks: u32,
    /// Whether its stack was copied in that stretch.
    copied: bool,
    next: Instant,
    /// Its account and its status, open as long as it lasts.
    clocks: Option<Clocks>,
    status: Option<StatusFile>,
    /// The call that the last look found it in.
    call: Option<CallSeen>,
    /// Threads that were born in it, before the first look.
    newborn: Vec<ThreadId>,
    /// Since it was first seen to wait for a lock.
    others: Option<OtherThreads>,
}

impl ObserverLoop {
    fn walk(mut self, commands: &Receiver<ObserverCommand>) {
        self.can_look = Sample::of(this_thread(), false).is_some();
        loop {
            let wait = self.next_wait();
            self.control.falls_asleep();
            let command = match wait {
                Some(wait) => commands.recv_timeout(wait),
                None => commands.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            self.control.woke_after(wait);
            match command {
                // All that were sent meanwhile: a round among many threads takes long, and a caller waits for each
                // answer.
                Ok(first) => std::iter::once(first).chain(commands.try_iter()).for_each(|command| self.obey(command)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let now = Instant::now();
            self.ring(now);
            self.look_around(now);
        }
    }

    fn obey(&mut self, command: ObserverCommand) {
        match command {
            ObserverCommand::Watch(away) => {
                let now = Instant::now();
                self.posts.push(WatchedThread {
                    away,
                    stretch: None,
                    looks: 0,
                    copied: false,
                    next: now,
                    clocks: None,
                    status: None,
                    call: None,
                    newborn: Vec::new(),
                    others: None,
                });
            }
            ObserverCommand::Ask(questions, answer) => {
                let now = Instant::now();
                let is_asked_for = |others: &OtherThreads| questions.iter().any(|one| one.thread == others.thread);
                for post in self.posts.iter_mut().filter(|post| post.others.as_ref().is_some_and(is_asked_for)) {
                    let ended = post.away.upgrade().and_then(|away| post.ended_lock_wait(&away, now));
                    self.lock_waits.extend(ended);
                    post.others.iter_mut().for_each(OtherThreads::look_again);
                }
                answer(questions.iter().map(|question| self.observed_of(question)).collect());
            }
            ObserverCommand::Alarm(at, waker) => self.alarms.push((at, waker)),
        }
    }

    fn ring(&mut self, now: Instant) {
        self.alarms.retain(|(at, waker)| {
            let later = now < *at;
            if !later {
                waker.wake_by_ref();
            }
            later
        });
    }

    fn look_around(&mut self, now: Instant) {
        let (samples, lock_waits) = (&mut self.samples, &mut self.lock_waits);
        self.posts.retain_mut(|post| match post.away.upgrade() {
            Some(away) => {
                lock_waits.extend(post.ended_lock_wait(&away, now));
                samples.extend(post.look(&away, now, Sample::of));
                true
            }
            None => false,
        });
        let surplus = samples.len().saturating_sub(SAMPLES_KEPT);
        samples.drain(..surplus);
        let surplus = lock_waits.len().saturating_sub(LOCK_WAITS);
        lock_waits.drain(..surplus);
    }

    /// `None` while there is nothing to look at.
    fn next_wait(&self) -> Option<Duration> {
        let now = Instant::now();
        let looks = self.posts.iter().filter_map(|post| post.next_look(now));
        let alarms = self.alarms.iter().map(|(at, _)| at.saturating_duration_since(now));
        looks.chain(alarms).min().map(|wait| wait.max(FIRST_LOOKS))
    }

    /// How long any one other thread waited for a CPU or for memory while this one waited for a lock, and for how long
    /// before the others were not looked at.
    fn waited_by_another(&self, question: &Query) -> (Duration, Duration) {
        let is_it = |others: &&OtherThreads| {
            others.thread == question.thread && (question.from..=question.to).contains(&others.begun)
        };
        let going_on = self.posts.iter().filter_map(|post| post.others.as_ref());
        let waits: Vec<_> = going_on.chain(&self.lock_waits).filter(is_it).collect();
        let most = waits.iter().map(|others| others.waited()).max();
        let begun = waits.iter().map(|others| others.begun - question.from).min();
        (most.unwrap_or_default(), begun.unwrap_or_default())
    }

    fn observed_of(&self, question: &Query) -> Observed {
        // They are in the order of their times: on a busy machine there are many questions, and thousands of samples.
        let begin = self.samples.partition_point(|sample| sample.at < question.from);
        let end = self.samples.partition_point(|sample| sample.at <= question.to).max(begin);
        let of_it = || self.samples.range(begin..end).filter(|sample| sample.thread == question.thread);
        let culprit = majority(of_it(), question.waited);
        let mut looks = looks(of_it(), (question.from, question.to), (question.since, question.until));
        let (waited, before) = self.waited_by_another(question);
        (looks.before_lock, looks.for_lock) = (before.min(looks.for_lock), waited.min(looks.for_lock));
        if !culprit.as_ref().is_some_and(Culprit::is_of_any_code) {
            looks.unseen = Duration::ZERO;
        }
        let overlooked = self.can_look && culprit.is_none();
        let control = self.control.between(question.from, question.to);
        let tracer = || StatusFile::of(question.thread)?.read()?.tracer;
        let tracer = control.tracer.or_else(tracer);
        let machine = Some(MachineEffects { looks, overlooked, tracer, ..control });
        let tasks = of_it().filter_map(|sample| sample.tasks).collect();
        let workers = of_it().filter_map(|sample| sample.workers.clone()).collect();
        Observed { culprit, machine, tasks, workers }
    }
}

impl WatchedThread {
    /// The wait for a lock that this thread was seen in, if it has been back in its scheduler since.
    fn ended_lock_wait(&mut self, away: &AwaySince, now: Instant) -> Option<OtherThreads> {
        let others = self.others.as_ref()?;
        if away.overdue(now) == Some((others.thread, others.since)) {
            return None;
        }
        let mut others = self.others.take()?;
        others.is_over();
        Some(others)
    }

    /// `sample` looks at a thread: what it sees counts only if the thread has not come back meanwhile.
    fn look(
        &mut self,
        away: &AwaySince,
        now: Instant,
        sample: impl FnOnce(ThreadId, bool) -> Option<Sample>,
    ) -> Option<Sample> {
        let Some((thread, since)) = away.overdue(now) else {
            (self.stretch, self.clocks, self.status) = (None, None, None);
            return None;
        };
        if self.stretch != Some(since) {
            (self.stretch, self.looks, self.next) = (Some(since), 0, now);
            self.copied = false;
            (self.clocks, self.status, self.call) = (None, None, None);
            self.newborn.clear();
            if away.is_of_several() {
                self.newborn = younger_than(now.saturating_duration_since(since), thread);
            }
        }
        if now < self.next {
            return None;
        }
        self.looks += 1;
        // Often at first, when it matters which of two calls it is; rarely once it is clear that it hangs.
        self.next = now + FIRST_LOOKS * (self.looks / 32 + 1).min(100);
        self.others.iter_mut().for_each(OtherThreads::before_look);
        // Of a thread that runs there is no stack to copy, so the first look at its wait may be any.
        let mut sample = sample(thread, self.looks % 4 == 1 || !self.copied)?;
        self.copied |= sample.has_stack();
        let waiting = !sample.is_running();
        if self.clocks.is_none() {
            (self.clocks, self.status) = (Clocks::of(thread), StatusFile::of(thread));
        }
        sample.account = self.clocks.as_ref().and_then(Clocks::account);
        sample.status = self.status.as_ref().and_then(StatusFile::read);
        if sample.waits_for_lock() {
            let turns = sample.account.map(|account| account.turns);
            self.others.get_or_insert_with(|| OtherThreads::of(thread, since)).still_waits(turns, now);
        } else {
            self.others.iter_mut().for_each(OtherThreads::is_over);
        }
        self.call.iter().for_each(|before| sample.keeps_to(before));
        self.call = sample.call_seen();
        let looked = |alive| sample.account.map(|account| TaskLook::at(account, alive, waiting));
        sample.tasks = away.tasks_alive().and_then(looked);
        let begins = |thread: &ThreadId| Sample::of(*thread, false).is_some_and(|sample| sample.begins());
        sample.workers = away.workers(|| self.newborn.iter().any(begins));
        (away.overdue(now) == Some((thread, since))).then_some(sample)
    }

    fn next_look(&self, now: Instant) -> Option<Duration> {
        let away = self.away.upgrade()?;
        Some(match away.overdue(now) {
            Some((_, since)) if self.stretch == Some(since) => self.next.saturating_duration_since(now),
            Some(_) => Duration::ZERO,
            None => away.check_every(),
        })
    }
}

#[cfg(test)]
mod tests;
