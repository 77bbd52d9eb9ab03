//! One runtime with its hooks: what each of its threads reports when it starts, goes idle, comes back and stops.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::ThreadId as StdThreadId;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Runtime};

use crate::heartbeat::config::{Flavor, Heartbeat};
use crate::heartbeat::lab::time_budget::TimeBudget;
use crate::heartbeat::lab::worker::Unseen;
use crate::heartbeat::lab::workers::Workers;
use crate::heartbeat::observer::Observer;
use crate::heartbeat::pulse::Pulse;
use crate::heartbeat::reading::thread::ThreadId;
use crate::heartbeat::reading::{Reading, this_thread};
use crate::heartbeat::verdict::Why;
use crate::heartbeat::watch::state::{WatchState, WorkerTurn};

/// Workers that have not shown up by then will not.
const WORKERS_BY: Duration = Duration::from_secs(if cfg!(test) { 40 } else { 2 });

#[derive(Clone)]
pub(crate) struct WatchedRuntime(Arc<RuntimeInner>);

/// When a thread of the runtime was born, and how long it then waited for its first turn on a CPU.
#[derive(Debug, Clone, Copy)]
struct ThreadStart {
    thread: ThreadId,
    at: Instant,
    waited: Duration,
}

struct RuntimeInner {
    flavor: Flavor,
    heartbeat: Heartbeat,
    observer: Option<Observer>,
    state: OnceLock<Arc<WatchState>>,
    workers: Option<Arc<Workers>>,
    /// Every thread that the runtime has started and not ended.
    threads: Mutex<Vec<ThreadId>>,
    births: Mutex<Vec<ThreadStart>>,
    /// The one that `block_on` was called on.
    root: OnceLock<StdThreadId>,
    root_thread: OnceLock<ThreadId>,
}

impl WatchedRuntime {
    pub(crate) fn new(flavor: Flavor, mut heartbeat: Heartbeat) -> Self {
        heartbeat.blocking_pool.get_or_insert(cfg!(panic = "unwind"));
        let workers = match flavor {
            Flavor::CurrentThread => None,
            Flavor::MultiThread(workers) => Some(Workers::new(workers, heartbeat)),
        };
        Self(Arc::new(RuntimeInner {
            flavor,
            heartbeat,
            observer: Observer::get(),
            state: OnceLock::new(),
            workers,
            threads: Mutex::new(Vec::new()),
            births: Mutex::new(Vec::new()),
            root: OnceLock::new(),
            root_thread: OnceLock::new(),
        }))
    }

    pub(crate) fn workers(&self) -> Option<&Arc<Workers>> {
        self.0.workers.as_ref()
    }

    pub(crate) fn state(&self) -> Option<&Arc<WatchState>> {
        self.0.state.get()
    }

    pub(crate) fn observer(&self) -> Option<&Observer> {
        self.0.observer.as_ref()
    }

    /// Built on the lab's own thread, which `block_on` will be called on.
    pub(crate) fn build(&self) -> std::io::Result<Runtime> {
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
        let hook = |hook: fn(&RuntimeInner)| {
            let inner = Arc::downgrade(&self.0);
            move || inner.upgrade().as_deref().into_iter().for_each(hook)
        };
        builder.on_thread_start(hook(RuntimeInner::starts)).on_thread_stop(hook(RuntimeInner::stops));
        builder.on_thread_park(hook(RuntimeInner::parks)).on_thread_unpark(hook(RuntimeInner::unparks));
        builder.build()
    }

