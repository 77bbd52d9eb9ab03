//! The JSON report against the schema that is published with it, and the schema against broken reports.

use std::sync::LazyLock;

use jsonschema::Validator;
use rstest::rstest;
use serde_json::{Value, json};

use crate::support::{FAILING, PASSING, deadbeat};

/// The compiled schema, once for all tests: in a debug build it takes long.
static SCHEMA: LazyLock<Validator> = LazyLock::new(|| {
    let schema = serde_json::from_str(include_str!("../../schema/suite.schema.json")).unwrap();
    jsonschema::validator_for(&schema).unwrap()
});

pub(crate) fn faults(report: &Value) -> Vec<String> {
    SCHEMA.iter_errors(report).map(|error| format!("{}: {error}", error.instance_path)).collect()
}

fn report(cells: &str, status: i32) -> Value {
    let output = deadbeat(cells).arg("--format=json").assert().code(status).get_output().clone();
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_report_that_passed_keeps_to_the_schema() {
    let report = report(PASSING, 0);
    assert_eq!(faults(&report), [""; 0]);
    assert_eq!(report["summary"], json!({"pass": 1, "fail": 0, "inconclusive": 0}));
    let cell = &report["cells"][0];
    assert_eq!(cell["pulse"]["verdict"], "steady");
    assert_eq!(cell["signals"][0]["signal"], "SIGTERM");
}

#[test]
fn a_report_that_failed_keeps_to_the_schema() {
    let report = report(FAILING, 1);
    assert_eq!(faults(&report), [""; 0]);
    assert_eq!(report["summary"], json!({"pass": 0, "fail": 1, "inconclusive": 0}));
    assert_eq!(report["cells"][0]["signals"], Value::Null, "a program tells of no signal");
}

#[test]
fn a_report_on_a_program_keeps_to_the_schema() {
    let mut command = deadbeat("suite --fixture zombie --grace 2s --format json --repeat 2 --exec");
    let output = command.arg("mine=exit 3 # {pgid}").assert().code(1).get_output().clone();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(faults(&report), [""; 0]);
    let cell = &report["cells"][1];
    assert_eq!((&cell["runtime"], &cell["pulse"], &cell["repeat"]), (&json!("none"), &Value::Null, &json!(2)));
}

#[test]
fn a_report_with_a_starved_worker_and_one_that_escaped_keeps_to_the_schema() {
    let report = report("suite --subject inline --fixture setsid-escape --runtime multi-thread-1 --grace 4s", 0);
    assert_eq!(faults(&report), [""; 0]);
    let cell = &report["cells"][0];
    assert_eq!(cell["pulse"]["verdict"], "starved");
    assert!(cell["pulse"]["stalls"][0]["wall_ms"].as_f64().unwrap() > 2000.0, "{cell:#}");
    if cfg!(target_os = "linux") && report["host"]["backend"] == "proc" {
        assert_eq!(cell["escaped"].as_array().unwrap().len(), 1, "{cell:#}");
    }
}

#[test]
fn what_comes_with_a_sharper_heartbeat_keeps_to_the_schema_too() {
    let mut report = report(PASSING, 0);
    let pulse = &mut report["cells"][0]["pulse"];
    pulse["queue_delay_ms"] = json!(1.5);
    let culprit = json!({"syscall": "clock_nanosleep", "detail": "100 ms asked for", "samples": 9, "of": 9});
    pulse["stalls"] = json!([{"at_ms": 0, "wall_ms": 9.5, "on_cpu_ms": 1, "run_queue_ms": null, "blocked_ms": 8.5,
                              "culprit": culprit}]);
    assert_eq!(faults(&report), [""; 0]);
}

#[test]
fn a_report_of_everything_there_can_be_keeps_to_the_schema() {
    let report = serde_json::from_str(include_str!("../../src/report/sample.json")).unwrap();
    assert_eq!(faults(&report), [""; 0]);
}

#[test]
fn a_timeline_tells_who_lived_until_when_and_when_the_beats_came() {
    let suite =
        "suite --subject spawn-blocking --fixture stubborn-child --runtime current-thread --grace 4s --budget 1500ms";
    let report = report(suite, 0);
    let cell = &report["cells"][0];
    let ms = |at: &str| cell.pointer(at).and_then(Value::as_f64).unwrap_or_else(|| panic!("no {at}: {cell:#}"));
    let beats: f64 = cell["pulse"]["rhythm"]["beats"].as_array().unwrap().iter().filter_map(Value::as_f64).sum();
    assert_eq!(beats, ms("/pulse/beats"), "{cell:#}");
    assert_eq!(ms("/timeline/grace_ms"), 4000.0);
    if cfg!(target_os = "linux") && report["host"]["backend"] == "proc" {
        let life = |role: &str| {
            let lives = cell["timeline"]["lives"].as_array().unwrap();
            lives.iter().find(|life| life["role"] == role).unwrap_or_else(|| panic!("no {role}: {cell:#}"))
        };
        assert_eq!(life("leader")["ended_by"], "SIGTERM", "{cell:#}");
        let (leader, child) =
            (life("leader")["until_ms"].as_f64().unwrap(), life("child")["until_ms"].as_f64().unwrap());
        assert!(leader < child && child >= 4000.0, "the child ignores SIGTERM: {cell:#}");
        assert_eq!(child, ms("/timeline/gone_ms"));
    }
}

#[rstest]
#[case::a_verdict_nobody_knows("/cells/0/verdict", json!("passed"))]
#[case::a_failure_without_a_reason("/cells/0/verdict", json!("fail"))]
#[case::an_outcome_nobody_knows("/cells/0/outcome", json!("dead"))]
#[case::a_time_below_zero("/cells/0/elapsed_ms", json!(-1))]
#[case::a_signal_by_number("/cells/0/signals/0/signal", json!(15))]
#[case::a_member_that_is_only_a_number("/cells/0/leftover", json!([4242]))]
#[case::a_beat_and_a_half("/cells/0/pulse/beats", json!(1.5))]
#[case::starved_without_a_stall("/cells/0/pulse/verdict", json!("starved"))]
#[case::a_runtime_nobody_knows("/cells/0/runtime", json!("multi-thread-0"))]
#[case::an_expectation_too_many("/cells/0/expected", json!({"outcome": "killed", "timing": "grace", "leftover": 0,
                                                             "escaped": 0, "pulse": "steady", "more": 1}))]
