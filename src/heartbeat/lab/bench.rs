//! One runtime with its hooks: which thread says what to whom.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::ThreadId as StdThreadId;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};

use super::fleet::{Fleet, Unseen};
use super::patience::Patience;
use super::{Flavor, Journal};
use crate::heartbeat::Heartbeat;
use crate::heartbeat::observer::Observer;
use crate::heartbeat::pulse::Pulse;
use crate::heartbeat::reading::{Reading, ThreadId, this_thread};
use crate::heartbeat::verdict::Why;

/// Workers that have not shown up by then will not.
const MUSTER: Duration = Duration::from_secs(if cfg!(test) { 40 } else { 2 });

#[derive(Clone)]
pub(super) struct Bench(Arc<Inner>);

/// When a thread of the runtime was born, and how long it then waited for its first turn on a CPU.
#[derive(Debug, Clone, Copy)]
struct Birth {
    thread: ThreadId,
    at: Instant,
    waited: Duration,
}

struct Inner {
    flavor: Flavor,
    heartbeat: Heartbeat,
    observer: Option<Observer>,
    journal: OnceLock<Arc<Journal>>,
    fleet: Option<Arc<Fleet>>,
    /// Every thread that the runtime has started and not ended.
    threads: Mutex<Vec<ThreadId>>,
    births: Mutex<Vec<Birth>>,
    /// The one that `block_on` was called on.
    root: OnceLock<StdThreadId>,
    root_thread: OnceLock<ThreadId>,
}

impl Bench {
    pub(super) fn new(flavor: Flavor, mut heartbeat: Heartbeat) -> Self {
        heartbeat.blocking_pool.get_or_insert(cfg!(panic = "unwind"));
        let fleet = match flavor {
            Flavor::CurrentThread => None,
            Flavor::MultiThread(workers) => Some(Fleet::new(workers, heartbeat)),
        };
        Self(Arc::new(Inner {
            flavor,
            heartbeat,
            observer: Observer::get(),
            journal: OnceLock::new(),
            fleet,
            threads: Mutex::new(Vec::new()),
            births: Mutex::new(Vec::new()),
            root: OnceLock::new(),
            root_thread: OnceLock::new(),
        }))
    }

    pub(super) fn fleet(&self) -> Option<&Arc<Fleet>> {
        self.0.fleet.as_ref()
    }

    pub(super) fn journal(&self) -> Option<&Arc<Journal>> {
        self.0.journal.get()
    }

    pub(super) fn observer(&self) -> Option<&Observer> {
        self.0.observer.as_ref()
    }

    /// Built on the lab's own thread, which `block_on` will be called on.
    pub(super) fn runtime(&self) -> std::io::Result<Runtime> {
        let _ = self.0.root.set(std::thread::current().id());
        let _ = self.0.root_thread.set(this_thread());
        let mut builder = match self.0.flavor {
            Flavor::CurrentThread => Builder::new_current_thread(),
            Flavor::MultiThread(_) => Builder::new_multi_thread(),
        };
        if let Flavor::MultiThread(workers) = self.0.flavor {
            builder.worker_threads(workers);
        }
        // Every poll of a task is followed by a turn of the driver and published in the metrics.
        builder.enable_all().event_interval(1).thread_name("deadbeat-lab-worker");
        let hook = |hook: fn(&Inner)| {
            let inner = Arc::downgrade(&self.0);
            move || inner.upgrade().as_deref().into_iter().for_each(hook)
        };
        builder.on_thread_start(hook(Inner::starts)).on_thread_stop(hook(Inner::stops));
        builder.on_thread_park(hook(Inner::parks)).on_thread_unpark(hook(Inner::unparks));
        builder.build()
    }

