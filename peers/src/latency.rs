//! What the kill of an obedient group costs, its leader un-reaped when the kill begins: from call to return.
//!
//! One round of each peer, then the next round: a busy moment of the machine hits all of them.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;

use crate::peer;
use crate::target::Target;

const ROUNDS: usize = 200;

/// Rounds that take the whole grace are all alike.
const ENOUGH: Duration = Duration::from_secs(6);

/// A leader and one member.
const OBEDIENT: &str = "sleep 120 & echo \"leader $$\"; echo \"child $!\"; echo \"ready 2\"; exec sleep 120";

#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) rounds: usize,
    /// Rounds in which a member of the group could still run when the kill returned.
    pub(crate) early: usize,
    pub(crate) error: Option<String>,
}

#[derive(Default)]
struct Rounds {
    times: Vec<Duration>,
    early: usize,
    error: Option<String>,
}

/// In the order of [`peer::ALL`].
pub(crate) fn measure(grace: Duration) -> Vec<Latency> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut all: Vec<Rounds> = peer::ALL.iter().map(|_| Rounds::default()).collect();
    for _ in 0..ROUNDS {
        for (peer, rounds) in peer::ALL.iter().zip(&mut all) {
            if rounds.times.iter().sum::<Duration>() < ENOUGH {
                rounds.one(&runtime, peer, grace);
            }
        }
    }
    all.into_iter().map(Rounds::sum_up).collect()
}

impl Rounds {
    fn one(&mut self, runtime: &Runtime, peer: &peer::Peer, grace: Duration) {
        let (target, started) = Target::script(peer, OBEDIENT, "obedient", grace).expect("an obedient group");
        let (took, result) = runtime.block_on(async {
            let begun = Instant::now();
            let result = started.kill.await;
            (begun.elapsed(), result)
        });
        self.early += usize::from(!target.is_gone());
        self.times.push(took);
        if let Err(error) = result {
            self.error.get_or_insert(error.to_string());
        }
    }

    fn sum_up(mut self) -> Latency {
        self.times.sort();
        let quantile = |q: f64| self.times[((self.times.len() - 1) as f64 * q).round() as usize].as_secs_f64() * 1e3;
        let (p50_ms, p99_ms) = (quantile(0.5), quantile(0.99));
        Latency { p50_ms, p99_ms, rounds: self.times.len(), early: self.early, error: self.error }
    }
}
