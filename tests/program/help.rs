//! What the program says of itself.

use predicates::prelude::*;
use rstest::rstest;

use crate::support::deadbeat;

#[test]
fn help_names_every_command() {
    let help = deadbeat("--help").assert().success().stderr("");
    for name in ["suite", "timeout", "kill", "fixtures", "man", "completions"] {
        help.get_output().stdout.windows(name.len()).find(|word| *word == name.as_bytes()).expect(name);
    }
}

#[rstest]
#[case("suite")]
#[case("kill")]
fn the_help_of_a_command_tells_what_its_status_means(#[case] command: &str) {
    let meanings = predicate::str::contains("Exit status:").and(predicate::str::contains("  2  the call was wrong"));
    deadbeat(command).arg("--help").assert().success().stdout(meanings);
}

#[test]
fn the_version_is_that_of_the_package() {
    deadbeat("--version").assert().success().stdout(concat!("deadbeat ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn without_a_command_the_usage_goes_to_stderr() {
    deadbeat("").assert().code(2).stdout("").stderr(predicate::str::contains("Usage: deadbeat"));
}

#[test]
fn the_list_has_a_line_a_cell_and_runs_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let shell = crate::support::TracedShell::new_in(dir.path());
    let output = deadbeat("suite --list --shell").arg(&shell.shell).assert().success().stderr("").get_output().clone();
    let text = String::from_utf8(output.stdout).unwrap();
    let (subjects, runtimes) = (deadbeat::suite::built_in().len(), deadbeat::suite::RUNTIMES.len());
    // And the heading.
    assert_eq!(text.lines().count(), 1 + subjects * deadbeat::fixture::ALL.len() * runtimes);
    assert!(text.lines().all(|line| line.len() <= 80), "{text}");
    assert!(!shell.was_run());
}

#[test]
fn the_list_has_only_the_cells_asked_for() {
    let cells = "suite --list --subject inline --fixture zombie --fixture fast-exit --runtime multi-thread-2";
    let output = deadbeat(cells).assert().success().get_output().clone();
    let text = String::from_utf8(output.stdout).unwrap();
    let names: Vec<Vec<_>> = text.lines().skip(1).map(|line| line.split_ascii_whitespace().take(3).collect()).collect();
    assert_eq!(names, [["inline", "fast-exit", "multi-thread-2"], ["inline", "zombie", "multi-thread-2"]]);
}
