//! A test that runs in another place: in a process of its own, and where something is missing.

use std::io::Write;
use std::process::{Command, Stdio};

const SKIPPED: &str = "skipped: ";

/// Past the capture of the test runner, which would show it of failed tests only.
pub(crate) fn skip(why: &str) {
    let _ = writeln!(std::io::stderr(), "{SKIPPED}{why}");
}

/// Whether this test runs in that place, a command that runs another; if not, runs it there, and fails if it failed.
#[track_caller]
pub(crate) fn inside<F: Fn() -> T, T>(test: F, place: &[&str]) -> bool {
    const INSIDE: &str = "DEADBEAT_INSIDE_A_PLACE";
    if std::env::var_os(INSIDE).is_some() {
        return true;
    }
    let _ = test;
    let name = std::any::type_name::<F>().split_once("::").expect("a test has a path").1;
    let this = std::env::current_exe().unwrap();
    let run = |args: &[&str]| {
        let mut command = Command::new("sh");
        command.args(["-c", "exec 2>&1; exec \"$@\"", "sh"]).args(place).arg(&this).args(args).env(INSIDE, "1");
        said_by(command.stdin(Stdio::null()))
    };
    // The harness itself, with nothing to run: all that the place needs is there, or it says what is not.
    let control = run(&["--exact", "no such test"]);
    if !control.contains("0 passed") {
        skip(&format!("{name}: this machine makes no such place: {}", control.trim()));
        return false;
    }
    let said = run(&["--exact", name, "--nocapture", "--test-threads=1"]);
    assert!(said.contains("1 passed"), "{said}");
    said.lines().filter_map(|line| line.strip_prefix(SKIPPED)).for_each(skip);
    false
}

fn said_by(command: &mut Command) -> String {
    match command.output() {
        Ok(output) => String::from_utf8_lossy(&output.stdout).into_owned(),
        Err(error) => error.to_string(),
    }
}
