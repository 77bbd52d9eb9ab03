//! A run within a run: each has a guardian of its own, and neither stands in the other's way.

use super::support::{Parent, eventually};

/// An outer parent that guards an inner one: the inner one's pid, and that of its child.
fn nested(parent: &mut Parent, program: &str) -> (i32, i32) {
    parent.guardian();
    parent.ask("announce", "announced");
    parent.tell(&format!("spawn 0 {program}"));
    let innermost: i32 = parent.hear("guarded").parse().unwrap();
    let pids: [i32; 2] = [parent.hear("child"), parent.hear("child")].map(|pid| pid.parse().unwrap());
    let inner = pids.into_iter().find(|pid| *pid != innermost).unwrap();
    parent.ask(&format!("guard 0 {inner}"), "guarded");
    (inner, innermost)
}

pub(crate) fn a_run_within_a_run_dies_with_the_outer_one() {
    // Without a guardian of the inner one the outer finds its child as well, by descent.
    for program in ["nested", "nested-alone"] {
        let mut parent = Parent::start();
        nested(&mut parent, program);
        parent.kill();
        parent.tree.is_dead_soon();
    }
    let mut control = Parent::start();
    control.tell("spawn - nested-alone");
    let innermost: i32 = control.hear("guarded").parse().unwrap();
    control.kill();
    assert!(control.tree.lives(innermost), "without any guardian it died too");
}

pub(crate) fn an_inner_run_dies_alone() {
    let mut parent = Parent::start();
    let (inner, innermost) = nested(&mut parent, "nested");
    let other = parent.guarded("sleep")[0];
    parent.tree.kill(inner);
    eventually("the inner run is dead", || !parent.tree.lives(innermost));
    assert!(parent.tree.lives(other) && parent.tree.lives(parent.pid()));
    parent.kill();
    parent.tree.is_dead_soon();
}