#[case::a_part_of_nothing("/partition", json!("1/0"))]
#[case::the_zeroth_time("/cells/0/repeat", json!(0))]
#[case::another_schema("/schema", json!(2))]
#[case::no_summary("/summary", json!({}))]
fn the_schema_rejects(#[case] at: &str, #[case] broken: Value) {
    let mut report = report(PASSING, 0);
    assert_eq!(faults(&report), [""; 0]);
    *report.pointer_mut(at).expect("no such field") = broken;
    assert_ne!(faults(&report), [""; 0], "{report:#}");
}

#[rstest]
#[case("", &["schema", "host", "partition", "whole", "cells", "summary"])]
#[case("/host", &["os", "arch", "kernel", "cores", "backend", "deadbeat"])]
#[case("/cells/0", &["subject", "fixture", "runtime", "shell", "repeat", "known_bad", "expected", "outcome",
                     "elapsed_ms", "signals", "leftover", "escaped", "pulse", "timeline", "verdict", "why", "again"])]
#[case("/cells/0/expected", &["outcome", "timing", "leftover", "escaped", "pulse"])]
#[case("/cells/0/signals/0", &["signal", "at_ms"])]
#[case("/cells/0/pulse", &["verdict", "beats", "longest_ms", "queue_delay_ms", "watched_ms", "budget_ms", "interval_ms",
                           "rhythm", "stalls"])]
#[case("/cells/0/timeline", &["called_ms", "grace_ms", "gone_ms", "until_ms", "lives", "more_lives"])]
#[case("/summary", &["pass", "fail", "inconclusive"])]
fn the_schema_rejects_a_report_that_lacks_a_field(#[case] at: &str, #[case] fields: &[&str]) {
    let report = report(PASSING, 0);
    for field in fields {
        let mut broken = report.clone();
        let removed = broken.pointer_mut(at).unwrap().as_object_mut().unwrap().remove(*field);
        assert!(removed.is_some(), "the report has no {at}/{field}");
        assert_ne!(faults(&broken), [""; 0], "{at}/{field} may be left out");
    }
}

/// The places of a field in all objects of a report.
fn fields(value: &Value, at: &str) -> Vec<(String, String)> {
    let children: Vec<(String, &Value)> = match value {
        Value::Object(fields) => fields.iter().map(|(name, value)| (name.clone(), value)).collect(),
        Value::Array(items) => items.iter().enumerate().map(|(i, value)| (i.to_string(), value)).collect(),
        _ => Vec::new(),
    };
    let mut all = Vec::new();
    for (name, child) in children {
        all.extend(fields(child, &format!("{at}/{name}")));
        if value.is_object() {
            all.push((at.to_owned(), name));
        }
    }
    all
}

#[test]
fn what_the_schema_lets_be_left_out_or_null_can_be_read() {
    let whole: Value = serde_json::from_str(include_str!("../../src/report/sample.json")).unwrap();
    let mut allowed = 0;
    for (at, name) in fields(&whole, "") {
        let (mut without, mut nothing) = (whole.clone(), whole.clone());
        without.pointer_mut(&at).unwrap().as_object_mut().unwrap().remove(&name);
        nothing.pointer_mut(&at).unwrap()[&name] = Value::Null;
        for report in [without, nothing] {
            if faults(&report).is_empty() {
                allowed += 1;
                let read = deadbeat::report::json::from_str(&report.to_string());
                assert!(read.is_ok(), "{at}/{name}: {}", read.unwrap_err());
            }
        }
    }
    assert!(allowed > 20, "{allowed} may be left out");
}
