//! One cell: start the fixture, run the subject under watch, see what became of the group, judge.

use std::sync::mpsc::{self, TryRecvError};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::lives::Lives;
use super::subjects::Told;
use super::{Cell, Expected, ExpectedPulse, Timing, runtime_name};
use crate::fixture::Running;
use crate::group::{Backend, Vigil, backend};
use crate::heartbeat::lab::{Lab, LabError};
use crate::heartbeat::{Heartbeat, Pulse, Verdict};
use crate::kill::{KillPolicy, Outcome};
use crate::report::{CellReport, CellVerdict, Timeline};
use crate::signal::Signal;

/// Members take some milliseconds to die of SIGKILL; a subject that returns right after it has left nobody behind yet.
const LEFTOVER_JUDGED_AFTER: Duration = Duration::from_secs(1);

/// What was seen of a cell, before any judgement.
struct Seen {
    told: Told,
    elapsed: Duration,
    /// Since the subject was called; `None` if the group was still there at the end.
    gone_after: Option<Duration>,
    gone_before: bool,
    leader_ended_by: Option<Signal>,
    cleaned_up: bool,
    pulse: Option<Pulse>,
}

pub(super) fn run(cell: &Cell, policy: &KillPolicy, budget: Duration) -> CellReport {
    let (mut report, running) = judged(cell, policy, budget);
    if let Some(Err(leak)) = running.map(Running::finish) {
        report.verdict = CellVerdict::Fail;
        report.why = if report.why.is_empty() { leak.to_string() } else { format!("{}; {leak}", report.why) };
    }
    report
}

fn judged(cell: &Cell, policy: &KillPolicy, budget: Duration) -> (CellReport, Option<Running>) {
    let expected = cell.expected();
    let mut report = CellReport::new(
        cell.subject.name(),
        cell.fixture.name,
        &runtime_name(cell.runtime),
        &cell.shell,
        cell.subject.is_known_bad(),
        expected,
    );
    let running = match cell.fixture.setup().shell(&cell.shell).cleanup(policy.grace / 5).start() {
        Ok(running) => running,
        Err(error) => return (report.failed(format!("the fixture did not start: {error}")), None),
    };
    let (seen, timeline) = watch(cell, policy, budget, &running);
    report.timeline = Some(timeline);
    let report = match seen {
        Ok(seen) => {
            report.elapsed = Some(seen.elapsed);
            let outcome = seen.outcome(policy);
            report.outcome = outcome;
            if let Some(Ok(told)) = &seen.told {
                report.signals = Some(told.signals.clone());
            }
            report.leftover = running.leftover().unwrap_or_default();
            report.escaped = running.escaped().unwrap_or_default();
            let (verdict, why) = judge(&report, &seen, &expected, policy);
            report.pulse = seen.pulse.as_ref().map(Into::into);
            (report.verdict, report.why) = (verdict, why);
            report
        }
        Err(LabError::Hung { pulse, .. }) => {
            let why = format!("the subject did not come back within {:?}", deadline(policy));
            report.pulse = Some((&*pulse).into());
            report.failed(why)
        }
        Err(error) => report.failed(error.to_string()),
    };
    (report, Some(running))
}

/// Far beyond what the slowest machine needs for the longest ladder.
fn deadline(policy: &KillPolicy) -> Duration {
    policy.grace.saturating_mul(2).saturating_add(Duration::from_secs(30))
}

/// When the watch began, and when the subject was called.
#[derive(Default)]
struct Marks {
    began: OnceLock<Instant>,
    called: OnceLock<Instant>,
}

fn watch(cell: &Cell, policy: &KillPolicy, budget: Duration, running: &Running) -> (Result<Seen, LabError>, Timeline) {
    let mut vigil = Vigil::new(running.group());
    let gone_before = vigil.look();
    let heartbeat = Heartbeat::new().interval(Duration::from_millis(5).min(budget)).budget(budget);
    let lab = Lab::new(cell.runtime).heartbeat(heartbeat).deadline(deadline(policy));

    let (subject, pgid, told_policy) = (cell.subject.clone(), running.pgid(), policy.clone());
    let mut lives = Lives::of(running);
    lives.look(false);
    let marks = Arc::new(Marks::default());
    let their_marks = Arc::clone(&marks);
    let start = Instant::now();
    let (watched, gone_at, lives) = std::thread::scope(|scope| {
        let (over, ended) = mpsc::channel::<()>();
        let observer = scope.spawn(move || {
            let mut ended_at = None;
            let mut woken = false;
            loop {
                if vigil.look() {
                    let now = Instant::now();
                    lives.all_gone(now);
                    return (Some(now), lives);
                }
                lives.look(woken);
                if ended_at.is_some_and(|at: Instant| at.elapsed() >= LEFTOVER_JUDGED_AFTER) {
                    return (None, lives);
                }
                let (asleep, at_most) = (Instant::now(), Duration::from_millis(20));
                vigil.wait(at_most);
                woken = asleep.elapsed() < at_most;
                if ended_at.is_none() && ended.try_recv() == Err(TryRecvError::Disconnected) {
                    ended_at = Some(Instant::now());
                }
            }
        });
        let watched = lab.run(move || async move {
            // In a task: a block in the root future of a multi-thread runtime starves nobody.
            let _ = their_marks.began.set(Instant::now());
            let killing = tokio::spawn(async move {
                let start = Instant::now();
                let _ = their_marks.called.set(start);
                let told = subject.kill(pgid, &told_policy).await;
                (told, start.elapsed())
            });
            killing.await
        });
        drop(over);
        let (gone_at, lives) = observer.join().unwrap_or_else(|_| (None, Lives::of(running)));
        (watched, gone_at, lives)
    });
    let zero = marks.began.get().copied().unwrap_or(start);
    let since = |at: Instant| at.saturating_duration_since(zero);
    let until = gone_at.unwrap_or_else(Instant::now);
    let (lives, more_lives) = lives.told(zero);
    let timeline = Timeline {
        called: marks.called.get().map_or(Duration::ZERO, |at| since(*at)),
        grace: policy.grace,
        gone: gone_at.map(since),
        until: since(until),
        lives,
        more_lives,
    };
    let seen = watched.and_then(|watched| {
        let (told, elapsed) = watched.output.map_err(|error| LabError::Panicked { message: error.to_string() })?;
        Ok(Seen {
            told,
            elapsed,
            gone_after: gone_at.map(|at| at.saturating_duration_since(start)),
            gone_before,
            leader_ended_by: running.leader_ended_by(),
            cleaned_up: running.cleaned_up(),
            pulse: Some(watched.pulse),
        })
    });
    (seen, timeline)
}

