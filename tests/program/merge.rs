//! Parts of a suite, put together: the whole, or the name of the part that is wrong, and nothing half written.

use std::fs;
use std::path::{Path, PathBuf};

use rstest::rstest;
use serde_json::{Value, json};

use crate::support::deadbeat;

/// Two quick subjects on two fixtures and three runtimes: enough cells for every part to get some.
const CELLS: &str =
    "suite --subject spawn-blocking --subject kill-thread --fixture zombie --fixture fast-exit --grace 2s";

struct Parts {
    dir: tempfile::TempDir,
}

impl Parts {
    /// Runs 1/2 and 2/2.
    fn run() -> Parts {
        let parts = Parts { dir: tempfile::tempdir().unwrap() };
        for part in ["1", "2"] {
            let mut command = deadbeat(CELLS);
            command.arg(format!("--partition={part}/2")).args(["--format", "json", "--output"]).arg(parts.file(part));
            // The verdicts do not matter here.
            let status = command.output().unwrap().status.code();
            assert!(matches!(status, Some(0 | 1 | 3)), "{status:?}");
        }
        parts
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn edit(&self, name: &str, edit: impl FnOnce(&mut Value)) {
        let mut report = read(&self.file(name));
        edit(&mut report);
        fs::write(self.file(name), report.to_string()).unwrap();
    }

    /// Merges these into a file that has something in it already; returns what is printed on stderr.
    #[track_caller]
    fn refused(&self, names: &[&str]) -> String {
        let target = self.file("target");
        fs::write(&target, "the old one").unwrap();
        let mut command = deadbeat("suite --format json --output");
        command.arg(&target).arg("--merge").args(names.iter().map(|name| self.file(name)));
        let output = command.assert().code(2).stdout("").get_output().clone();
        assert_eq!(fs::read_to_string(&target).unwrap(), "the old one");
        String::from_utf8(output.stderr).unwrap()
    }
}

/// Makes the summary that of the report's cells.
fn recount(report: &mut Value) {
    let cells = report["cells"].as_array().unwrap();
    let count = |verdict: &str| cells.iter().filter(|cell| cell["verdict"] == verdict).count();
    report["summary"] = json!({"pass": count("pass"), "fail": count("fail"), "inconclusive": count("inconclusive")});
}

fn read(file: &Path) -> Value {
    serde_json::from_slice(&fs::read(file).unwrap()).unwrap()
}

/// The names of the cells, in order.
fn names(report: &Value) -> Vec<String> {
    let cells = report["cells"].as_array().unwrap().iter();
    cells
        .map(|cell| [&cell["subject"], &cell["fixture"], &cell["runtime"]].map(|word| word.as_str().unwrap()).join("/"))
        .collect()
}

#[test]
fn the_parts_are_the_whole_in_its_order_and_each_cell_is_there_once() {
    let parts = Parts::run();
    let each = ["1", "2"].map(|part| read(&parts.file(part)));
    assert_eq!(each.each_ref().map(|part| part["partition"].clone()), [json!("1/2"), json!("2/2")]);
    assert!(each.iter().all(|part| !names(part).is_empty()), "one part has everything");

    let listed = deadbeat(CELLS).arg("--list").output().unwrap();
    let listed = String::from_utf8(listed.stdout).unwrap();
    let whole: Vec<_> = listed
        .lines()
        .skip(1)
        .map(|line| line.split_ascii_whitespace().take(3).collect::<Vec<_>>().join("/"))
        .collect();
    // The parts may come in any order.
    let mut command = deadbeat("suite --format json --merge");
    let output = command.arg(parts.file("2")).arg(parts.file("1")).output().unwrap();
    let merged: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(names(&merged), whole);
    assert_eq!(merged["partition"], Value::Null);
    let count = |of: &str| each.iter().map(|part| part["summary"][of].as_u64().unwrap()).sum::<u64>();
    let sum = json!({"pass": count("pass"), "fail": count("fail"), "inconclusive": count("inconclusive")});
    assert_eq!(merged["summary"], sum);
}

#[test]
fn the_list_of_a_part_has_its_cells_only() {
    let list = |more: &str| {
        let output = deadbeat("suite --list").args(more.split_ascii_whitespace()).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().skip(1).map(str::to_owned).collect::<Vec<_>>()
    };
    let mut parts: Vec<_> = (1..=3).flat_map(|part| list(&format!("--partition {part}/3"))).collect();
    let mut whole = list("");
    parts.sort();
    whole.sort();
    assert_eq!(parts, whole);
    // A cell's part is a promise: a part that was run by an older version is still the same part.
    assert_eq!(list("--partition 2/3 --subject spawn-blocking --fixture zombie --fixture orphan").len(), 3);
}

#[test]
fn a_failure_in_one_part_is_one_of_the_whole() {
    let parts = Parts::run();
    parts.edit("1", |report| {
        report["cells"][0]["verdict"] = json!("fail");
        report["cells"][0]["why"] = json!("because");
        recount(report);
    });
    let mut command = deadbeat("suite --merge");
    command.arg(parts.file("1")).arg(parts.file("2")).assert().code(1).stdout(predicates::str::contains(": because"));
}

#[test]
fn what_is_amiss_is_named_and_nothing_is_written() {
    let parts = Parts::run();
    assert!(parts.refused(&["1"]).contains("missing: part 2/2"));
    assert!(parts.refused(&["1", "2", "1"]).contains("part 1/2 is there twice"));
    assert!(parts.refused(&["1", "2", "none"]).contains("cannot read "));

    let text = fs::read_to_string(parts.file("2")).unwrap();
    for (name, broken) in [("half", &text[..text.len() / 2]), ("empty", ""), ("words", "all is well\n")] {
        fs::write(parts.file(name), broken).unwrap();
        let said = parts.refused(&["1", name]);
        assert!(said.contains(name) && said.contains("no report of deadbeat suite"), "{said}");
    }
    parts.edit("2", |report| report["schema"] = json!(7));
    assert!(parts.refused(&["1", "2"]).contains("a report of schema 7"));
    parts.edit("2", |report| report["schema"] = json!(1));
    parts.edit("2", |report| drop(report["cells"].as_array_mut().unwrap().pop()));
    assert!(parts.refused(&["1", "2"]).contains("2: its summary says "));
    parts.edit("2", recount);
    assert!(parts.refused(&["1", "2"]).contains("cells together, and their suite has 12"));
    parts.edit("2", |report| report["partition"] = json!("2/3"));
    assert!(parts.refused(&["1", "2"]).contains("they are of different suites"));
    parts.edit("2", |report| report["partition"] = Value::Null);
    assert!(parts.refused(&["1", "2"]).contains("is no part of a suite"));
    // The same cell in both parts; and a cell in a part that it does not belong to.
    let stolen = read(&parts.file("1"))["cells"][0].clone();
    parts.edit("2", |report| {
        report["partition"] = json!("2/2");
        report["cells"].as_array_mut().unwrap().push(stolen);
        recount(report);
    });
    assert!(parts.refused(&["1", "2"]).contains("does not belong to part 2/2"));
    parts.edit("1", |report| report["partition"] = Value::Null);
    parts.edit("2", |report| report["partition"] = Value::Null);
    assert!(parts.refused(&["1", "2"]).contains("is there twice"));
}

#[test]
fn a_report_without_cells_proves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str| dir.path().join(name);
    let merged = |names: &[&str]| {
        let mut command = deadbeat("suite --merge");
        command.args(names.iter().map(|name| file(name))).assert()
    };
    fs::write(file("whole"), crate::support::sample()).unwrap();
    let mut report = read(&file("whole"));
    report["cells"] = json!([]);
    fs::write(file("emptied"), report.to_string()).unwrap();
    merged(&["emptied"]).code(2).stdout("").stderr(predicates::str::contains("its summary says 5 cells: "));
    recount(&mut report);
    fs::write(file("empty"), report.to_string()).unwrap();
    let said = predicates::str::contains("there is no cell in it, which proves nothing");
    merged(&["empty"]).code(2).stdout("").stderr(said.clone());
    merged(&["whole", "empty"]).code(2).stdout("").stderr(said.clone());
    // All parts of a suite without a cell.
    report["whole"] = json!({"cells": 0, "hash": "00000000deadbea7"});
    report["partition"] = json!("1/1");
    fs::write(file("part"), report.to_string()).unwrap();
    merged(&["part"]).code(2).stdout("").stderr(said);
    // The control: with its cells the report is taken.
    merged(&["whole"]).code(1).stdout(predicates::str::contains("5 cells: "));
}

