//! One cell: start the fixture, run the subject under watch, see what became of the group, judge.

use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, TryRecvError};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use nix::time::ClockId;

use super::held::Held;
use super::lives::{Lives, beginning};
use super::program::Ended;
use super::subjects::{Call, Kill, Told};
use super::{Cell, Expected, ExpectedPulse, Timing};
use crate::fixture::Running;
use crate::group::{Backend, Member, ProcessGroup, Vigil, backend, pause};
use crate::heartbeat::lab::{Flavor, Lab, LabError};
use crate::heartbeat::{Culprit, Heartbeat, Machine, Meanwhile, Pulse, Stall, Verdict};
use crate::kill::{KillPolicy, Outcome};
use crate::report::{CellReport, CellVerdict, Timeline};
use crate::signal::Signal;

/// Members take some milliseconds to die of SIGKILL; a subject that returns right after it has left nobody behind yet.
const LEFTOVER_JUDGED_AFTER: Duration = Duration::from_secs(1);

/// How long one may take to die to whom SIGKILL was sent: on a machine with many at work a second is not enough.
const DEAD_AFTER: Duration = Duration::from_secs(10);

/// What a slow machine is granted where something is too late, however short the grace: as much as with the default one.
const LEAST_ROOM: Duration = Duration::from_secs(5);

/// Between two looks at the group, if nothing happens there.
const LOOK: Duration = Duration::from_millis(20);

/// How long the fixture outlives the deadline of its kill: its end must never be taken for the subject's doing.
const BEYOND: Duration = Duration::from_secs(60);
const LEAST_LIFE: Duration = Duration::from_secs(120);

/// What was seen of a cell, before any judgement.
struct Seen {
    told: Told,
    elapsed: Duration,
    /// Since the subject was called: it was seen alive after this time, and no more later.
    alive_after: Duration,
    /// By this time; `None` if the group was still there at the end.
    gone_after: Option<Duration>,
    gone_before: bool,
    /// How long the machine kept waiting whoever watched, from the call to the subject's end.
    held_up: Duration,
    /// How long the machine kept one member of the group waiting for a CPU, a disk or a page, at most.
    members_held: Duration,
    /// What else the machine did from then on.
    meanwhile: Meanwhile,
    leader_ended_by: Option<Signal>,
    cleaned_up: bool,
    /// Of a program there is none.
    pulse: Option<Pulse>,
    /// What its own end says against a program.
    fault: Option<String>,
}

pub(super) fn run(cell: &Cell, policy: &KillPolicy, budget: Duration, deadline: Duration) -> CellReport {
    let (mut report, running) = judged(cell, policy, budget, deadline);
    if let Some(Err(leak)) = running.map(Running::finish) {
        report.verdict = CellVerdict::Fail;
        report.why = if report.why.is_empty() { leak.to_string() } else { format!("{}; {leak}", report.why) };
    }
    report
}

/// The report of a cell of which nothing has been seen yet.
pub(super) fn unjudged(cell: &Cell) -> CellReport {
    let (subject, known_bad) = (cell.subject.name(), cell.subject.is_known_bad());
    let (runtime, expected) = (cell.runtime_name(), cell.expected());
    let report = CellReport::new(subject, cell.fixture.name, &runtime, &cell.shell, known_bad, expected);
    CellReport { repeat: cell.repeat, ..report }
}

