//! Children from before deadbeat: a shell that starts some and then becomes `deadbeat timeout` leaves it theirs, and
//! their orphans. None of them is the command's.

use std::process::{Command, Stdio};

use rstest::rstest;
use rustix::process::Signal;

use crate::support::{Run, eventually};

/// A shell that does this and then becomes `deadbeat timeout` of this command. Descriptor 3 is its standard input.
fn run(before: &str, command: &str) -> Run {
    let script = format!("exec 3<&0; {before} exec \"$0\" timeout -k .3 300 sh -c \"$1\"");
    let mut shell = Command::new("sh");
    shell.args(["-c", &script, env!("CARGO_BIN_EXE_deadbeat"), command]).stdin(Stdio::piped());
    Run::start(shell)
}

/// A process that says its number and holds none of the pipes.
const STAYS: &str = "echo ready $$; exec sleep 300 >&- 2>&- 3>&-";

#[test]
fn children_from_before_deadbeat_are_none_of_the_commands() {
    // One has a child of its own, and one has ended.
    let before = "true & sh -c 'sleep 300 & echo ready $!; wait' & echo ready $!;";
    let mut run = run(before, "read go; exit 3");
    let strangers = [run.victim(), run.victim()];
    run.go();
    assert_eq!(run.status().code(), Some(3));
    for stranger in strangers {
        assert!(stranger.is_alive(), "process {} was killed", stranger.pid);
    }
}

#[test]
fn an_orphan_of_one_from_before_is_left_alone_and_named() {
    // It is started, and its parent ends, while the command runs: from then on it is a child of deadbeat's.
    let before = format!("(read go <&3; setsid sh -c '{STAYS}' &) &");
    let mut run = run(&before, "echo ready $$; exec sleep 300");
    let command = run.victim();
    run.go();
    let orphan = run.victim();
    let deadbeat = run.pid();
    eventually("it to be deadbeat's child", || parent(orphan.pid) == Some(deadbeat));
    eventually("it to be the program that it stays", || name(orphan.pid) == "sleep");
    run.signal(Signal::ALARM);
    assert_eq!(run.status().code(), Some(124));
    assert!(!command.is_alive() && orphan.is_alive(), "process {} was killed", orphan.pid);
    let said = run.stderr();
    let named = format!("deadbeat timeout: process {} (sleep 300) is left alone: ", orphan.pid);
    assert!(said.starts_with(&named) && said.lines().count() == 1, "{said}");
}

#[test]
fn an_orphan_that_was_seen_with_its_parent_from_before_is_not_spoken_of() {
    // It is there before deadbeat is.
    let stays = STAYS.replace('$', "\\$");
    let before = format!(
        "d=$(mktemp -d); mkfifo $d/f; sh -c 'setsid sh -c \"{stays}\" & read go <&3' >$d/f & read line <$d/f; rm -r \
         $d; echo $line;"
    );
    let mut run = run(&before, "echo ready $$; exec sleep 300");
    let (orphan, command) = (run.victim(), run.victim());
    run.go();
    let deadbeat = run.pid();
    eventually("it to be deadbeat's child", || parent(orphan.pid) == Some(deadbeat));
    run.signal(Signal::ALARM);
    assert_eq!(run.status().code(), Some(124));
    assert!(!command.is_alive() && orphan.is_alive(), "process {} was killed", orphan.pid);
    assert_eq!(run.stderr(), "");
}

/// The other side: what can be told to be the command's dies, whatever was there before.
#[rstest]
// It has lost its parent before any look, and carries the mark.
#[case::by_its_mark("(setsid sh -c 'STAYS' &); exec sleep 300")]
// It has no mark, and a parent that was seen.
#[case::by_its_parent("setsid env -i sh -c 'STAYS' & wait; sleep 300")]
// It has neither, and is in the session of one that has a mark.
#[case::by_its_session("(setsid sh -c '(env -i sh -c \"STAYS\" &); exec sleep 300 >&-' &); exec sleep 300")]
fn what_the_command_started_dies_beside_children_from_before(#[case] script: &str) {
    let stays = if script.contains('"') { STAYS.replace('$', "\\$") } else { STAYS.to_owned() };
    let mut run = run("sleep 300 >&- 2>&- 3>&- & echo ready $!;", &script.replace("STAYS", &stays));
    let (stranger, victim) = (run.victim(), run.victim());
    run.signal(Signal::ALARM);
    assert_eq!(run.status().code(), Some(124));
    assert!(!victim.is_alive() && stranger.is_alive(), "{} survived or {} died", victim.pid, stranger.pid);
    assert_eq!(run.stderr(), "");
}

pub(crate) fn parent(pid: i32) -> Option<u32> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

fn name(pid: i32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim_end().to_owned()
}
