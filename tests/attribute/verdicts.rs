//! Which tests of the suite pass and which fail, under either harness, and what those say that fail.

use std::process::Command;

use super::outside::{cargo, results, suite, text};

/// Of each bad test, in order: words that it is shown with, and none that must not be there.
const BAD: [(&str, &[&str]); 16] = [
    ("a_computation", &["the runtime was starved", "running"]),
    (
        "a_known_stall_for_too_long",
        &["until 2020-02-29, which is over (it blocks, issue 12): mend it, or move `until`: ", "clock_nanosleep"],
    ),
    ("a_known_stall_that_is_gone", &["the known stall did not happen: remove `known`", "it blocked once, issue 12"]),
    ("block_in_a_spawned_task", &["the runtime was starved", "clock_nanosleep: 200 ms asked for"]),
    ("block_in_the_body_on_two_workers", &["the runtime was starved", "clock_nanosleep: 200 ms asked for"]),
    ("mutex_held_by_another_thread", &["the runtime was starved", "futex"]),
    ("never_returns", &["was not over after", "futex", "more time than 1s: `deadline = \"..\"`"]),
    ("one_of_two_workers_blocks", &["the runtime was starved", "clock_nanosleep: 200 ms asked for"]),
    ("panics", &["its own panic", "thread 'bad::panics'", "tests/suite.rs"]),
    ("pauses_the_clock", &["it proves nothing; inconclusive: tokio's clock is paused", "run without `start_paused`"]),
    ("process_output", &["the runtime was starved", "culprit"]),
    ("returns_an_error", &["its own error"]),
    ("stalls_and_does_not_panic", &["the runtime was starved", "test did not panic as expected"]),
    ("stalls_before_it_panics", &["the runtime was starved", "test did not panic as expected", "as it should"]),
    (
        "thread_sleep",
        &["the runtime was starved", "printed before the stall", "budget       50.0 ms", "tests/suite.rs"],
    ),
    ("udp_recv_with_a_timeout", &["the runtime was starved", "recvfrom"]),
];

/// How many tests of the suite are good, each case for itself.
const GOOD: usize = 20;

/// The note of the known stall.
const NOTE: &str = "deadbeat: good::a_known_stall: a known stall (it blocks in \"sleep\", issue 12): ";

#[test]
fn bad_tests_fail_with_their_report_and_good_ones_pass() {
    let output = suite().output().unwrap();
    let results = results(&output.stdout);
    let said = text(&output);
    for (name, words) in BAD {
        let (result, shown) = &results[&format!("bad::{name}")];
        assert_eq!(result, "FAILED", "{name}: {said}");
        for word in words {
            assert!(shown.contains(word), "{name} does not say {word:?}: {shown}");
        }
    }
    let good: Vec<_> = results.iter().filter(|(name, _)| name.starts_with("good::")).collect();
    assert_eq!((good.len(), results.len()), (GOOD, GOOD + BAD.len()), "{said}");
    for (name, (result, _)) in good {
        assert_eq!(result, "ok", "{name}: {said}");
    }
    let stderr = String::from_utf8(output.stderr).unwrap();
    let notes: Vec<_> = stderr.lines().filter(|line| line.starts_with("deadbeat: ")).collect();
    assert!(matches!(notes[..], [note] if note.starts_with(NOTE) && note.contains("clock_nanosleep")), "{stderr}");
}

#[test]
fn nextest_says_the_same() {
    let args = [
        "nextest",
        "run",
        "--offline",
        "--features",
        "macros",
        "--test",
        "suite",
        "--no-fail-fast",
        "--color",
        "never",
    ];
    if !Command::new("cargo-nextest").arg("--version").output().is_ok_and(|output| output.status.success()) {
        eprintln!("skipped: cargo-nextest is not installed");
        return;
    }
    let output = cargo(&args).args(["--status-level", "all", "--final-status-level", "none"]).output().unwrap();
    let said = text(&output);
    let with = |word: &str, kind: &str| {
        let lines = said.lines().map(str::trim).filter(|line| line.starts_with(word));
        lines.filter(|line| line.contains(&format!(" {kind}::"))).count()
    };
    let counts = ["PASS", "FAIL"].map(|word| ["good", "bad"].map(|kind| with(word, kind)));
    assert_eq!(counts, [[GOOD, 0], [0, BAD.len()]], "{said}");
}