fn judged(cell: &Cell, policy: &KillPolicy, budget: Duration, deadline: Duration) -> (CellReport, Option<Running>) {
    let mut report = unjudged(cell);
    let expected = report.expected;
    let setup = cell.fixture.setup().shell(&cell.shell).cleanup(policy.grace / 5).first_signal(policy.signal);
    let running = match setup.life(deadline.saturating_add(BEYOND).max(LEAST_LIFE)).start() {
        Ok(running) => running,
        Err(error) => return (report.failed(format!("the fixture did not start: {error}")), None),
    };
    let (seen, timeline) = watch(cell, policy, budget, deadline, &running);
    report.timeline = Some(timeline);
    let report = match seen {
        Ok(seen) => {
            report.elapsed = Some(seen.elapsed);
            let outcome = seen.outcome(&expected, policy);
            report.outcome = outcome;
            if let Some(Ok(told)) = &seen.told {
                report.signals = Some(told.signals.clone());
            }
            let (leftover, escaped) = (running.leftover(), escaped(&running));
            let unseen = leftover.as_ref().err().or(escaped.as_ref().err());
            let unseen = unseen
                .filter(|_| backend() == Backend::Proc)
                .map(|error| format!("who is left cannot be told: {error}"));
            (report.leftover, report.escaped) = (leftover.unwrap_or_default(), escaped.unwrap_or_default());
            let (mut verdict, mut why) = judge(cell, &report, &seen, policy);
            // Who cannot be seen is not proved to be dead.
            if let Some(unseen) = unseen.filter(|_| verdict == CellVerdict::Pass) {
                (verdict, why) = (CellVerdict::Inconclusive, unseen);
            }
            report.pulse = seen.pulse.as_ref().map(Into::into);
            if verdict != CellVerdict::Pass {
                why += &format!(
                    "; {}; a member waited up to {:.1?} for a CPU or a disk",
                    seen.meanwhile, seen.members_held
                );
            }
            (report.verdict, report.why) = (verdict, why);
            report
        }
        Err(Lost { pulse, why }) => {
            report.pulse = pulse.as_deref().map(Into::into);
            report.failed(why)
        }
    };
    (report, Some(running))
}

/// Whoever has left the group, once those are dead to whom SIGKILL is on its way.
fn escaped(running: &Running) -> io::Result<Vec<Member>> {
    let deadline = Instant::now() + DEAD_AFTER;
    loop {
        let escaped = running.escaped()?;
        if Instant::now() >= deadline || !escaped.iter().any(Member::is_dying) {
            return Ok(escaped);
        }
        pause(LOOK);
    }
}

/// When the watch began, when the subject was called, and when it came back. Of a program the last is not known here.
#[derive(Default)]
struct Marks {
    began: OnceLock<Instant>,
    called: OnceLock<Instant>,
    ended: OnceLock<Instant>,
}

impl Marks {
    /// How much of this time the subject was at work: the lab's start and end are none of its own.
    fn at_work(&self, from: Instant, to: Instant) -> Duration {
        let Some(called) = self.called.get() else { return Duration::ZERO };
        let to = self.ended.get().map_or(to, |ended| to.min(*ended));
        to.saturating_duration_since(from.max(*called))
    }
}

/// What the subject did, while somebody else watched the group.
struct Acted {
    told: Told,
    elapsed: Duration,
    pulse: Option<Pulse>,
    fault: Option<String>,
}

/// A subject that did not come to its end, so that there is nothing to judge.
struct Lost {
    pulse: Option<Box<Pulse>>,
    why: String,
}

fn watch(
    cell: &Cell,
    policy: &KillPolicy,
    budget: Duration,
    deadline: Duration,
    running: &Running,
) -> (Result<Seen, Lost>, Timeline) {
    let mut vigil = Vigil::new(running.group());
    let gone_before = vigil.look();
    let mut lives = Lives::of(running);
    lives.look(false);
    let marks = Arc::new(Marks::default());
    let before = Machine::now();
    let start = Instant::now();
    let (acted, observed) = std::thread::scope(|scope| {
        let (over, ended) = mpsc::channel::<()>();
        let shared = Arc::clone(&marks);
        let observer =
            scope.spawn(move || observe(vigil, Observed::nothing(lives, Held::within(policy.grace)), &ended, &shared));
        let observed = || {
            drop(over);
            observer.join().unwrap_or_else(|_| Observed::nothing(Lives::of(running), Held::within(policy.grace)))
        };
        match &cell.subject.kill {
            Kill::Call(kill) => {
                let flavor = cell.runtime.unwrap_or(Flavor::CurrentThread);
                let heartbeat = Heartbeat::new().interval(Duration::from_millis(5).min(budget)).budget(budget);
                let lab = Lab::new(flavor).heartbeat(heartbeat).deadline(deadline);
                let acted = call(kill, running.pgid(), policy, &lab, &marks);
                (acted.map_err(|error| lost(error, deadline)), observed())
            }
            // What it leaves behind may go on for as long as the group is looked at.
            Kill::Program(program) => {
                let _ = marks.called.set(start);
                let (ended, observed) = program.run(running.pgid(), policy.grace, deadline, observed);
                (acted(ended), observed)
            }
        }
    });
    let meanwhile = Machine::now().since(&before);
    let zero = marks.began.get().copied().unwrap_or(start);
    // A machine with no time to start the lab takes none of the grace: that begins with the call.
    let called = marks.called.get().copied().unwrap_or(start);
    let since = |at: Instant| at.saturating_duration_since(zero);
    let Observed { alive_at, gone_at, held_up, held, lives } = observed;
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
    let seen = acted.map(|Acted { told, elapsed, pulse, fault }| Seen {
        told,
        elapsed,
        alive_after: alive_at.saturating_duration_since(called),
        gone_after: gone_at.map(|at| at.saturating_duration_since(called)),
        gone_before,
        held_up,
        members_held: held.longest(),
        meanwhile,
        leader_ended_by: running.leader_ended_by(),
        cleaned_up: running.cleaned_up(),
        pulse,
        fault,
    });
    (seen, timeline)
}

