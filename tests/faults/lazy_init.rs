//! A first process that never waits: orphans stay zombies for ever, and hold no grace.

use deadbeat::{KillPolicy, Outcome};
use nix::sys::signal::killpg;
use nix::unistd::Pid;

use crate::support::{Group, Held, LONG, NAMESPACE, SOON, deadbeat, inside};

/// The test is the first process itself, and waits for its own children alone.
fn is_one_that_never_waits<F: Fn() -> T, T>(test: F) -> bool {
    let is_inside = inside(test, &NAMESPACE);
    assert!(!is_inside || std::process::id() == 1);
    is_inside
}

/// A member whose parent has gone.
const ORPHAN: &str = "(sleep 60 & echo $!); exec sleep 60";

#[test]
fn a_group_with_an_orphan_is_gone_when_it_is_dead() {
    if !is_one_that_never_waits(a_group_with_an_orphan_is_gone_when_it_is_dead) {
        return;
    }
    let mut group = Group::of(ORPHAN);
    let held = group.members();
    let pgid = group.pgid();
    let kill = KillPolicy::default().grace(LONG).confirm(SOON).kill_blocking(pgid);
    group.reap();
    // The control: a wait for ESRCH has not ended.
    assert_eq!(killpg(Pid::from_raw(pgid), None), Ok(()), "the orphan was reaped, so this shows nothing");
    let report = kill.unwrap();
    assert_eq!(report.outcome, Outcome::Terminated, "{report:?}");
    assert!(held.iter().all(Held::has_ended), "{report:?}");
}

#[test]
fn a_killed_orphan_is_gone_too_and_a_second_kill_has_nothing_to_do() {
    if !is_one_that_never_waits(a_killed_orphan_is_gone_too_and_a_second_kill_has_nothing_to_do) {
        return;
    }
    let mut group = Group::of(&format!("trap '' TERM; {ORPHAN}"));
    let held = group.members();
    let pgid = group.pgid();
    let policy = KillPolicy::default().grace(std::time::Duration::from_millis(100)).confirm(SOON);
    let outcomes = [&policy, &policy].map(|policy| policy.kill_blocking(pgid).unwrap().outcome);
    assert_eq!(outcomes, [Outcome::Killed, Outcome::AlreadyGone]);
    assert!(held.iter().all(Held::has_ended));
}

#[test]
fn a_command_that_leaves_orphans_keeps_its_status_and_leaves_not_even_zombies() {
    if !is_one_that_never_waits(a_command_that_leaves_orphans_keeps_its_status_and_leaves_not_even_zombies) {
        return;
    }
    // That it has ended and that it is reaped are two moments: one run shows hardly ever that both are waited for.
    for _ in 0..50 {
        let mut run = Group::start(deadbeat("timeout 60 sh -c").arg("(sleep 60 & echo $!); exit 3"));
        let orphan: i32 = run.line().parse().unwrap();
        assert_eq!(run.reap().code(), Some(3));
        let entry = format!("/proc/{orphan}");
        assert!(!std::path::Path::new(&entry).exists(), "an orphan is left to a parent that never waits");
    }
}
