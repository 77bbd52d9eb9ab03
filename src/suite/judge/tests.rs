//! Each check by itself, then the verdicts that they make together.

use super::*;
use crate::heartbeat::{Flavor, Lab, Meanwhile, Pulse, Why};
use crate::kill::{KillError, KillReport};
use crate::retry::while_inconclusive;
use crate::suite::builder::Suite;
use crate::suite::machine_delays::MachineDelays;
use crate::suite::subjects::{SelfReport, Subject};

const GRACE: Duration = Duration::from_secs(5);
const NANO: Duration = Duration::from_nanos(1);

/// A kill of that length, and a group that went at the very moment it was seen gone.
fn seen(elapsed: Duration, gone_after: Duration) -> Observation {
    Observation {
        self_report: None,
        elapsed,
        alive_after: gone_after,
        gone_after: Some(gone_after),
        gone_before: false,
        machine_delays: MachineDelays::default(),
        member_wait: Duration::ZERO,
        meanwhile: Meanwhile::default(),
        leader_stayed: true,
        leader_ended_by: None,
        leader_is_a_zombie: true,
        is_alone: true,
        cleaned_up: true,
        leftover: Vec::new(),
        escaped: Vec::new(),
        unlisted: None,
        pulse: None,
        program_fault: None,
    }
}

fn delayed_by(delays: &[Duration]) -> MachineDelays {
    let mut all = MachineDelays::default();
    delays.iter().for_each(|late| all.add(*late));
    all
}

fn member(command: &str) -> Member {
    Member { pid: 42, state: 'S', command: command.to_owned(), signalable: true }
}

fn reported(outcome: Outcome) -> SelfReport {
    Some(Ok(KillReport { pgid: 42, outcome, signals: Vec::new(), elapsed: GRACE, survivors: Vec::new() }))
}

fn terms_of(subject: Subject, fixture: &str) -> Terms {
    let suite = Suite::new().subjects([subject]).fixtures([fixture::named(fixture).unwrap()]).grace(GRACE);
    Terms::of(&suite.cells()[0], &suite.settings())
}

/// What a subject has to show that does not tell what it did.
fn terms(fixture: &str) -> Terms {
    terms_of(Subject::new("mine", |_| async {}), fixture)
}

fn built_in(name: &str) -> Subject {
    crate::suite::built_in().into_iter().find(|subject| subject.name() == name).unwrap()
}

/// The verdict on a subject that reports this outcome.
fn judged(fixture: &str, outcome: Outcome, seen: Observation) -> (CellVerdict, String) {
    let seen = Observation { self_report: reported(outcome), ..seen };
    judge(&seen, &terms_of(built_in("spawn-blocking"), fixture))
}

/// The outcome and the verdict of a subject that does not tell what it did.
fn observed(fixture: &str, seen: Observation) -> (Option<Outcome>, CellVerdict, String) {
    let terms = terms(fixture);
    let (verdict, why) = judge(&seen, &terms);
    (terms.outcome(&seen), verdict, why)
}

impl Fault {
    fn why(self) -> String {
        match self {
            Fault::Wrong(why) => format!("wrong: {why}"),
            Fault::Late(LateFault { why, by, .. }) => format!("late by {by:?}: {why}"),
            Fault::Unclear(why) => format!("unclear: {why}"),
        }
    }
}

/// What the check finds; empty if nothing.
#[track_caller]
fn found(check: Check, seen: &Observation, terms: &Terms) -> String {
    check(seen, terms).map(Fault::why).unwrap_or_default()
}

#[track_caller]
fn finds(check: Check, seen: &Observation, terms: &Terms, what: &str) {
    let found = found(check, seen, terms);
    assert!(found.starts_with(what) && !what.is_empty(), "{found:?} is not {what:?}");
}

#[track_caller]
fn finds_nothing(check: Check, seen: &Observation, terms: &Terms) {
    assert_eq!(found(check, seen, terms), "");
}

#[test]
fn a_program_that_failed_is_wrong() {
    let terms = terms("fast-exit");
    finds_nothing(failed_program, &seen(GRACE / 50, GRACE / 50), &terms);
    let failed = Observation { program_fault: Some("exited with 1".into()), ..seen(GRACE / 50, GRACE / 50) };
    finds(failed_program, &failed, &terms, "wrong: exited with 1");
}

