//! Runs one cell: starts the fixture, calls the subject under watch, collects what was seen of both, has it judged.

use std::io;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::ScopedJoinHandle;
use std::time::{Duration, Instant};

use super::cell::{Cell, CellSettings};
use super::judge::{Terms, judge};
use super::observation::Observation;
use super::observe::{CallTimes, GroupSeen, escaped, observe};
use super::program::{KillerProgram, ProgramEnd};
use super::subjects::{Implementation, KillFunction, SelfReport};
use crate::fixture::Running;
use crate::group::{Backend, GroupWatch, backend};
use crate::heartbeat::{Flavor, Lab, LabError};
use crate::heartbeat::{Heartbeat, Machine, Meanwhile, Pulse};
use crate::report::{CellReport, CellVerdict, Timeline};

/// How long the fixture outlives the deadline of its kill, so that its own end is never taken for the subject's doing.
const BEYOND_THE_DEADLINE: Duration = Duration::from_secs(60);
const SHORTEST_LIFE: Duration = Duration::from_secs(120);

pub(super) fn run_cell(cell: &Cell, settings: &CellSettings) -> CellReport {
    let report = cell.unjudged();
    let running = match start(cell, settings) {
        Ok(running) => running,
        Err(error) => return report.failed(format!("the fixture did not start: {error}")),
    };
    let report = judged(report, cell, settings, &running);
    match running.finish() {
        Ok(()) => report,
        Err(leak) => report.failed_too(leak.to_string()),
    }
}

fn start(cell: &Cell, settings: &CellSettings) -> io::Result<Running> {
    let life = settings.deadline.saturating_add(BEYOND_THE_DEADLINE).max(SHORTEST_LIFE);
    let setup = cell.fixture.setup().shell(&cell.shell).life(life);
    setup.cleanup(settings.cleanup()).first_signal(settings.policy.signal).start()
}

fn judged(mut report: CellReport, cell: &Cell, settings: &CellSettings, running: &Running) -> CellReport {
    let watched = watch(cell, settings, running);
    report.timeline = Some(watched.timeline(settings));
    let seen = match watched.collect(running) {
        Ok(seen) => seen,
        Err(NoResult { pulse, why }) => {
            report.pulse = pulse.as_deref().map(Into::into);
            return report.failed(why);
        }
    };
    let (verdict, mut why) = judge(&seen, &Terms::of(cell, settings));
    if verdict != CellVerdict::Pass {
        let (meanwhile, member_wait) = (&seen.meanwhile, seen.member_wait);
        why += &format!("; {meanwhile}; a member waited up to {member_wait:.1?} for a CPU or a disk");
    }
    let signals = seen.self_report.as_ref().and_then(|report| Some(report.as_ref().ok()?.signals.clone()));
    CellReport {
        elapsed: Some(seen.elapsed),
        outcome: seen.outcome(&report.expected, settings.policy.grace),
        signals,
        pulse: seen.pulse.as_ref().map(Into::into),
        leftover: seen.leftover,
        escaped: seen.escaped,
        verdict,
        why,
        ..report
    }
}

/// What the subject did, while another thread watched the group.
struct SubjectResult {
    self_report: SelfReport,
    elapsed: Duration,
    pulse: Option<Pulse>,
    program_fault: Option<String>,
}

/// Why there is nothing to judge: the subject did not come to its end.
struct NoResult {
    pulse: Option<Box<Pulse>>,
    why: String,
}

/// A cell that is over, seen from the subject's side and from the group's.
struct WatchedCell<'a> {
    result: Result<SubjectResult, NoResult>,
    group: GroupSeen<'a>,
    gone_before: bool,
    meanwhile: Meanwhile,
    times: Arc<CallTimes>,
    start: Instant,
}

/// Calls the subject while another thread watches the group, until the subject has returned and the group was looked at
/// for the last time.
fn watch<'a>(cell: &Cell, settings: &CellSettings, running: &'a Running) -> WatchedCell<'a> {
    let mut group = GroupWatch::new(running.group());
    let gone_before = group.is_gone();
    let mut seen = GroupSeen::nothing_yet(running, settings.policy.grace);
    seen.members.look(false);
    let times = Arc::new(CallTimes::default());
    let (before, start) = (Machine::now(), Instant::now());
    let (result, group) = std::thread::scope(|scope| {
        let (over, ended) = mpsc::channel::<()>();
        let shared = Arc::clone(&times);
        let observer = scope.spawn(move || observe(group, seen, &ended, &shared));
        let observed = || {
            drop(over);
            join(observer, || GroupSeen::nothing_yet(running, settings.policy.grace))
        };
        match &cell.subject.implementation {
            Implementation::Function(kill) => {
                let flavor = cell.runtime.unwrap_or(Flavor::CurrentThread);
                let result = call(kill, flavor, running.pgid(), settings, &times);
                (result.map_err(|error| no_result(error, settings.deadline)), observed())
            }
            Implementation::Program(program) => {
                let _ = times.called.set(start);
                run_program(program, running.pgid(), settings, observed)
            }
        }
    });
    let meanwhile = Machine::now().since(&before);
    WatchedCell { result, group, gone_before, meanwhile, times, start }
}

