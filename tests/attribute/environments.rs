//! `DEADBEAT`, `DEADBEAT_REPORT` and `DEADBEAT_INCONCLUSIVE`, which a whole suite is run with.

use std::collections::BTreeSet;
use std::fs;

use super::outside::{results, suite, text};

const STALLS: [&str; 3] = ["bad::thread_sleep", "bad::one_of_two_workers_blocks", "bad::stalls_before_it_panics"];

#[test]
fn in_report_no_stall_fails_and_each_is_said_and_written_down() {
    let dir = tempfile::tempdir().unwrap();
    let report = dir.path().join("stalls.jsonl");
    let mut command = suite();
    command.args(STALLS).args(["good::sleep", "good::a_known_stall", "bad::a_known_stall"]);
    let output = command.env("DEADBEAT", "report").env("DEADBEAT_REPORT", &report).output().unwrap();
    let said = text(&output);
    assert!(output.status.success() && results(&output.stdout).len() == 7, "{said}");

    let lines = fs::read_to_string(&report).unwrap();
    let lines: Vec<serde_json::Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let found = |name: &str, as_what: &str| {
        let line = lines.iter().find(|line| line["test"] == name).unwrap_or_else(|| panic!("no {name}: {lines:?}"));
        assert_eq!([&line["crate"], &line["verdict"]], ["suite", as_what], "{line}");
        let note = said.lines().find(|line| line.starts_with(&format!("deadbeat: {name}: ")));
        assert!(note.is_some(), "{name} is not said: {said}");
        line
    };
    for name in STALLS {
        let line = found(name, "starved");
        assert!(line["culprit"].as_str().unwrap().contains("clock_nanosleep: 200 ms asked for"), "{line}");
        assert!(line["blocked_ms"].as_f64().unwrap() > 150.0 && line["budget_ms"] == 50.0, "{line}");
    }
    assert_eq!(found("good::a_known_stall", "known")["known"], "it blocks in \"sleep\", issue 12");
    assert_eq!(found("bad::a_known_stall_for_too_long", "expired")["until"], "2020-02-29");
    found("bad::a_known_stall_that_is_gone", "no-longer-stalls");
    assert!(!lines.iter().any(|line| line["test"] == "good::sleep"), "it is steady: {lines:?}");
}

#[test]
fn many_processes_append_to_one_file_and_no_line_is_torn() {
    let dir = tempfile::tempdir().unwrap();
    let report = dir.path().join("stalls.jsonl");
    let run =
        || suite().args(["bad::thread_sleep", "good::a_known_stall"]).env("DEADBEAT_REPORT", &report).output().unwrap();
    suite();
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(run);
        }
    });
    let lines = fs::read_to_string(&report).unwrap();
    let tests: Vec<_> = lines.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()).collect();
    for name in ["bad::thread_sleep", "good::a_known_stall"] {
        assert!(tests.iter().filter(|line| line["test"] == name).count() >= 8, "{lines}");
    }
    let found: BTreeSet<_> = tests.iter().filter_map(|line| line["verdict"].as_str()).collect();
    assert!(found.contains("starved") && found.contains("known"), "{lines}");
}

#[test]
fn what_proves_nothing_passes_where_that_is_asked_for_and_nothing_else_does() {
    let tests = ["bad::pauses_the_clock", "bad::thread_sleep", "bad::never_returns"];
    let output = suite().args(tests).env("DEADBEAT_INCONCLUSIVE", "pass").output().unwrap();
    let (said, results) = (text(&output), results(&output.stdout));
    let result = tests.map(|name| results[name].0.as_str());
    assert_eq!(result, ["ok", "FAILED", "FAILED"], "{said}");
    let note = "deadbeat: bad::pauses_the_clock: it proves nothing; inconclusive: tokio's clock is paused";
    assert!(said.lines().any(|line| line.starts_with(note)), "{said}");
}

#[test]
fn a_test_without_an_end_fails_in_report_too_and_is_written_down() {
    let dir = tempfile::tempdir().unwrap();
    let report = dir.path().join("stalls.jsonl");
    let mut command = suite();
    command.arg("bad::never_returns").env("DEADBEAT", "report").env("DEADBEAT_REPORT", &report);
    let output = command.output().unwrap();
    assert!(text(&output).contains("was not over after") && !output.status.success(), "{}", text(&output));
    let line: serde_json::Value = serde_json::from_str(&fs::read_to_string(&report).unwrap()).unwrap();
    assert_eq!([&line["test"], &line["verdict"]], ["bad::never_returns", "hung"]);
    assert!(line["culprit"].as_str().unwrap().contains("futex"), "{line}");
}

#[test]
fn off_is_plain_tokio_and_says_nothing() {
    let tests = ["bad::thread_sleep", "bad::block_in_the_body_on_two_workers", "bad::a_known_stall", "good::not_send"];
    let output = suite().args(tests).env("DEADBEAT", "off").output().unwrap();
    assert!(output.status.success() && !text(&output).contains("deadbeat"), "{}", text(&output));
    let output = suite().args(["bad::panics", "bad::returns_an_error"]).env("DEADBEAT", "off").output().unwrap();
    let results = results(&output.stdout);
    assert!(results.len() == 2 && results.values().all(|(result, _)| result == "FAILED"), "{}", text(&output));
}

#[test]
fn a_word_that_is_not_understood_fails_every_test_and_says_which_are() {
    for (name, words) in [("DEADBEAT", "fail, report, off"), ("DEADBEAT_INCONCLUSIVE", "fail, pass")] {
        // The second passes by any panic.
        let tests = ["good::not_send", "bad::stalls_and_does_not_panic"];
        let output = suite().args(tests).env(name, "on").output().unwrap();
        let said = text(&output);
        assert!(said.contains(&format!("{name} is \"on\", and must be one of: {words}")), "{said}");
        let results = results(&output.stdout);
        assert!(results.len() == 2 && results.values().all(|(result, _)| result == "FAILED"), "{said}");
    }
}

#[test]
fn a_report_that_cannot_be_written_is_said() {
    let output = suite().arg("good::a_known_stall").env("DEADBEAT_REPORT", "/missing/stalls.jsonl").output().unwrap();
    let said = text(&output);
    assert!(said.contains("cannot append to /missing/stalls.jsonl: No such file") && output.status.success(), "{said}");
}
