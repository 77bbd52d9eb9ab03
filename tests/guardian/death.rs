//! The parent dies; so do all that it left.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use super::support::{GRACE, Parent, eventually};

/// A parent with this child and a guardian, and beside it the control: one without. Both die at once.
fn killed(program: &str, kill: impl Fn(&mut Parent)) -> Duration {
    let (mut parent, mut control) = (Parent::start(), Parent::start());
    let guardian = parent.guardian();
    parent.guarded(program);
    let left = control.spawned(&format!("spawn - {program}"));
    let start = Instant::now();
    kill(&mut parent);
    kill(&mut control);
    parent.tree.is_dead_soon();
    let elapsed = start.elapsed();
    assert!(!parent.tree.lives(guardian));
    // No later than this the others would have been seen dying too.
    if program != "fork-storm" {
        assert!(left.iter().all(|pid| control.tree.lives(*pid)), "the control died too: {:?}", control.tree.alive());
    }
    assert!(!control.tree.alive().is_empty(), "the control died too");
    elapsed
}

pub(crate) fn a_killed_parent_leaves_nobody_of_ignore_term() {
    let elapsed = killed("ignore-term", Parent::kill);
    // Nothing in the machine can make it shorter.
    assert!(elapsed >= GRACE, "killed after {elapsed:?}, before its grace was over");
}

pub(crate) fn a_killed_parent_leaves_nobody_of_stubborn_child() {
    killed("stubborn-child", Parent::kill);
}

pub(crate) fn a_killed_parent_leaves_nobody_of_setsid_escape() {
    killed("setsid-escape", Parent::kill);
}

pub(crate) fn a_killed_parent_leaves_nobody_of_fork_storm() {
    killed("fork-storm", Parent::kill);
}

pub(crate) fn an_aborted_parent_leaves_nobody() {
    killed("sleep", |parent| {
        parent.end("abort");
    });
}

pub(crate) fn a_group_killed_while_the_guardian_starts_leaves_nobody() {
    for _ in 0..10 {
        let mut parent = Parent::start();
        // Not waiting for answers: the guardian is hardly started when the signal comes.
        ["guardian", "announce", "spawn 0 sleep", "guard 0 last"].iter().for_each(|line| parent.tell(line));
        parent.hear("guarded");
        parent.kill_group();
        parent.tree.is_dead_soon();
    }
}

pub(crate) fn whoever_is_asked_to_end_is_let_finish() {
    let mut parent = Parent::start();
    parent.guardian();
    parent.guarded("polite");
    parent.guarded("polite-escapee");
    parent.kill();
    let mut asked = [parent.hear("asked"), parent.hear("asked")];
    asked.sort();
    assert_eq!(asked, ["escapee", "leader"]);
    parent.tree.is_dead_soon();
}

pub(crate) fn a_child_that_was_never_registered_is_found_by_its_mark() {
    let mut parent = Parent::start();
    parent.guardian();
    parent.ask("announce", "announced");
    let marked = parent.spawned("spawn 0 ignore-term");
    let unmarked = parent.spawned("spawn - ignore-term");
    parent.kill();
    eventually("only the control is left", || parent.tree.alive().iter().all(|(pid, _)| unmarked.contains(pid)));
    assert!(!parent.tree.lives(marked[0]));
    assert!(parent.tree.lives(unmarked[0]), "the control, unmarked and unregistered, died too");
}

/// `DEADBEAT_STORMS` sets how many (12 by default), `DEADBEAT_SEED` replays a run.
pub(crate) fn a_parent_killed_at_any_moment_leaves_nobody() {
    let setting = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seed = setting("DEADBEAT_SEED").unwrap_or_else(|| RandomState::new().hash_one(0));
    let storms = setting("DEADBEAT_STORMS").unwrap_or(12);
    println!("{storms} storms; replay with DEADBEAT_SEED={seed}");
    let mut random = seed;
    let mut kill_somewhere = |parent: &mut Parent, has_begun: bool| {
        parent.tell("storm");
        if has_begun {
            parent.hear("child");
        }
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        std::thread::park_timeout(Duration::from_micros((random >> 33) % 60_000));
        parent.kill();
    };
    for storm in 0..storms {
        let mut parent = Parent::start();
        parent.guardian();
        // Every other one when there is a family, so that a machine that is slow to begin shows something too.
        kill_somewhere(&mut parent, storm % 2 == 1);
        println!("storm {storm}: {} processes left to the guardian", parent.tree.alive().len());
        parent.tree.is_dead_soon();
    }
    let mut control = Parent::start();
    kill_somewhere(&mut control, true);
    assert!(!control.tree.alive().is_empty(), "the control left no process, so the storms show nothing");
}
