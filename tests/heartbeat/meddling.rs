//! A process that is stopped, or traced, raises no alarm. It runs as a child, since a stopped test can do nothing.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use deadbeat::heartbeat::{Flavor, Heartbeat, Lab};
use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::support::{LONG, block, wait_until};

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
    // When the other has meddled with it.
    let (go, told) = tokio::sync::oneshot::channel();
    std::thread::spawn(move || {
        let _ = std::io::stdin().read_line(&mut String::new());
        let _ = go.send(());
    });
    let pulse = if role == "waits" {
        // Not in a lab: its hooks would say that the worker is idle, and there would be nothing to excuse.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let waits = async {
            ready().await;
            tokio::time::sleep(LONG).await;
            let _ = told.await;
            tokio::time::sleep(LONG).await;
        };
        runtime.block_on(Heartbeat::new().watch(waits)).pulse
    } else {
        let at_once = role == "blocks at once";
        let blocks = move || async move {
            ready().await;
            if !at_once {
                let _ = told.await;
            }
            block(if at_once { LONG * 10 } else { LONG });
        };
        Lab::new(Flavor::CurrentThread).run_root(blocks).unwrap().pulse
    };
    println!("\ncharged {}", pulse.longest.as_millis());
    println!("\nverdict {}", pulse.verdict());
}

/// Starts the child, meddles once it is ready, and returns its verdict.
fn verdict(role: &str, meddle: impl FnOnce(&Child)) -> String {
    told(["verdict "], role, meddle)[0].clone()
}

/// The same, once it is as wanted: a doubt is looked into again, an accusation or an acquittal stands.
fn settled(role: &str, meddle: impl Fn(&Child), wanted: impl Fn(&str) -> bool) -> String {
    let mut said = verdict(role, &meddle);
    for _ in 1..5 {
        if !wanted(&said) && said.starts_with("inconclusive") {
            said = verdict(role, &meddle);
        }
    }
    said
}

/// The same, and what else it tells.
fn told<const N: usize>(words: [&str; N], role: &str, meddle: impl FnOnce(&Child)) -> [String; N] {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "meddling::the_one_meddled_with", "--ignored", "--nocapture"])
        .env(ROLE, role)
        .stdin(Stdio::piped())
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
    writeln!(child.stdin.take().unwrap(), "go").unwrap();
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
    assert_eq!(settled("waits", |_| (), |said| said == "steady"), "steady");
    let is_excused = |said: &str| said.starts_with("inconclusive") && said.contains("stood still");
    let stopped = settled("waits", stop_for_a_while, is_excused);
    assert!(is_excused(&stopped), "{stopped}");
    assert_eq!(settled("blocks", |_| (), |said| said == "starved"), "starved");
}

/// A block of a second and a half with the stop in its middle: what was blocked beside the stop is a stall, and no
/// more.
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
        assert!(verdict == "starved" || verdict.starts_with("inconclusive"), "{verdict}");
        (verdict == "starved", charged.parse::<u64>().unwrap())
    };
    let both = || {
        let stop = |child: &Child| {
            asleep(child);
            stop_for_a_while(child);
        };
        [charged(&|_| ()), charged(&stop)]
    };
    // What the machine itself stood still is not charged either, so both can be less, and a busy one may be late to see
    // it.
    let are_right = |[whole, stopped]: [(bool, u64); 2]| {
        println!("starved, and charged: {stopped:?} of {whole:?} ms");
        whole.0 && stopped.0 && whole.1 >= 1300 && stopped.1 <= 1250
    };
    assert!((0..5).any(|_| are_right(both())), "in five times the stop was charged, or the block was not");
}

#[test]
fn a_traced_process_is_not_accused() {
    let seize = |child: &Child| ptrace::seize(pid(child), ptrace::Options::empty()).unwrap();
    let is_excused = |said: &str| said.starts_with("inconclusive") && said.contains("traces");
    let traced = settled("blocks", seize, is_excused);
    assert!(is_excused(&traced), "{traced}");
    assert_eq!(settled("blocks", |_| (), |said| said == "starved"), "starved");
}
