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
const MUSTER: Duration = Duration::from_secs(2);

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
}

impl Bench {
    pub(super) fn new(flavor: Flavor, mut heartbeat: Heartbeat) -> Self {
        heartbeat.blocking_pool.get_or_insert(true);
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
        for stall in pulse.stalls.iter_mut().filter(|stall| stall.blocked > Some(stall.on_cpu)) {
            let from = journal.began + stall.at;
            let meanwhile = late.iter().filter(|birth| from <= birth.at && birth.at <= from + stall.wall);
            // Nor is anything else known of a thread that was idle in the pool and took a worker over.
            let to = from + stall.wall;
            let taken = unseen.iter().filter(|(unseen, _)| unseen.from.at <= to && from <= unseen.to.at);
            let waited = meanwhile.map(|birth| birth.waited).chain(taken.map(|(_, waited)| *waited));
            if let Some(waited) = waited.max() {
                stall.doubt.get_or_insert(Why::HandedOver { waited });
            }
        }
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
    use super::super::hung;
    use super::*;
    use crate::heartbeat::stall::Stall;
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
            let pulse = hung::describe(&bench, &journal, Patience::of(MS * 300));
            let took = begun.elapsed();
            drop(stop);
            // A machine that is late for all of this is late once, not for each wait anew.
            assert!(took < MS * 800, "{took:?}");
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
            pulse.stalls.push(blocked());
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

    fn blocked() -> Stall {
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
        pulse.stalls.push(blocked());
        late(this_thread());
        bench.reconsider(&mut pulse);
        assert_eq!(pulse.stalls[0].doubt, None);
        let worker = || {
            bench.0.parks();
            this_thread()
        };
        late(std::thread::scope(|scope| scope.spawn(worker).join().unwrap()));
        bench.reconsider(&mut pulse);
        assert_eq!(pulse.stalls[0].doubt, Some(Why::HandedOver { waited: MS * 100 }));
    }
}
