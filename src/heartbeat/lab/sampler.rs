//! A worker's public face, looked at every few milliseconds from a thread of its own: its park count and busy time, and
//! the kernel's account of every thread that is not idle.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use tokio::runtime::RuntimeMetrics;

use super::episode::{Look, Worker};
use super::fleet::Member;
use super::patience::left;
use crate::heartbeat::reading::thread::Clocks;

/// Looks kept; at the most frequent, a minute and a half.
const MEMORY: usize = 100_000;

/// A look takes some 20 µs. The accounts are read before the workers' numbers: a thread that works and moves them in
/// between has the work in its next account, but not in this one. The other way round it would seem to have slept while
/// they moved, as one does whose worker was handed over.
const TORN: Duration = Duration::from_micros(500);

/// Ends when dropped or asked for what it saw.
#[derive(Debug)]
pub(super) struct Sampler {
    stop: Sender<()>,
    seen: Receiver<Vec<Look>>,
}

impl Sampler {
    /// `None` if no thread can be started.
    pub(super) fn start(metrics: RuntimeMetrics, members: Receiver<Arc<Member>>, every: Duration) -> Option<Self> {
        let (stop, stopped) = channel();
        let (report, seen) = channel();
        let rounds = move || {
            let mut log = Log { metrics, members, known: Vec::new(), looks: Vec::new() };
            let mut wait = every;
            while stopped.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                // While all are idle, half as often: what it then misses is the beginning of a spell.
                wait = if log.look() { every } else { every * 2 };
            }
            log.look();
            // Nobody listens any more if the lab was given up.
            let _ = report.send(log.looks);
        };
        std::thread::Builder::new().name("deadbeat-sampler".to_owned()).spawn(rounds).ok()?;
        Some(Self { stop, seen })
    }

    /// One that has seen nothing and says nothing.
    #[cfg(test)]
    pub(super) fn mute() -> Self {
        let (report, seen) = channel();
        std::mem::forget(report);
        Self { stop: channel().0, seen }
    }

    /// Nothing, if it does not answer by then.
    pub(super) fn finish(self, until: Instant) -> Vec<Look> {
        let Self { stop, seen } = self;
        drop(stop);
        seen.recv_timeout(left(until)).unwrap_or_default()
    }
}

struct Log {
    metrics: RuntimeMetrics,
    members: Receiver<Arc<Member>>,
    known: Vec<(Arc<Member>, Option<Clocks>)>,
    looks: Vec<Look>,
}

impl Log {
    /// Whether anybody was busy.
    fn look(&mut self) -> bool {
        for member in self.members.try_iter() {
            let clocks = Clocks::of(member.thread());
            self.known.push((member, clocks));
        }
        let at = Instant::now();
        let worker = |index| Worker {
            parks: self.metrics.worker_park_unpark_count(index),
            busy: self.metrics.worker_total_busy_duration(index),
        };
        let busy = self.known.iter().filter(|(member, _)| member.is_busy());
        let accounts = busy.filter_map(|(member, clocks)| Some((member.thread(), clocks.as_ref()?.account()?)));
        let accounts = accounts.collect();
        let workers = (0..self.metrics.num_workers()).map(worker).collect();
        let look = Look { at, workers, accounts };
        let busy = !look.accounts.is_empty();
        // Preempted half way, it would show the numbers of one moment at another.
        if at.elapsed() < TORN {
            self.looks.push(look);
        }
        if self.looks.len() > MEMORY {
            self.looks.drain(..MEMORY / 2);
        }
        busy
    }
}
