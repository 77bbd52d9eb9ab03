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

use super::beacon::Beacon;
use super::boundaries::TaskLook;
use super::control::Control;
use super::culprit::{Sample, Suspect, looks, majority};
use super::doubt::Circumstances;
use super::reading::thread::younger_than;
use super::reading::{ThreadId, this_thread};
use super::stall::Stretch;
use super::takeover::WorkersLook;

/// Samples kept, over all watches: at one a millisecond, some seconds.
const MEMORY: usize = 8192;
/// The time between looks at an overdue thread, at first.
const LOOK: Duration = Duration::from_millis(1);

/// A stretch somebody wants to know more about.
#[derive(Debug, Clone, Copy)]
pub(super) struct Question {
    pub(super) thread: ThreadId,
    pub(super) from: Instant,
    pub(super) to: Instant,
    /// Whether the clocks say that it waited rather than computed, if they do.
    pub(super) waited: Option<bool>,
}

impl From<&Stretch> for Question {
    fn from(stretch: &Stretch) -> Self {
        let waited = stretch.split.blocked().map(|blocked| blocked > stretch.split.on_cpu);
        Self { thread: stretch.thread, from: stretch.from, to: stretch.to, waited }
    }
}

/// What the observer saw of it. By default nothing, which is no proof of anything.
#[derive(Debug, Default)]
pub(super) struct Testimony {
    pub(super) suspect: Option<Suspect>,
    pub(super) circumstances: Option<Circumstances>,
    pub(super) tasks: Vec<TaskLook>,
    pub(super) workers: Vec<WorkersLook>,
}

type Answer = Box<dyn FnOnce(Vec<Testimony>) + Send>;

enum Command {
    Watch(Weak<Beacon>),
    Ask(Vec<Question>, Answer),
    Alarm(Instant, Waker),
}

/// A line to the observer.
#[derive(Clone)]
pub(super) struct Observer(Sender<Command>);

impl Observer {
    /// The process's observer, started at the first call; `None` if no thread can be started.
    pub(super) fn get() -> Option<Self> {
        static OBSERVER: OnceLock<Option<Sender<Command>>> = OnceLock::new();
        let start = || {
            let (sender, receiver) = channel();
            let thread = std::thread::Builder::new().name("deadbeat-observer".to_owned());
            thread.spawn(move || Rounds::default().walk(&receiver)).ok().map(|_| sender)
        };
        OBSERVER.get_or_init(start).clone().map(Self)
    }

    /// Looks at this beacon's thread whenever it is overdue, until the beacon is dropped.
    pub(super) fn watch(&self, beacon: Weak<Beacon>) {
        self.tell(Command::Watch(beacon));
    }

    /// One that hears everything and does nothing.
    #[cfg(test)]
    pub(super) fn deaf() -> Self {
        let (sender, receiver) = channel();
        std::mem::forget(receiver);
        Self(sender)
    }

    /// Answers on the observer's thread with one testimony for each question, in order.
    pub(super) fn ask(&self, questions: Vec<Question>, answer: impl FnOnce(Vec<Testimony>) + Send + 'static) {
        self.tell(Command::Ask(questions, Box::new(answer)));
    }

    /// Wakes `waker` at `at`, even if no timer of the runtime runs.
    pub(super) fn alarm(&self, at: Instant, waker: Waker) {
        self.tell(Command::Alarm(at, waker));
    }

    fn tell(&self, command: Command) {
        // The observer never ends while there is a sender, so this cannot fail.
        let _ = self.0.send(command);
    }
}

#[derive(Default)]
struct Rounds {
    posts: Vec<Post>,
    alarms: Vec<(Instant, Waker)>,
    samples: VecDeque<Sample>,
    control: Control,
    /// Whether the system lets a thread be looked at.
    can_look: bool,
}

/// One beacon, and how often it was looked at in its present stretch.
struct Post {
    beacon: Weak<Beacon>,
    stretch: Option<Instant>,
    looks: u32,
    next: Instant,
    /// Threads that were born in it, before the first look.
    newborn: Vec<ThreadId>,
}

impl Rounds {
    fn walk(mut self, commands: &Receiver<Command>) {
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
                // All that were called meanwhile: a round among many threads takes long, and somebody waits for each answer.
                Ok(first) => std::iter::once(first).chain(commands.try_iter()).for_each(|command| self.obey(command)),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let now = Instant::now();
            self.ring(now);
            self.look_around(now);
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Watch(beacon) => {
                let now = Instant::now();
                self.posts.push(Post { beacon, stretch: None, looks: 0, next: now, newborn: Vec::new() });
            }
            Command::Ask(questions, answer) => {
                answer(questions.iter().map(|question| self.testify(question)).collect());
            }
            Command::Alarm(at, waker) => self.alarms.push((at, waker)),
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
        let samples = &mut self.samples;
        self.posts.retain_mut(|post| match post.beacon.upgrade() {
            Some(beacon) => {
                samples.extend(post.look(&beacon, now, Sample::of));
                true
            }
            None => false,
        });
        let surplus = samples.len().saturating_sub(MEMORY);
        samples.drain(..surplus);
    }