fn join<T>(thread: ScopedJoinHandle<'_, T>, otherwise: impl FnOnce() -> T) -> T {
    thread.join().unwrap_or_else(|_| otherwise())
}

impl WatchedCell<'_> {
    /// When the subject was called. The grace begins then: a slow start of the lab takes none of it.
    fn called(&self) -> Instant {
        self.times.called.get().copied().unwrap_or(self.start)
    }

    /// The times of what happened, from the start of the watch.
    fn timeline(&self, settings: &CellSettings) -> Timeline {
        let zero = self.times.began.get().copied().unwrap_or(self.start);
        let since = |at: Instant| at.saturating_duration_since(zero);
        let (lives, more_lives) = self.group.members.lives(zero);
        Timeline {
            called: self.times.called.get().map_or(Duration::ZERO, |at| since(*at)),
            grace: settings.policy.grace,
            gone: self.group.gone_at.map(since),
            until: since(self.group.gone_at.unwrap_or_else(Instant::now)),
            lives,
            more_lives,
        }
    }

    /// Collects all that was seen, if the subject came to its end.
    fn collect(self, running: &Running) -> Result<Observation, NoResult> {
        let called = self.called();
        let WatchedCell { result, group, gone_before, meanwhile, .. } = self;
        let result =
            result.map_err(|none| NoResult { why: format!("{}; {}", none.why, end(&group, running)), ..none })?;
        let SubjectResult { self_report, elapsed, pulse, program_fault } = result;
        let (leftover, escaped) = (running.leftover(), escaped(running));
        let unlisted = leftover.as_ref().err().or(escaped.as_ref().err());
        let unlisted = unlisted.filter(|_| backend() == Backend::Proc);
        Ok(Observation {
            self_report,
            elapsed,
            alive_after: group.alive_at.saturating_duration_since(called),
            gone_after: group.gone_at.map(|at| at.saturating_duration_since(called)),
            gone_before,
            machine_delays: group.machine_delays,
            member_wait: group.waits.longest(),
            meanwhile,
            leader_stayed: group.leader_stayed,
            leader_ended_by: running.leader_ended_by(),
            leader_is_a_zombie: running.leader_is_a_zombie(),
            is_alone: running.pids().len() == 1,
            cleaned_up: running.cleaned_up(),
            unlisted: unlisted.map(|error| format!("who is left cannot be told: {error}")),
            leftover: leftover.unwrap_or_default(),
            escaped: escaped.unwrap_or_default(),
            pulse,
            program_fault,
        })
    }
}

/// What became of the group of a subject that did not return.
fn end(group: &GroupSeen<'_>, running: &Running) -> &'static str {
    match group.gone_at {
        None => "the group lives on",
        Some(_) if running.leader_is_a_zombie() => {
            "the group is gone, and its un-reaped leader is still in the process table"
        }
        Some(_) => "the group is gone",
    }
}

/// Calls the subject in a task: a block in the root future of a multi-thread runtime starves no task.
fn call(
    kill: &KillFunction,
    flavor: Flavor,
    pgid: i32,
    settings: &CellSettings,
    times: &Arc<CallTimes>,
) -> Result<SubjectResult, LabError> {
    let CellSettings { policy, budget, deadline } = settings.clone();
    let heartbeat = Heartbeat::new().interval(Duration::from_millis(5).min(budget)).budget(budget);
    let (kill, times) = (Arc::clone(kill), Arc::clone(times));
    let watched = Lab::new(flavor).heartbeat(heartbeat).deadline(deadline).run_root(move || async move {
        let _ = times.began.set(Instant::now());
        let killing = tokio::spawn(async move {
            let start = Instant::now();
            let _ = times.called.set(start);
            let self_report = kill(pgid, policy).await;
            let returned = Instant::now();
            let _ = times.returned.set(returned);
            (self_report, returned - start)
        });
        killing.await.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
    })?;
    let (self_report, elapsed) = watched.output;
    Ok(SubjectResult { self_report, elapsed, pulse: Some(watched.pulse), program_fault: None })
}

fn no_result(error: LabError, deadline: Duration) -> NoResult {
    match error {
        LabError::Hung { pulse } => {
            let culprit = pulse.stalls.last().and_then(|stall| stall.culprit.as_ref());
            let culprit = culprit.map_or_else(String::new, |culprit| format!(": {culprit}"));
            NoResult { why: format!("the subject did not come back within {deadline:?}{culprit}"), pulse: Some(pulse) }
        }
        error => NoResult { pulse: None, why: error.to_string() },
    }
}

/// Runs a program to its end. What it leaves behind lives on for as long as the group is looked at.
fn run_program<T>(
    program: &KillerProgram,
    pgid: i32,
    settings: &CellSettings,
    observed: impl FnOnce() -> T,
) -> (Result<SubjectResult, NoResult>, T) {
    let (end, group) = program.run(pgid, settings.policy.grace, settings.deadline, observed);
    let result = match end {
        ProgramEnd { elapsed: Some(elapsed), fault } => {
            Ok(SubjectResult { self_report: None, elapsed, pulse: None, program_fault: fault })
        }
        ProgramEnd { elapsed: None, fault } => Err(NoResult { pulse: None, why: fault.unwrap_or_default() }),
    };
    (result, group)
}
