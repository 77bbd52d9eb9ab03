//! What the kill of an obedient group costs, its leader un-reaped when the kill begins: from call to return.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::peer::Peer;
use crate::prey::Prey;

const ROUNDS: usize = 200;

/// Rounds that take the whole grace are all alike.
const ENOUGH: Duration = Duration::from_secs(6);

/// A leader and one member.
const OBEDIENT: &str = "sleep 120 & echo \"leader $$\"; echo \"child $!\"; echo \"ready 2\"; exec sleep 120";

#[derive(Serialize, Deserialize)]
pub(crate) struct Latency {
    pub(crate) p50_ms: f64,
    pub(crate) p99_ms: f64,
    pub(crate) rounds: usize,
    /// Rounds in which somebody of the group could still run when the kill returned.
    pub(crate) early: usize,
    pub(crate) error: Option<String>,
}

pub(crate) fn measure(peer: &Peer, grace: Duration) -> Latency {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let (mut times, mut early, mut error, mut warm) = (Vec::new(), 0, None, true);
    let begun = Instant::now();
    while times.len() < ROUNDS && begun.elapsed() < ENOUGH {
        let (prey, started) = Prey::script(peer, OBEDIENT, "obedient", grace).expect("an obedient group");
        let (took, result) = runtime.block_on(async {
            let begun = Instant::now();
            let result = started.kill.await;
            (begun.elapsed(), result)
        });
        // The first one starts threads and probes the system.
        if std::mem::take(&mut warm) {
            continue;
        }
        early += usize::from(!prey.is_gone());
        error = error.or(result.err().map(|error| error.to_string()));
        times.push(took);
    }
    times.sort();
    let quantile = |q: f64| times[((times.len() - 1) as f64 * q).round() as usize].as_secs_f64() * 1e3;
    Latency { p50_ms: quantile(0.5), p99_ms: quantile(0.99), rounds: times.len(), early, error }
}
