//! One cell: start the fixture, run the subject under watch, see what became of the group, judge.

use std::io;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, TryRecvError};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use nix::time::ClockId;

use super::Cell;
use super::delays::Delays;
use super::held::Held;
use super::judgement::{Seen, judge};
use super::lives::Lives;
use super::program::Ended;
use super::subjects::{Call, Kill, Told};
use crate::fixture::Running;
use crate::group::{Backend, GroupWatch, Member, ProcessGroup, backend, pause};
use crate::heartbeat::lab::{Flavor, Lab, LabError};
use crate::heartbeat::{Heartbeat, Machine, Pulse};
use crate::kill::KillPolicy;
use crate::report::{CellReport, CellVerdict, Timeline};

/// Members take some milliseconds to die of SIGKILL; a subject that returns right after it has left nobody behind yet.
const LEFTOVER_JUDGED_AFTER: Duration = Duration::from_secs(1);

/// How long one may take to die to whom SIGKILL was sent: on a machine with many at work a second is not enough.
const DEAD_AFTER: Duration = Duration::from_secs(10);

/// Between two looks at the group, if nothing happens there.
const LOOK: Duration = Duration::from_millis(20);

/// How long the fixture outlives the deadline of its kill: its end must never be taken for the subject's doing.
const BEYOND: Duration = Duration::from_secs(60);
const LEAST_LIFE: Duration = Duration::from_secs(120);

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
    let mut watch = GroupWatch::new(running.group());
    let gone_before = watch.is_gone();
    let mut lives = Lives::of(running);
    lives.look(false);
    let marks = Arc::new(Marks::default());
    let before = Machine::now();
    let start = Instant::now();
    let (acted, observed) = std::thread::scope(|scope| {
        let (over, ended) = mpsc::channel::<()>();
        let shared = Arc::clone(&marks);
        let observer =
            scope.spawn(move || observe(watch, Observed::nothing(lives, Held::within(policy.grace)), &ended, &shared));
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
    let Observed { alive_at, gone_at, leader_stayed, delays, held, lives } = observed;
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
    let end = match gone_at {
        None => "the group lives on",
        Some(_) if running.leader_is_a_zombie() => {
            "the group is gone, and its un-reaped leader is still in the process table"
        }
        Some(_) => "the group is gone",
    };
    let acted = acted.map_err(|lost| Lost { why: format!("{}; {end}", lost.why), ..lost });
    let seen = acted.map(|Acted { told, elapsed, pulse, fault }| Seen {
        told,
        elapsed,
        alive_after: alive_at.saturating_duration_since(called),
        gone_after: gone_at.map(|at| at.saturating_duration_since(called)),
        gone_before,
        delays,
        members_held: held.longest(),
        meanwhile,
        leader_stayed,
        leader_ended_by: running.leader_ended_by(),
        leader_is_a_zombie: running.leader_is_a_zombie(),
        is_alone: running.pids().len() == 1,
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
    /// Whether the leader had not ended when that last look began.
    leader_stayed: bool,
    /// How late the observer itself was while the subject was at work.
    delays: Delays,
    held: Held,
    lives: Lives<'a>,
}

impl<'a> Observed<'a> {
    fn nothing(lives: Lives<'a>, held: Held) -> Observed<'a> {
        let (alive_at, delays) = (Instant::now(), Delays::default());
        Observed { alive_at, gone_at: None, leader_stayed: false, delays, held, lives }
    }
}

/// Looks at the group until it is gone, or until a moment after the subject has ended.
fn observe<'a>(mut watch: GroupWatch, mut observed: Observed<'a>, ended: &Receiver<()>, marks: &Marks) -> Observed<'a> {
    let mut ended_at = None;
    let mut woken = false;
    let mut looked_at = observed.alive_at;
    loop {
        let begun_at = Instant::now();
        let leader_stayed = !watch.group().leader_has_exited();
        let gone = watch.is_gone();
        let now = Instant::now();
        observed.delays.add(marks.at_work(looked_at, now).saturating_sub(LOOK));
        looked_at = now;
        if gone {
            observed.lives.all_gone(now);
            observed.gone_at = Some(now);
            let group = watch.group();
            delays_until(&mut observed.delays, ended, marks, move || walk(group));
            return observed;
        }
        (observed.alive_at, observed.leader_stayed) = (begun_at, leader_stayed);
        observed.lives.look(woken);
        observed.held.look(observed.lives.living());
        let since_the_end = ended_at.map_or(Duration::ZERO, |at: Instant| at.elapsed());
        if since_the_end >= LEFTOVER_JUDGED_AFTER && (since_the_end >= DEAD_AFTER || !observed.lives.are_dying()) {
            return observed;
        }
        let asleep = Instant::now();
        watch.wait(LOOK);
        woken = asleep.elapsed() < LOOK;
        if ended_at.is_none() && ended.try_recv() == Err(TryRecvError::Disconnected) {
            ended_at = Some(Instant::now());
        }
    }
}

/// How late each pass is of what any kill has to do: wake, get a thread, walk through the process table in it. The group is
/// gone, and the subject may take its time to return, or be kept from it.
fn delays_until(
    delays: &mut Delays,
    ended: &Receiver<()>,
    marks: &Marks,
    walk: impl Fn() -> Duration + Copy + Send + 'static,
) {
    loop {
        let asleep = Instant::now();
        let over = ended.recv_timeout(LOOK) != Err(RecvTimeoutError::Timeout) || marks.ended.get().is_some();
        // A thread that is refused is no wait.
        let walker = if over { None } else { std::thread::Builder::new().spawn(walk).ok() };
        let worked = walker.and_then(|walker| walker.join().ok()).unwrap_or_default();
        delays.add(marks.at_work(asleep, Instant::now()).saturating_sub(LOOK + worked));
        if over {
            return;
        }
    }
}

/// Looks for the group's members, and returns the CPU time of this thread.
fn walk(group: ProcessGroup) -> Duration {
    let _ = group.members();
    ClockId::CLOCK_THREAD_CPUTIME_ID.now().map_or(Duration::ZERO, Duration::from)
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

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    const GRACE: Duration = Duration::from_secs(5);

    #[test]
    fn who_is_left_over_is_judged_when_the_documentation_promises_it() {
        use crate::promised::{CONFORMANCE, are_kept, time};
        are_kept(&[
            ("docs/conformance", time(CONFORMANCE, "What is still there {} after it returned"), LEFTOVER_JUDGED_AFTER),
            ("report", time(include_str!("../report.rs"), "up to {} after the subject had"), LEFTOVER_JUDGED_AFTER),
        ]);
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
            let observed = observe(GroupWatch::new(running.group()), observed, &ended, &Marks::default());
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
        let delayed = |marks: &Marks| {
            let mut delays = Delays::default();
            let (over, ended) = mpsc::channel::<()>();
            let walks = WALKS.load(Ordering::SeqCst);
            std::thread::scope(|scope| {
                scope.spawn(move || {
                    while WALKS.load(Ordering::SeqCst) == walks {
                        pause(Duration::from_millis(1));
                    }
                    drop(over);
                });
                delays_until(&mut delays, &ended, marks, || {
                    pause(WAIT);
                    WALKS.fetch_add(1, Ordering::SeqCst);
                    Duration::ZERO
                });
            });
            delays.of(1)
        };
        let marks = Marks::default();
        assert_eq!(delayed(&marks), Duration::ZERO);
        marks.called.set(Instant::now()).unwrap();
        assert!(delayed(&marks) >= WAIT);
    }
}