/// What was seen of the group from beside the subject.
struct Observed<'a> {
    /// When the last look began that saw it alive: it died after that.
    alive_at: Instant,
    /// When the look was over that saw it gone: it died before that.
    gone_at: Option<Instant>,
    /// How long the observer was itself held up while the subject was at work.
    held_up: Duration,
    held: Held,
    lives: Lives<'a>,
}

impl<'a> Observed<'a> {
    fn nothing(lives: Lives<'a>, held: Held) -> Observed<'a> {
        Observed { alive_at: Instant::now(), gone_at: None, held_up: Duration::ZERO, held, lives }
    }
}

/// Looks at the group until it is gone, or until a moment after the subject has ended.
fn observe<'a>(mut vigil: Vigil, mut observed: Observed<'a>, ended: &Receiver<()>, marks: &Marks) -> Observed<'a> {
    let mut ended_at = None;
    let mut woken = false;
    let mut looked_at = observed.alive_at;
    loop {
        let begun_at = Instant::now();
        let gone = vigil.look();
        let now = Instant::now();
        observed.held_up = observed.held_up.max(marks.at_work(looked_at, now).saturating_sub(LOOK));
        looked_at = now;
        if gone {
            observed.lives.all_gone(now);
            observed.gone_at = Some(now);
            let group = vigil.group();
            observed.held_up = observed.held_up.max(held_up_until(ended, marks, move || walk(group)));
            return observed;
        }
        observed.alive_at = begun_at;
        observed.lives.look(woken);
        observed.held.look(observed.lives.living());
        let since_the_end = ended_at.map_or(Duration::ZERO, |at: Instant| at.elapsed());
        if since_the_end >= LEFTOVER_JUDGED_AFTER && (since_the_end >= DEAD_AFTER || !observed.lives.are_dying()) {
            return observed;
        }
        let asleep = Instant::now();
        vigil.wait(LOOK);
        woken = asleep.elapsed() < LOOK;
        if ended_at.is_none() && ended.try_recv() == Err(TryRecvError::Disconnected) {
            ended_at = Some(Instant::now());
        }
    }
}

/// How long the machine keeps waiting whoever does no more than any kill has to: wake, get a thread, walk through the
/// process table in it. The group is gone, and the subject may take its time to return, or be kept from it.
fn held_up_until(ended: &Receiver<()>, marks: &Marks, walk: impl Fn() -> Duration + Copy + Send + 'static) -> Duration {
    let begun = Instant::now();
    let (mut worst, mut all) = (Duration::ZERO, Duration::ZERO);
    loop {
        let asleep = Instant::now();
        let over = ended.recv_timeout(LOOK) != Err(RecvTimeoutError::Timeout) || marks.ended.get().is_some();
        // A thread that is refused is no wait.
        let walker = if over { None } else { std::thread::Builder::new().spawn(walk).ok() };
        let worked = walker.and_then(|walker| walker.join().ok()).unwrap_or_default();
        let now = Instant::now();
        let late = marks.at_work(asleep, now).saturating_sub(LOOK + worked);
        worst = worst.max(late);
        all += late;
        if over {
            return held_up(worst, all, marks.at_work(begun, now));
        }
    }
}

