//! What the guardian is while it waits: alone, with nothing in its hands.

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};

use deadbeat::guardian::Guardian;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, getpgid, getsid};

use super::ignored::is_ignored;
use super::support::{Parent, eventually, inside};

fn link(pid: i32, name: &str) -> String {
    // Gone between the listing and the look: nothing.
    std::fs::read_link(format!("/proc/{pid}/{name}")).unwrap_or_default().to_string_lossy().into_owned()
}

fn descriptors(pid: i32) -> Vec<String> {
    let listed = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().flatten();
    let mut numbers: Vec<i32> = listed.map(|entry| entry.file_name().to_str().unwrap().parse().unwrap()).collect();
    numbers.sort();
    numbers.iter().map(|fd| format!("{fd} {}", link(pid, &format!("fd/{fd}")))).collect()
}

/// Its session is the last but a few of what it does before it listens.
fn is_up(guardian: i32) -> bool {
    getsid(Some(Pid::from_raw(guardian))) == Ok(Pid::from_raw(guardian))
}

pub(crate) fn it_has_a_session_of_its_own_and_holds_nothing_but_its_line() {
    let mut parent = Parent::start();
    parent.tell("leak");
    parent.hear("leaked");
    let guardian = parent.guardian();
    let child = parent.guarded("sleep")[0];
    eventually("the guardian has a session", || is_up(guardian));
    assert_eq!(getpgid(Some(Pid::from_raw(guardian))), Ok(Pid::from_raw(guardian)));
    let pinned = deadbeat::group::backend() == deadbeat::group::Backend::Proc;
    // One is kept back for when there are no more to be had, and what it reads of `/proc` is open for a moment.
    let keeps = || {
        let mut held = descriptors(guardian);
        held.retain(|held| !held.ends_with(" /dev/null") && !held.contains(" /proc/"));
        held
    };
    if pinned {
        eventually("it holds the child", || keeps().last().is_some_and(|held| held.contains("pidfd")));
    }
    let held = keeps();
    assert!(held[0].starts_with("0 socket:") && held.len() == 1 + usize::from(pinned), "{held:?}");
    assert!(descriptors(guardian)[1..3] == ["1 /dev/null", "2 /dev/null"]);
    assert_eq!(link(guardian, "cwd"), "/");
    let environment = std::fs::read(format!("/proc/{guardian}/environ")).unwrap();
    assert!(!String::from_utf8_lossy(&environment).contains("DEADBEAT_RUN_"));
    // The control: a child that did not let go. It has no end of the line, which would keep the guardian from seeing
    // ours.
    let inherited = descriptors(child);
    assert!(inherited.iter().any(|held| held.ends_with("/etc/passwd")), "nothing was inherited: {inherited:?}");
    assert!(!inherited.iter().any(|held| held.contains("socket:")), "{inherited:?}");
}

pub(crate) fn it_has_no_name_of_the_program_that_it_guards() {
    let mut parent = Parent::start();
    let guardian = parent.guardian();
    let comm = std::fs::read_to_string(format!("/proc/{guardian}/comm")).unwrap();
    assert_eq!(comm.trim_end(), "proc-guardian");
    let arguments = std::fs::read(format!("/proc/{guardian}/cmdline")).unwrap();
    let arguments: Vec<_> = arguments.split(|b| *b == 0).map(String::from_utf8_lossy).collect();
    assert_eq!(arguments[..2], ["proc-guardian", "__proc-guardian"]);
    let program = std::env::current_exe().unwrap();
    let program = program.file_name().unwrap().to_string_lossy().into_owned();
    let names = |of: &str| of.to_lowercase().contains("deadbeat") || of.contains(&program);
    assert!(!arguments.iter().any(|argument| names(argument)), "{arguments:?}");
}

pub(crate) fn it_has_one_even_if_the_parents_group_is_outside_its_pid_namespace() {
    if !inside("alone::it_has_one_even_if_the_parents_group_is_outside_its_pid_namespace") {
        return;
    }
    assert_eq!(nix::unistd::getpgrp().as_raw(), 0, "our group is in here, so this shows nothing");
    let guardian = Guardian::of_this_program().unwrap();
    eventually("the guardian has a session", || is_up(guardian.pid().unwrap()));
}

pub(crate) fn signals_do_not_end_it() {
    let mut parent = Parent::start();
    let guardian = parent.guardian();
    parent.guarded("ignore-term");
    eventually("the guardian has a session", || is_up(guardian));
    let signals = [Signal::SIGTSTP, Signal::SIGINT, Signal::SIGHUP, Signal::SIGQUIT, Signal::SIGUSR1, Signal::SIGTERM];
    for signal in signals {
        // Un-reaped by its parent, which we hold.
        kill(Pid::from_raw(guardian), signal).unwrap();
        let mut control = Command::new("sleep").arg("120").spawn().unwrap();
        // What we were started to ignore (`nohup`, a shell's background), the control ignores too.
        if signal != Signal::SIGTSTP && !is_ignored(signal) {
            kill(Pid::from_raw(control.id() as i32), signal).unwrap();
            assert_eq!(control.wait().unwrap().signal(), Some(signal as i32), "the control outlived it");
        } else {
            control.kill().unwrap();
            control.wait().unwrap();
        }
    }
    parent.kill();
    parent.tree.is_dead_soon();
}

pub(crate) fn it_may_open_as_much_as_it_can_be_allowed() {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -Sn 256 && ulimit -Hn 512 && exec \"$0\""]).arg(std::env::current_exe().unwrap());
    let mut parent = Parent::start_by(command, super::parent::ROLE);
    let guardian = parent.guardian();
    let open_files = |pid: i32| {
        let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
        line.split_ascii_whitespace().take(2).map(str::to_owned).collect::<Vec<_>>()
    };
    eventually("it has raised its limit", || open_files(guardian) == ["512", "512"]);
    assert_eq!(open_files(parent.pid()), ["256", "512"], "the parent had no more to begin with");
}

pub(crate) fn it_does_not_wait_for_a_child_that_outlives_the_parent() {
    let mut parent = Parent::start();
    let guardian = parent.guardian();
    let killed = parent.guarded("sleep")[0];
    let outlives = parent.spawned("spawn - sleep")[0];
    parent.kill();
    eventually("the guardian has done its work", || !parent.tree.lives(guardian) && !parent.tree.lives(killed));
    assert!(parent.tree.lives(outlives), "none outlived the parent, so none could have been waited for");
}

pub(crate) fn nobody_can_start_it_by_hand() {
    let output = Command::new(std::env::current_exe().unwrap())
        .args(["__proc-guardian", "1", "1"])
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("not by hand"), "{said}");
}