#[test]
fn a_part_that_got_no_cell_is_one_of_the_whole() {
    let dir = tempfile::tempdir().unwrap();
    let part = |number: u32| dir.path().join(format!("{number}.json"));
    for number in [1, 2] {
        let mut command = deadbeat("suite --exec mine=:{pgid} --fixture zombie --format json --output");
        command.arg(part(number)).arg(format!("--partition={number}/2")).output().unwrap();
    }
    let cells = |number| read(&part(number))["cells"].as_array().unwrap().len();
    assert_eq!([cells(1), cells(2)].iter().sum::<usize>(), 1);
    let mut command = deadbeat("suite --merge");
    command.arg(part(1)).arg(part(2)).assert().stdout(predicates::str::contains("1 cell: "));
}

#[rstest]
#[case("--fixture orphan")]
#[case("--grace 1s")]
#[case("--budget 900ms")]
#[case("--deadline 20s")]
fn parts_of_different_suites_are_no_whole(#[case] other: &str) {
    let parts = Parts::run();
    let mut command = deadbeat(CELLS.replace("--grace 2s", "").as_str());
    command.args(if other.starts_with("--grace") { "" } else { "--grace 2s" }.split_ascii_whitespace());
    command.args(other.split_ascii_whitespace()).args(["--partition=2/2", "--format=json", "--output"]);
    command.arg(parts.file("other")).output().unwrap();
    assert!(parts.refused(&["1", "other"]).contains("they are of different suites"));
    // The control: the file can be read, and is part 2/2.
    assert!(parts.refused(&["other"]).contains("missing: part 1/2"));
}

#[rstest]
#[case("0/3")]
#[case("4/3")]
#[case("1")]
#[case("1/0")]
#[case("a/b")]
fn a_part_that_is_none_is_refused(#[case] part: &str) {
    let hint = predicates::str::contains("write M/N");
    deadbeat("suite --list").arg(format!("--partition={part}")).assert().code(2).stdout("").stderr(hint);
}

#[rstest]
#[case("--subject=inline")]
#[case("--partition=1/2")]
#[case("--jobs=3")]
#[case("--list")]
fn whatever_says_what_to_run_cannot_be_meant_with_merge(#[case] option: &str) {
    deadbeat("suite --merge report.json").arg(option).assert().code(2).stdout("");
}
