//! The verdict on a cell: a list of checks, each of which holds what was seen against one thing that was expected.
//!
//! Pure: no clock and no system call. What a check finds is wrong, or late, which a slow machine may explain, or not
//! clear enough to be judged.

mod late;
#[cfg(test)]
mod tests;

use std::time::Duration;

use super::cell::{Cell, CellSettings};
use super::member_times::beginning;
use super::observation::Observation;
use crate::fixture;
use crate::group::{Backend, Member, backend};
use crate::heartbeat::{Culprit, Stall, Verdict};
use crate::kill::Outcome;
use crate::report::{CellVerdict, Expected, ExpectedPulse, Timing};
use crate::signal::Signal;
use late::LateFault;

/// What a slow machine is granted where something is late, however short the grace: as much as with the default grace.
const LEAST_ROOM: Duration = Duration::from_secs(5);

/// A group that went later than the grace was asked late if at least this much of it has no other explanation.
const LEAST_LATE: Duration = Duration::from_millis(500);

/// What a cell has to show, and what its subject was asked to do.
pub(super) struct Terms {
    expected: Expected,
    grace: Duration,
    first_signal: Signal,
    known_bad: bool,
    is_program: bool,
    /// How long the fixture cleans up, if it shows that it was let finish.
    cleanup: Option<Duration>,
}

impl Terms {
    pub(super) fn of(cell: &Cell, settings: &CellSettings) -> Terms {
        Terms {
            expected: cell.expected(),
            grace: settings.policy.grace,
            first_signal: settings.policy.signal,
            known_bad: cell.subject.is_known_bad(),
            is_program: cell.subject.is_program(),
            cleanup: cell.fixture.marks_cleanup.then(|| settings.cleanup()),
        }
    }

    fn outcome(&self, seen: &Observation) -> Option<Outcome> {
        seen.outcome(&self.expected, self.grace)
    }

    /// Whether the group obeys nothing but SIGKILL.
    fn needs_sigkill(&self) -> bool {
        self.expected.outcome == Some(Outcome::Killed)
    }

    /// What a slow machine is granted.
    fn room(&self) -> Duration {
        self.grace.max(LEAST_ROOM)
    }
}

/// What one check found.
enum Fault {
    /// A slow machine cannot have caused it.
    Wrong(String),
    /// A slow machine can have caused it, if it was slow enough.
    Late(LateFault),
    /// A right kill and a wrong one both fit what was seen.
    Unclear(String),
}

type Check = fn(&Observation, &Terms) -> Option<Fault>;

/// The checks, in the order in which their faults are told.
const CHECKS: [Check; 16] = [
    failed_program,
    reported_error,
    wrong_outcome,
    early_sigkill,
    early_return,
    unfinished_cleanup,
    leftover,
    too_many_escaped,
    unheeded_group,
    late_return,
    late_request,
    late_sigkill,
    maybe_late_request,
    maybe_early_sigkill,
    wrong_pulse,
    unlisted_members,
];

/// The verdict, and why it is not a pass.
pub(super) fn judge(seen: &Observation, terms: &Terms) -> (CellVerdict, String) {
    let (mut wrong, mut excused, mut unclear) = (Vec::new(), None, None);
    for fault in CHECKS.iter().filter_map(|check| check(seen, terms)) {
        match fault {
            Fault::Wrong(why) => wrong.push(why),
            Fault::Late(late) => match late.excuse(seen, terms.is_program) {
                Some(excuse) => excused = Some(format!("{}; but {excuse}", late.why)),
                None => wrong.push(late.why),
            },
            Fault::Unclear(why) => {
                unclear.get_or_insert(why);
            }
        }
    }
    if !wrong.is_empty() {
        wrong.extend(another_first_signal(seen, terms));
        return (CellVerdict::Fail, wrong.join("; "));
    }
    excused.or(unclear).map_or((CellVerdict::Pass, String::new()), |why| (CellVerdict::Inconclusive, why))
}

/// A program has to exit with status 0, before the deadline.
fn failed_program(seen: &Observation, _: &Terms) -> Option<Fault> {
    seen.program_fault.clone().map(Fault::Wrong)
}

fn reported_error(seen: &Observation, _: &Terms) -> Option<Fault> {
    let error = seen.self_report.as_ref()?.as_ref().err()?;
    Some(Fault::Wrong(error.to_string()))
}

/// The outcome is another one, at a time when no slow machine can have changed it: see [`unheeded_group`].
fn wrong_outcome(seen: &Observation, terms: &Terms) -> Option<Fault> {
    other_outcome(seen, terms).filter(|_| !may_have_timed_out(seen, terms)).map(Fault::Wrong)
}

/// A group that would have obeyed was killed when its grace was over. On a slow machine it may have been about to obey.
fn unheeded_group(seen: &Observation, terms: &Terms) -> Option<Fault> {
    let why = other_outcome(seen, terms).filter(|_| may_have_timed_out(seen, terms))?;
    let by = seen.gone_after.unwrap_or_default().max(terms.grace);
    Some(Fault::Late(LateFault { why, of_the_group: true, by, least: Duration::ZERO }))
}

