//! What a test runner learns before it runs anything.

use crate::support::run;

fn names(stranger: &str, arguments: &str) -> Vec<String> {
    let (status, text) = run(stranger, arguments);
    assert_eq!(status, Some(0), "{text}");
    text.lines().filter_map(|line| line.strip_suffix(": test").map(str::to_owned)).collect()
}

pub(crate) fn every_cell_is_a_test_and_so_is_the_control() {
    // As nextest asks.
    let names = names("right", "--list --format terse");
    let mut expected: Vec<_> =
        deadbeat::fixture::ALL.iter().map(|fixture| format!("ours/{}/current-thread", fixture.name)).collect();
    expected.push("control/fast-exit/current-thread".to_owned());
    assert_eq!(names, expected);
}

pub(crate) fn a_filter_and_an_exact_name_choose_the_cells() {
    assert_eq!(
        names("right", "--list --format terse ours/st"),
        ["ours/stopped/current-thread", "ours/stubborn-child/current-thread"]
    );
    let (status, text) = run("right", "ours/zombie/current-thread --exact --nocapture");
    assert_eq!(status, Some(0), "{text}");
    assert!(text.contains("1 passed; 0 failed"), "{text}");
}

pub(crate) fn of_several_filters_a_cell_has_to_fit_one() {
    let listed = |filters: &str| names("right", &format!("--list --format terse {filters}"));
    let (one, other) = ("ours/zombie/current-thread", "ours/stopped/current-thread");
    assert_eq!(listed("zombie stopped"), [other, one]);
    assert_eq!(listed("zombie stopped --skip stop"), [one]);
    assert_eq!(listed(&format!("{one} {other} --exact")), [other, one]);
    assert_eq!(listed("zombi stoppe --exact"), [""; 0]);
    assert_eq!(listed("zombie none-such --skip control"), [one]);
    // One that runs is counted as with libtest.
    let (status, text) = run("right", "zombie/ already-gone/");
    assert_eq!(status, Some(0), "{text}");
    let left_out = deadbeat::fixture::ALL.len() + 1 - 2;
    assert!(text.contains("2 passed; 0 failed;") && text.contains(&format!("; {left_out} filtered out;")), "{text}");
}

pub(crate) fn a_declaration_that_makes_no_sense_is_an_error_before_anything_is_listed() {
    let (status, text) = run("typo", "--list --format terse");
    assert_eq!(status, Some(2), "{text}");
    assert!(text.contains("\"ours/stoped/*\" is no cell") && !text.contains(": test"), "{text}");
    let (status, text) = run("flaky-typo", "--list --format terse");
    assert_eq!(status, Some(2), "{text}");
    assert!(text.contains("the flaky cell \"ours/stoped/*\" is no cell") && !text.contains(": test"), "{text}");
}
