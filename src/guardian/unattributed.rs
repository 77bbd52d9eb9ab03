//! Finds the processes that may belong to a run that is over and cannot be attributed to it: they were started during
//! the run, and their environment cannot be read. They are named to the parent, and never signalled.

use std::time::Duration;

use crate::group::kin::{self, Kin};
use crate::group::{mark, pause};

/// Before the second look at a process whose environment cannot be read.
const SECOND_LOOK: Duration = Duration::from_millis(5);

/// The parent that the guardian was started by, noted down while it lives.
#[derive(Clone, Copy, Debug)]
pub(super) struct ParentIds {
    pid: i32,
    session: Option<i32>,
    user: Option<u32>,
}

impl ParentIds {
    /// To be called while the parent lives.
    pub(super) fn read() -> ParentIds {
        let pid = nix::unistd::getppid().as_raw();
        let session = kin::of(pid).map(|kin| kin.session);
        ParentIds { pid, session, user: kin::user(std::process::id() as i32) }
    }

    /// The processes started since `since` (in clock ticks since boot) that are not `known` and may belong to a run of
    /// this parent.
    pub(super) fn unattributed(&self, since: u64, known: impl Fn(i32, &Kin) -> bool) -> Vec<(i32, Kin)> {
        let own = std::process::id() as i32;
        let is_unattributed = |(pid, kin): &(i32, Kin)| {
            let is_young = kin.runs && !kin.is_of_kernel && kin.started >= since;
            is_young
                && ![own, self.pid, 1].contains(pid)
                && !known(*pid, kin)
                && self.may_run_as(kin::user(*pid))
                && !mark::tells(*pid)
                && !self.is_anothers(kin, kin::of(kin.parent), || mark::tells(kin.parent))
        };
        let all = kin::all().into_iter().filter_map(|pid| Some((pid, kin::of(pid)?)));
        let mut found: Vec<_> = all.filter(is_unattributed).collect();
        // A process in the middle of an exec or of its end is unreadable for a moment only.
        if !found.is_empty() {
            pause(SECOND_LOOK);
            found.retain(|(pid, kin)| {
                kin::of(*pid).is_some_and(|again| again.runs && again.started == kin.started) && !mark::tells(*pid)
            });
        }
        found
    }

    /// Whether a process of this user may belong to a run. Its processes are started by the parent's user, whatever
    /// user they run as; but those of root can have become any other user's.
    fn may_run_as(&self, user: Option<u32>) -> bool {
        self.user == Some(0) || user.is_none() || user == self.user
    }

    /// Whether a process is the child of a parent that started it and belongs to no run. An orphan's parent is the
    /// process that adopted it, as a rule in another session: a run's processes are in the session of this parent, or
    /// in sessions that they opened themselves.
    fn is_anothers(&self, kin: &Kin, parent: Option<Kin>, parent_tells: impl FnOnce() -> bool) -> bool {
        if kin.parent == 1 || kin.parent == self.pid {
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
        let ids = ParentIds { pid: 10, session: Some(5), user: Some(1000) };
        let is_anothers = |child: Kin, parent: Option<Kin>, tells| ids.is_anothers(&child, parent, || tells);
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
    fn processes_of_another_user_are_not_of_a_run_unless_root_started_it() {
        let of = |user| ParentIds { pid: 10, session: None, user };
        assert!(of(Some(0)).may_run_as(Some(7)) && of(Some(7)).may_run_as(Some(7)));
        assert!(!of(Some(7)).may_run_as(Some(8)));
        assert!(of(Some(7)).may_run_as(None), "it cannot be told");
    }
}