fn other_outcome(seen: &Observation, terms: &Terms) -> Option<String> {
    let (outcome, expected) = (terms.outcome(seen), terms.expected.outcome?);
    let name = outcome.map_or("unknown", Outcome::as_str);
    let end = || seen.groups_end(terms.grace);
    (outcome != Some(expected)).then(|| format!("outcome {name}, not {}: {}", expected.as_str(), end()))
}

fn may_have_timed_out(seen: &Observation, terms: &Terms) -> bool {
    terms.expected.outcome == Some(Outcome::Terminated) && seen.elapsed >= terms.grace / 2
}

/// A group that needs SIGKILL, gone before half of the grace, was sent it too early. A look sees the end late at worst,
/// so what it saw gone by then was gone.
fn early_sigkill(seen: &Observation, terms: &Terms) -> Option<Fault> {
    let after = gone_early(seen, terms)?;
    // Of another outcome it is told already.
    (terms.outcome(seen) == terms.expected.outcome).then(|| {
        let half = format!("before half of the {:?} of grace was over", terms.grace);
        Fault::Wrong(format!("the group went after {after:.1?}, {half}: {}", seen.leaders_end()))
    })
}

fn gone_early(seen: &Observation, terms: &Terms) -> Option<Duration> {
    let is_stubborn = terms.expected.timing == Timing::Grace && terms.needs_sigkill();
    seen.gone_after.filter(|after| is_stubborn && *after < terms.grace / 2)
}

/// A kill that takes the grace returned before half of it; of a known-bad subject, before all of it.
///
/// Not before all of it for others: clocks of whole seconds are no fault.
fn early_return(seen: &Observation, terms: &Terms) -> Option<Fault> {
    let (elapsed, grace) = (seen.elapsed, terms.grace);
    if terms.expected.timing != Timing::Grace || gone_early(seen, terms).is_some() {
        return None;
    }
    let (least, what) = match terms.known_bad {
        true => (grace, format!("the {grace:?} of grace were over")),
        false => (grace / 2, format!("half of the {grace:?} of grace was over")),
    };
    (elapsed < least).then(|| Fault::Wrong(format!("back after {elapsed:.1?}, before {what}")))
}

/// A group that cleans up was killed in the middle of it, though it had obeyed.
fn unfinished_cleanup(seen: &Observation, terms: &Terms) -> Option<Fault> {
    terms.cleanup.filter(|_| terms.outcome(seen) == Some(Outcome::Terminated) && !seen.cleaned_up)?;
    Some(Fault::Wrong(format!("the group was not let finish its cleanup: {}", seen.leaders_end())))
}

fn leftover(seen: &Observation, terms: &Terms) -> Option<Fault> {
    let name = |member: &Member| format!("{} [{}] {}", member.pid, member.state, beginning(&member.command));
    let names: Vec<_> = seen.leftover.iter().map(name).collect();
    (names.len() > terms.expected.leftover)
        .then(|| Fault::Wrong(format!("left in the group: {}; no SIGKILL came to them", names.join("; "))))
}

/// More processes left the group than the fixture sends away. Fewer are no fault: that kill did more than a group kill
/// can.
fn too_many_escaped(seen: &Observation, terms: &Terms) -> Option<Fault> {
    let (escaped, expected) = (seen.escaped.len(), terms.expected.escaped);
    (backend() == Backend::Proc && escaped > expected)
        .then(|| Fault::Wrong(format!("{escaped} escaped, not {expected}")))
}

/// The subject returned long after the group was gone: half of the grace, or half of what a slow machine is granted
/// where SIGKILL was needed.
fn late_return(seen: &Observation, terms: &Terms) -> Option<Fault> {
    let most = match terms.expected.timing {
        Timing::Prompt => terms.grace / 2,
        Timing::Grace if terms.needs_sigkill() && is_gone_in_time(seen, terms) => terms.room() / 2,
        Timing::Grace => return None,
    };
    let by = seen.after_the_group();
    let late = |why| Fault::Late(LateFault { why, of_the_group: false, by, least: Duration::ZERO });
    (by >= most).then(|| late(late_returns_words(seen, terms)))
}

fn late_returns_words(seen: &Observation, terms: &Terms) -> String {
    let took = format!("took {:.1?} of the {:?} of grace", seen.elapsed, terms.grace);
    let Some(gone_after) = seen.gone_after else { return took };
    let when = if seen.gone_before { "before it was called".into() } else { format!("after {gone_after:.1?}") };
    let zombie = if seen.leader_is_a_zombie {
        "; its un-reaped leader is still in the process table, which killpg(pgid, 0) takes for alive, and no member \
         can run again"
    } else {
        ""
    };
    format!("{took}, though the group was gone {when}{zombie}")
}