#[test]
fn an_error_that_the_subject_returns_is_wrong() {
    let terms = terms("fast-exit");
    let with = |self_report| Observation { self_report, ..seen(GRACE / 50, GRACE / 50) };
    finds_nothing(reported_error, &with(None), &terms);
    finds_nothing(reported_error, &with(reported(Outcome::Terminated)), &terms);
    let error = KillError::os(42, std::io::ErrorKind::PermissionDenied.into());
    finds(reported_error, &with(Some(Err(error))), &terms, "wrong: ");
}

#[test]
fn another_outcome_is_wrong_and_where_the_grace_may_have_been_too_short_late() {
    let with = |elapsed, outcome| Observation { self_report: reported(outcome), ..seen(elapsed, elapsed) };
    let (obeys, stubborn) = (terms("fast-exit"), terms("ignore-term"));
    for check in [wrong_outcome, unheeded_group] {
        finds_nothing(check, &with(GRACE / 50, Outcome::Terminated), &obeys);
        finds_nothing(check, &with(GRACE, Outcome::Killed), &stubborn);
    }
    let soon = with(GRACE / 2 - NANO, Outcome::Killed);
    finds(wrong_outcome, &soon, &obeys, "wrong: outcome killed, not terminated: ");
    finds_nothing(unheeded_group, &soon, &obeys);
    let in_time = with(GRACE / 2, Outcome::Killed);
    finds_nothing(wrong_outcome, &in_time, &obeys);
    finds(unheeded_group, &in_time, &obeys, "late by 5s: outcome killed, not terminated: ");
    let too_kind = with(GRACE, Outcome::Terminated);
    finds(wrong_outcome, &too_kind, &stubborn, "wrong: outcome terminated, not killed: ");
    finds_nothing(unheeded_group, &too_kind, &stubborn);
}

#[test]
fn a_stubborn_group_that_went_before_half_the_grace_was_killed_early() {
    let with = |gone_after| Observation { self_report: reported(Outcome::Killed), ..seen(GRACE, gone_after) };
    finds(early_sigkill, &with(GRACE / 2 - NANO), &terms("ignore-term"), "wrong: the group went after 2.5s, before");
    finds_nothing(early_sigkill, &with(GRACE / 2), &terms("ignore-term"));
    finds_nothing(early_sigkill, &with(GRACE / 50), &terms("fast-exit"));
    // Where it did not go of SIGKILL, the outcome tells.
    let obeyed = Observation { self_report: reported(Outcome::Terminated), ..seen(GRACE, GRACE / 50) };
    finds_nothing(early_sigkill, &obeyed, &terms("ignore-term"));
}

#[test]
fn a_kill_that_takes_the_grace_and_returns_early_is_wrong() {
    let stubborn = terms("ignore-term");
    let early = "wrong: back after 2.5s, before half of the 5s of grace was over";
    finds(early_return, &seen(GRACE / 2 - NANO, GRACE), &stubborn, early);
    finds_nothing(early_return, &seen(GRACE / 2, GRACE), &stubborn);
    finds_nothing(early_return, &seen(GRACE / 50, GRACE / 50), &terms("fast-exit"));
    // A known-bad one takes all of it, whatever its fixture.
    let bad = terms_of(built_in("inline"), "fast-exit");
    let early = "wrong: back after 5.0s, before the 5s of grace were over";
    finds(early_return, &seen(GRACE - NANO, GRACE / 50), &bad, early);
    finds_nothing(early_return, &seen(GRACE, GRACE / 50), &bad);
}

#[test]
fn a_cleanup_that_was_cut_short_is_wrong() {
    let cut = Observation { cleaned_up: false, ..seen(GRACE / 5, GRACE / 5) };
    finds(unfinished_cleanup, &cut, &terms("slow-exit"), "wrong: the group was not let finish its cleanup: its leader");
    finds_nothing(unfinished_cleanup, &seen(GRACE / 5, GRACE / 5), &terms("slow-exit"));
    finds_nothing(unfinished_cleanup, &cut, &terms("fast-exit"));
}

