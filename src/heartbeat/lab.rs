//! Runtimes under watch: the lab builds one, and looks at each of its workers from outside.

use std::fmt;
use std::future::Future;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, RuntimeMetrics};

use super::{Heartbeat, Pulse, Track, Watched};

/// Which runtime.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Flavor {
    /// Everything on one thread.
    CurrentThread,
    /// This many workers.
    MultiThread(usize),
}

/// Builds a runtime and runs a future on it, under watch.
#[derive(Clone, Debug)]
pub struct Lab {
    flavor: Flavor,
    heartbeat: Heartbeat,
    deadline: Duration,
}

/// Why there is no output.
#[derive(Debug)]
#[non_exhaustive]
pub enum LabError {
    /// The future did not come back within the deadline; its thread is left behind.
    Hung {
        /// What was seen until then.
        pulse: Pulse,
    },
    /// The runtime could not be built.
    Runtime(std::io::Error),
    /// The future panicked.
    Panicked,
}

impl fmt::Display for LabError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LabError::Hung { pulse } => write!(f, "the future did not come back within {:?}", pulse.watched),
            LabError::Runtime(error) => write!(f, "the runtime could not be built: {error}"),
            LabError::Panicked => f.write_str("the future panicked"),
        }
    }
}

impl std::error::Error for LabError {}

impl Lab {
    /// A lab for this runtime, with the default heartbeat and a deadline of 30 s.
    pub fn new(flavor: Flavor) -> Lab {
        Lab { flavor, heartbeat: Heartbeat::new(), deadline: Duration::from_secs(30) }
    }

    /// How to watch.
    #[must_use]
    pub fn heartbeat(mut self, heartbeat: Heartbeat) -> Lab {
        self.heartbeat = heartbeat;
        self
    }

    /// How long the future may take.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Lab {
        self.deadline = deadline;
        self
    }

    /// Runs the future as the root of a runtime on a thread of its own.
    ///
    /// # Errors
    ///
    /// As [`LabError`] says.
    pub fn run<F, Fut, T>(&self, f: F) -> Result<Watched<T>, LabError>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = T> + 'static,
        T: Send + 'static,
    {
        let mut builder = match self.flavor {
            Flavor::CurrentThread => Builder::new_current_thread(),
            Flavor::MultiThread(workers) => {
                let mut builder = Builder::new_multi_thread();
                builder.worker_threads(workers);
                builder
            }
        };
        let runtime = builder.enable_all().build().map_err(LabError::Runtime)?;
        let metrics = runtime.metrics();
        let (sender, receiver) = mpsc::channel();
        let heartbeat = self.heartbeat.clone();
        let start = Instant::now();
        std::thread::spawn(move || {
            let watched = runtime.block_on(async { heartbeat.watch(f()).await });
            // Nobody waits for it after the deadline.
            let _ = sender.send(watched);
        });
        let mut workers: Vec<_> = (0..metrics.num_workers()).map(|w| Worker::new(&metrics, w)).collect();
        let mut gaps = Vec::new();
        loop {
            match receiver.recv_timeout(self.heartbeat.interval) {
                Ok(mut watched) => {
                    // On one thread the heartbeat sees everything.
                    if self.flavor != Flavor::CurrentThread {
                        // A stretch may end with the watch, before anybody looked again.
                        let open = workers.iter().filter_map(|worker| worker.open_stretch());
                        gaps.extend(open.map(|(since, wall)| (since - start, wall)));
                        gaps.into_iter().for_each(|(at, wall)| watched.pulse.add(at, wall));
                    }
                    return Ok(watched);
                }
                Err(RecvTimeoutError::Disconnected) => return Err(LabError::Panicked),
                Err(RecvTimeoutError::Timeout) if start.elapsed() >= self.deadline => {
                    let mut pulse = Track::new().pulse(&self.heartbeat);
                    pulse.watched = start.elapsed();
                    pulse.add(Duration::ZERO, start.elapsed());
                    return Err(LabError::Hung { pulse });
                }
                Err(RecvTimeoutError::Timeout) => {
                    for worker in &mut workers {
                        gaps.extend(worker.look(&metrics).map(|(since, wall)| (since - start, wall)));
                    }
                }
            }
        }
    }
}

/// One worker from outside. Stuck: not parked, and neither its park count nor its busy time moves.
struct Worker {
    index: usize,
    since: Instant,
    parks: u64,
    busy: Duration,
}

impl Worker {
    fn new(metrics: &RuntimeMetrics, index: usize) -> Worker {
        let (parks, busy) = (metrics.worker_park_unpark_count(index), metrics.worker_total_busy_duration(index));
        Worker { index, since: Instant::now(), parks, busy }
    }

    fn open_stretch(&self) -> Option<(Instant, Duration)> {
        (self.parks % 2 == 0).then(|| (self.since, self.since.elapsed()))
    }

    /// The stretch that has just ended, if one has.
    fn look(&mut self, metrics: &RuntimeMetrics) -> Option<(Instant, Duration)> {
        let now = Worker::new(metrics, self.index);
        let parked = self.parks % 2 == 1;
        if !parked && (now.parks, now.busy) == (self.parks, self.busy) {
            return None;
        }
        let stretch = (!parked && now.parks != self.parks).then(|| (self.since, now.since - self.since));
        *self = now;
        stretch
    }
}
