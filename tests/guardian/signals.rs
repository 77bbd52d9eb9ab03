//! The signals that ask a program to end, sent to one that runs a command which would rather not.

use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::runner::ROLE;
use super::support::{Parent, eventually};

/// With a command that ignores SIGTERM and has ten minutes; the command's pid.
fn begin(runner: &mut Parent) -> i32 {
    runner.tell("alone Term 0 600000 ignore-term");
    let leader = runner.hear("child").parse().unwrap();
    runner.hear("ready");
    leader
}

/// Our child, not waited for yet.
fn signal(runner: &Parent, signal: Signal) {
    kill(Pid::from_raw(runner.pid()), signal).unwrap();
}

pub(crate) fn a_first_one_asks_and_a_second_one_kills_at_once() {
    let pairs = [
        (Signal::SIGTERM, Signal::SIGTERM),
        (Signal::SIGINT, Signal::SIGINT),
        (Signal::SIGHUP, Signal::SIGTERM),
        (Signal::SIGTERM, Signal::SIGHUP),
    ];
    for (first, second) in pairs {
        let (mut runner, mut control) = (Parent::start_as(ROLE), Parent::start_as(ROLE));
        begin(&mut runner);
        let left = begin(&mut control);
        for runner in [&mut runner, &mut control] {
            signal(runner, first);
            runner.hear("requested");
        }
        signal(&runner, second);
        assert_eq!(runner.wait().signal(), Some(second as i32), "it does not end as it would without us");
        runner.tree.is_dead_soon();
        // The one that was only asked gives its command the grace.
        assert!(control.tree.lives(left) && control.tree.lives(control.pid()), "one signal was enough");
    }
}

pub(crate) fn one_that_was_ignored_at_the_start_stays_ignored() {
    let mut nohup = Command::new("sh");
    nohup.args(["-c", r#"trap '' HUP; exec "$0""#]).arg(std::env::current_exe().unwrap());
    let mut runner = Parent::start_by(nohup, ROLE);
    let left = begin(&mut runner);
    let mut control = Parent::start_as(ROLE);
    begin(&mut control);
    signal(&runner, Signal::SIGHUP);
    signal(&runner, Signal::SIGHUP);
    signal(&control, Signal::SIGHUP);
    control.hear("requested");
    // Whatever those two did is older than this.
    signal(&runner, Signal::SIGTERM);
    runner.hear("requested");
    assert!(runner.tree.lives(left) && runner.tree.lives(runner.pid()), "SIGHUP was heeded");
    signal(&runner, Signal::SIGTERM);
    eventually("the second that counts has ended it", || runner.tree.alive().is_empty());
}