#[test]
fn a_live_member_is_wrong() {
    let left = Observation { leftover: vec![member("sleep 120")], ..seen(GRACE, GRACE) };
    let words = "wrong: left in the group: 42 [S] sleep 120; no SIGKILL came to them";
    finds(leftover, &left, &terms("fast-exit"), words);
    finds_nothing(leftover, &seen(GRACE, GRACE), &terms("fast-exit"));
}

#[cfg(target_os = "linux")]
#[test]
fn more_escaped_processes_than_the_fixture_sends_away_are_wrong_and_fewer_are_not() {
    let with = |count| Observation { escaped: vec![member("sleep 120"); count], ..seen(GRACE / 50, GRACE / 50) };
    finds(too_many_escaped, &with(2), &terms("setsid-escape"), "wrong: 2 escaped, not 1");
    finds_nothing(too_many_escaped, &with(1), &terms("setsid-escape"));
    finds_nothing(too_many_escaped, &with(0), &terms("setsid-escape"));
}

#[test]
fn a_return_long_after_the_group_was_gone_is_late() {
    let obeys = terms("fast-exit");
    let late = "late by 2.5s: took 2.6s of the 5s of grace, though the group was gone after 100.0ms; its un-reaped";
    finds(late_return, &seen(GRACE / 2 + GRACE / 50, GRACE / 50), &obeys, late);
    finds_nothing(late_return, &seen(GRACE / 2, GRACE / 50), &obeys);
    let lives_on = Observation { gone_after: None, ..seen(GRACE / 2, GRACE) };
    finds(late_return, &lives_on, &obeys, "late by 2.5s: took 2.5s of the 5s of grace");
    // Where SIGKILL was needed it is half of what a slow machine is granted.
    let stubborn = terms("ignore-term");
    let late = "late by 2.5s: took 7.5s of the 5s of grace, though the group was gone after 5.0s";
    finds(late_return, &seen(GRACE + LEAST_ROOM / 2, GRACE), &stubborn, late);
    finds_nothing(late_return, &seen(GRACE + LEAST_ROOM / 2 - NANO, GRACE), &stubborn);
    // A known-bad subject is known for it.
    finds_nothing(late_return, &seen(GRACE, GRACE / 50), &terms_of(built_in("inline"), "fast-exit"));
}

#[test]
fn a_group_that_obeys_after_the_grace_was_asked_late() {
    let late = "late by 5s: the group went after 5.0s of the 5s of grace, its leader ended by itself: the first signal";
    finds(late_request, &seen(GRACE, GRACE), &terms("fast-exit"), late);
    finds(late_request, &seen(GRACE, GRACE), &terms("slow-exit"), "late by 4s: ");
    finds_nothing(late_request, &seen(GRACE, GRACE - NANO), &terms("fast-exit"));
    let killed = Observation { self_report: reported(Outcome::Killed), ..seen(GRACE, GRACE) };
    finds_nothing(late_request, &killed, &terms("fast-exit"));
    finds_nothing(late_request, &seen(GRACE, GRACE), &terms("ignore-term"));
}

#[test]
fn sigkill_is_late_when_the_grace_and_the_room_of_a_slow_machine_are_over() {
    let stubborn = terms("ignore-term");
    let end = GRACE + LEAST_ROOM;
    let late = "late by 5s: SIGKILL came late: the group went after 10.0s, of 5s of grace";
    finds(late_sigkill, &seen(end, end), &stubborn, late);
    finds_nothing(late_sigkill, &seen(end, end - NANO), &stubborn);
    // SIGKILL was sent before the subject returned.
    finds_nothing(late_sigkill, &seen(end - NANO, end), &stubborn);
    finds_nothing(late_sigkill, &seen(end, end), &terms("fast-exit"));
}

#[test]
fn a_group_that_obeyed_just_before_a_late_return_is_unclear() {
    let unclear = "unclear: back after 5.0s, and the group went after 5.0s of the 5s of grace: ";
    finds(maybe_late_request, &seen(GRACE, GRACE - NANO), &terms("fast-exit"), unclear);
    finds_nothing(maybe_late_request, &seen(GRACE - NANO, GRACE - NANO), &terms("fast-exit"));
    finds_nothing(maybe_late_request, &seen(GRACE, GRACE), &terms("fast-exit"));
    finds_nothing(maybe_late_request, &seen(GRACE, GRACE - NANO), &terms("ignore-term"));
}

