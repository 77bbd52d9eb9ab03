//! Who may be of a run and cannot be told to be: started during it, and with no environment to be read. They are named,
//! and never signalled.

use std::time::Duration;

use crate::group::kin::{self, Kin};
use crate::group::{mark, pause};

/// Between two looks at one whose environment cannot be read.
const AGAIN: Duration = Duration::from_millis(5);

/// Who looks, and from where.
#[derive(Clone, Copy, Debug)]
pub(super) struct Observer {
    parent: i32,
    /// The parent's.
    session: Option<i32>,
    user: Option<u32>,
}

impl Observer {
    /// While the parent lives.
    pub(super) fn new() -> Observer {
        let parent = nix::unistd::getppid().as_raw();
        let session = kin::of(parent).map(|kin| kin.session);
        Observer { parent, session, user: kin::user(std::process::id() as i32) }
    }

    /// Those started since `since`, in clock ticks since the system was started, that are not `known` and may be of a run.
    pub(super) fn doubtful(&self, since: u64, known: impl Fn(i32, &Kin) -> bool) -> Vec<(i32, Kin)> {
        let us = std::process::id() as i32;
        let is_doubtful = |(pid, kin): &(i32, Kin)| {
            let is_young = kin.runs && !kin.is_of_kernel && kin.started >= since;
            is_young
                && ![us, self.parent, 1].contains(pid)
                && !known(*pid, kin)
                && self.may_be_ours(kin::user(*pid))
                && !mark::tells(*pid)
                && !self.is_anothers(kin, kin::of(kin.parent), || mark::tells(kin.parent))
        };
        let all = kin::all().into_iter().filter_map(|pid| Some((pid, kin::of(pid)?)));
        let mut doubtful: Vec<_> = all.filter(is_doubtful).collect();
        // One that was in the middle of something is asked once more.
        if !doubtful.is_empty() {
            pause(AGAIN);
            doubtful.retain(|(pid, kin)| {
                kin::of(*pid).is_some_and(|again| again.runs && again.started == kin.started) && !mark::tells(*pid)
            });
        }
        doubtful
    }

    /// A run's processes are its user's, whatever user they run as; those of root can have become any other user's.
    fn may_be_ours(&self, user: Option<u32>) -> bool {
        self.user == Some(0) || user.is_none() || user == self.user
    }

    /// Whether it has a parent that it was born to, which is none of a run's. An orphan's parent is the process that adopted it,
    /// and is in another session as a rule: a run's processes are in the parent's, or in sessions that they opened.
    fn is_anothers(&self, kin: &Kin, parent: Option<Kin>, parent_tells: impl FnOnce() -> bool) -> bool {
        if kin.parent == 1 || kin.parent == self.parent {
            return false;
        }
        let Some(parent) = parent.filter(|parent| parent.session == kin.session) else { return false };
        parent.started <= kin.started && (Some(kin.session) != self.session || parent_tells())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kin(parent: i32, session: i32, started: u64) -> Kin {
        Kin { parent, session, started, runs: true, is_of_kernel: false }
    }

    #[test]
    fn a_child_is_anothers_if_its_parent_is_and_an_orphan_may_be_of_a_run() {
        let observer = Observer { parent: 10, session: Some(5), user: Some(1000) };
        let is_anothers = |child: Kin, parent: Option<Kin>, tells| observer.is_anothers(&child, parent, || tells);
        let shell = Some(kin(2, 70, 1));
        assert!(is_anothers(kin(71, 70, 9), shell, false), "of another terminal");
        assert!(!is_anothers(kin(71, 80, 9), shell, true), "it may have been adopted");
        assert!(!is_anothers(kin(1, 1, 9), Some(kin(0, 1, 0)), true), "by the first of all");
        assert!(!is_anothers(kin(71, 70, 9), None, true), "its parent is gone");
        let ours = Some(kin(2, 5, 1));
        assert!(is_anothers(kin(71, 5, 9), ours, true));
        assert!(!is_anothers(kin(71, 5, 9), ours, false), "the parent may be of a run itself");
        assert!(!is_anothers(kin(10, 5, 9), ours, true), "adopted by the run's own parent");
    }

    #[test]
    fn those_of_another_user_are_not_ours_but_for_root() {
        let of = |user| Observer { parent: 10, session: None, user };
        assert!(of(Some(0)).may_be_ours(Some(7)) && of(Some(7)).may_be_ours(Some(7)));
        assert!(!of(Some(7)).may_be_ours(Some(8)));
        assert!(of(Some(7)).may_be_ours(None), "it cannot be told");
    }
}
