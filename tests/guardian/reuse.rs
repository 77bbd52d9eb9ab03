//! A number that changes hands between the telling and the guardian's look, on purpose: in a pid namespace of its own
//! the next pid can be chosen.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;

use super::support::{Parent, eventually, inside};

pub(crate) fn a_number_that_became_a_strangers_before_the_guardian_looked_is_left_alone() {
    if !inside("reuse::a_number_that_became_a_strangers_before_the_guardian_looked_is_left_alone") {
        return;
    }
    // In here we are PID 1, and inherit the orphans.
    let mut parent = Parent::start();
    let guardian = Pid::from_raw(parent.guardian());
    parent.ask("announce", "announced");
    parent.ask("announce", "announced");
    let (dies, stays) = (parent.spawned("spawn - sleep")[0], parent.spawned("spawn - sleep")[0]);
    kill(guardian, Signal::SIGSTOP).unwrap();
    parent.ask(&format!("guard 0 {dies}"), "guarded");
    parent.ask(&format!("guard 1 {stays}"), "guarded");
    parent.kill();
    kill(Pid::from_raw(dies), Signal::SIGKILL).unwrap();
    eventually("it is ours to reap", || waitpid(Pid::from_raw(dies), None).is_ok());
    // Two processes of one clock tick cannot be told apart; the kernel's smallest round of pids takes longer.
    let told = std::time::Instant::now();
    eventually("the clock has ticked", || told.elapsed().as_millis() > 50);
    let mut innocent = born_as(dies);
    kill(guardian, Signal::SIGCONT).unwrap();
    eventually("the guardian has ended", || waitpid(guardian, None).is_ok());
    // The control: one that was told of in the same way, and is still itself.
    assert!(!parent.tree.lives(stays), "the guardian never acted on what it was told");
    let mut line = String::new();
    let answers = innocent.stdin.take().unwrap().write_all(b"alive\n").is_ok()
        && BufReader::new(innocent.stdout.take().unwrap()).read_line(&mut line).is_ok_and(|length| length > 0);
    assert!(answers, "a stranger was killed");
    innocent.kill().unwrap();
    innocent.wait().unwrap();
}

/// A process with just this pid, leading a group of that number.
fn born_as(pid: i32) -> Child {
    for _ in 0..1000 {
        std::fs::write("/proc/sys/kernel/ns_last_pid", (pid - 1).to_string()).unwrap();
        let mut child =
            Command::new("cat").process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        if child.id() as i32 == pid {
            return child;
        }
        child.kill().unwrap();
        child.wait().unwrap();
    }
    panic!("pid {pid} was not to be had");
}
