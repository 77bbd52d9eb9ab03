//! Starts the other project's tests, as a test runner does.

use std::process::{Command, Output};

use crate::strangers::STRANGER;

/// The other project's test program, with these arguments, separated by blanks.
pub(crate) fn tests_of(stranger: &str, arguments: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.env(STRANGER, stranger).env_remove("RUST_TEST_THREADS").args(arguments.split_ascii_whitespace());
    command
}

/// Runs the tests to their end; the status, and all that they printed.
#[track_caller]
pub(crate) fn run(stranger: &str, arguments: &str) -> (Option<i32>, String) {
    let Output { status, stdout, stderr } = tests_of(stranger, arguments).output().unwrap();
    (status.code(), String::from_utf8(stdout).unwrap() + &String::from_utf8(stderr).unwrap())
}