#[test]
fn a_stubborn_group_that_was_not_looked_at_when_half_the_grace_was_over_is_unclear() {
    let with = |alive_after| Observation { alive_after, ..seen(GRACE, GRACE) };
    let unclear = "unclear: the group went between 2.5s and 5.0s, and no look was taken then";
    finds(maybe_early_sigkill, &with(GRACE / 2 - NANO), &terms("ignore-term"), unclear);
    finds_nothing(maybe_early_sigkill, &with(GRACE / 2), &terms("ignore-term"));
    finds_nothing(maybe_early_sigkill, &with(GRACE / 2 - NANO), &terms("fast-exit"));
}

#[test]
fn a_pulse_has_to_be_what_is_expected_of_the_subject() {
    let lab = Lab::new(Flavor::CurrentThread);
    let pulse_of = |nap| lab.run_root(move || async move { std::thread::park_timeout(nap) }).unwrap().pulse;
    let with = |pulse| Observation { pulse: Some(pulse), ..seen(GRACE, GRACE) };
    // A watch that is shorter than the budget is steady.
    let steady = with(while_inconclusive(|| pulse_of(Duration::ZERO), |pulse| pulse.verdict() != Verdict::Steady));
    let starved =
        with(while_inconclusive(|| pulse_of(Duration::from_millis(150)), |pulse| pulse.verdict() != Verdict::Starved));
    let unclear = with(Pulse { uncovered: Some(Why::MultiThread), ..pulse_of(Duration::ZERO) });
    let (good, bad) = (terms("fast-exit"), terms_of(built_in("inline"), "fast-exit"));
    finds_nothing(wrong_pulse, &steady, &good);
    finds(wrong_pulse, &starved, &good, "wrong: a worker stood still for ");
    finds_nothing(wrong_pulse, &starved, &bad);
    finds(wrong_pulse, &steady, &bad, "wrong: the worker was expected to stand still, and did not");
    for terms in [&good, &bad] {
        finds(wrong_pulse, &unclear, terms, "unclear: ");
    }
    // A program has none.
    finds_nothing(wrong_pulse, &seen(GRACE, GRACE), &good);
}

#[test]
fn processes_that_could_not_be_listed_are_unclear() {
    let unlisted = Observation { unlisted: Some("who is left cannot be told".into()), ..seen(GRACE / 50, GRACE / 50) };
    finds(unlisted_members, &unlisted, &terms("fast-exit"), "unclear: who is left cannot be told");
    finds_nothing(unlisted_members, &seen(GRACE / 50, GRACE / 50), &terms("fast-exit"));
    // What is wrong is wrong all the same.
    let failed = Observation { program_fault: Some("exited with 1".into()), ..unlisted };
    assert_eq!(judge(&failed, &terms("fast-exit")), (CellVerdict::Fail, "exited with 1".into()));
}

