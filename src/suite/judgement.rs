//! What was seen of a cell, held against what is expected of it: what is said is what was seen.

use std::time::Duration;

use super::Cell;
use super::delays::Delays;
use super::late::Late;
use super::lives::beginning;
use super::subjects::Told;
use crate::fixture;
use crate::group::{Backend, Member, backend};
use crate::heartbeat::{Culprit, Meanwhile, Pulse, Stall, Verdict};
use crate::kill::{KillPolicy, Outcome};
use crate::report::{CellReport, CellVerdict, Expected, ExpectedPulse, Timing};
use crate::signal::Signal;

/// What a slow machine is granted where something is too late, however short the grace: as much as with the default one.
const LEAST_ROOM: Duration = Duration::from_secs(5);

/// A group that went later than the grace was asked late if at least so much of it has no other explanation.
const LEAST_LATE: Duration = Duration::from_millis(500);

/// What was seen of a cell, before any judgement.
pub(super) struct Seen {
    pub(super) told: Told,
    pub(super) elapsed: Duration,
    /// Since the subject was called: it was seen alive after this time, and no more later.
    pub(super) alive_after: Duration,
    /// By this time; `None` if the group was still there at the end.
    pub(super) gone_after: Option<Duration>,
    pub(super) gone_before: bool,
    /// How late the observer was, from the call to the subject's end.
    pub(super) delays: Delays,
    /// How long the machine kept one member of the group waiting for a CPU, a disk or a page, at most.
    pub(super) members_held: Duration,
    /// What else the machine did from then on.
    pub(super) meanwhile: Meanwhile,
    /// Whether the leader ran at the last look that saw the group alive.
    pub(super) leader_stayed: bool,
    /// The signal that ended it; `None` if it ended by itself, or lives.
    pub(super) leader_ended_by: Option<Signal>,
    /// Whether it has ended and is not reaped.
    pub(super) leader_is_a_zombie: bool,
    /// Whether the fixture has no other member from the start.
    pub(super) is_alone: bool,
    pub(super) cleaned_up: bool,
    /// Of a program there is none.
    pub(super) pulse: Option<Pulse>,
    /// What its own end says against a program.
    pub(super) fault: Option<String>,
}

/// What a slow machine is granted.
fn room(grace: Duration) -> Duration {
    grace.max(LEAST_ROOM)
}

impl Seen {
    /// As the subject told it; else as the fixture's end shows it: killed if the leader died of SIGKILL; terminated if it
    /// died of something else and the group with it, or had no other member; and where the leader had gone before, killed if
    /// the group outlived the grace, or half of it where it goes of nothing else.
    pub(super) fn outcome(&self, expected: &Expected, policy: &KillPolicy) -> Option<Outcome> {
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
        let Some(after) = self.gone_after else { return Some(Outcome::Survived) };
        if self.leader_ended_by == Some(Signal::KILL) {
            return Some(Outcome::Killed);
        }
        // A stubborn member may outlive a leader that takes its time to obey by less than can be seen.
        // A group of the leader alone had no member left for a later SIGKILL, however rarely it was looked at.
        let was_all = self.is_alone && self.leader_ended_by.is_some();
        let went_with_it = was_all || self.leader_went_last(policy.grace) && (self.is_alone || !stubborn);
        Some(if after >= obeyed_within && !went_with_it { Outcome::Killed } else { Outcome::Terminated })
    }

    /// Whether no member outlived the leader by more than one look: SIGKILL to the group would have ended the leader too.
    fn leader_went_last(&self, grace: Duration) -> bool {
        let unseen = self.gone_after.map(|after| after.saturating_sub(self.alive_after));
        self.leader_stayed && unseen.is_some_and(|unseen| unseen < grace / 2)
    }

    /// What became of the leader.
    fn leaders_end(&self) -> String {
        match self.leader_ended_by {
            Some(signal) => format!("its leader died of {signal}"),
            None if self.leader_is_a_zombie => "its leader ended by itself".to_owned(),
            None if self.gone_after.is_some() => "its leader was reaped before".to_owned(),
            None => "its leader lives on".to_owned(),
        }
    }