    /// `None` while there is nothing to look at.
    fn next_wait(&self) -> Option<Duration> {
        let now = Instant::now();
        let looks = self.posts.iter().filter_map(|post| post.next_look(now));
        let alarms = self.alarms.iter().map(|(at, _)| at.saturating_duration_since(now));
        looks.chain(alarms).min().map(|wait| wait.max(LOOK))
    }

    fn testify(&self, question: &Question) -> Testimony {
        let of_it = |sample: &&Sample| {
            sample.thread == question.thread && question.from <= sample.at && sample.at <= question.to
        };
        let suspect = majority(self.samples.iter().filter(of_it), question.waited);
        let looks = looks(self.samples.iter().filter(of_it), question.from, question.to);
        let overlooked = self.can_look && suspect.is_none();
        let control = self.control.between(question.from, question.to);
        let circumstances = Some(Circumstances { looks, overlooked, ..control });
        let tasks = self.samples.iter().filter(of_it).filter_map(|sample| sample.tasks).collect();
        let workers = self.samples.iter().filter(of_it).filter_map(|sample| sample.workers.clone()).collect();
        Testimony { suspect, circumstances, tasks, workers }
    }
}

impl Post {
    /// `sample` looks at a thread: what it sees counts only if the thread has not come back meanwhile.
    fn look(
        &mut self,
        beacon: &Beacon,
        now: Instant,
        sample: impl FnOnce(ThreadId, bool) -> Option<Sample>,
    ) -> Option<Sample> {
        let Some((thread, since)) = beacon.overdue(now) else {
            self.stretch = None;
            return None;
        };
        if self.stretch != Some(since) {
            (self.stretch, self.looks, self.next) = (Some(since), 0, now);
            self.newborn.clear();
            if beacon.is_of_several() {
                self.newborn = younger_than(now.saturating_duration_since(since), thread);
            }
        }
        if now < self.next {
            return None;
        }
        self.looks += 1;
        // Often at first, when it matters which of two calls it is; rarely once it is clear that it hangs.
        self.next = now + LOOK * (self.looks / 32 + 1).min(100);
        let mut sample = sample(thread, self.looks % 4 == 1)?;
        let waiting = !sample.is_running();
        sample.tasks = beacon.tasks_alive().and_then(|alive| TaskLook::at(thread, alive, waiting));
        let begins = |thread: &ThreadId| Sample::of(*thread, false).is_some_and(|sample| sample.begins());
        sample.workers = beacon.workers(|| self.newborn.iter().any(begins));
        (beacon.overdue(now) == Some((thread, since))).then_some(sample)
    }

    fn next_look(&self, now: Instant) -> Option<Duration> {
        let beacon = self.beacon.upgrade()?;
        Some(match beacon.overdue(now) {
            Some((_, since)) if self.stretch == Some(since) => self.next.saturating_duration_since(now),
            Some(_) => Duration::ZERO,
            None => beacon.round(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_never_seen_to_wait_was_overlooked_however_often_it_was_seen() {
        let (thread, from) = (ThreadId(7), Instant::now());
        let at = |ms| from + Duration::from_millis(ms);
        let overlooked = |can_look, looks: u64| {
            let samples = (0..looks).map(|ms| Sample::running(thread, at(ms))).collect();
            let rounds = Rounds { samples, can_look, ..Rounds::default() };
            let testify = |waited| rounds.testify(&Question { thread, from, to: at(70), waited: Some(waited) });
            [true, false].map(|waited| testify(waited).circumstances.unwrap().overlooked)
        };
        assert_eq!(overlooked(true, 0), [true, true], "nobody looked");
        assert_eq!(overlooked(true, 3), [true, false], "it was seen to run, whether it waited or ran");
        assert_eq!(overlooked(false, 0), [false, false], "nobody can look");
    }

    #[test]
    fn a_thread_that_came_back_while_it_was_looked_at_was_not_seen() {
        let beacon = Beacon::new(Duration::from_millis(1), Duration::ZERO);
        let begun = Instant::now();
        let later = begun + Duration::from_millis(50);
        let mut post = Post { beacon: Weak::new(), stretch: None, looks: 0, next: begun, newborn: Vec::new() };
        let mut look = |meanwhile: &dyn Fn(&Beacon)| {
            beacon.busy_since(ThreadId(7), begun);
            post.next = begun;
            post.look(&beacon, later, |thread, _| {
                meanwhile(&beacon);
                Some(Sample::running(thread, later))
            })
        };
        assert!(look(&|_| ()).is_some());
        assert!(look(&Beacon::idle).is_none(), "it went idle");
        let again = begun + Duration::from_millis(20);
        assert!(look(&|beacon| beacon.busy_since(ThreadId(7), again)).is_none(), "it went idle and came back");
    }
}