/// Looks for the group's members, and returns the CPU time of this thread.
fn walk(group: ProcessGroup) -> Duration {
    let _ = group.members();
    ClockId::CLOCK_THREAD_CPUTIME_ID.now().map_or(Duration::ZERO, Duration::from)
}

/// At worst; or in all, if that is half of the time: who has work to do waits again after each bit of it, on a machine that
/// wakes a sleeper at once.
fn held_up(worst: Duration, all: Duration, watched: Duration) -> Duration {
    if all >= watched / 2 { all } else { worst }
}

/// Calls the subject in a task: a block in the root future of a multi-thread runtime starves nobody.
fn call(kill: &Call, pgid: i32, policy: &KillPolicy, lab: &Lab, marks: &Arc<Marks>) -> Result<Acted, LabError> {
    let (kill, policy, marks) = (Arc::clone(kill), policy.clone(), Arc::clone(marks));
    let watched = lab.run(move || async move {
        let _ = marks.began.set(Instant::now());
        let killing = tokio::spawn(async move {
            let start = Instant::now();
            let _ = marks.called.set(start);
            let told = kill(pgid, policy).await;
            let ended = Instant::now();
            let _ = marks.ended.set(ended);
            (told, ended - start)
        });
        killing.await
    })?;
    let (told, elapsed) = watched.output.map_err(|error| LabError::Panicked { message: error.to_string() })?;
    Ok(Acted { told, elapsed, pulse: Some(watched.pulse), fault: None })
}

fn acted(Ended { elapsed, fault }: Ended) -> Result<Acted, Lost> {
    match (elapsed, fault) {
        (Some(elapsed), fault) => Ok(Acted { told: None, elapsed, pulse: None, fault }),
        (None, fault) => Err(Lost { pulse: None, why: fault.unwrap_or_default() }),
    }
}

fn lost(error: LabError, deadline: Duration) -> Lost {
    match error {
        LabError::Hung { pulse } => {
            let culprit = pulse.stalls.last().and_then(|stall| stall.culprit.as_ref());
            let culprit = culprit.map_or_else(String::new, |culprit| format!(": {culprit}"));
            Lost { why: format!("the subject did not come back within {deadline:?}{culprit}"), pulse: Some(pulse) }
        }
        error => Lost { pulse: None, why: error.to_string() },
    }
}

/// A fault that a machine with no time for the group, or for the subject, brings about too.
struct Late {
    fault: String,
    /// It was the group that went late; else the subject came back late from a group that had gone.
    of_the_group: bool,
    /// By how much, compared with a kill on an idle machine.
    by: Duration,
}

impl Late {
    /// What the machine did that can have brought it about, if it did enough.
    fn excuse(&self, seen: &Seen, grace: Duration) -> Option<String> {
        let (held_up, run_queue) = (seen.held_up, seen.meanwhile.run_queue);
        if held_up >= grace / 8 {
            return Some(format!("the machine kept the suite waiting too, for {held_up:.1?}"));
        }
        let of_members = if self.of_the_group { seen.members_held } else { Duration::ZERO };
        (run_queue + of_members >= self.by / 2).then(|| {
            format!(
                "a thread of the subject's process waited {run_queue:.1?} for a CPU, and a member of the group \
                 {of_members:.1?} for a CPU or a disk"
            )
        })
    }
}

/// What a slow machine is granted.
fn room(grace: Duration) -> Duration {
    grace.max(LEAST_ROOM)
}

impl Seen {
    /// As the subject told it; else as the fixture's end shows it: killed if the leader died of SIGKILL, or if the
    /// group outlived the grace, or half of it where it goes of nothing else.
    fn outcome(&self, expected: &Expected, policy: &KillPolicy) -> Option<Outcome> {
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
        let stubborn = expected.outcome == Some(Outcome::Killed);
        let obeyed_within = if stubborn { policy.grace / 2 } else { policy.grace };
        match self.gone_after {
            None => Some(Outcome::Survived),
            Some(after) if after >= obeyed_within || self.leader_ended_by == Some(Signal::KILL) => {
                Some(Outcome::Killed)
            }
            Some(_) => Some(Outcome::Terminated),
        }
    }