    /// Waits for every worker to show up, so that the watch begins with all of them known and idle.
    pub(super) async fn muster(&self, runtime: &Runtime) {
        let Some(fleet) = &self.0.fleet else { return };
        fleet.observe(runtime.metrics());
        if self.0.heartbeat.blocking_pool == Some(true) {
            // The pool's pulse must not be what starts a thread later.
            let _ = tokio::task::spawn_blocking(|| ()).await;
        }
        let late = Instant::now() + MUSTER;
        while !fleet.is_complete() && Instant::now() < late {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub(super) fn open_journal(&self) -> Arc<Journal> {
        let hooked = self.0.flavor == Flavor::CurrentThread;
        let journal = Journal::new(self.0.heartbeat, hooked, self.0.fleet.clone());
        if let Some(fleet) = &self.0.fleet {
            fleet.open(journal.began);
        }
        Arc::clone(self.0.journal.get_or_init(|| journal))
    }

    /// The watch is over: what the workers did is added to the pulse.
    pub(super) fn close(&self, pulse: &mut Pulse, patience: Patience) {
        let (Some(fleet), Some(journal)) = (&self.0.fleet, self.journal()) else {
            return;
        };
        if pulse.uncovered == Some(Why::MultiThread) {
            pulse.uncovered = (!fleet.is_complete()).then_some(Why::WorkerUnseen);
        }
        fleet.close(journal, pulse, self.observer(), patience);
    }

    /// Whether what the workers did is added, or being added, to a pulse.
    pub(super) fn is_closed(&self) -> bool {
        self.fleet().is_some_and(|fleet| fleet.is_closed())
    }

    /// Every thread has been heard of that ever will be. `block_in_place` hands a worker over to a new thread; as long as
    /// that has no CPU, the worker looks blocked. A thread that never became a worker was started for something else.
    pub(super) fn reconsider(&self, pulse: &mut Pulse) {
        let (Some(fleet), Some(journal)) = (&self.0.fleet, self.journal()) else {
            return;
        };
        let births = self.0.births.lock().unwrap_or_else(PoisonError::into_inner);
        let late: Vec<Birth> = births
            .iter()
            .copied()
            .filter(|birth| birth.waited > pulse.budget / 2 && fleet.has_member(birth.thread))
            .collect();
        let waited = |unseen: Unseen| Some((unseen, unseen.to.run_queue?.saturating_sub(unseen.from.run_queue?)));
        let unseen = fleet.unseen().into_iter().filter_map(waited);
        let unseen: Vec<_> = unseen.filter(|(_, waited)| *waited > pulse.budget / 2).collect();
        // The pool begins what it is given in order. So a worker that is handed to it is taken over no later than the next
        // probe runs, and in a runtime that hands workers over, a late probe may have been behind one of them.
        let pool = pulse.blocking_pool.as_ref().map(|pool| pool.on_the_wall);
        let pool = pool.filter(|late| *late > pulse.budget / 2 && fleet.has_handed_over());
        for stall in pulse.stalls.iter_mut().filter(|stall| stall.blocked > Some(stall.on_cpu)) {
            let from = journal.began + stall.at;
            let meanwhile = late.iter().filter(|birth| from <= birth.at && birth.at <= from + stall.wall);
            // Nor is anything else known of a thread that was idle in the pool and took a worker over.
            let to = from + stall.wall;
            let taken = unseen.iter().filter(|(unseen, _)| unseen.from.at <= to && from <= unseen.to.at);
            let waited = meanwhile.map(|birth| birth.waited).chain(taken.map(|(_, waited)| *waited)).chain(pool);
            if let Some(waited) = waited.max() {
                stall.doubt.get_or_insert(Why::HandedOver { waited });
            }
        }
    }

    /// The lab's own thread, which drops the runtime.
    pub(super) fn root(&self) -> Option<ThreadId> {
        self.0.root_thread.get().copied()
    }

    pub(super) fn living_threads(&self) -> Vec<ThreadId> {
        self.0.threads().clone()
    }
}

impl Inner {
    fn threads(&self) -> MutexGuard<'_, Vec<ThreadId>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn starts(&self) {
        self.threads().push(this_thread());
        let now = Reading::here();
        if let Some(waited) = now.run_queue {
            let at = now.at - waited.saturating_add(now.on_cpu);
            self.births.lock().unwrap_or_else(PoisonError::into_inner).push(Birth { thread: now.thread, at, waited });
        }
    }

    fn stops(&self) {
        let this = this_thread();
        self.threads().retain(|thread| *thread != this);
    }

    fn parks(&self) {
        match (&self.fleet, self.journal.get()) {
            (Some(fleet), _) => fleet.parks(),
            (None, Some(journal)) if self.root.get() == Some(&std::thread::current().id()) => journal.parks(),
            (None, _) => {}
        }
    }

    fn unparks(&self) {
        match (&self.fleet, self.journal.get()) {
            (Some(fleet), _) => fleet.unparks(),
            (None, Some(journal)) if self.root.get() == Some(&std::thread::current().id()) => journal.unparks(),
            (None, _) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc::channel;

    use super::super::hung;
    use super::*;
    use crate::heartbeat::Place;
    use crate::heartbeat::observer::Question;
    use crate::heartbeat::pool::PoolPulse;
    use crate::heartbeat::stall::{Stall, Stretch};
    use crate::heartbeat::verdict::Verdict;

    const MS: Duration = Duration::from_millis(1);

    /// A worker that waits for ever, and nobody to say what became of it: neither the observer nor the sampler answers.
    #[test]
    fn what_hangs_is_described_in_time_though_nobody_answers_and_then_it_is_a_doubt() {
        let heartbeat = Heartbeat::new().interval(MS).budget(MS * 5);
        let mut bench = Bench::new(Flavor::MultiThread(1), heartbeat);
        Arc::get_mut(&mut bench.0).unwrap().observer = Some(Observer::deaf());
        let journal = bench.open_journal();
        bench.fleet().unwrap().mute();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let pulse = std::thread::scope(|scope| {
            let worker = bench.clone();
            scope.spawn(move || {
                worker.0.unparks();
                let _ = stopped.recv();
            });
            let begun = Instant::now();
            while !bench.fleet().unwrap().is_complete() || begun.elapsed() < MS * 20 {
                std::thread::park_timeout(MS);
            }
            let begun = Instant::now();
            let pulse = hung::describe(&bench, &journal, Patience::of(MS * 2000));
            let took = begun.elapsed();
            drop(stop);
            // A machine that is late for all of this is late once, not for each wait anew.
            assert!(took < MS * 5300, "{took:?}");
            pulse
        });
        assert_eq!(pulse.verdict(), Verdict::Inconclusive { why: Why::Unwitnessed }, "{pulse}");
        if cfg!(all(target_os = "linux", not(deadbeat_portable))) {
            let culprit = pulse.worst().unwrap().culprit.as_ref().unwrap();
            assert_eq!(culprit.syscall.as_deref(), Some("futex"), "{pulse}");
        }
    }

    /// It was idle in the pool, and woke late to take a worker over.
    #[test]
    fn an_idle_thread_that_wakes_late_to_take_a_worker_over_excuses_the_block_and_a_quick_one_does_not() {
        for (waited, excused) in [(10, false), (100, true)] {
            let bench = Bench::new(Flavor::MultiThread(1), Heartbeat::new());
            let journal = bench.open_journal();
            let mut pulse = Pulse::empty(Heartbeat::new(), journal.began);
            pulse.stalls.push(blocked_stall());
            let reading = |at, run_queue| Reading {
                at: journal.began + MS * at,
                thread: ThreadId(7),
                on_cpu: Duration::ZERO,
                run_queue: Some(MS * run_queue),
            };
            bench.fleet().unwrap().was_unseen(Some(reading(0, 5)), reading(130, 5 + waited));
            bench.reconsider(&mut pulse);
            let doubt = excused.then_some(Why::HandedOver { waited: MS * waited });
            assert_eq!(pulse.stalls[0].doubt, doubt);
        }
    }

    fn blocked_stall() -> Stall {
        Stall {
            at: Duration::ZERO,
            wall: MS * 120,
            on_cpu: Duration::ZERO,
            run_queue: Some(Duration::ZERO),
            blocked: Some(MS * 120),
            culprit: None,
            doubt: None,
        }
    }

    #[test]
    fn a_late_thread_excuses_a_blocked_worker_only_if_it_became_one() {
        let bench = Bench::new(Flavor::MultiThread(1), Heartbeat::new());
        let journal = bench.open_journal();
        let late = |thread| {
            let birth = Birth { thread, at: journal.began + MS * 10, waited: MS * 100 };
            bench.0.births.lock().unwrap().push(birth);
        };
        let mut pulse = Pulse::empty(Heartbeat::new(), journal.began);
        pulse.stalls.push(blocked_stall());
        late(this_thread());
        bench.reconsider(&mut pulse);
        assert_eq!(pulse.stalls[0].doubt, None);
        let worker = || {
            bench.0.parks();
            this_thread()
        };
        late(elsewhere(worker));
        bench.reconsider(&mut pulse);
        assert_eq!(pulse.stalls[0].doubt, Some(Why::HandedOver { waited: MS * 100 }));
    }

    fn elsewhere<T: Send>(what: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| scope.spawn(what).join().unwrap())
    }

    /// The stall lasts from 100 to 220 ms, and more than half of the budget is 26.
    #[test]
    fn a_thread_excuses_what_was_blocked_while_it_was_late_and_nothing_else() {
        let excused = |split: (u32, u32), births: &[(u32, u32)], unseen: &[(u32, u32, u32)]| {
            let bench = Bench::new(Flavor::MultiThread(1), Heartbeat::new());
            let journal = bench.open_journal();
            let at = |ms| journal.began + MS * ms;
            let thread = elsewhere(|| {
                bench.0.parks();
                this_thread()
            });
            for (ms, waited) in births {
                bench.0.births.lock().unwrap().push(Birth { thread, at: at(*ms), waited: MS * *waited });
            }
            for (from, to, waited) in unseen {
                let reading =
                    |ms, wait| Reading { at: at(ms), thread, on_cpu: Duration::ZERO, run_queue: Some(MS * wait) };
                bench.fleet().unwrap().was_unseen(Some(reading(*from, 7)), reading(*to, 7 + *waited));
            }
            let mut pulse = Pulse::empty(Heartbeat::new(), journal.began);
            let (on_cpu, blocked) = (MS * split.0, Some(MS * split.1));
            pulse.stalls.push(Stall { at: MS * 100, on_cpu, blocked, ..blocked_stall() });
            bench.reconsider(&mut pulse);
            match pulse.stalls[0].doubt {
                Some(Why::HandedOver { waited }) => Some(waited.as_millis()),
                _ => None,
            }
        };
        let slept = (0, 120);
        for (at, late, expected) in [
            (99, 90, None),
            (100, 90, Some(90)),
            (220, 90, Some(90)),
            (221, 90, None),
            (150, 25, None),
            (150, 26, Some(26)),
        ] {
            assert_eq!(excused(slept, &[(at, late)], &[]), expected, "born at {at} ms, {late} ms late");
        }
        for (from, to, late, expected) in [
            (0, 99, 90, None),
            (0, 100, 90, Some(90)),
            (220, 300, 90, Some(90)),
            (221, 300, 90, None),
            (0, 300, 25, None),
            (0, 300, 26, Some(26)),
        ] {
            assert_eq!(excused(slept, &[], &[(from, to, late)]), expected, "unseen from {from} to {to} ms");
        }
        assert_eq!(excused(slept, &[(150, 60), (150, 70)], &[(0, 300, 80)]), Some(80), "the latest of all");
        assert_eq!((excused((61, 59), &[(150, 90)], &[]), excused((60, 60), &[(150, 90)], &[])), (None, None));
        assert_eq!(excused((59, 61), &[(150, 90)], &[]), Some(90), "it waited rather than computed");
    }

    /// One that needs 70 ms for a closure that does nothing needs as long to take a worker over.
    #[test]
    fn a_late_pool_excuses_a_block_in_a_runtime_that_hands_workers_over_and_in_no_other() {
        for (threads, late, excused) in [(2, 70, true), (2, 25, false), (1, 70, false)] {
            let bench = Bench::new(Flavor::MultiThread(1), Heartbeat::new());
            let journal = bench.open_journal();
            (0..threads).for_each(|_| elsewhere(|| bench.0.parks()));
            let mut pulse = Pulse::empty(Heartbeat::new(), journal.began);
            pulse.stalls.push(blocked_stall());
            pulse.blocking_pool = Some(PoolPulse { on_the_wall: MS * late, ..PoolPulse::default() });
            bench.reconsider(&mut pulse);
            let doubt = excused.then_some(Why::HandedOver { waited: MS * late });
            assert_eq!(pulse.stalls[0].doubt, doubt, "{threads} threads, {late} ms");
        }
    }

    #[test]
    fn a_lab_covers_its_workers_if_it_saw_all_of_them_and_excuses_nothing_else() {
        for (shows_up, before, after) in [
            (true, Why::MultiThread, None),
            (false, Why::MultiThread, Some(Why::WorkerUnseen)),
            (true, Why::PausedClock, Some(Why::PausedClock)),
            (false, Why::PausedClock, Some(Why::PausedClock)),
        ] {
            let bench = Bench::new(Flavor::MultiThread(1), Heartbeat::new());
            let journal = bench.open_journal();
            elsewhere(|| shows_up.then(|| bench.0.parks()));
            let mut pulse = Pulse { uncovered: Some(before), ..Pulse::empty(Heartbeat::new(), journal.began) };
            bench.close(&mut pulse, Patience::of(Duration::ZERO));
            assert_eq!(pulse.uncovered, after);
        }
    }

    #[test]
    fn a_watch_begins_with_every_worker_and_a_thread_of_the_pool_if_that_is_watched() {
        for (blocking_pool, threads) in [(true, 3), (false, 2)] {
            let bench = Bench::new(Flavor::MultiThread(2), Heartbeat::new().blocking_pool(blocking_pool));
            let runtime = bench.runtime().unwrap();
            // On a machine that is hardly there it may take as long as if one were missing.
            let in_time = || {
                let begun = Instant::now();
                runtime.block_on(bench.muster(&runtime));
                bench.fleet().unwrap().is_complete() && begun.elapsed() < MUSTER
            };
            assert!((0..3).any(|_| in_time()), "all were there");
            assert_eq!(bench.living_threads().len(), threads);
        }
    }

    #[test]
    fn a_worker_that_shows_up_late_is_waited_for() {
        let bench = Bench::new(Flavor::MultiThread(2), Heartbeat::new());
        // Without the hooks, its workers do not show up by themselves.
        let runtime = Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let shown_up = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                elsewhere(|| bench.0.parks());
                std::thread::park_timeout(MS * 10);
                shown_up.store(true, Ordering::SeqCst);
                bench.0.parks();
            });
            runtime.block_on(bench.muster(&runtime));
            assert!(shown_up.load(Ordering::SeqCst));
        });
    }

    #[test]
    fn a_thread_lives_from_its_start_to_its_end_and_was_born_before_it_ran() {
        let bench = Bench::new(Flavor::CurrentThread, Heartbeat::new());
        bench.0.starts();
        let ran = elsewhere(|| {
            while Reading::here().on_cpu < MS * 5 {
                std::hint::spin_loop();
            }
            let ran = Instant::now();
            bench.0.starts();
            assert_eq!(bench.living_threads().last(), Some(&this_thread()));
            bench.0.stops();
            ran
        });
        assert_eq!(bench.living_threads(), [this_thread()]);
        // Nobody knows where the kernel does not say how long it waited for a CPU.
        let births = bench.0.births.lock().unwrap();
        assert!(births.last().is_none_or(|birth| birth.at < ran), "{births:?}");
    }

    #[test]
    fn only_the_root_of_a_current_thread_runtime_is_its_worker() {
        for is_root in [true, false] {
            let bench = Bench::new(Flavor::CurrentThread, Heartbeat::new());
            let (this, other) = (std::thread::current().id(), elsewhere(|| std::thread::current().id()));
            bench.0.root.set(if is_root { this } else { other }).unwrap();
            let journal = bench.open_journal();
            journal.begin(Place::CurrentThread, None);
            let is_busy = || journal.beacon().overdue(Instant::now() + Duration::from_secs(60)).is_some();
            assert!(is_busy());
            bench.0.parks();
            assert_eq!(is_busy(), !is_root);
            journal.beacon().idle();
            bench.0.unparks();
            assert_eq!(is_busy(), is_root);
        }
    }

    /// The hooks say when it is idle; elsewhere the driver may round its wait up, by a millisecond more.
    #[test]
    fn a_beat_of_a_current_thread_runtime_is_overdue_a_millisecond_earlier_than_any_other() {
        let is_overdue = |flavor| {
            let journal = Bench::new(flavor, Heartbeat::new()).open_journal();
            journal.begin(Place::CurrentThread, Some(Instant::now() - Duration::from_micros(1500)));
            journal.beat_overdue()
        };
        assert!(is_overdue(Flavor::CurrentThread));
        assert!(
            (0..20).any(|_| !is_overdue(Flavor::MultiThread(1))),
            "it was never looked at within half a millisecond"
        );
    }

    #[test]
    fn a_root_that_waits_for_ever_is_described_as_a_stall() {
        let mut bench = Bench::new(Flavor::CurrentThread, Heartbeat::new().interval(MS).budget(MS * 5));
        Arc::get_mut(&mut bench.0).unwrap().observer = Some(Observer::deaf());
        let journal = bench.open_journal();
        let pulse = std::thread::scope(|scope| {
            let (_stop, stopped) = channel::<()>();
            let root = &journal;
            scope.spawn(move || {
                root.begin(Place::CurrentThread, None);
                let _ = stopped.recv();
            });
            while journal.beacon().overdue(Instant::now() - MS * 20).is_none() {
                std::thread::park_timeout(MS);
            }
            hung::describe(&bench, &journal, Patience::of(MS * 100))
        });
        assert!(pulse.worst().is_some_and(|stall| stall.wall >= MS * 20), "{pulse}");
    }

    #[test]
    fn what_was_found_before_the_hang_is_weighed_like_any_other() {
        let mut bench = Bench::new(Flavor::CurrentThread, Heartbeat::new());
        Arc::get_mut(&mut bench.0).unwrap().observer = Some(Observer::deaf());
        let journal = bench.open_journal();
        let (thread, on_cpu, run_queue) = (this_thread(), Duration::ZERO, Some(Duration::ZERO));
        let reading = |ms| Reading { at: journal.began + MS * ms, thread, on_cpu, run_queue };
        let stretch = Stretch::between(&reading(0), &reading(120), journal.began).unwrap();
        journal.state().judge(stretch, Heartbeat::new().budget);
        let pulse = hung::describe(&bench, &journal, Patience::of(MS * 100));
        assert_eq!(pulse.verdict(), Verdict::Inconclusive { why: Why::Unwitnessed }, "{pulse}");
        assert_eq!(pulse.longest, MS * 120);
    }

    /// Without it there would be one glance, and that shortly before the report.
    #[test]
    fn what_the_observer_saw_of_a_hanging_worker_is_in_the_report() {
        let Some(observer) = Observer::get().filter(|_| cfg!(all(target_os = "linux", not(deadbeat_portable)))) else {
            return;
        };
        let bench = Bench::new(Flavor::MultiThread(1), Heartbeat::new().interval(MS).budget(MS * 5));
        let journal = bench.open_journal();
        let pulse = std::thread::scope(|scope| {
            let (_stop, stopped) = channel::<()>();
            let (tell, told) = channel();
            let worker = &bench;
            scope.spawn(move || {
                worker.0.unparks();
                tell.send(this_thread()).unwrap();
                let _ = stopped.recv();
            });
            let thread = told.recv().unwrap();
            let looks = || {
                let (tell, told) = channel();
                let question = Question {
                    thread,
                    from: journal.began,
                    to: Instant::now(),
                    waited: Some(true),
                    since: None,
                    until: None,
                };
                observer.ask(vec![question], move |seen| tell.send(seen).unwrap());
                told.recv().unwrap().pop().and_then(|testimony| testimony.culprit).map_or(0, |culprit| culprit.samples)
            };
            let seen_often = (0..10_000).any(|_| {
                std::thread::park_timeout(MS);
                // By then it has waited for longer than the budget, not for a CPU, but in its call.
                looks() > 20
            });
            assert!(seen_often, "nobody looks");
            hung::describe(&bench, &journal, Patience::of(Duration::from_secs(20)))
        });
        assert!(pulse.worst().and_then(|stall| stall.culprit.as_ref()).is_some_and(|it| it.samples > 1), "{pulse}");
    }
}
