//! As the first process of a pid namespace, as in a container without an init.

use std::process::{Command, Stdio};

use rstest::rstest;

use crate::support::{Tool, text};

#[rstest]
#[case::ended(&["10", "sh", "-c", "exit 3"], 3)]
#[case::timed_out(&[".2", "sleep", "300"], 124)]
#[case::died(&["10", "sh", "-c", "kill -TERM $$"], 143)]
#[case::had_to_be_killed(&["-s", "0", "-k", ".1", ".1", "sleep", "300"], 137)]
#[case::daemon(&["10", "sh", "-c", "(setsid sleep 300 &); exit 3"], 3)]
fn the_status_is_the_same(#[case] args: &[&str], #[case] status: i32, #[values(true, false)] its_own_proc: bool) {
    let mut unshare = vec!["--pid", "--fork", "--kill-child"];
    if its_own_proc {
        unshare.push("--mount-proc");
    }
    let may = Command::new("unshare").args(&unshare).arg("true").stderr(Stdio::null()).status();
    if !may.is_ok_and(|status| status.success()) {
        eprintln!("skipped: a pid namespace takes a privilege");
        return;
    }
    let deadbeat = Tool::Deadbeat.command(args);
    let output = Command::new("unshare").args(&unshare).arg(deadbeat.get_program()).args(deadbeat.get_args()).output();
    let output = output.unwrap();
    // What is said where processes cannot be seen is held by `places`.
    let lines = usize::from(!its_own_proc);
    assert_eq!((output.status.code(), text(&output.stderr).lines().count()), (Some(status), lines));
}
