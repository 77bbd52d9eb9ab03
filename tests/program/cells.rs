//! A cell that is as expected and one that is not: the status, and what is said of it.

use std::process::Command;

use predicates::prelude::*;

use crate::support::{FAILING, PASSING, deadbeat, program};

#[test]
fn a_cell_that_is_as_expected_passes() {
    deadbeat(PASSING)
        .assert()
        .success()
        .stdout(predicate::str::contains("1 cell: 1 as expected, 0 not, 0 inconclusive"))
        .stdout(predicate::str::contains("again:").not())
        .stderr("");
}

#[test]
fn the_end_of_the_options_may_be_marked() {
    deadbeat(PASSING).arg("--").assert().success();
    deadbeat(&format!("--color never {PASSING} --")).assert().success();
}

#[test]
fn a_known_bad_subject_that_is_caught_passes() {
    // Where zombies cannot be told from the living, nobody can say what became of the group. What the worker waited for
    // a CPU is not charged, so on a busy machine the stall is a little shorter than the grace.
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
        .stdout(predicate::str::contains("fail mine/zombie/none: the command ended with exit status: 127"))
        .stdout(predicate::str::contains("1 cell: 0 as expected, 1 not, 0 inconclusive"))
        .stderr(predicate::str::contains("fail mine/zombie/none: the command ended with exit status: 127"))
        .get_output()
        .clone();
    let text = String::from_utf8(output.stdout).unwrap();
    let again = text.lines().find_map(|line| line.trim_start().strip_prefix("again: ")).expect("no command");

    // As somebody would paste it into a shell, with the program under test first in the path.
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let paths = std::iter::once(program().parent().unwrap().to_owned()).chain(std::env::split_paths(&paths));
    let again =
        Command::new("sh").args(["-c", again]).env("PATH", std::env::join_paths(paths).unwrap()).output().unwrap();
    assert_eq!(again.status.code(), Some(1), "{again:?}");
    let said = String::from_utf8(again.stdout).unwrap();
    assert!(said.contains("fail mine/zombie/none: the command ended with exit status: 127"), "{said}");
    assert!(said.contains("1 cell: 0 as expected, 1 not"), "{said}");
}

#[test]
fn of_two_cells_only_the_one_that_failed_is_named() {
    deadbeat(&format!("{FAILING} --subject spawn-blocking --runtime current-thread --grace 60s --budget 5s"))
        .assert()
        .code(1)
        .stdout(predicate::str::contains("2 cells: 1 as expected, 1 not, 0 inconclusive"))
        .stdout(predicate::str::contains("fail mine/zombie/none: "))
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
