//! The parent ends well, and takes the guard off in time.

use std::io;

use deadbeat::KillPolicy;
use deadbeat::guardian::Guardian;

use super::support::{Parent, eventually};

pub(crate) fn after_a_clean_end_nothing_is_signalled() {
    // It says so if it is asked to end, and the control is.
    let (mut parent, mut control) = (Parent::start(), Parent::start());
    let guardian = parent.guardian();
    control.guardian();
    let child = parent.guarded("polite")[0];
    control.guarded("polite");
    parent.ask("release 0", "released");
    assert!(control.end("exit").success());
    assert!(parent.end("exit").success());
    assert_eq!(control.hear("asked"), "leader");
    control.tree.is_dead_soon();
    eventually("the guardian has ended", || !parent.tree.lives(guardian));
    assert!(parent.tree.lives(child), "it was released and killed nevertheless");
}

pub(crate) fn a_released_child_is_not_touched_nor_what_escaped_from_it() {
    let mut parent = Parent::start();
    let guardian = parent.guardian();
    let released = parent.guarded("setsid-escape");
    let kept = parent.guarded("setsid-escape");
    parent.ask("release 0", "released");
    parent.kill();
    eventually("the guardian has ended", || !parent.tree.lives(guardian));
    assert!(released.len() == 2 && released.iter().all(|pid| parent.tree.lives(*pid)), "{:?}", parent.tree.alive());
    assert!(kept.len() == 2 && !kept.iter().any(|pid| parent.tree.lives(*pid)), "{:?}", parent.tree.alive());
}

pub(crate) fn dropped_it_ends_like_its_parent_would_have() {
    let mut parent = Parent::start();
    let guardian = parent.guardian();
    let child = parent.guarded("sleep")[0];
    parent.ask("drop", "dropped");
    eventually("its child is dead", || !parent.tree.lives(child));
    // Not even a zombie of it stays, though its parent lives on.
    eventually("it was reaped", || !std::path::Path::new(&format!("/proc/{guardian}")).exists());
    assert!(parent.tree.lives(parent.pid()));
}

pub(crate) fn a_dangerous_pgid_is_refused() {
    let guardian = Guardian::of_this_program().unwrap();
    let mut guarded = guardian.announce(&KillPolicy::default()).unwrap();
    let own = nix::unistd::getpgrp().as_raw();
    for pgid in [0, 1, -1, i32::MIN, own] {
        let error = guarded.guard(pgid).expect_err("accepted");
        assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
        assert!(error.to_string().contains(&format!("process group {pgid}:")), "{error}");
    }
    guarded.release();
}
