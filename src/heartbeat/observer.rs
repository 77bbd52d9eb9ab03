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
use super::culprit::{CallSeen, Culprit, Sample, looks, majority};
use super::doubt::Circumstances;
use super::others::OtherThreads;
use super::reading::thread::{Clocks, StatusFile, younger_than};
use super::reading::{ThreadId, this_thread};
use super::stall::{Spent, Stretch};
use super::takeover::WorkersLook;

/// Samples kept, over all watches: at one a millisecond, some seconds.
const MEMORY: usize = 8192;
/// Waits for a lock kept, over all watches.
const LOCK_WAITS: usize = 256;
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
    /// What the thread had spent before, if it was read then.
    pub(super) since: Option<Spent>,
    /// And at the end of the stretch.
    pub(super) until: Option<Spent>,
}

impl From<&Stretch> for Question {
    fn from(stretch: &Stretch) -> Self {
        let waited = stretch.split.blocked().map(|blocked| blocked > stretch.split.on_cpu);
        let until = stretch
            .since
            .zip(stretch.split.run_queue)
            .map(|(since, queued)| Spent { on_cpu: stretch.on_cpu_then, run_queue: since.run_queue + queued });
        Self { thread: stretch.thread, from: stretch.from, to: stretch.to, waited, since: stretch.since, until }
    }
}

/// What the observer saw of it. By default nothing, which is no proof of anything.
#[derive(Debug, Clone, Default)]
pub(super) struct Testimony {
    pub(super) culprit: Option<Culprit>,
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

impl Testimony {
    /// How long the thread was blocked at least, whatever its clocks say, or waited for CPUs that it had given away.
    pub(super) fn blocked(&self) -> Duration {
        self.circumstances.as_ref().map_or(Duration::ZERO, |seen| seen.looks.blocked + seen.looks.yielded)
    }
}

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