    /// What became of the group, and when.
    fn end(&self, grace: Duration) -> String {
        let leader = self.leaders_end();
        match self.gone_after {
            _ if self.gone_before => "the group was gone before the call".to_owned(),
            None if self.leader_is_a_zombie => format!("the group lives on, though {leader}"),
            None => "the group lives on".to_owned(),
            Some(after) if after < grace / 2 => {
                format!(
                    "{leader}, and the group went after {after:.1?}, before half of the {grace:?} of grace was over"
                )
            }
            Some(after) => format!("{leader}, and the group went after {after:.1?}, of {grace:?} of grace"),
        }
    }

    /// The group was gone, and the subject was not back for so long.
    fn back_late(&self, grace: Duration) -> String {
        let (elapsed, gone_after) = (self.elapsed, self.gone_after.unwrap_or_default());
        let when = if self.gone_before { "before it was called".into() } else { format!("after {gone_after:.1?}") };
        let zombie = if self.leader_is_a_zombie {
            "; its un-reaped leader is still in the process table, which killpg(pgid, 0) takes for alive, and no member can \
             run again"
        } else {
            ""
        };
        format!("took {elapsed:.1?} of the {grace:?} of grace, though the group was gone {when}{zombie}")
    }

    /// What is wrong with the time of a kill that needed SIGKILL, if it took too long.
    fn too_late(&self, grace: Duration) -> Option<Late> {
        let (elapsed, gone_after) = (self.elapsed, self.gone_after?);
        let (room, least) = (room(grace), Duration::ZERO);
        // Members take their time to die, and the subject takes its own to return: SIGKILL was sent before either.
        if elapsed.min(gone_after) >= grace + room {
            let fault = format!("SIGKILL came late: the group went after {gone_after:.1?}, of {grace:?} of grace");
            return Some(Late { fault, of_the_group: true, by: elapsed.min(gone_after) - grace, least });
        }
        let by = elapsed.saturating_sub(gone_after);
        (by >= room / 2).then(|| Late { fault: self.back_late(grace), of_the_group: false, by, least })
    }

    /// What is wrong with the time of a kill that needs no SIGKILL, if it took too long. A slow machine can only make it
    /// later. What the group takes to go is its own affair, but none takes more than `own` on an idle machine.
    fn not_prompt(&self, grace: Duration, own: Duration, is_killed: bool) -> Option<Late> {
        let (elapsed, gone_after) = (self.elapsed, self.gone_after.unwrap_or_default());
        let by = elapsed.saturating_sub(gone_after);
        if by >= grace / 2 {
            let fault = self.gone_after.map(|_| self.back_late(grace));
            let fault = fault.unwrap_or_else(|| format!("took {elapsed:.1?} of the {grace:?} of grace"));
            return Some(Late { fault, of_the_group: false, by, least: Duration::ZERO });
        }
        // What was killed went late because it was killed late: that is said of the outcome.
        (gone_after >= grace && !is_killed).then(|| {
            let leader = self.leaders_end();
            let fault = format!(
                "the group went after {gone_after:.1?} of the {grace:?} of grace, {leader}: the first signal came late, or the \
                 group was slow"
            );
            Late { fault, of_the_group: true, by: gone_after.saturating_sub(own), least: LEAST_LATE }
        })
    }

    /// Of a kill that needed no SIGKILL, whether it was in time: it was not back before the grace was over, and the group
    /// went shortly before.
    fn may_be_late(&self, grace: Duration) -> Option<String> {
        let (elapsed, gone_after) = (self.elapsed, self.gone_after?);
        (elapsed >= grace && gone_after < grace).then(|| {
            format!(
                "back after {elapsed:.1?}, and the group went after {gone_after:.1?} of the {grace:?} of grace: the first signal \
                 came late, or the group was slow"
            )
        })
    }

