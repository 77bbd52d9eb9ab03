//! Killed by name, as `pkill -9 deadbeat` does it: the guardian has another, and does what it is there for.

use std::fs;
use std::process::{Child, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::inside::inside;
use crate::support::{Tool, eventually};

const NAMESPACE: [&str; 5] = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"];

/// What the two forms of `pkill` compare: the name that is shown, and (`-f`) the arguments.
fn name(pid: i32) -> String {
    fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default()
}

fn arguments(pid: i32) -> String {
    String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default()).replace('\0', " ")
}

/// Every process in this namespace but this one.
fn others() -> Vec<i32> {
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid| *pid != std::process::id() as i32).collect()
}

fn runs(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

/// A run whose command is there.
fn begun() -> (Child, i32) {
    let mut run = Tool::Deadbeat.command(&["300", "sleep", "300"]).stderr(Stdio::null()).spawn().unwrap();
    let mut command = None;
    eventually("the command is there", || {
        assert!(run.try_wait().unwrap().is_none());
        command = others().into_iter().find(|pid| arguments(*pid) == "sleep 300 ");
        command.is_some()
    });
    (run, command.unwrap())
}

#[test]
fn killed_by_its_name_deadbeat_leaves_nobody() {
    if !inside(killed_by_its_name_deadbeat_leaves_nobody, &NAMESPACE) {
        return;
    }
    for of in [name, arguments] {
        for _ in 0..10 {
            let (mut run, command) = begun();
            let named = || others().into_iter().filter(|pid| of(*pid).contains("deadbeat")).collect::<Vec<_>>();
            assert_eq!(named(), [run.id() as i32], "{:?}", named().into_iter().map(arguments).collect::<Vec<_>>());
            // Our child, which has not been waited for; the namespace holds nothing but what this test started.
            kill_process(Pid::from_child(&run), Signal::KILL).unwrap();
            run.wait().unwrap();
            eventually("the command is dead", || !runs(command));
        }
    }
}

#[test]
fn killall_and_pkill_themselves_leave_nobody() {
    if !inside(killall_and_pkill_themselves_leave_nobody, &NAMESPACE) {
        return;
    }
    for killer in [&["pkill", "-9", "deadbeat"][..], &["pkill", "-9", "-x", "deadbeat"], &["killall", "-9", "deadbeat"]]
    {
        let (mut run, command) = begun();
        match Command::new(killer[0]).args(&killer[1..]).status() {
            Ok(status) => assert!(status.success(), "{killer:?}"),
            Err(error) => {
                crate::inside::skip(&format!("{killer:?}: {error}"));
                run.kill().unwrap();
            }
        }
        run.wait().unwrap();
        eventually("the command is dead", || !runs(command));
    }
}
