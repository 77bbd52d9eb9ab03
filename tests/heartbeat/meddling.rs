//! A process that somebody stops, or traces, is not accused. It runs as a child, since a stopped test can do nothing.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use deadbeat::heartbeat::{Flavor, Heartbeat, Lab};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{block, wait_until};

const ROLE: &str = "DEADBEAT_HEARTBEAT_ROLE";

/// Not a test of its own: what the child runs. It says `ready` and then its verdict.
#[test]
#[ignore = "run by the other tests here, as a child process"]
fn the_one_meddled_with() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let ready = || async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        println!("\nready");
    };
    let pulse = if role == "waits" {
        // Not in a lab: its hooks would say that the worker is idle, and there would be nothing to excuse.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let waits = async {
            ready().await;
            tokio::time::sleep(Duration::from_secs(1)).await;
        };
        runtime.block_on(Heartbeat::new().watch(waits)).pulse
    } else {
        let (wait, long) = if role == "blocks at once" { (0, 1500) } else { (300, 150) };
        let blocks = move || async move {
            ready().await;
            tokio::time::sleep(Duration::from_millis(wait)).await;
            block(Duration::from_millis(long));
        };
        Lab::new(Flavor::CurrentThread).run(blocks).unwrap().pulse
    };
    println!("\ncharged {}", pulse.longest.as_millis());
    println!("\nverdict {}", pulse.verdict());
}

/// Starts the child, meddles once it is ready, and returns its verdict.
fn verdict(role: &str, meddle: impl FnOnce(&Child)) -> String {
    told(["verdict "], role, meddle)[0].clone()
}

/// The same, and what else it tells.
fn told<const N: usize>(words: [&str; N], role: &str, meddle: impl FnOnce(&Child)) -> [String; N] {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "meddling::the_one_meddled_with", "--ignored", "--nocapture"])
        .env(ROLE, role)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while line.trim() != "ready" {
        line.clear();
        assert_ne!(output.read_line(&mut line).unwrap(), 0, "the child never got ready");
    }
    meddle(&child);
    let mut rest = String::new();
    output.read_to_string(&mut rest).unwrap();
    child.wait().unwrap();
    words.map(|word| {
        let told = rest.lines().find_map(|line| line.strip_prefix(word));
        told.unwrap_or_else(|| panic!("no {word:?} in {rest:?}")).to_owned()
    })
}

fn pid(child: &Child) -> Pid {
    Pid::from_raw(child.id().try_into().unwrap())
}

/// Stopped for a third of a second, until every thread was seen to be.
fn stop_for_a_while(child: &Child) {
    kill(pid(child), Signal::SIGSTOP).unwrap();
    wait_until("the child is stopped", || {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", child.id())).unwrap();
        stat.rsplit(')').next().unwrap().trim_start().starts_with('T')
    });
    block(Duration::from_millis(300));
    kill(pid(child), Signal::SIGCONT).unwrap();
}

#[test]
fn a_stopped_process_is_not_accused() {
    assert_eq!(verdict("waits", |_| ()), "steady");
    let stopped = verdict("waits", stop_for_a_while);
    assert!(stopped.starts_with("inconclusive") && stopped.contains("stood still"), "{stopped}");
    assert_eq!(verdict("blocks", |_| ()), "starved");
}

/// A block of a second and a half with the stop in its middle: what was blocked beside the stop is a stall, and no more.
#[test]
fn a_block_that_outlasts_a_stop_is_charged_without_it() {
    let asleep = |child: &Child| {
        let calls = [nix::libc::SYS_clock_nanosleep, nix::libc::SYS_nanosleep].map(|call| format!("{call} "));
        wait_until("the child is in its block", || {
            let tasks = std::fs::read_dir(format!("/proc/{}/task", child.id())).unwrap().flatten();
            let call = |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("syscall")).ok();
            tasks.filter_map(call).any(|call| calls.iter().any(|sleep| call.starts_with(sleep)))
        });
    };
    let charged = |meddle: &dyn Fn(&Child)| {
        let [verdict, charged] = told(["verdict ", "charged "], "blocks at once", meddle);
        assert_eq!(verdict, "starved");
        charged.parse::<u64>().unwrap()
    };
    let (whole, stopped) = (
        charged(&|_| ()),
        charged(&|child| {
            asleep(child);
            stop_for_a_while(child);
        }),
    );
    // What the machine itself stood still is not charged either, so both can only be less.
    assert!(whole >= 1300 && stopped <= 1250, "{stopped} of {whole} ms");
}

#[test]
fn a_traced_process_is_not_accused() {
    let seize = |child: &Child| ptrace::seize(pid(child), ptrace::Options::empty()).unwrap();
    let traced = verdict("blocks", seize);
    assert!(traced.starts_with("inconclusive") && traced.contains("traces"), "{traced}");
    assert_eq!(verdict("blocks", |_| ()), "starved");
}