    /// What was not seen of the time of a kill that needed SIGKILL: whether that came before half the grace was over.
    fn may_be_early(&self, grace: Duration) -> Option<String> {
        let (half, alive_after, gone_after) = (grace / 2, self.alive_after, self.gone_after?);
        let unseen = alive_after < half && half <= gone_after;
        unseen.then(|| {
            format!(
                "the group went between {alive_after:.1?} and {gone_after:.1?}, and no look was taken then: half of the grace \
                 was over after {half:.1?}"
            )
        })
    }

    /// The leader died of a request to end that this suite does not hold for the first.
    fn asked_otherwise(&self, first_signal: Signal) -> Option<String> {
        let signal = self.leader_ended_by.filter(|signal| *signal != first_signal)?;
        fixture::is_polite(signal).ok()?;
        let name = signal.to_string();
        let short = name.trim_start_matches("SIG");
        Some(format!(
            "the leader died of {name}, and the first signal that is expected is {first_signal}: a function that asks by {name} \
             is judged with Conformance::first_signal, or --first-signal {short}"
        ))
    }
}

/// What speaks against a subject, and what may.
#[derive(Default)]
struct Findings {
    faults: Vec<String>,
    late: Vec<Late>,
    unclear: Option<String>,
}

pub(super) fn judge(cell: &Cell, report: &CellReport, seen: &Seen, policy: &KillPolicy) -> (CellVerdict, String) {
    let mut found = Findings { faults: Vec::from_iter(seen.fault.clone()), ..Findings::default() };
    if let Some(Err(error)) = &seen.told {
        found.faults.push(error.to_string());
    }
    found.judge_outcome(report, seen, policy.grace);
    found.judge_time(cell, report, seen, policy.grace);
    found.judge_what_is_left(cell, report, seen);
    for late in std::mem::take(&mut found.late) {
        match late.excuse(seen, cell.subject.is_program()) {
            Some(excuse) => found.unclear = Some(format!("{}; but {excuse}", late.fault)),
            None => found.faults.push(late.fault),
        }
    }
    found.judge_pulse(report.expected.pulse, seen);
    if !found.faults.is_empty() {
        found.faults.extend(seen.asked_otherwise(policy.signal));
        return (CellVerdict::Fail, found.faults.join("; "));
    }
    found.unclear.map_or((CellVerdict::Pass, String::new()), |why| (CellVerdict::Inconclusive, why))
}

impl Findings {
    fn judge_outcome(&mut self, report: &CellReport, seen: &Seen, grace: Duration) {
        let expected = report.expected.outcome;
        if expected.is_none() || report.outcome == expected {
            return;
        }
        let name = |outcome: Option<Outcome>| outcome.map_or("unknown", Outcome::as_str);
        let fault = format!("outcome {}, not {}: {}", name(report.outcome), name(expected), seen.end(grace));
        let in_vain = expected == Some(Outcome::Terminated) && seen.elapsed >= grace / 2;
        if in_vain {
            let by = seen.gone_after.unwrap_or_default().max(grace);
            self.late.push(Late { fault, of_the_group: true, by, least: Duration::ZERO });
        } else {
            self.faults.push(fault);
        }
    }

    fn judge_time(&mut self, cell: &Cell, report: &CellReport, seen: &Seen, grace: Duration) {
        let is_stubborn = report.expected.outcome == Some(Outcome::Killed);
        match report.expected.timing {
            Timing::Prompt => {
                // As the fixture is told to.
                let own = if cell.fixture.marks_cleanup { grace / 5 } else { Duration::ZERO };
                let is_killed = matches!(report.outcome, Some(Outcome::Killed | Outcome::Survived));
                self.late.extend(seen.not_prompt(grace, own, is_killed));
                self.unclear = seen.may_be_late(grace);
            }
            Timing::Grace => {
                self.judge_whether_early(report, seen, grace);
                self.unclear = seen.may_be_early(grace).filter(|_| is_stubborn);
            }
        }
        self.late.extend(seen.too_late(grace).filter(|_| is_stubborn));
    }