    /// What is wrong with the time of a kill that needed SIGKILL, if it took too long.
    fn too_late(&self, grace: Duration) -> Option<Late> {
        let (elapsed, gone_after) = (self.elapsed, self.gone_after?);
        let room = room(grace);
        // Members take their time to die, and the subject takes its own to return: SIGKILL was sent before either.
        if elapsed.min(gone_after) >= grace + room {
            let fault = format!("SIGKILL came late: the group went after {gone_after:.1?}, of {grace:?} of grace");
            return Some(Late { fault, of_the_group: true, by: elapsed.min(gone_after) - grace });
        }
        let by = elapsed.saturating_sub(gone_after);
        let fault = || format!("took {elapsed:.1?}, though the group was gone after {gone_after:.1?}");
        (by >= room / 2).then(|| Late { fault: fault(), of_the_group: false, by })
    }

    /// Of a kill that needed no SIGKILL, whether it was in time: the group took the whole grace, of its own accord or
    /// because it was asked late.
    fn may_be_late(&self, grace: Duration) -> Option<String> {
        let (elapsed, gone_after) = (self.elapsed, self.gone_after?);
        (elapsed >= grace).then(|| {
            format!(
                "the group went after {gone_after:.1?} of the {grace:?} of grace: SIGTERM came late, or the group was slow"
            )
        })
    }

    /// What nobody saw of the time of a kill that needed SIGKILL: whether that came before half the grace was over.
    fn may_be_early(&self, grace: Duration) -> Option<String> {
        let (half, alive_after, gone_after) = (grace / 2, self.alive_after, self.gone_after?);
        let unseen = alive_after < half && half <= gone_after;
        unseen.then(|| {
            format!(
                "the group went between {alive_after:.1?} and {gone_after:.1?}, and nobody looked then: half of the grace \
                 was over after {half:.1?}"
            )
        })
    }
}

