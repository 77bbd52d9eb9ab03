//! `deadbeat fixtures`: the list, and the programs as files.

use predicates::prelude::*;

use crate::support::deadbeat;

#[test]
fn every_fixture_is_listed_with_what_a_right_kill_makes_of_it() {
    let output = deadbeat("fixtures").assert().success().stderr("").get_output().clone();
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().count(), deadbeat::fixture::ALL.len());
    for (line, fixture) in text.lines().zip(deadbeat::fixture::ALL) {
        let words: Vec<_> = line.split_ascii_whitespace().take(2).collect();
        assert_eq!(words, [fixture.name, fixture.outcome.as_str()]);
    }
}

#[test]
fn exported_fixtures_are_the_embedded_ones() {
    let dir = tempfile::tempdir().unwrap();
    deadbeat("fixtures --export").arg(dir.path()).assert().success().stdout("").stderr("");
    for fixture in deadbeat::fixture::ALL {
        let text = std::fs::read_to_string(dir.path().join(format!("{}.sh", fixture.name))).unwrap();
        assert_eq!(text, fixture.source, "{}", fixture.name);
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), deadbeat::fixture::ALL.len());
}

#[test]
fn an_export_into_a_missing_folder_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    deadbeat("fixtures --export")
        .arg(dir.path().join("missing"))
        .assert()
        .code(2)
        .stdout("")
        .stderr(predicate::str::contains("cannot write "));
}