    fn judge_whether_early(&mut self, report: &CellReport, seen: &Seen, grace: Duration) {
        let (elapsed, is_stubborn) = (seen.elapsed, report.expected.outcome == Some(Outcome::Killed));
        // Seen late at worst, so what was seen before half the grace was over was over before.
        let early = seen.gone_after.filter(|after| is_stubborn && *after < grace / 2);
        if let Some(after) = early {
            // Of another outcome that is said already.
            if report.outcome == report.expected.outcome {
                let leader = seen.leaders_end();
                let half = format!("before half of the {grace:?} of grace was over");
                self.faults.push(format!("the group went after {after:.1?}, {half}: {leader}"));
            }
        } else if report.known_bad && elapsed < grace {
            self.faults.push(format!("back after {elapsed:.1?}, before the {grace:?} of grace were over"));
        } else if elapsed < grace / 2 {
            // Clocks of whole seconds are no fault: SIGKILL is early if it comes before half the grace.
            self.faults.push(format!("back after {elapsed:.1?}, before half of the {grace:?} of grace was over"));
        }
    }

    fn judge_what_is_left(&mut self, cell: &Cell, report: &CellReport, seen: &Seen) {
        if report.outcome == Some(Outcome::Terminated) && cell.fixture.marks_cleanup && !seen.cleaned_up {
            self.faults.push(format!("the group was not let finish its cleanup: {}", seen.leaders_end()));
        }
        if report.leftover.len() > report.expected.leftover {
            let name = |member: &Member| format!("{} [{}] {}", member.pid, member.state, beginning(&member.command));
            let names: Vec<_> = report.leftover.iter().map(name).collect();
            self.faults.push(format!("left in the group: {}; no SIGKILL came to them", names.join("; ")));
        }
        // A kill that ends even those has done more than a group kill can.
        if backend() == Backend::Proc && report.escaped.len() > report.expected.escaped {
            self.faults.push(format!("{} escaped, not {}", report.escaped.len(), report.expected.escaped));
        }
    }

    fn judge_pulse(&mut self, expected: ExpectedPulse, seen: &Seen) {
        let Some(pulse) = &seen.pulse else { return };
        match (pulse.verdict(), expected) {
            (Verdict::Steady, ExpectedPulse::Steady)
            | (Verdict::Starved, ExpectedPulse::Starved)
            | (_, ExpectedPulse::None) => {}
            (Verdict::Starved, ExpectedPulse::Steady) => {
                self.faults.push(pulse.worst().map_or_else(|| "a worker stood still".to_owned(), stood_still));
            }
            (Verdict::Steady, ExpectedPulse::Starved) => {
                self.faults.push(
                    "the worker was expected to stand still, and did not: the suite has lost its teeth".to_owned(),
                );
            }
            (Verdict::Inconclusive { why, .. }, _) => {
                self.unclear.get_or_insert(why.to_string());
            }
        }
    }
}

/// In one line, with what the worker did meanwhile.
fn stood_still(stall: &Stall) -> String {
    let doing = stall.culprit.as_ref().map_or("what it was doing was not seen".to_owned(), Culprit::to_string);
    let on_cpu = stall.on_cpu;
    format!("a worker stood still for {:.1?} ({on_cpu:.1?} of it on a CPU), {doing}", stall.charged())
}

#[cfg(test)]
mod tests {
    use super::super::cell::unjudged;
    use super::*;
    use crate::suite::Suite;

    const GRACE: Duration = Duration::from_secs(5);

