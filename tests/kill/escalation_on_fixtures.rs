//! Every fixture under every shell: the right outcome, the right signals, no member left.

use std::time::Duration;

use deadbeat::fixture::{self, Fixture, Running};
use deadbeat::group::{Backend, backend};
use deadbeat::{KillReport, Outcome, Signal};
use rstest::rstest;

use super::support::{LONG, policy};

/// For those that take the whole of it.
const GRACE: Duration = Duration::from_millis(1500);

fn start(name: &str, shell: &str) -> Running {
    let fixture: Fixture = fixture::named(name).expect("no such fixture");
    fixture.setup().shell(shell).cleanup(Duration::from_millis(200)).start().unwrap()
}

fn installed(shell: &str) -> bool {
    let program = shell.split(' ').next().unwrap();
    let paths = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&paths).any(|dir| dir.join(program).exists());
    if !found {
        eprintln!("skipped: {program} is not installed");
    }
    found
}

fn sent(report: &KillReport) -> Vec<Signal> {
    report.signals.iter().map(|sent| sent.signal).collect()
}

/// What the portable back-end can know: with an un-reaped leader nothing is ever seen to be gone.
fn expected(fixture: &Fixture) -> Outcome {
    match (backend(), fixture.name) {
        (Backend::Probe, name) if name != "already-gone" => Outcome::Survived,
        _ => fixture.outcome,
    }
}

#[rstest]
fn the_escalation_makes_the_right_thing_of(
    #[values(
        "already-gone",
        "deep-tree",
        "double-fork",
        "fast-exit",
        "fork-storm",
        "forking",
        "full-pipe",
        "ignore-term",
        "late-fork",
        "orphan",
        "respawn",
        "second-term",
        "setsid-escape",
        "sigterm-exit-code",
        "slow-exit",
        "stopped",
        "stubborn-child",
        "zombie"
    )]
    name: &str,
) {
    std::thread::scope(|scope| {
        for shell in ["dash", "bash", "busybox sh"] {
            scope.spawn(move || {
                if installed(shell) {
                    the_escalation_is_right(name, shell)
                }
            });
        }
    });
}

fn the_escalation_is_right(name: &str, shell: &str) {
    let running = start(name, shell);
    let fixture = fixture::named(name).unwrap();
    let grace = match expected(&fixture) {
        Outcome::Terminated => LONG,
        // Nothing is seen to obey, and this one has something to do.
        Outcome::Survived if fixture.marks_cleanup => GRACE * 4,
        _ => GRACE,
    };
    let report = policy().grace(grace).kill_blocking(running.pgid()).unwrap();

    assert_eq!(report.outcome, expected(&fixture), "under {shell}: {report:?}");
    let expected_signals: &[Signal] = match report.outcome {
        Outcome::AlreadyGone => &[],
        Outcome::Terminated => &[Signal::TERM, Signal::CONT],
        _ => &[Signal::TERM, Signal::CONT, Signal::KILL],
    };
    assert_eq!(sent(&report), expected_signals);
    if let Some(kill) = report.signals.iter().find(|sent| sent.signal == Signal::KILL) {
        assert!(kill.at >= report.signals[0].at + grace, "SIGKILL came early: {report:?}");
    }
    if backend() == Backend::Proc {
        assert_eq!(running.leftover().unwrap(), [], "left in the group");
        let escaped = running.escaped().unwrap();
        assert_eq!(escaped.len(), fixture.escapes, "{escaped:?}");
    }
    assert_eq!(running.cleaned_up(), fixture.marks_cleanup);
}

#[test]
fn the_list_above_is_the_list_of_fixtures() {
    let source = include_str!("escalation_on_fixtures.rs");
    for fixture in fixture::ALL {
        assert!(source.contains(&format!("\"{}\"", fixture.name)), "{} is not killed here", fixture.name);
        assert!(!fixture.about().is_empty() && !fixture.about().starts_with(fixture.name), "{}", fixture.about());
    }
}