/// A group that obeys went after the grace. No fixture takes longer than its cleanup on an idle machine.
///
/// Of a group that was killed, its outcome tells that.
fn late_request(seen: &Observation, terms: &Terms) -> Option<Fault> {
    let (grace, gone_after) = (terms.grace, seen.gone_after.unwrap_or_default());
    let is_killed = matches!(terms.outcome(seen), Some(Outcome::Killed | Outcome::Survived));
    let is_late = terms.expected.timing == Timing::Prompt && gone_after >= grace && !is_killed;
    (is_late && seen.after_the_group() < grace / 2).then(|| {
        let why = format!(
            "the group went after {gone_after:.1?} of the {grace:?} of grace, {}: the first signal came late, or the \
             group was slow",
            seen.leaders_end()
        );
        let by = gone_after.saturating_sub(terms.cleanup.unwrap_or_default());
        Fault::Late(LateFault { why, of_the_group: true, by, least: LEAST_LATE })
    })
}

/// A group that needs SIGKILL went long after the grace. Members take their time to die, and the subject its own to
/// return: SIGKILL was sent before either.
fn late_sigkill(seen: &Observation, terms: &Terms) -> Option<Fault> {
    let (grace, gone_after) = (terms.grace, seen.gone_after?);
    (terms.needs_sigkill() && !is_gone_in_time(seen, terms)).then(|| {
        let why = format!("SIGKILL came late: the group went after {gone_after:.1?}, of {grace:?} of grace");
        let by = seen.elapsed.min(gone_after) - grace;
        Fault::Late(LateFault { why, of_the_group: true, by, least: Duration::ZERO })
    })
}

/// Whether SIGKILL was sent before the grace and what a slow machine is granted were over.
fn is_gone_in_time(seen: &Observation, terms: &Terms) -> bool {
    seen.gone_after.is_some_and(|gone_after| seen.elapsed.min(gone_after) < terms.grace + terms.room())
}

/// The subject returned after the grace, from a group that obeyed shortly before its end.
fn maybe_late_request(seen: &Observation, terms: &Terms) -> Option<Fault> {
    let (elapsed, grace, gone_after) = (seen.elapsed, terms.grace, seen.gone_after?);
    (terms.expected.timing == Timing::Prompt && elapsed >= grace && gone_after < grace).then(|| {
        Fault::Unclear(format!(
            "back after {elapsed:.1?}, and the group went after {gone_after:.1?} of the {grace:?} of grace: the first \
             signal came late, or the group was slow"
        ))
    })
}

/// No look was taken at half of the grace, between a group that was alive and one that was gone.
fn maybe_early_sigkill(seen: &Observation, terms: &Terms) -> Option<Fault> {
    let (half, alive_after, gone_after) = (terms.grace / 2, seen.alive_after, seen.gone_after?);
    (terms.needs_sigkill() && alive_after < half && half <= gone_after).then(|| {
        Fault::Unclear(format!(
            "the group went between {alive_after:.1?} and {gone_after:.1?}, and no look was taken then: half of the \
             grace was over after {half:.1?}"
        ))
    })
}

fn wrong_pulse(seen: &Observation, terms: &Terms) -> Option<Fault> {
    let pulse = seen.pulse.as_ref()?;
    match (pulse.verdict(), terms.expected.pulse) {
        (Verdict::Steady, ExpectedPulse::Steady)
        | (Verdict::Starved, ExpectedPulse::Starved)
        | (_, ExpectedPulse::None) => None,
        (Verdict::Starved, ExpectedPulse::Steady) => {
            Some(Fault::Wrong(pulse.worst().map_or_else(|| "a worker stood still".to_owned(), stood_still)))
        }
        (Verdict::Steady, ExpectedPulse::Starved) => Some(Fault::Wrong(
            "the worker was expected to stand still, and did not: the suite has lost its teeth".to_owned(),
        )),
        (Verdict::Inconclusive { why, .. }, _) => Some(Fault::Unclear(why.to_string())),
    }
}

/// Processes that could not be listed are not proved to be dead.
fn unlisted_members(seen: &Observation, _: &Terms) -> Option<Fault> {
    seen.unlisted.clone().map(Fault::Unclear)
}

/// The stall in one line, with what the worker did meanwhile.
fn stood_still(stall: &Stall) -> String {
    let doing = stall.culprit.as_ref().map_or("what it was doing was not seen".to_owned(), Culprit::to_string);
    let on_cpu = stall.on_cpu;
    format!("a worker stood still for {:.1?} ({on_cpu:.1?} of it on a CPU), {doing}", stall.charged())
}

/// The leader died of another request to end than the one that this suite expects: how to declare that one.
fn another_first_signal(seen: &Observation, terms: &Terms) -> Option<String> {
    let (first_signal, signal) = (terms.first_signal, seen.leader_ended_by?);
    fixture::is_polite(signal).ok().filter(|signal| *signal != first_signal)?;
    let name = signal.to_string();
    let short = name.trim_start_matches("SIG");
    Some(format!(
        "the leader died of {name}, and the first signal that is expected is {first_signal}: a function that asks by \
         {name} is judged with Conformance::first_signal, or --first-signal {short}"
    ))
}