fn judge(cell: &Cell, report: &CellReport, seen: &Seen, policy: &KillPolicy) -> (CellVerdict, String) {
    let expected = &report.expected;
    let (elapsed, grace, gone_after) = (seen.elapsed, policy.grace, seen.gone_after.unwrap_or_default());
    let mut faults = Vec::from_iter(seen.fault.clone());
    let mut late = Vec::new();
    if let Some(Err(error)) = &seen.told {
        faults.push(error.to_string());
    }
    if expected.outcome.is_some() && report.outcome != expected.outcome {
        let name = |outcome: Option<Outcome>| outcome.map_or("unknown", Outcome::as_str);
        let fault = format!("outcome {}, not {}", name(report.outcome), name(expected.outcome));
        let in_vain = expected.outcome == Some(Outcome::Terminated) && elapsed >= grace / 2;
        if in_vain {
            late.push(Late { fault, of_the_group: true, by: gone_after.max(grace) });
        } else {
            faults.push(fault);
        }
    }
    match expected.timing {
        // A slow machine can only make it later: the bounds are far from what is expected. What the group takes to go is
        // its own affair.
        Timing::Prompt if elapsed >= grace + room(grace) || elapsed.saturating_sub(gone_after) >= grace / 2 => {
            let gone = seen.gone_after.map(|after| format!(", though the group was gone after {after:.1?}"));
            let fault = format!("took {elapsed:.1?} of the {grace:?} of grace{}", gone.unwrap_or_default());
            let after = elapsed.saturating_sub(gone_after);
            let of_the_group = after < grace / 2;
            late.push(Late { fault, of_the_group, by: if of_the_group { elapsed } else { after } });
        }
        Timing::Grace if report.known_bad && elapsed < grace => {
            faults.push(format!("back after {elapsed:.1?}, before the {grace:?} of grace were over"));
        }
        // Clocks of whole seconds are no fault: SIGKILL is early if it comes before half the grace.
        Timing::Grace if elapsed < grace / 2 => {
            faults.push(format!("back after {elapsed:.1?}, before half of the {grace:?} of grace was over"));
        }
        _ => {}
    }
    late.extend(seen.too_late(grace).filter(|_| expected.outcome == Some(Outcome::Killed)));
    // Seen late at worst, so what was seen before half the grace was over was over before.
    let early = seen.gone_after.filter(|after| expected.outcome == Some(Outcome::Killed) && *after < grace / 2);
    if let Some(after) = early {
        faults.push(format!("the group went after {after:.1?}, before half of the {grace:?} of grace was over"));
    }
    if report.outcome == Some(Outcome::Terminated) && cell.fixture.marks_cleanup && !seen.cleaned_up {
        faults.push("the group was not let finish its cleanup".into());
    }
    if report.leftover.len() > expected.leftover {
        let name = |member: &Member| format!("{} [{}] {}", member.pid, member.state, beginning(&member.command));
        let names: Vec<_> = report.leftover.iter().map(name).collect();
        faults.push(format!("left in the group: {}", names.join("; ")));
    }
    // Who kills even those has done more than a group kill can.
    if backend() == Backend::Proc && report.escaped.len() > expected.escaped {
        faults.push(format!("{} escaped, not {}", report.escaped.len(), expected.escaped));
    }

    let verdict = seen.pulse.as_ref().map(Pulse::verdict);
    let mut unclear = match expected.timing {
        Timing::Prompt => seen.may_be_late(grace),
        Timing::Grace => seen.may_be_early(grace).filter(|_| expected.outcome == Some(Outcome::Killed)),
    };
    for late in late {
        match late.excuse(seen, grace) {
            Some(excuse) => unclear = Some(format!("{}; but {excuse}", late.fault)),
            None => faults.push(late.fault),
        }
    }
    match (verdict, expected.pulse) {
        (Some(Verdict::Steady), ExpectedPulse::Steady)
        | (Some(Verdict::Starved), ExpectedPulse::Starved)
        | (None, _)
        | (_, ExpectedPulse::None) => {}
        (Some(Verdict::Starved), ExpectedPulse::Steady) => {
            let worst = seen.pulse.as_ref().and_then(Pulse::worst);
            faults.push(worst.map_or_else(|| "a worker stood still".to_owned(), stood_still));
        }
        (Some(Verdict::Steady), ExpectedPulse::Starved) => {
            faults.push("the worker was expected to stand still, and did not: the suite has lost its teeth".into());
        }
        (Some(Verdict::Inconclusive { why, .. }), _) => unclear = unclear.or(Some(why.to_string())),
    }
    match (faults.is_empty(), unclear) {
        (false, _) => (CellVerdict::Fail, faults.join("; ")),
        (true, Some(why)) => (CellVerdict::Inconclusive, why),
        (true, None) => (CellVerdict::Pass, String::new()),
    }
}