    /// A kill of that length, and a group that went at the very moment it was seen gone.
    fn seen(elapsed: Duration, gone_after: Duration) -> Seen {
        Seen {
            told: None,
            elapsed,
            alive_after: gone_after,
            gone_after: Some(gone_after),
            gone_before: false,
            delays: Delays::default(),
            members_held: Duration::ZERO,
            meanwhile: Meanwhile::default(),
            leader_stayed: true,
            leader_ended_by: None,
            leader_is_a_zombie: true,
            is_alone: true,
            cleaned_up: true,
            pulse: None,
            fault: None,
        }
    }

    fn late_by(delays: &[Duration]) -> Delays {
        let mut all = Delays::default();
        delays.iter().for_each(|late| all.add(*late));
        all
    }

    fn judged(fixture: &str, outcome: Outcome, seen: Seen) -> (CellVerdict, String) {
        let (cells, name) = (Suite::default().cells(), format!("spawn-blocking/{fixture}/current-thread"));
        let cell = cells.iter().find(|cell| cell.name() == name).unwrap();
        let report = CellReport { outcome: Some(outcome), ..unjudged(cell) };
        judge(cell, &report, &seen, &KillPolicy::default().grace(GRACE))
    }

    /// The same of a subject that does not tell what it did.
    fn observed(fixture: &str, seen: Seen) -> (Option<Outcome>, CellVerdict, String) {
        let fixture = fixture::named(fixture).unwrap();
        let suite = Suite::default().subjects([super::super::Subject::new("mine", |_| async {})]).fixtures([fixture]);
        let (cell, policy) = (&suite.cells()[0], KillPolicy::default().grace(GRACE));
        let report = unjudged(cell);
        let outcome = seen.outcome(&report.expected, &policy);
        let (verdict, why) = judge(cell, &CellReport { outcome, ..report }, &seen, &policy);
        (outcome, verdict, why)
    }

    #[test]
    fn what_came_late_on_a_machine_that_was_late_itself_proves_nothing() {
        let judged = |outcome, elapsed, gone_after, late| {
            judged("fast-exit", outcome, Seen { delays: late_by(&[late]), ..seen(elapsed, gone_after) })
        };
        let verdict = |outcome, elapsed, gone_after, late| judged(outcome, elapsed, gone_after, late).0;
        assert_eq!(verdict(Outcome::Terminated, GRACE / 10, GRACE / 10, GRACE), CellVerdict::Pass);
        for (outcome, elapsed, gone_after, by) in [
            (Outcome::Killed, GRACE, GRACE, GRACE),
            (Outcome::Survived, GRACE, GRACE, GRACE),
            (Outcome::Terminated, GRACE, GRACE / 10, GRACE * 9 / 10),
            (Outcome::Terminated, GRACE, GRACE, GRACE),
        ] {
            let (quiet, why) = judged(outcome, elapsed, gone_after, by / 2 - Duration::from_nanos(1));
            assert_eq!(quiet, CellVerdict::Fail, "{why}");
            let (busy, why_too) = judged(outcome, elapsed, gone_after, by / 2);
            assert_eq!(busy, CellVerdict::Inconclusive);
            assert_eq!(why_too, format!("{why}; but the machine kept the suite waiting too, for {:.1?}", by / 2));
        }
    }

    #[test]
    fn many_short_delays_do_not_explain_why_a_body_slept_out_the_grace() {
        // Of 60 looks in 5 s each was late by 60 ms: 3.6 s in sum, and a right kill needs four of them.
        let delays = late_by(&[Duration::from_millis(60); 60]);
        let meanwhile = Meanwhile::with_a_thread_that_waited(Duration::from_millis(3600), 60);
        let slept = |after, delays, meanwhile| Seen { delays, meanwhile, ..seen(after, GRACE / 50) };
        let (verdict, why) = judged("fast-exit", Outcome::Terminated, slept(GRACE, delays.clone(), meanwhile.clone()));
        assert_eq!(verdict, CellVerdict::Fail, "{why}");
        // The control: a few that are as long as what they are to explain.
        let long = late_by(&[GRACE / 6; 4]);
        assert_eq!(
            judged("fast-exit", Outcome::Terminated, slept(GRACE, long, meanwhile)).0,
            CellVerdict::Inconclusive
        );
        let waited = Meanwhile::with_a_thread_that_waited(GRACE / 2, 8);
        assert_eq!(judged("fast-exit", Outcome::Terminated, slept(GRACE, delays, waited)).0, CellVerdict::Inconclusive);
    }

