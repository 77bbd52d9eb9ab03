//! A worker's public face, looked at every few milliseconds from a thread of its own: its park count and busy time, and
//! the kernel's account of every thread that is not idle.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use tokio::runtime::RuntimeMetrics;

use crate::heartbeat::evidence::{CountersLook, WorkerNumbers};
use crate::heartbeat::lab::time_budget::left;
use crate::heartbeat::lab::worker::Worker;
use crate::heartbeat::reading::thread::Clocks;

/// Looks kept; at the most frequent, a minute and a half.
const LOOKS_KEPT: usize = 100_000;

/// A look takes some 20 µs. The accounts are read before the workers' numbers: a thread that works and moves them in
/// between has the work in its next account, but not in this one. The other way round it would seem to have slept while
/// they moved, as one does whose worker was handed over.
const TORN_LOOK: Duration = Duration::from_micros(500);

/// Ends when dropped or asked for what it saw.
#[derive(Debug)]
pub(crate) struct Sampler {
    stop: Sender<()>,
    seen: Receiver<Vec<CountersLook>>,
}

impl Sampler {
    /// `None` if no thread can be started.
    pub(crate) fn start(metrics: RuntimeMetrics, workers_seen: Receiver<Arc<Worker>>, every: Duration) -> Option<Self> {
        let (stop, stopped) = channel();
        let (report, seen) = channel();
        let rounds = move || {
            let mut log = Sampling { metrics, workers_seen, known: Vec::new(), looks: Vec::new() };
            let mut wait = every;
            while stopped.recv_timeout(wait) == Err(RecvTimeoutError::Timeout) {
                wait = until_the_next(log.look(), every);
            }
            log.look();
            // The receiver is gone if the lab was given up.
            let _ = report.send(log.looks);
        };
        std::thread::Builder::new().name("deadbeat-sampler".to_owned()).spawn(rounds).ok()?;
        Some(Self { stop, seen })
    }

    /// One that has seen nothing and says nothing.
    #[cfg(test)]
    pub(crate) fn mute() -> Self {
        let (report, seen) = channel();
        std::mem::forget(report);
        Self { stop: channel().0, seen }
    }

    /// Nothing, if it does not answer by then.
    pub(crate) fn finish(self, until: Instant) -> Vec<CountersLook> {
        let Self { stop, seen } = self;
        drop(stop);
        seen.recv_timeout(left(until)).unwrap_or_default()
    }
}

/// While all are idle, half as often: what it then misses is the beginning of a busy period.
fn until_the_next(anybody_busy: bool, every: Duration) -> Duration {
    if anybody_busy { every } else { every * 2 }
}

struct Sampling {
    metrics: RuntimeMetrics,
    workers_seen: Receiver<Arc<Worker>>,
    known: Vec<(Arc<Worker>, Option<Clocks>)>,
    looks: Vec<CountersLook>,
}

impl Sampling {
    /// Whether any worker was busy.
    fn look(&mut self) -> bool {
        for member in self.workers_seen.try_iter() {
            let clocks = Clocks::of(member.thread());
            self.known.push((member, clocks));
        }
        let at = Instant::now();
        let busy = self.known.iter().filter(|(member, _)| member.is_busy());
        let accounts = busy.filter_map(|(member, clocks)| Some((member.thread(), clocks.as_ref()?.account()?)));
        let accounts = accounts.collect();
        let workers = WorkerNumbers::of_all(&self.metrics);
        let look = CountersLook { at, workers, accounts };
        let busy = !look.accounts.is_empty();
        self.keep(look, at.elapsed());
        busy
    }

    fn keep(&mut self, look: CountersLook, took: Duration) {
        // Preempted half way, it would show the numbers of one moment at another.
        if took < TORN_LOOK {
            self.looks.push(look);
        }
        if self.looks.len() > LOOKS_KEPT {
            self.looks.drain(..LOOKS_KEPT / 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::{Builder, Runtime};

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Whose workers never run.
    fn runtime() -> Runtime {
        Builder::new_current_thread().build().unwrap()
    }

    fn log(workers_seen: Receiver<Arc<Worker>>) -> Sampling {
        Sampling { metrics: runtime().metrics(), workers_seen, known: Vec::new(), looks: Vec::new() }
    }

    #[test]
    fn a_look_shows_every_worker_and_the_accounts_of_those_who_are_busy() {
        let (arrive, new_worker_receiver) = channel();
        let mut log = log(new_worker_receiver);
        assert!(!log.look(), "no worker is known");
        arrive.send(Worker::of_this_thread(false)).unwrap();
        assert!(!log.look(), "the one who is, is idle");
        let busy = Worker::of_this_thread(true);
        arrive.send(Arc::clone(&busy)).unwrap();
        // Elsewhere the kernel keeps no account of it.
        let told = cfg!(all(target_os = "linux", not(deadbeat_portable)));
        assert_eq!(log.look(), told);
        // One that took too long, on a slow machine, is not kept.
        let shown = |look: &&CountersLook| !(look.accounts.is_empty() && told);
        let look = (0..1000).find_map(|_| {
            log.look();
            log.looks.last().filter(shown).cloned()
        });
        let look = look.expect("a look is kept");
        let who: Vec<_> = look.accounts.iter().map(|(thread, _)| *thread).collect();
        assert_eq!((look.workers.len(), who), (1, if told { vec![busy.thread()] } else { vec![] }));
    }

    #[test]
    fn a_look_that_may_mix_two_moments_is_not_kept_and_of_too_many_the_older_half_goes() {
        let mut log = log(channel().1);
        let start = Instant::now();
        let look = |nth: usize| CountersLook { at: start + MS * nth as u32, workers: Vec::new(), accounts: Vec::new() };
        log.keep(look(0), TORN_LOOK);
        assert_eq!(log.looks.len(), 0);
        for nth in 0..LOOKS_KEPT {
            log.keep(look(nth), TORN_LOOK - Duration::from_nanos(1));
        }
        assert_eq!(log.looks.len(), LOOKS_KEPT);
        log.keep(look(LOOKS_KEPT), Duration::ZERO);
        assert_eq!(log.looks.len(), LOOKS_KEPT / 2 + 1);
        assert_eq!((log.looks[0].at, log.looks[LOOKS_KEPT / 2].at), (look(LOOKS_KEPT / 2).at, look(LOOKS_KEPT).at));
    }

    #[test]
    fn who_is_idle_is_looked_at_half_as_often() {
        assert_eq!((until_the_next(true, MS), until_the_next(false, MS)), (MS, MS * 2));
    }

    /// How many looks fit into how long is the machine's affair; some do, in the end.
    #[test]
    fn it_looks_again_and_again_until_it_is_asked_for_what_it_saw() {
        let looks = |time: Duration| {
            let sampler = Sampler::start(runtime().metrics(), channel().1, MS).unwrap();
            std::thread::park_timeout(time);
            sampler.finish(Instant::now() + Duration::from_secs(60)).len()
        };
        assert!((2..14).any(|doubled| looks(MS * (1 << doubled)) > 3), "never more than three");
    }
}