    /// Says that whoever it is asked for was blocked for so long.
    #[cfg(test)]
    pub(super) fn sure(blocked: Duration) -> Self {
        let (sender, receiver) = channel();
        std::thread::spawn(move || {
            for command in receiver {
                let Command::Ask(questions, answer) = command else { continue };
                let looks = super::doubt::Looks { blocked, ..Default::default() };
                let testimony = || Testimony {
                    circumstances: Some(Circumstances { looks, ..Circumstances::default() }),
                    ..Testimony::default()
                };
                answer(questions.iter().map(|_| testimony()).collect());
            }
        });
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
    /// The waits for a lock that are over.
    lock_waits: VecDeque<OtherThreads>,
    control: Control,
    /// Whether the system lets a thread be looked at.
    can_look: bool,
}

/// One beacon, and how often it was looked at in its present stretch.
struct Post {
    beacon: Weak<Beacon>,
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
                self.posts.push(Post {
                    beacon,
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
            Command::Ask(questions, answer) => {
                let now = Instant::now();
                let is_asked_for = |others: &OtherThreads| questions.iter().any(|one| one.thread == others.thread);
                for post in self.posts.iter_mut().filter(|post| post.others.as_ref().is_some_and(is_asked_for)) {
                    let ended = post.beacon.upgrade().and_then(|beacon| post.ended_lock_wait(&beacon, now));
                    self.lock_waits.extend(ended);
                    post.others.iter_mut().for_each(OtherThreads::look_again);
                }
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
        let (samples, lock_waits) = (&mut self.samples, &mut self.lock_waits);
        self.posts.retain_mut(|post| match post.beacon.upgrade() {
            Some(beacon) => {
                lock_waits.extend(post.ended_lock_wait(&beacon, now));
                samples.extend(post.look(&beacon, now, Sample::of));
                true
            }
            None => false,
        });
        let surplus = samples.len().saturating_sub(MEMORY);
        samples.drain(..surplus);
        let surplus = lock_waits.len().saturating_sub(LOCK_WAITS);
        lock_waits.drain(..surplus);
    }

    /// `None` while there is nothing to look at.
    fn next_wait(&self) -> Option<Duration> {
        let now = Instant::now();
        let looks = self.posts.iter().filter_map(|post| post.next_look(now));
        let alarms = self.alarms.iter().map(|(at, _)| at.saturating_duration_since(now));
        looks.chain(alarms).min().map(|wait| wait.max(LOOK))
    }

    /// How long any one other thread waited for a CPU or for memory while this one waited for a lock, and for how long before
    /// the others were not looked at.
    fn waited_by_another(&self, question: &Question) -> (Duration, Duration) {
        let is_it = |others: &&OtherThreads| {
            others.thread == question.thread && (question.from..=question.to).contains(&others.begun)
        };
        let going_on = self.posts.iter().filter_map(|post| post.others.as_ref());
        let waits: Vec<_> = going_on.chain(&self.lock_waits).filter(is_it).collect();
        let most = waits.iter().map(|others| others.waited()).max();
        let begun = waits.iter().map(|others| others.begun - question.from).min();
        (most.unwrap_or_default(), begun.unwrap_or_default())
    }

    fn testify(&self, question: &Question) -> Testimony {
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
        let circumstances = Some(Circumstances { looks, overlooked, tracer, ..control });
        let tasks = of_it().filter_map(|sample| sample.tasks).collect();
        let workers = of_it().filter_map(|sample| sample.workers.clone()).collect();
        Testimony { culprit, circumstances, tasks, workers }
    }
}

impl Post {
    /// The wait for a lock that this thread was seen in, if it has been back in its scheduler since.
    fn ended_lock_wait(&mut self, beacon: &Beacon, now: Instant) -> Option<OtherThreads> {
        let others = self.others.as_ref()?;
        if beacon.overdue(now) == Some((others.thread, others.since)) {
            return None;
        }
        let mut others = self.others.take()?;
        others.is_over();
        Some(others)
    }

    /// `sample` looks at a thread: what it sees counts only if the thread has not come back meanwhile.
    fn look(
        &mut self,
        beacon: &Beacon,
        now: Instant,
        sample: impl FnOnce(ThreadId, bool) -> Option<Sample>,
    ) -> Option<Sample> {
        let Some((thread, since)) = beacon.overdue(now) else {
            (self.stretch, self.clocks, self.status) = (None, None, None);
            return None;
        };
        if self.stretch != Some(since) {
            (self.stretch, self.looks, self.next) = (Some(since), 0, now);
            self.copied = false;
            (self.clocks, self.status, self.call) = (None, None, None);
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
        sample.tasks = beacon.tasks_alive().and_then(looked);
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
    use std::sync::Arc;
    use std::sync::mpsc::TryRecvError;
    use std::task::Wake;

    use super::super::stall::Split;
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    /// What must come, comes well within this; it bounds a broken test, not a slow machine.
    const SOON: Duration = Duration::from_secs(40);

    #[test]
    fn as_many_looks_are_remembered_as_the_documentation_promises() {
        let promised = crate::promised::words(crate::promised::GOTCHAS, "The last {} looks are remembered");
        assert_eq!(promised, MEMORY.to_string());
    }

    /// Says when it is woken.
    struct Bell(Sender<()>);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            let _ = self.0.send(());
        }
    }

    fn bell() -> (Waker, Receiver<()>) {
        let (rings, rung) = channel();
        (Waker::from(Arc::new(Bell(rings))), rung)
    }

    fn post(beacon: &Arc<Beacon>, next: Instant) -> Post {
        let (beacon, newborn) = (Arc::downgrade(beacon), Vec::new());
        let (clocks, status, call, others) = (None, None, None, None);
        Post { beacon, stretch: None, looks: 0, copied: false, next, clocks, status, call, newborn, others }
    }

    /// Of a thread that was looked at in these ms after `start`.
    fn samples(start: Instant, thread: u32, ats: &[u32]) -> Vec<Sample> {
        ats.iter().map(|at| Sample::running(ThreadId(thread), start + MS * *at)).collect()
    }

    #[test]
    fn a_stretch_was_a_wait_if_more_of_it_was_blocked_than_computed() {
        let from = Instant::now();
        for (on_cpu, run_queue, waited) in
            [(60, Some(0), Some(false)), (59, Some(0), Some(true)), (61, Some(0), Some(false)), (10, None, None)]
        {
            let split = Split { wall: MS * 120, on_cpu: MS * on_cpu, run_queue: run_queue.map(|ms: u32| MS * ms) };
            let (thread, to, on_cpu_then) = (ThreadId(7), from + MS * 120, Duration::ZERO);
            let question =
                Question::from(&Stretch { thread, from, to, split, on_cpu_then, since: None, one_poll: false });
            assert_eq!((question.thread, question.from, question.to, question.waited), (thread, from, to, waited));
        }
    }

    #[test]
    fn an_observer_answers_each_question_and_rings_in_time_whoever_it_looks_at() {
        let observer = Observer::get().expect("a thread can be started");
        let beacon = Arc::new(Beacon::new(MS, MS));
        let (this, from) = (this_thread(), Instant::now());
        beacon.busy_since(this, from);
        observer.watch(Arc::downgrade(&beacon));
        let ask = |times| {
            let (tell, told) = channel();
            let question = Question { thread: this, from, to: Instant::now(), waited: None, since: None, until: None };
            observer.ask(vec![question; times], move |seen| tell.send(seen).unwrap());
            told.recv_timeout(SOON).expect("an answer")
        };
        assert_eq!((ask(0).len(), ask(3).len()), (0, 3));
        if cfg!(all(target_os = "linux", not(deadbeat_portable))) {
            let seen = (0..10_000).any(|_| {
                std::thread::park_timeout(MS);
                ask(1)[0].circumstances.as_ref().is_some_and(|seen| seen.looks.all > 1)
            });
            assert!(seen, "it never looked twice");
        }
        let (waker, rung) = bell();
        let at = Instant::now() + MS * 5;
        observer.alarm(at, waker);
        rung.recv_timeout(SOON).expect("it rings");
        assert!(Instant::now() >= at, "too early");
    }

    #[test]
    fn an_alarm_rings_when_it_is_due_and_once() {
        let now = Instant::now();
        let (mut rounds, bells) = (Rounds::default(), [now - MS, now, now + MS].map(|at| (at, bell())));
        rounds.alarms.extend(bells.iter().map(|(at, (waker, _))| (*at, waker.clone())));
        let mut rung = |now| {
            rounds.ring(now);
            bells.each_ref().map(|(_, (_, rung))| rung.try_iter().count())
        };
        assert_eq!(rung(now), [1, 1, 0]);
        assert_eq!(rung(now + MS), [0, 0, 1]);
        assert_eq!(rung(now + MS), [0, 0, 0]);
    }

    #[test]
    fn an_observer_sleeps_until_the_next_alarm_or_look_but_not_less_than_between_two_looks() {
        let mut rounds = Rounds::default();
        assert_eq!(rounds.next_wait(), None, "there is nothing to do");
        let (hour, idle) = (Duration::from_secs(3600), Arc::new(Beacon::new(MS, Duration::from_secs(60))));
        rounds.alarms.push((Instant::now() + hour, Waker::noop().clone()));
        assert!(rounds.next_wait().is_some_and(|wait| wait > hour / 2 && wait <= hour));
        rounds.posts.push(post(&idle, Instant::now()));
        assert_eq!(rounds.next_wait(), Some(Duration::from_secs(60)), "it comes by");
        rounds.alarms.push((Instant::now(), Waker::noop().clone()));
        assert_eq!(rounds.next_wait(), Some(LOOK));
    }

    #[test]
    fn a_round_looks_at_whoever_is_overdue_and_forgets_who_is_gone() {
        let (kept, gone) = (Arc::new(Beacon::new(MS, MS)), Arc::new(Beacon::new(MS, MS)));
        let now = Instant::now();
        let mut rounds = Rounds { posts: vec![post(&gone, now), post(&kept, now)], ..Rounds::default() };
        kept.busy_since(this_thread(), now);
        drop(gone);
        rounds.look_around(now + MS * 10);
        assert_eq!(rounds.posts.len(), 1);
        let told = cfg!(all(target_os = "linux", not(deadbeat_portable)));
        assert_eq!(rounds.samples.len(), usize::from(told));
        let many = samples(now, 1, &vec![0; MEMORY]);
        rounds.samples.extend(many);
        rounds.look_around(now);
        assert_eq!(rounds.samples.len(), MEMORY, "the oldest are forgotten");
    }

    #[test]
    fn a_testimony_is_of_that_thread_in_that_time() {
        let start = Instant::now();
        let mut rounds = Rounds { can_look: true, ..Rounds::default() };
        let mut both = [samples(start, 7, &[9, 10, 15, 20, 21]), samples(start, 8, &[10, 15, 20])].concat();
        both.sort_by_key(|sample| sample.at);
        rounds.samples.extend(both);
        let testify = |rounds: &Rounds, thread, from, to| {
            let (from, to) = (start + MS * from, start + MS * to);
            let testimony = rounds.testify(&Question {
                thread: ThreadId(thread),
                from,
                to,
                waited: None,
                since: None,
                until: None,
            });
            let circumstances = testimony.circumstances.unwrap();
            let seen = testimony.culprit.map_or(0, |culprit| culprit.samples);
            (circumstances.looks.all, seen, circumstances.overlooked)
        };
        assert_eq!(testify(&rounds, 7, 10, 20), (3, 3, false));
        assert_eq!(testify(&rounds, 7, 22, 30), (0, 0, true), "it was over before");
        assert_eq!(testify(&rounds, 7, 0, 8), (0, 0, true), "it had not begun");
        rounds.can_look = false;
        assert_eq!(testify(&rounds, 9, 10, 20), (0, 0, false), "nobody could look");
        assert_eq!(testify(&rounds, 8, 10, 20), (3, 3, false));
    }

    /// Often at first, when it matters which of two calls it is; with its stack every fourth time, from when there is one.
    #[test]
    fn a_thread_is_looked_at_ever_more_rarely_until_it_has_come_back() {
        let beacon = Arc::new(Beacon::new(MS, MS * 7));
        let start = Instant::now();
        let mut post = post(&beacon, start);
        let mut nth = 0;
        let mut look = |at: Instant| {
            let mut deep = None;
            post.look(&beacon, at, |thread, its_stack_too| {
                deep = Some(its_stack_too);
                nth += 1;
                // It runs at first, and so it does after it was back.
                Some(if !(4..=100).contains(&nth) { Sample::running(thread, at) } else { Sample::copied(thread, at) })
            });
            (deep, post.next)
        };
        assert_eq!(look(start).0, None, "it is idle");
        beacon.busy_since(ThreadId(7), start);
        let mut at = start + MS;
        for nth in 1..=100 {
            let (deep, next) = look(at);
            let none_yet = nth <= 4 || cfg!(not(feature = "backtrace"));
            assert_eq!(deep, Some(none_yet || [1, 5, 9, 13, 17].contains(&(nth % 20))), "{nth}");
            let pause = [1, 2, 3, 4][nth / 32];
            assert_eq!(next - at, MS * pause, "{nth}");
            assert_eq!(look(next - MS / 2).0, None, "{nth}: not yet");
            at = next;
        }
        beacon.busy_since(ThreadId(7), at);
        let again = at + MS;
        assert_eq!(look(again), (Some(true), again + MS), "it was back, and all begins anew");
    }

    #[test]
    fn who_hangs_for_ever_is_looked_at_now_and_then() {
        let beacon = Arc::new(Beacon::new(MS, MS));
        let start = Instant::now();
        beacon.busy_since(ThreadId(7), start);
        let mut post = Post { looks: 1_000_000, ..post(&beacon, start) };
        post.stretch = beacon.overdue(start + MS).map(|(_, since)| since);
        post.look(&beacon, start + MS, |thread, _| Some(Sample::running(thread, start)));
        assert_eq!(post.next, start + MS + LOOK * 100);
    }

    #[test]
    fn a_look_shows_whether_the_thread_was_in_a_call_while_its_tasks_were_counted() {
        if cfg!(not(all(target_os = "linux", not(deadbeat_portable)))) {
            return;
        }
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let beacon = Arc::new(Beacon::new(MS, MS));
        beacon.belongs_to(runtime.metrics());
        let start = Instant::now();
        let look = |thread| {
            beacon.busy_since(thread, start);
            let mut post = post(&beacon, start);
            let sample = post.look(&beacon, start + MS * 10, Sample::of).unwrap();
            (sample.is_running(), format!("{:?}", sample.tasks.unwrap()).contains("waiting: true"))
        };
        std::thread::scope(|scope| {
            let (_stop, stopped) = channel::<()>();
            let (tell, told) = channel();
            let seen = |busy: bool, stopped: Receiver<()>, tell: Sender<ThreadId>| {
                scope.spawn(move || {
                    tell.send(this_thread()).unwrap();
                    while busy && stopped.try_recv() == Err(TryRecvError::Empty) {
                        std::hint::spin_loop()
                    }
                    let _ = stopped.recv();
                });
                let thread = told.recv().unwrap();
                (0..10_000).map(|_| look(thread)).find(|(running, _)| *running == busy)
            };
            assert_eq!(seen(false, stopped, tell.clone()), Some((false, true)));
            let (_stop, stopped) = channel::<()>();
            assert_eq!(seen(true, stopped, tell), Some((true, false)));
        });
    }

    #[test]
    fn a_beacon_is_looked_at_when_it_is_overdue_and_meanwhile_the_observer_comes_by() {
        let beacon = Arc::new(Beacon::new(MS, MS * 7));
        let start = Instant::now();
        let mut post = post(&beacon, start + MS * 40);
        assert_eq!(post.next_look(start), Some(MS * 7), "it is idle");
        beacon.busy_since(ThreadId(7), start);
        assert_eq!(post.next_look(start), Some(MS * 7), "it is not overdue yet");
        let later = start + MS * 10;
        assert_eq!(post.next_look(later), Some(Duration::ZERO), "it was not looked at in this stretch");
        post.stretch = beacon.overdue(later).map(|(_, since)| since);
        assert_eq!(post.next_look(later), Some(MS * 30), "it was");
        drop(beacon);
        assert_eq!(post.next_look(later), None, "it is gone");
    }

    #[test]
    fn who_was_never_seen_to_wait_was_overlooked_however_often_it_was_seen() {
        let (thread, from) = (ThreadId(7), Instant::now());
        let at = |ms| from + Duration::from_millis(ms);
        let overlooked = |can_look, looks: u64| {
            let samples = (0..looks).map(|ms| Sample::running(thread, at(ms))).collect();
            let rounds = Rounds { samples, can_look, ..Rounds::default() };
            let testify = |waited| {
                rounds.testify(&Question { thread, from, to: at(70), waited: Some(waited), since: None, until: None })
            };
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
        let mut post = Post { beacon: Weak::new(), ..post(&Arc::new(Beacon::new(MS, MS)), begun) };
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
