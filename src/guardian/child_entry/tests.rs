use super::*;

const MS: Duration = Duration::from_millis(1);
const FAR: Duration = Duration::from_secs(3600);

#[test]
fn it_looks_often_and_long_enough_and_leaves_grace_and_signal_as_they_are() {
    let asked = KillPolicy::default().grace(MS * 70).continue_stopped(false);
    let hasty = asked.clone().poll_interval(MS * 5).confirm(Duration::ZERO);
    assert_eq!(adjusted(hasty), asked.clone().poll_interval(MS * 5).confirm(CONFIRM));
    let slow = asked.clone().poll_interval(FAR).confirm(CONFIRM * 2);
    assert_eq!(adjusted(slow), asked.poll_interval(INTERVAL).confirm(CONFIRM * 2));
}

#[test]
fn the_next_look_is_as_near_as_what_is_left_needs_and_the_look_costs() {
    let quiet = LookSummary {
        took: Duration::ZERO,
        found_some: false,
        all_are_released: true,
        some_have_grace: false,
        no_kill_runs: true,
    };
    let held = LookSummary { all_are_released: false, ..quiet };
    for (look, pause) in [
        (quiet, QUIET_PAUSE),
        (LookSummary { no_kill_runs: false, ..quiet }, QUIET_PAUSE),
        (LookSummary { some_have_grace: true, ..quiet }, QUIET_PAUSE),
        (LookSummary { some_have_grace: true, no_kill_runs: false, ..quiet }, INTERVAL),
        (LookSummary { found_some: true, no_kill_runs: false, ..quiet }, Duration::ZERO),
        (LookSummary { found_some: true, no_kill_runs: false, some_have_grace: true, ..quiet }, INTERVAL),
        (held, INTERVAL),
        (LookSummary { found_some: true, ..held }, INTERVAL),
        (LookSummary { took: MS * 3, ..quiet }, MS * 30),
        (LookSummary { took: MS * 3, ..held }, INTERVAL),
        (LookSummary { took: MS * 30, ..held }, MS * 300),
        (LookSummary { took: MS * 1000, ..quiet }, MS * 500),
    ] {
        assert_eq!(look.pause(), pause, "{look:?}");
    }
}

#[test]
fn a_look_is_quiet_that_shows_no_escaped_process_of_a_released_child_and_can_have_missed_none() {
    let began = Instant::now();
    let begun = |released| ChildEntry {
        released,
        quiet_looks: 1,
        killing_since: Some(began),
        ..ChildEntry::new(KillPolicy::default())
    };
    let quiet = |released, elapsed, some_are_killed, some_in_exec| {
        let mut child = begun(released);
        child.count_look(began + elapsed, some_are_killed, some_in_exec);
        child.quiet_looks
    };
    assert_eq!(quiet(true, MS, false, false), 2);
    assert_eq!(quiet(false, MS, false, false), 0, "there may be more of them");
    assert_eq!(quiet(true, MS, true, false), 0);
    assert_eq!(quiet(true, MS, false, true), 0, "its mark may show yet");
    assert_eq!(quiet(true, EXEC - MS, false, true), 0);
    assert_eq!(quiet(true, EXEC, false, true), 2, "no exec takes so long");
    assert_eq!(quiet(true, EXEC + MS, false, true), 2);
    // A process that had a whole grace can have had a child just before it died.
    let mut child = begun(true);
    child.count_look(began + EXEC, true, false);
    child.count_look(began + EXEC * 2 - MS, false, true);
    assert_eq!(child.quiet_looks, 0);
    child.count_look(began + EXEC * 2, false, true);
    assert_eq!(child.quiet_looks, 1);
    assert_eq!(quiet(true, EXEC + MS, true, false), 0);
}

#[test]
fn the_grace_is_counted_from_when_the_kill_began() {
    let mut child = ChildEntry::new(KillPolicy::default().grace(FAR));
    assert!(child.has_grace());
    child.killing_since = Some(Instant::now());
    assert!(child.has_grace());
    child.policy.grace = Duration::ZERO;
    assert!(!child.has_grace());
}