impl Seen {
    /// As the subject told it; else as the fixture's end shows it: killed if the leader died of SIGKILL, or if the
    /// group outlived half the grace.
    fn outcome(&self, policy: &KillPolicy) -> Option<Outcome> {
        match &self.told {
            Some(Ok(report)) => return Some(report.outcome),
            Some(Err(_)) => return None,
            None => {}
        }
        if self.gone_before {
            return Some(Outcome::AlreadyGone);
        }
        if backend() == Backend::Probe {
            // An un-reaped leader looks alive to the end.
            return None;
        }
        match self.gone_after {
            None => Some(Outcome::Survived),
            Some(after) if after >= policy.grace / 2 || self.leader_ended_by == Some(Signal::KILL) => {
                Some(Outcome::Killed)
            }
            Some(_) => Some(Outcome::Terminated),
        }
    }
}

fn judge(report: &CellReport, seen: &Seen, expected: &Expected, policy: &KillPolicy) -> (CellVerdict, String) {
    let mut faults = Vec::new();
    if let Some(Err(error)) = &seen.told {
        faults.push(error.to_string());
    }
    if expected.outcome.is_some() && report.outcome != expected.outcome {
        let name = |outcome: Option<Outcome>| outcome.map_or("unknown", Outcome::as_str);
        faults.push(format!("outcome {}, not {}", name(report.outcome), name(expected.outcome)));
    }
    let (elapsed, grace) = (seen.elapsed, policy.grace);
    match expected.timing {
        // A slow machine can only make it later: the bound is far from what is expected, half the grace.
        Timing::Prompt if elapsed >= grace / 2 => {
            faults.push(format!("took {elapsed:.1?} of the {grace:?} of grace, though the group went at once"));
        }
        Timing::Grace if elapsed < grace => {
            faults.push(format!("back after {elapsed:.1?}, before the {grace:?} of grace were over"));
        }
        _ => {}
    }
    if expected.outcome == Some(Outcome::Killed) && seen.gone_after.is_some_and(|after| after < grace / 2) {
        faults.push(format!("SIGKILL came early, {:.1?} after the start", seen.gone_after.unwrap_or_default()));
    }
    if report.outcome == Some(Outcome::Terminated) && report.fixture == "slow-exit" && !seen.cleaned_up {
        faults.push("the group was not let finish its cleanup".into());
    }
    if report.leftover.len() > expected.leftover {
        let names: Vec<_> = report.leftover.iter().map(ToString::to_string).collect();
        faults.push(format!("left in the group: {}", names.join("; ")));
    }
    if backend() == Backend::Proc && report.escaped.len() != expected.escaped {
        faults.push(format!("{} escaped, not {}", report.escaped.len(), expected.escaped));
    }

    let verdict = seen.pulse.as_ref().map(Pulse::verdict);
    let mut unclear = None;
    match (verdict, expected.pulse) {
        (Some(Verdict::Steady), ExpectedPulse::Steady)
        | (Some(Verdict::Starved), ExpectedPulse::Starved)
        | (None, _) => {}
        (Some(Verdict::Starved), ExpectedPulse::Steady) => {
            let longest = seen.pulse.as_ref().map_or(Duration::ZERO, |pulse| pulse.longest);
            faults.push(format!("a worker stood still for {longest:.1?}"));
        }
        (Some(Verdict::Steady), ExpectedPulse::Starved) => {
            faults.push("the worker was expected to stand still, and did not: the suite has lost its teeth".into());
        }
        (Some(Verdict::Inconclusive { why, .. }), _) => unclear = Some(why.to_string()),
    }
    match (faults.is_empty(), unclear) {
        (false, _) => (CellVerdict::Fail, faults.join("; ")),
        (true, Some(why)) => (CellVerdict::Inconclusive, why),
        (true, None) => (CellVerdict::Pass, String::new()),
    }
}
