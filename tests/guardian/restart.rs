//! The guardian dies first.

use std::os::unix::fs::symlink;

use super::support::{Parent, eventually};

pub(crate) fn a_killed_guardian_is_replaced_and_told_everything() {
    let (mut parent, mut control) = (Parent::start(), Parent::start());
    let lives_on = [&mut parent, &mut control].map(|parent| {
        let guardian = parent.guardian();
        let child = parent.guarded("ignore-term")[0];
        parent.tree.kill_wholly(guardian);
        child
    });
    // Its next use, which the control does not come to.
    parent.ask("announce", "announced");
    let second: i32 = parent.ask("who", "guardian").parse().unwrap();
    eventually("the second is up", || parent.tree.lives(second));
    parent.kill();
    control.kill();
    parent.tree.is_dead_soon();
    assert!(control.tree.lives(lives_on[1]), "without a new guardian it died too");
}

pub(crate) fn one_that_cannot_be_replaced_is_an_error_and_no_more() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("guardian");
    symlink(std::env::current_exe().unwrap(), &program).unwrap();
    let mut parent = Parent::start();
    let guardian = parent.ask(&format!("guardian {}", program.display()), "guardian").parse().unwrap();
    let child = parent.guarded("ignore-term")[0];
    std::fs::remove_file(&program).unwrap();
    parent.tree.kill_wholly(guardian);
    let error = parent.ask("announce", "error");
    assert!(error.contains("No such file"), "{error}");
    let error = parent.ask(&format!("guard 0 {child}"), "error");
    assert!(error.contains("No such file"), "{error}");
    assert_eq!(parent.ask("who", "guardian"), "0");
    assert!(parent.tree.lives(child));
    // As soon as one can be had again, it knows everything.
    symlink(std::env::current_exe().unwrap(), &program).unwrap();
    parent.ask("announce", "announced");
    parent.kill();
    parent.tree.is_dead_soon();
}