    #[test]
    fn what_came_late_because_a_member_had_no_cpu_or_no_disk_proves_nothing() {
        let nano = Duration::from_nanos(1);
        let late = |outcome, gone_after, members_held, run_queue| {
            let meanwhile = Meanwhile::with_a_thread_that_waited(run_queue, 1);
            judged("forking", outcome, Seen { members_held, meanwhile, ..seen(GRACE, gone_after) })
        };
        let verdict = |outcome, gone_after, held, run_queue| late(outcome, gone_after, held, run_queue).0;
        let (killed, none) = (Outcome::Killed, Duration::ZERO);
        assert_eq!(verdict(killed, GRACE, GRACE / 2 - nano, none), CellVerdict::Fail);
        assert_eq!(verdict(killed, GRACE, GRACE / 2, none), CellVerdict::Inconclusive);
        assert_eq!(verdict(killed, GRACE, GRACE / 4, GRACE / 4), CellVerdict::Inconclusive);
        let (_, why) = late(killed, GRACE, GRACE / 2, none);
        assert!(why.starts_with("outcome killed, not terminated: "), "{why}");
        assert!(why.contains("but a member of the group waited 2.5s for a CPU or a disk"), "{why}");
        // The group had gone: what its members waited does not keep the subject from coming back.
        assert_eq!(verdict(Outcome::Terminated, GRACE / 4, GRACE, none), CellVerdict::Fail);
        assert_eq!(verdict(Outcome::Terminated, GRACE / 4, none, GRACE / 2), CellVerdict::Inconclusive);
        // SIGKILL before half of the grace is no slow machine's doing.
        let early = Seen { members_held: GRACE, ..seen(GRACE / 4, GRACE / 4) };
        assert_eq!(judged("forking", killed, early).0, CellVerdict::Fail);
    }

    #[test]
    fn a_group_that_took_the_whole_grace_was_asked_late_unless_the_machine_explains_it() {
        let nano = Duration::from_nanos(1);
        let judged = |elapsed, gone_after, members_held| {
            judged("slow-exit", Outcome::Terminated, Seen { members_held, ..seen(elapsed, gone_after) })
        };
        let none = Duration::ZERO;
        assert_eq!(judged(GRACE - nano, GRACE - nano, none).0, CellVerdict::Pass);
        let (verdict, why) = judged(GRACE, GRACE, none);
        assert_eq!(verdict, CellVerdict::Fail);
        assert_eq!(
            why,
            "the group went after 5.0s of the 5s of grace, its leader ended by itself: the first signal came late, or the group \
             was slow"
        );
        // One fifth is its cleanup; half of the rest explains it.
        assert_eq!(judged(GRACE, GRACE, GRACE * 2 / 5).0, CellVerdict::Inconclusive);
        assert_eq!(judged(GRACE, GRACE, GRACE * 2 / 5 - nano).0, CellVerdict::Fail);
        // It went in time, and the subject came back shortly after that.
        assert_eq!(judged(GRACE, GRACE - nano, none).0, CellVerdict::Inconclusive);
        // Long after the group was gone.
        assert_eq!(judged(GRACE, GRACE / 2, none).0, CellVerdict::Fail);
    }

