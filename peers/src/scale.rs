//! A thousand groups that ignore SIGTERM, killed at once on two workers: how long, with how many threads, how much CPU,
//! which tasks starve, which members survive. One process a peer, so that its threads and its CPU time are its own.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use deadbeat::heartbeat::{Flavor, Lab, LabError, Verdict, Watched};
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use nix::sys::time::TimeVal;
use serde::{Deserialize, Serialize};

use crate::peer::Peer;
use crate::started::Killing;
use crate::target::{Target, pause};

pub(crate) const GROUPS: usize = 1000;

/// Who is not done then is not waited for.
pub(crate) const DEADLINE: Duration = Duration::from_secs(15);

const STUBBORN: &str = "trap '' TERM; echo \"leader $$\"; echo \"ready 1\"; exec sleep 120";

#[derive(Serialize, Deserialize)]
pub(crate) struct Scale {
    /// `None`: not over at the deadline.
    pub(crate) wall_s: Option<f64>,
    /// The most threads at any time, beyond those of the bench.
    pub(crate) threads: usize,
    /// Of this process and of the children it has waited for.
    pub(crate) cpu_s: f64,
    pub(crate) pulse: String,
    pub(crate) longest_ms: f64,
    pub(crate) culprit: Option<String>,
    /// Groups of which a member can run 1 s after the last kill returned.
    pub(crate) survivors: usize,
    /// Kills that said they failed, or panicked.
    pub(crate) errors: usize,
    pub(crate) error: Option<String>,
}

pub(crate) fn measure(peer: &Peer, grace: Duration) -> Scale {
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).expect("a limit");
    setrlimit(Resource::RLIMIT_NOFILE, most, most).expect("as many files as may be");
    let (mut targets, mut kills) = (Vec::new(), Vec::new());
    for _ in 0..GROUPS {
        let (target, started) = Target::script(peer, STUBBORN, "stubborn", grace).expect("a stubborn group");
        targets.push(target);
        kills.push(started.kill);
    }
    // A bench without a kill has threads too, and so has a peer that starts some with its first child.
    let nothing: Killing = Box::pin(async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        Ok(())
    });
    let (_, before) = counting_threads(|| watch(vec![nothing]));
    let (cpu_before, begun) = (cpu(), Instant::now());
    let ((watched, wall), peak) = counting_threads(|| {
        let watched = watch(kills);
        (watched, begun.elapsed())
    });
    let cpu_s = cpu() - cpu_before;
    let (faults, pulse, done) = match watched {
        Ok(watched) => (watched.output, Some(watched.pulse), true),
        Err(LabError::Hung { pulse }) => (Vec::new(), Some(*pulse), false),
        Err(error) => (vec![error.to_string()], None, false),
    };
    let judged_at = Instant::now() + Duration::from_secs(1);
    let mut survivors = count(&targets);
    while survivors > 0 && Instant::now() < judged_at {
        pause(Duration::from_millis(20));
        survivors = count(&targets);
    }
    let verdict = match pulse.as_ref().map(|pulse| pulse.verdict()) {
        Some(Verdict::Steady) => "steady".to_owned(),
        Some(Verdict::Starved) => "starved".to_owned(),
        Some(Verdict::Inconclusive { why }) => format!("inconclusive: {why}"),
        _ => "unknown".to_owned(),
    };
    let result = Scale {
        wall_s: done.then_some(wall.as_secs_f64()),
        threads: peak.saturating_sub(before),
        cpu_s,
        pulse: verdict,
        culprit: pulse.as_ref().and_then(|pulse| Some(pulse.worst()?.culprit.as_ref()?.to_string())),
        longest_ms: pulse.map_or(0.0, |pulse| pulse.longest.as_secs_f64() * 1e3),
        survivors,
        errors: faults.len(),
        error: faults.first().cloned(),
    };
    targets.into_iter().for_each(Target::leave);
    result
}

fn watch(kills: Vec<Killing>) -> Result<Watched<Vec<String>>, LabError> {
    Lab::new(Flavor::MultiThread(2)).deadline(DEADLINE).run(move || async move {
        let all: Vec<_> = kills.into_iter().map(tokio::spawn).collect();
        let mut faults = Vec::new();
        for kill in all {
            match kill.await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => faults.push(error.to_string()),
                Err(panic) => faults.push(panic.to_string()),
            }
        }
        faults
    })
}

/// And the most threads that there were meanwhile.
fn counting_threads<T>(f: impl FnOnce() -> T) -> (T, usize) {
    let (over, peak) = (AtomicBool::new(false), AtomicUsize::new(0));
    let output = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                peak.fetch_max(threads(), Ordering::Relaxed);
                pause(Duration::from_millis(10));
            }
        });
        let output = f();
        over.store(true, Ordering::Relaxed);
        output
    });
    (output, peak.into_inner())
}

fn count(targets: &[Target]) -> usize {
    targets.iter().filter(|target| target.leader_can_run()).count()
}

fn threads() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").expect("/proc");
    let line = status.lines().find_map(|line| line.strip_prefix("Threads:")).expect("a count");
    line.trim().parse().expect("a number")
}

fn cpu() -> f64 {
    let seconds = |time: TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    let used = |who| getrusage(who).map_or(0.0, |usage| seconds(usage.user_time()) + seconds(usage.system_time()));
    used(UsageWho::RUSAGE_SELF) + used(UsageWho::RUSAGE_CHILDREN)
}
