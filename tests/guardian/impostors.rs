//! Programs that are no guardians.

use std::os::unix::fs::PermissionsExt;

use deadbeat::guardian::Guardian;

use super::support::{Parent, eventually};

/// Set in a process whose `main` forgets to begin with the guardian's.
pub(crate) const FORGETFUL: &str = "DEADBEAT_TEST_FORGETFUL";

const REMEDY: &str = "main() must begin with deadbeat::guardian::main_if_requested()";

pub(crate) fn a_program_that_is_no_guardian_is_an_error() {
    let error = Guardian::start("/nowhere/guardian").expect_err("started");
    assert_eq!(error.kind(), std::io::ErrorKind::NotFound);
    for program in ["true", "cat"] {
        let error = Guardian::start(program).expect_err("taken for a guardian").to_string();
        assert!(error.contains("ended without an answer") && error.contains(REMEDY), "{error}");
    }
    // The control, by the same way.
    drop(Guardian::start(std::env::current_exe().unwrap()).unwrap());
}

pub(crate) fn one_that_runs_on_is_killed_with_what_it_started() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("impostor");
    std::fs::write(&program, "#!/bin/sh\nsleep 120 &\nexec sleep 120\n").unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut parent = Parent::start();
    parent.tell(&format!("guardian {}", program.display()));
    eventually("it runs, with its child", || parent.tree.alive().len() == 3);
    let error = parent.hear("error");
    assert!(error.contains("did not answer within") && error.contains(REMEDY), "{error}");
    eventually("only the parent is left", || parent.tree.alive().iter().all(|(pid, _)| *pid == parent.pid()));
}

pub(crate) fn one_that_forgot_to_begin_with_it_does_not_start_itself_without_end() {
    let output = std::process::Command::new(std::env::current_exe().unwrap()).env(FORGETFUL, "1").output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<&str> = said.lines().collect();
    assert_eq!(lines.len(), 2, "{said}");
    assert!(lines[0].contains("cannot be its own guardian") && lines[0].contains(REMEDY), "{said}");
    assert!(lines[1].contains("ended without an answer") && lines[1].contains(REMEDY), "{said}");
}

/// What such a program does: whichever way it tries to start itself, it is told.
pub(crate) fn forgetful() {
    println!("{}", Guardian::of_this_program().unwrap_err());
    println!("{}", Guardian::start(std::env::current_exe().unwrap()).unwrap_err());
}
