//! Where `/proc` shows another pid namespace, or is not there at all: the command runs, what left its group dies with
//! it, and one line says what only a guardian that sees processes could do.

use std::process::{Command, Stdio};

use rstest::rstest;

use crate::support::{Tool, text};

/// Holds a lock for as long as a daemon that ignores SIGTERM lives, and then says whether it is still held: a process
/// that has ended holds none. The shell is the namespace's first process, whose end would kill all that is in it.
const SCRIPT: &str = r#"
case $PLACE in none) mount -t tmpfs none /proc || exit 77;; esac
lock=$(mktemp); export lock
"$@"
echo "status $?"
flock -n "$lock" true && echo dead || echo alive
rm "$lock""#;

const DAEMON: &str = r#"setsid flock "$lock" sh -c 'trap "" TERM; : > "$lock.up"; sleep 300; sleep 300' >&- 2>&- &
    while ! [ -e "$lock.up" ]; do sleep .01; done; rm "$lock.up"; "#;

#[rstest]
#[case::own("own", "")]
#[case::foreign(
    "foreign",
    "deadbeat timeout: /proc does not show this pid namespace: should deadbeat be killed by SIGKILL, processes that \
     have left the command's group live on; to have them ended then too, mount the /proc of this pid namespace\n"
)]
#[case::none(
    "none",
    "deadbeat timeout: there is no /proc of this pid namespace: should deadbeat be killed by SIGKILL, what the \
     command has started lives on; to have them ended then too, mount the /proc of this pid namespace\n"
)]
fn a_daemon_dies_with_its_command_whatever_proc_shows(
    #[case] place: &str,
    #[case] said: &str,
    #[values("timed out", "ended")] end: &str,
) {
    let (limit, rest, status) = match end {
        "timed out" => (".5", "sleep 300", 124),
        _ => ("300", "exit 3", 3),
    };
    let script = format!("{DAEMON}{rest}");
    let run = |tool: Tool| {
        let command = tool.command(&["-k", ".2", limit, "sh", "-c", &script]);
        in_place(place, &command)
    };
    let Some((stdout, stderr)) = run(Tool::Deadbeat) else { return };
    assert_eq!((stdout, stderr), (format!("status {status}\ndead\n"), said.to_owned()));

    if Tool::Coreutils.is_installed() {
        let control = run(Tool::Coreutils).map(|(stdout, _)| stdout);
        assert_eq!(control, Some(format!("status {status}\nalive\n")), "the control shows nothing");
    }
}

/// What it says there; `None` where this machine makes no such place.
fn in_place(place: &str, command: &Command) -> Option<(String, String)> {
    let mut unshare = vec!["--mount", "--pid", "--fork", "--kill-child"];
    if place != "foreign" {
        unshare.push("--mount-proc");
    }
    let may = Command::new("unshare").args(&unshare).args(["flock", "/", "true"]).stderr(Stdio::null()).status();
    if !may.is_ok_and(|status| status.success()) {
        eprintln!("skipped: a pid namespace takes a privilege, and the lock flock(1)");
        return None;
    }
    let mut all = Command::new("unshare");
    all.args(&unshare).args(["sh", "-c", SCRIPT, "sh"]).arg(command.get_program()).args(command.get_args());
    let output = all.env("PLACE", place).stdin(Stdio::null()).output().unwrap();
    if output.status.code() == Some(77) {
        eprintln!("skipped: nothing can be mounted over /proc");
        return None;
    }
    Some((text(&output.stdout), text(&output.stderr)))
}