#[test]
fn what_came_late_on_a_machine_that_was_late_itself_proves_nothing() {
    let judged = |outcome, elapsed, gone_after, late| {
        judged("fast-exit", outcome, Observation { machine_delays: delayed_by(&[late]), ..seen(elapsed, gone_after) })
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
    let delays = delayed_by(&[Duration::from_millis(60); 60]);
    let meanwhile = Meanwhile::with_a_thread_that_waited(Duration::from_millis(3600), 60);
    let slept = |after, machine_delays, meanwhile| Observation { machine_delays, meanwhile, ..seen(after, GRACE / 50) };
    let (verdict, why) = judged("fast-exit", Outcome::Terminated, slept(GRACE, delays.clone(), meanwhile.clone()));
    assert_eq!(verdict, CellVerdict::Fail, "{why}");
    // The control: a few that are as long as what they are to explain.
    let long = delayed_by(&[GRACE / 6; 4]);
    assert_eq!(judged("fast-exit", Outcome::Terminated, slept(GRACE, long, meanwhile)).0, CellVerdict::Inconclusive);
    let waited = Meanwhile::with_a_thread_that_waited(GRACE / 2, 8);
    assert_eq!(judged("fast-exit", Outcome::Terminated, slept(GRACE, delays, waited)).0, CellVerdict::Inconclusive);
}

#[test]
fn what_came_late_because_a_member_had_no_cpu_or_no_disk_proves_nothing() {
    let nano = Duration::from_nanos(1);
    let late = |outcome, gone_after, member_wait, run_queue| {
        let meanwhile = Meanwhile::with_a_thread_that_waited(run_queue, 1);
        judged("forking", outcome, Observation { member_wait, meanwhile, ..seen(GRACE, gone_after) })
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
    let early = Observation { member_wait: GRACE, ..seen(GRACE / 4, GRACE / 4) };
    assert_eq!(judged("forking", killed, early).0, CellVerdict::Fail);
}

#[test]
fn a_group_that_took_the_whole_grace_was_asked_late_unless_the_machine_explains_it() {
    let nano = Duration::from_nanos(1);
    let judged = |elapsed, gone_after, member_wait| {
        judged("slow-exit", Outcome::Terminated, Observation { member_wait, ..seen(elapsed, gone_after) })
    };
    let none = Duration::ZERO;
    assert_eq!(judged(GRACE - nano, GRACE - nano, none).0, CellVerdict::Pass);
    let (verdict, why) = judged(GRACE, GRACE, none);
    assert_eq!(verdict, CellVerdict::Fail);
    assert_eq!(
        why,
        "the group went after 5.0s of the 5s of grace, its leader ended by itself: the first signal came late, or the \
         group was slow"
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
    let late = |seen: Observation| observed("fast-exit", Observation { leader_ended_by: Some(Signal::TERM), ..seen });
    let (outcome, verdict, why) = late(seen(GRACE * 6 / 5, GRACE * 6 / 5));
    assert_eq!((outcome, verdict), (Some(Outcome::Terminated), CellVerdict::Fail), "{why}");
    assert!(why.contains("its leader died of SIGTERM: the first signal came late"), "{why}");
    // The leader had gone before: a signal that ended the others at the end of the grace was SIGKILL.
    let others = |seen: Observation| Observation { is_alone: false, ..seen };
    let (outcome, _, why) = late(others(Observation { leader_stayed: false, ..seen(GRACE, GRACE) }));
    assert_eq!(outcome, Some(Outcome::Killed));
    assert!(why.contains("outcome killed, not terminated: its leader died of SIGTERM, and the group went"), "{why}");
    // A look so long that there was time for both.
    let long = || Observation { alive_after: Duration::ZERO, ..seen(GRACE, GRACE) };
    assert_eq!(late(others(long())).0, Some(Outcome::Killed));
    // Not where there was no other member.
    assert_eq!(late(long()).0, Some(Outcome::Terminated));
    let killed = Observation { leader_ended_by: Some(Signal::KILL), ..seen(GRACE, GRACE) };
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
    let asked = Observation { leader_ended_by: Some(Signal::INT), ..seen(GRACE / 100, GRACE / 100) };
    let (_, verdict, why) = observed("ignore-term", asked);
    assert_eq!(verdict, CellVerdict::Fail);
    assert!(why.contains("the leader died of SIGINT, and the first signal that is expected is SIGTERM"), "{why}");
    assert!(why.contains("--first-signal INT"), "{why}");
    // One that dies at once of either is no reason to complain.
    let asked = Observation { leader_ended_by: Some(Signal::INT), ..seen(GRACE / 100, GRACE / 100) };
    assert_eq!(observed("fast-exit", asked).1, CellVerdict::Pass);
}

#[test]
fn a_wait_for_an_un_reaped_leader_is_named() {
    let (_, _, why) = observed("fast-exit", seen(GRACE, GRACE / 100));
    assert!(why.contains("its un-reaped leader is still in the process table"), "{why}");
    let gone = Observation { gone_before: true, leader_is_a_zombie: false, ..seen(GRACE, Duration::ZERO) };
    let (_, _, why) = observed("already-gone", gone);
    assert_eq!(why, "took 5.0s of the 5s of grace, though the group was gone before it was called");
}

#[test]
fn what_came_early_is_no_slow_machines_doing() {
    let (half, nano) = (GRACE / 2, Duration::from_nanos(1));
    let seen = |alive_after, gone_after, elapsed| {
        let seen = Observation { alive_after, machine_delays: delayed_by(&[GRACE]), ..seen(elapsed, gone_after) };
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