    #[test]
    fn what_ended_the_leader_is_what_is_said_of_a_group_that_went_late() {
        let late = |seen: Seen| observed("fast-exit", Seen { leader_ended_by: Some(Signal::TERM), ..seen });
        let (outcome, verdict, why) = late(seen(GRACE * 6 / 5, GRACE * 6 / 5));
        assert_eq!((outcome, verdict), (Some(Outcome::Terminated), CellVerdict::Fail), "{why}");
        assert!(why.contains("its leader died of SIGTERM: the first signal came late"), "{why}");
        // The leader had gone before: a signal that ended the others at the end of the grace was SIGKILL.
        let others = |seen: Seen| Seen { is_alone: false, ..seen };
        let (outcome, _, why) = late(others(Seen { leader_stayed: false, ..seen(GRACE, GRACE) }));
        assert_eq!(outcome, Some(Outcome::Killed));
        assert!(
            why.contains("outcome killed, not terminated: its leader died of SIGTERM, and the group went"),
            "{why}"
        );
        // A look so long that there was time for both.
        let long = || Seen { alive_after: Duration::ZERO, ..seen(GRACE, GRACE) };
        assert_eq!(late(others(long())).0, Some(Outcome::Killed));
        // Not where there was no other member.
        assert_eq!(late(long()).0, Some(Outcome::Terminated));
        let killed = Seen { leader_ended_by: Some(Signal::KILL), ..seen(GRACE, GRACE) };
        let (outcome, _, why) = observed("fast-exit", killed);
        assert_eq!(outcome, Some(Outcome::Killed));
        assert!(why.contains("its leader died of SIGKILL"), "{why}");
        // It was asked twice, and obeyed the second time.
        let (outcome, _, why) = observed("second-term", seen(GRACE, GRACE * 3 / 5));
        assert_eq!(outcome, Some(Outcome::Terminated));
        assert!(why.contains("outcome terminated, not killed: its leader ended by itself"), "{why}");
    }

    #[test]
    fn another_first_signal_is_named_with_how_to_declare_it() {
        let asked = Seen { leader_ended_by: Some(Signal::INT), ..seen(GRACE / 100, GRACE / 100) };
        let (_, verdict, why) = observed("ignore-term", asked);
        assert_eq!(verdict, CellVerdict::Fail);
        assert!(why.contains("the leader died of SIGINT, and the first signal that is expected is SIGTERM"), "{why}");
        assert!(why.contains("--first-signal INT"), "{why}");
        // One that dies at once of either is no reason to complain.
        let asked = Seen { leader_ended_by: Some(Signal::INT), ..seen(GRACE / 100, GRACE / 100) };
        assert_eq!(observed("fast-exit", asked).1, CellVerdict::Pass);
    }

    #[test]
    fn a_wait_for_an_un_reaped_leader_is_named() {
        let (_, _, why) = observed("fast-exit", seen(GRACE, GRACE / 100));
        assert!(why.contains("its un-reaped leader is still in the process table"), "{why}");
        let gone = Seen { gone_before: true, leader_is_a_zombie: false, ..seen(GRACE, Duration::ZERO) };
        let (_, _, why) = observed("already-gone", gone);
        assert_eq!(why, "took 5.0s of the 5s of grace, though the group was gone before it was called");
    }

    #[test]
    fn what_came_early_is_no_slow_machines_doing() {
        let (half, nano) = (GRACE / 2, Duration::from_nanos(1));
        let seen = |alive_after, gone_after, elapsed| {
            let seen = Seen { alive_after, delays: late_by(&[GRACE]), ..seen(elapsed, gone_after) };
            judged("ignore-term", Outcome::Killed, seen)
        };
        let (verdict, why) = seen(Duration::ZERO, half - nano, GRACE);
        assert_eq!(verdict, CellVerdict::Fail);
        assert!(why.starts_with("the group went after 2.5s, before half of the 5s of grace was over"), "{why}");
        assert_eq!(seen(GRACE, GRACE, half - nano).0, CellVerdict::Fail);
        // It went at some time in between, on which side of the half is unknown.
        let (verdict, why) = seen(half - nano, half, half);
        assert_eq!(verdict, CellVerdict::Inconclusive);
        assert!(why.contains("no look was taken then"), "{why}");
        assert_eq!(seen(half, half, half).0, CellVerdict::Pass);
    }
}