/// In one line, with what the worker did meanwhile.
fn stood_still(stall: &Stall) -> String {
    let doing = stall.culprit.as_ref().map_or("what it was doing, nobody saw".to_owned(), Culprit::to_string);
    let on_cpu = stall.on_cpu;
    format!("a worker stood still for {:.1?} ({on_cpu:.1?} of it on a CPU), {doing}", stall.charged())
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;
    use crate::suite::Suite;

    const GRACE: Duration = Duration::from_secs(5);

    #[test]
    fn who_is_left_over_is_judged_when_the_documentation_promises_it() {
        use crate::promised::{README, are_kept, time};
        are_kept(&[
            ("README", time(README, "What is still there {} after it returned"), LEFTOVER_JUDGED_AFTER),
            ("report", time(include_str!("../report.rs"), "up to {} after the subject had"), LEFTOVER_JUDGED_AFTER),
        ]);
    }

    /// A kill of that length, and a group that went at the very moment it was seen gone.
    fn seen(elapsed: Duration, gone_after: Duration) -> Seen {
        Seen {
            told: None,
            elapsed,
            alive_after: gone_after,
            gone_after: Some(gone_after),
            gone_before: false,
            held_up: Duration::ZERO,
            members_held: Duration::ZERO,
            meanwhile: Meanwhile::default(),
            leader_ended_by: None,
            cleaned_up: true,
            pulse: None,
            fault: None,
        }
    }

    fn judged(fixture: &str, outcome: Outcome, seen: Seen) -> (CellVerdict, String) {
        let (cells, name) = (Suite::default().cells(), format!("spawn-blocking/{fixture}/current-thread"));
        let cell = cells.iter().find(|cell| cell.name() == name).unwrap();
        let report = CellReport { outcome: Some(outcome), ..unjudged(cell) };
        judge(cell, &report, &seen, &KillPolicy::default().grace(GRACE))
    }

    #[test]
    fn what_came_late_on_a_machine_that_was_late_itself_proves_nothing() {
        let much = GRACE / 8;
        let judged = |outcome, elapsed, gone_after, held_up| {
            judged("fast-exit", outcome, Seen { held_up, ..seen(elapsed, gone_after) })
        };
        let verdict = |outcome, elapsed, gone_after, held_up| judged(outcome, elapsed, gone_after, held_up).0;
        assert_eq!(verdict(Outcome::Terminated, GRACE / 9, GRACE / 9, GRACE), CellVerdict::Pass);
        for (outcome, elapsed, gone_after) in [
            (Outcome::Killed, GRACE, GRACE),
            (Outcome::Survived, GRACE, GRACE),
            (Outcome::Terminated, GRACE, GRACE / 9),
        ] {
            let (quiet, why) = judged(outcome, elapsed, gone_after, much - Duration::from_nanos(1));
            assert_eq!(quiet, CellVerdict::Fail, "{why}");
            let (busy, why_too) = judged(outcome, elapsed, gone_after, much);
            assert_eq!(busy, CellVerdict::Inconclusive);
            assert_eq!(why_too, format!("{why}; but the machine kept the suite waiting too, for 625.0ms"));
        }
    }

    #[test]
    fn what_came_late_because_a_member_had_no_cpu_or_no_disk_proves_nothing() {
        let nano = Duration::from_nanos(1);
        let late = |outcome, gone_after, members_held, run_queue| {
            let mut meanwhile = Meanwhile::default();
            meanwhile.run_queue = run_queue;
            judged("forking", outcome, Seen { members_held, meanwhile, ..seen(GRACE, gone_after) })
        };
        let verdict = |outcome, gone_after, held, run_queue| late(outcome, gone_after, held, run_queue).0;
        let (killed, none) = (Outcome::Killed, Duration::ZERO);
        assert_eq!(verdict(killed, GRACE, GRACE / 2 - nano, none), CellVerdict::Fail);
        assert_eq!(verdict(killed, GRACE, GRACE / 2, none), CellVerdict::Inconclusive);
        assert_eq!(verdict(killed, GRACE, GRACE / 4, GRACE / 4), CellVerdict::Inconclusive);
        let (_, why) = late(killed, GRACE, GRACE / 2, none);
        assert!(why.contains("outcome killed, not terminated; but a thread"), "{why}");
        assert!(why.contains("and a member of the group 2.5s for a CPU or a disk"), "{why}");
        // The group had gone: what its members waited does not keep the subject from coming back.
        assert_eq!(verdict(Outcome::Terminated, GRACE / 4, GRACE, none), CellVerdict::Fail);
        assert_eq!(verdict(Outcome::Terminated, GRACE / 4, none, GRACE / 2), CellVerdict::Inconclusive);
        // SIGKILL before half of the grace is no slow machine's doing.
        let early = Seen { members_held: GRACE, ..seen(GRACE / 4, GRACE / 4) };
        assert_eq!(judged("forking", killed, early).0, CellVerdict::Fail);
    }

    #[test]
    fn who_took_the_whole_grace_may_have_been_asked_late() {
        let nano = Duration::from_nanos(1);
        let judged = |elapsed, gone_after| judged("slow-exit", Outcome::Terminated, seen(elapsed, gone_after));
        assert_eq!(judged(GRACE - nano, GRACE).0, CellVerdict::Pass);
        let (verdict, why) = judged(GRACE, GRACE);
        assert_eq!(verdict, CellVerdict::Inconclusive);
        assert_eq!(why, "the group went after 5.0s of the 5s of grace: SIGTERM came late, or the group was slow");
        // Later than any machine makes it, or long after the group was gone.
        assert_eq!(judged(GRACE * 2, GRACE * 2).0, CellVerdict::Fail);
        assert_eq!(judged(GRACE, GRACE / 2).0, CellVerdict::Fail);
        assert_eq!(judged(GRACE, GRACE / 2 - nano).0, CellVerdict::Fail);
    }

    #[test]
    fn many_short_waits_are_one_long_one_if_they_are_half_of_the_time() {
        let (worst, nano) = (GRACE / 10, Duration::from_nanos(1));
        assert_eq!(held_up(worst, GRACE / 2, GRACE), GRACE / 2);
        assert_eq!(held_up(worst, GRACE / 2 - nano, GRACE), worst);
    }

    #[test]
    fn the_machine_is_watched_until_the_subject_has_ended() {
        let fixture = crate::fixture::ALL.iter().find(|fixture| fixture.name == "already-gone").unwrap();
        let running = fixture.setup().start().unwrap();
        let (over, ended) = mpsc::channel::<()>();
        let start = Instant::now();
        let watched = std::thread::scope(|scope| {
            scope.spawn(move || {
                pause(LOOK * 3);
                drop(over);
            });
            let observed = Observed::nothing(Lives::of(&running), Held::within(GRACE));
            let observed = observe(Vigil::new(running.group()), observed, &ended, &Marks::default());
            let watched = start.elapsed();
            assert!(observed.gone_at.is_some_and(|at| at - start <= watched));
            watched
        });
        assert!(watched >= LOOK * 3, "{watched:?}");
        running.finish().unwrap();
    }

    #[test]
    fn only_what_held_up_the_subject_counts() {
        let begun = Instant::now();
        let at = |ms| begun + Duration::from_millis(ms);
        let marks = Marks::default();
        assert_eq!(marks.at_work(at(0), at(900)), Duration::ZERO);
        marks.called.set(at(100)).unwrap();
        assert_eq!(marks.at_work(at(0), at(50)), Duration::ZERO);
        assert_eq!(marks.at_work(at(0), at(900)), Duration::from_millis(800));
        marks.ended.set(at(600)).unwrap();
        assert_eq!(marks.at_work(at(0), at(900)), Duration::from_millis(500));
        assert_eq!(marks.at_work(at(300), at(500)), Duration::from_millis(200));
        assert_eq!(marks.at_work(at(700), at(900)), Duration::ZERO);
    }

    #[test]
    fn a_walk_that_waits_for_the_machine_holds_up_whoever_was_called() {
        const WAIT: Duration = Duration::from_millis(50);
        static WALKS: AtomicU32 = AtomicU32::new(0);
        let held_up = |marks: &Marks| {
            let (over, ended) = mpsc::channel::<()>();
            let walks = WALKS.load(Ordering::SeqCst);
            std::thread::scope(|scope| {
                scope.spawn(move || {
                    while WALKS.load(Ordering::SeqCst) == walks {
                        pause(Duration::from_millis(1));
                    }
                    drop(over);
                });
                held_up_until(&ended, marks, || {
                    pause(WAIT);
                    WALKS.fetch_add(1, Ordering::SeqCst);
                    Duration::ZERO
                })
            })
        };
        let marks = Marks::default();
        assert_eq!(held_up(&marks), Duration::ZERO);
        marks.called.set(Instant::now()).unwrap();
        assert!(held_up(&marks) >= WAIT);
    }

    #[test]
    fn what_came_early_is_no_slow_machines_doing() {
        let (half, nano) = (GRACE / 2, Duration::from_nanos(1));
        let seen = |alive_after, gone_after, elapsed| {
            let seen = Seen { alive_after, held_up: GRACE, ..seen(elapsed, gone_after) };
            judged("ignore-term", Outcome::Killed, seen)
        };
        let (verdict, why) = seen(Duration::ZERO, half - nano, GRACE);
        assert_eq!(verdict, CellVerdict::Fail);
        assert_eq!(why, "the group went after 2.5s, before half of the 5s of grace was over");
        assert_eq!(seen(GRACE, GRACE, half - nano).0, CellVerdict::Fail);
        // It went at some time in between, and nobody knows on which side of the half.
        let (verdict, why) = seen(half - nano, half, half);
        assert_eq!(verdict, CellVerdict::Inconclusive);
        assert!(why.contains("nobody looked then"), "{why}");
        assert_eq!(seen(half, half, half).0, CellVerdict::Pass);
    }
}
