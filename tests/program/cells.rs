//! A cell that is as expected and one that is not: the status, and what is printed about it.

use std::process::Command;

use predicates::prelude::*;

use crate::support::{FAILING, PASSING, deadbeat, program};

#[test]
fn a_cell_that_is_as_expected_passes() {
    deadbeat(PASSING)
        .assert()
        .success()
        .stdout(predicate::str::contains("1 cell: 1 as expected, 0 failed, 0 inconclusive"))
        .stdout(predicate::str::contains("again:").not())
        .stderr("1/1 pass spawn-blocking/fast-exit/current-thread\n");
}

#[test]
fn the_end_of_the_options_may_be_marked() {
    deadbeat(PASSING).arg("--").assert().success();
    deadbeat(&format!("--color never {PASSING} --")).assert().success();
}

#[test]
fn a_known_bad_subject_that_is_caught_passes() {
    // Where zombies cannot be told from the living, what became of the group is unknown. The worker's waits for a CPU
    // are not charged, so on a busy machine the stall is a little shorter than the grace.
    deadbeat("suite --subject inline --fixture fast-exit --runtime current-thread --grace 4s")
        .assert()
        .success()
        .stdout(predicate::str::is_match(r"fast-exit +(terminated|\?) \d\.\d\ds +STARVED \d\.\d\ds").unwrap());
}

#[test]
fn a_cell_that_fails_is_named_with_the_command_that_shows_it_again() {
    let output = deadbeat(FAILING)
        .assert()
        .code(1)
        .stdout(predicate::str::contains("fail mine/zombie: the command ended with exit status: 127"))
        .stdout(predicate::str::contains("1 cell: 0 as expected, 1 failed, 0 inconclusive"))
        .stderr(predicate::str::contains("fail mine/zombie: the command ended with exit status: 127"))
        .get_output()
        .clone();
    let text = String::from_utf8(output.stdout).unwrap();
    let again = text.lines().find_map(|line| line.trim_start().strip_prefix("again: ")).expect("no command");

    // Run as if it were pasted into a shell, with the program under test first in the path.
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let paths = std::iter::once(program().parent().unwrap().to_owned()).chain(std::env::split_paths(&paths));
    let again =
        Command::new("sh").args(["-c", again]).env("PATH", std::env::join_paths(paths).unwrap()).output().unwrap();
    assert_eq!(again.status.code(), Some(1), "{again:?}");
    let said = String::from_utf8(again.stdout).unwrap();
    assert!(said.contains("fail mine/zombie: the command ended with exit status: 127"), "{said}");
    assert!(said.contains("1 cell: 0 as expected, 1 failed"), "{said}");
}

#[test]
fn a_cell_that_fails_says_what_its_fixture_does_in_every_format_for_people() {
    let about = deadbeat::fixture::named("zombie").unwrap().about();
    for format in ["table", "markdown", "junit"] {
        let output = deadbeat(FAILING).args(["--format", format]).assert().code(1).get_output().clone();
        let said = String::from_utf8(output.stdout).unwrap().replace("&#58;", ":").replace("&#46;", ".");
        assert!(said.contains(&format!("zombie: {about}")), "{format}: {said}");
    }
    // The control: a cell that passes does not.
    deadbeat(PASSING).assert().success().stdout(predicate::str::contains("fast-exit: ").not());
}

/// `--cell` takes the name that a report has for a cell.
#[test]
fn a_cell_of_a_program_is_called_by_the_program_and_the_fixture() {
    deadbeat(FAILING).arg("--cell=mine/zombie/none").assert().code(2).stderr("deadbeat: no cell mine/zombie/none\n");
    // The cell exists, and has no suite to report to.
    let said = predicate::str::contains("a cell has to be started by its suite");
    deadbeat(FAILING).arg("--cell=mine/zombie").assert().stderr(said);
    let list = deadbeat(FAILING).arg("--list").output().unwrap().stdout;
    let list = String::from_utf8(list).unwrap();
    let cell: Vec<_> = list.lines().nth(1).unwrap().split_ascii_whitespace().take(3).collect();
    assert_eq!(cell, ["mine", "zombie", "-"]);
}

#[test]
fn an_end_of_each_cell_is_told_where_there_is_no_terminal() {
    let suite = "suite --subject spawn-blocking --fixture fast-exit --fixture zombie --budget 5s --grace 60s";
    let output = deadbeat(suite).assert().success().get_output().clone();
    let said = String::from_utf8(output.stderr).unwrap();
    let mut cells: Vec<_> = said.lines().collect();
    assert_eq!(cells.len(), 6, "{said}");
    for (number, line) in cells.iter_mut().enumerate() {
        let begin = format!("{}/6 pass spawn-blocking/", number + 1);
        *line = line.strip_prefix(&begin).unwrap_or_else(|| panic!("{line:?} does not begin with {begin:?}"));
    }
    cells.sort_unstable();
    cells.dedup();
    assert_eq!(cells.len(), 6, "{said}");
}

#[test]
fn an_environment_without_a_path_has_the_shell_that_exec_finds() {
    deadbeat(FAILING).env_clear().assert().code(1).stdout(predicate::str::contains("fail mine/zombie: "));
    deadbeat("suite --list").env_clear().assert().success().stderr("");
    // Without a shell in the path, the message blames no option that was not given.
    let said = predicate::str::starts_with("deadbeat: sh is not installed in /no/such/place, ");
    let named = said.and(predicate::str::contains("--shell <SHELL>").not());
    deadbeat("suite --list").env("PATH", "/no/such/place").assert().code(2).stdout("").stderr(named);
}

#[test]
fn of_two_cells_only_the_one_that_failed_is_named() {
    deadbeat(&format!("{FAILING} --subject spawn-blocking --runtime current-thread --grace 60s --budget 5s"))
        .assert()
        .code(1)
        .stdout(predicate::str::contains("2 cells: 1 as expected, 1 failed, 0 inconclusive"))
        .stdout(predicate::str::contains("fail mine/zombie: "))
        .stdout(predicate::str::contains("spawn-blocking/zombie").not());
}

#[test]
fn a_shell_that_is_no_shell_fails_the_cell_and_says_so() {
    deadbeat(PASSING)
        .args(["--shell", "true"])
        .assert()
        .code(1)
        .stdout(predicate::str::contains("the fixture did not start"))
        .stdout(predicate::str::contains("is that a POSIX shell?"))
        .stdout(predicate::str::contains("\"true\""));
}

#[test]
fn a_shell_that_is_not_installed_is_refused_before_anything_runs() {
    for (shell, why) in [("no-such-shell -x", "no-such-shell is not installed"), ("", "name a shell")] {
        deadbeat(PASSING).args(["--shell", shell]).assert().code(2).stdout("").stderr(predicate::str::contains(why));
    }
}
