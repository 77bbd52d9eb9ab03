//! The verdicts on right functions and on wrong ones.

use std::fs;
use std::process::Stdio;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::strangers::CALLS;
use crate::support::{run, tests_of};

pub(crate) fn a_right_function_passes_and_the_control_is_caught() {
    let (status, text) = run("right", "");
    assert_eq!(status, Some(0), "{text}");
    assert!(text.contains("test control/fast-exit/current-thread") && text.contains("19 passed; 0 failed"), "{text}");
}

pub(crate) fn a_wrong_function_fails_and_says_why() {
    let (status, text) = run("no-cont", "ours/stopped");
    assert_eq!(status, Some(101), "{text}");
    assert!(
        text.contains("\nstopped: the leader is stopped by SIGSTOP, and obeys SIGTERM once it is continued."),
        "{text}"
    );
    // The control beside it: the same function is right where no member was stopped.
    let (status, text) = run("no-cont", "ours/fast-exit");
    assert_eq!(status, Some(0), "{text}");
    let (status, text) = run("at-once", "ours/slow-exit");
    assert_eq!(status, Some(101), "{text}");
    assert!(text.contains("outcome killed, not terminated"), "{text}");
}

pub(crate) fn a_known_failure_is_run_and_forgiven() {
    let (status, text) = run("excused", "ours/stopped");
    assert_eq!(status, Some(0), "{text}");
    assert!(text.contains("known failure ours/stopped/current-thread (sends no SIGCONT): outcome killed"), "{text}");
}

pub(crate) fn a_known_failure_that_passes_is_an_error() {
    let (status, text) = run("excused-for-nothing", "ours/stopped");
    assert_eq!(status, Some(101), "{text}");
    assert!(text.contains("it passes, though it is a known failure (sends no SIGCONT)"), "{text}");
}

pub(crate) fn a_flaky_cell_may_pass_and_may_fail_and_is_said_to_have_done_either() {
    let (status, text) = run("flaky", "ours/stopped");
    assert_eq!(status, Some(0), "{text}");
    assert!(text.contains("flaky cell ours/stopped/current-thread (stops at times): outcome killed"), "{text}");
    let (status, text) = run("flaky", "ours/fast-exit");
    assert_eq!(status, Some(0), "{text}");
    assert!(text.contains("flaky cell ours/fast-exit/current-thread (slow at times): it passed"), "{text}");
}

pub(crate) fn a_function_that_asks_by_another_signal_is_judged_by_that_one() {
    let (status, text) = run("interrupts", "");
    assert_eq!(status, Some(0), "{text}");
    assert!(text.contains("19 passed; 0 failed"), "{text}");
    // The control: the signal was not declared, and what ignores SIGTERM dies of it.
    let (status, text) = run("interrupts-undeclared", "ours/ignore-term");
    assert_eq!(status, Some(101), "{text}");
    assert!(text.contains("the leader died of SIGINT") && text.contains("Conformance::first_signal"), "{text}");
}

pub(crate) fn what_proves_nothing_is_measured_again_and_what_fails_is_not() {
    let dir = tempfile::tempdir().unwrap();
    let run = |stranger: &str, cell: &str| {
        let calls = dir.path().join(stranger);
        let _ = fs::remove_file(&calls);
        let output = tests_of(stranger, cell).env(CALLS, &calls).output().unwrap();
        (output.status.code(), fs::read(calls).unwrap().len(), String::from_utf8(output.stdout).unwrap())
    };
    // A busy machine may have proved nothing the second time, or the third.
    let mut runs = (0..5).map(|_| run("unproved-once", "ours/fast-exit"));
    let passed = runs.find(|(status, ..)| *status == Some(0));
    assert!(passed.as_ref().is_some_and(|(_, calls, _)| *calls > 1), "in five times: {passed:?}");
    let (status, calls, text) = run("unproved", "ours/fast-exit");
    assert_eq!((status, calls), (Some(101), 3), "{text}");
    assert!(text.contains("inconclusive: tokio's clock is paused"), "{text}");
    let (status, calls, text) = run("proved-wrong", "ours/slow-exit");
    assert_eq!((status, calls), (Some(101), 1), "{text}");
}

pub(crate) fn a_hang_is_ended_and_reported_with_its_culprit() {
    let (status, text) = run("hangs", "ours/fast-exit");
    assert_eq!(status, Some(101), "{text}");
    assert!(text.contains("did not come back within 6s: waiting in clock_nanosleep: 3600000 ms asked for"), "{text}");
}

pub(crate) fn an_abort_is_the_failure_of_its_cell_alone() {
    let (status, text) = run("aborts", "current-thread");
    assert_eq!(status, Some(101), "{text}");
    assert!(text.contains("ended without a report: signal: 6 (SIGABRT)"), "{text}");
    assert!(text.contains("1 passed; 18 failed"), "the control is in a process of its own: {text}");
}

pub(crate) fn a_report_counts_whoever_holds_its_socket() {
    let (status, text) = run("forks", "ours/fast-exit");
    assert_eq!(status, Some(0), "{text}");
}

pub(crate) fn what_the_function_says_is_told_with_its_failure() {
    let (status, text) = run("talks", "ours/ignore-term");
    assert_eq!(status, Some(101), "{text}");
    assert!(text.contains("it said: killing nothing | of group "), "{text}");
}

/// The living processes of the cells that process `starter` has started, fixtures and all.
fn processes_of(starter: u32) -> Vec<i32> {
    let pids = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let mark = format!("DEADBEAT_CELL={starter}-");
    pids.filter(|pid| {
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|b| *b == 0).any(|entry| entry.starts_with(mark.as_bytes()))
    })
    .collect()
}

#[track_caller]
fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(60), "it never came that {what}");
        #[expect(clippy::disallowed_methods, reason = "between two looks, on a thread of the test's own")]
        std::thread::sleep(Duration::from_millis(5));
    }
}

pub(crate) fn an_interruption_leaves_no_fixture() {
    for (signal, status) in [(Signal::SIGTERM, Some(143)), (Signal::SIGKILL, None)] {
        let mut tests = tests_of("hangs-on", "ours/ignore-term");
        let mut tests = tests.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let pid = tests.id();
        // The cell and its fixture.
        until("the fixture is there", || processes_of(pid).len() >= 2);
        // The child is not waited for yet, so the number is still its own.
        kill(Pid::from_raw(pid as i32), signal).unwrap();
        assert_eq!(tests.wait().unwrap().code(), status, "{signal}");
        until("nothing is left", || processes_of(pid).is_empty());
    }
}