    /// Waits for every worker to show up, so that the watch begins with all of them known and idle.
    pub(crate) async fn wait_for_workers(&self, runtime: &Runtime) {
        let Some(workers) = &self.0.workers else { return };
        workers.observe(runtime.metrics());
        if self.0.heartbeat.blocking_pool == Some(true) {
            // The pool's pulse must not be what starts a thread later.
            let _ = tokio::task::spawn_blocking(|| ()).await;
        }
        let late = Instant::now() + WORKERS_BY;
        while !workers.is_complete() && Instant::now() < late {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub(crate) fn begin_watch(&self) -> Arc<WatchState> {
        let hooked = self.0.flavor == Flavor::CurrentThread;
        let turn = |workers: Arc<Workers>| -> WorkerTurn { Box::new(move |due| workers.turn(due)) };
        let worker_turn = self.0.workers.clone().map(turn);
        let state = WatchState::new(self.0.heartbeat, hooked, worker_turn);
        if let Some(workers) = &self.0.workers {
            workers.open(state.began);
        }
        Arc::clone(self.0.state.get_or_init(|| state))
    }

    /// The watch is over: what the workers did is added to the pulse.
    pub(crate) fn close(&self, pulse: &mut Pulse, time: TimeBudget) {
        let (Some(workers), Some(state)) = (&self.0.workers, self.state()) else {
            return;
        };
        if pulse.uncovered == Some(Why::MultiThread) {
            pulse.uncovered = (!workers.is_complete()).then_some(Why::WorkerUnseen);
        }
        workers.close(state.began, pulse, self.observer(), time);
    }

    /// Whether what the workers did is added, or being added, to a pulse.
    pub(crate) fn is_closed(&self) -> bool {
        self.workers().is_some_and(|workers| workers.is_closed())
    }

    /// Every thread has been heard of that ever will be. `block_in_place` hands a worker over to a new thread; as long
    /// as that has no CPU, the worker looks blocked. A thread that never became a worker was started for something
    /// else.
    pub(crate) fn doubt_late_handovers(&self, pulse: &mut Pulse) {
        let (Some(workers), Some(state)) = (&self.0.workers, self.state()) else {
            return;
        };
        let births = self.0.births.lock().unwrap_or_else(PoisonError::into_inner);
        let late: Vec<ThreadStart> = births
            .iter()
            .copied()
            .filter(|birth| birth.waited > pulse.budget / 2 && workers.has_member(birth.thread))
            .collect();
        let waited = |unseen: Unseen| Some((unseen, unseen.to.run_queue?.saturating_sub(unseen.from.run_queue?)));
        let unseen = workers.unseen().into_iter().filter_map(waited);
        let unseen: Vec<_> = unseen.filter(|(_, waited)| *waited > pulse.budget / 2).collect();
        // The pool begins what it is given in order. So a worker that is handed to it is taken over no later than the
        // next probe runs, and in a runtime that hands workers over, a late probe may have been behind one of them.
        let pool = pulse.blocking_pool.as_ref().map(|pool| pool.on_the_wall);
        let pool = pool.filter(|late| *late > pulse.budget / 2 && workers.has_handed_over());
        for stall in pulse.stalls.iter_mut().filter(|stall| stall.blocked > Some(stall.on_cpu)) {
            let from = state.began + stall.at;
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
    pub(crate) fn root(&self) -> Option<ThreadId> {
        self.0.root_thread.get().copied()
    }

    pub(crate) fn living_threads(&self) -> Vec<ThreadId> {
        self.0.threads().clone()
    }
}

impl RuntimeInner {
    fn threads(&self) -> MutexGuard<'_, Vec<ThreadId>> {
        self.threads.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn starts(&self) {
        self.threads().push(this_thread());
        let now = Reading::here();
        if let Some(waited) = now.run_queue {
            let at = now.at - waited.saturating_add(now.on_cpu);
            self.births.lock().unwrap_or_else(PoisonError::into_inner).push(ThreadStart {
                thread: now.thread,
                at,
                waited,
            });
        }
    }

    fn stops(&self) {
        let this = this_thread();
        self.threads().retain(|thread| *thread != this);
    }

    fn parks(&self) {
        match (&self.workers, self.state.get()) {
            (Some(workers), _) => workers.parks(),
            (None, Some(state)) if self.root.get() == Some(&std::thread::current().id()) => state.parks(),
            (None, _) => {}
        }
    }

    fn unparks(&self) {
        match (&self.workers, self.state.get()) {
            (Some(workers), _) => workers.unparks(),
            (None, Some(state)) if self.root.get() == Some(&std::thread::current().id()) => state.unparks(),
            (None, _) => {}
        }
    }
}

#[cfg(test)]
mod tests;
