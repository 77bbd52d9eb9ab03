//! Finds the command's descendants outside its group.
//!
//! They are found by descent: this process is a subreaper, so no descendant can leave its tree. Where deadbeat was
//! started with children of its own, descent is not enough, and `ownership.rs` tells whose each process is.

use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, OnceLock};

use nix::unistd::{Pid, getpgid};

use super::ownership::{Ownership, SortedProcesses};
use crate::group::GroupWatch;
#[cfg(target_os = "linux")]
use crate::group::descendants::is_descendant;
use crate::group::descendants::{adopt_orphans, child_has_ended, children, is_leaving, no_child_runs, reap, running};
use crate::guardian::Guardian;

pub(super) struct EscapeFinder {
    guardian: Option<Guardian>,
    ownership: Arc<Ownership>,
    /// The command while the agent has to kill and to reap it; else 0.
    leader: AtomicI32,
    /// Escaped processes are being killed: their sessions count as evidence.
    is_ending: AtomicBool,
}

impl EscapeFinder {
    /// To be called before the command is started: the children that are there are strangers.
    pub(super) fn new(guardian: Option<Guardian>) -> EscapeFinder {
        // Where the system has no subreapers, the guardian still finds escaped processes by their mark when we end.
        let _ = adopt_orphans();
        let mut strangers = children();
        strangers.retain(|pid| Some(*pid) != guardian.as_ref().and_then(Guardian::pid));
        let mark = guardian.as_ref().map(|guardian| guardian.mark().to_owned());
        let finder = EscapeFinder {
            guardian,
            ownership: Arc::new(Ownership::new(strangers, mark)),
            leader: AtomicI32::new(0),
            is_ending: AtomicBool::new(false),
        };
        finder.look();
        finder
    }

    pub(super) fn guardian(&self) -> Option<i32> {
        self.guardian.as_ref().and_then(Guardian::pid)
    }

    pub(super) fn set_leader(&self, pid: i32) {
        self.leader.store(pid, Ordering::SeqCst);
    }

    pub(super) fn begin_end(&self) {
        self.is_ending.store(true, Ordering::SeqCst);
    }

    /// Whether deadbeat was started with children.
    pub(super) fn has_strangers(&self) -> bool {
        !self.ownership.strangers().is_empty()
    }

    /// The processes to spare, with their descendants. To be called after a search: a guardian that was started just
    /// before it has its pid by then.
    fn spared(&self) -> Vec<i32> {
        self.ownership.strangers().iter().copied().chain(self.guardian()).collect()
    }

    /// Notes whose each process is, while its parent can be seen. `None` where all are the command's.
    pub(super) fn look(&self) -> Option<SortedProcesses> {
        self.has_strangers().then(|| self.look_at(&children()))
    }

    fn look_at(&self, children: &[i32]) -> SortedProcesses {
        let guardian = self.guardian();
        let children: Vec<_> = children.iter().copied().filter(|pid| Some(*pid) != guardian).collect();
        self.ownership.look(&children, self.leader.load(Ordering::SeqCst), self.is_ending.load(Ordering::SeqCst))
    }

    /// Reaps the orphans that have ended, one by one: to wait for just any child would take the exits of the command
    /// and of the guardian too.
    pub(super) fn reap(&self) {
        let (leader, spared) = (self.leader.load(Ordering::SeqCst), OnceLock::new());
        reap(|pid| pid == leader || spared.get_or_init(|| self.spared()).contains(&pid));
    }

    /// The processes that the kill of the command's group does not reach.
    pub(super) fn escaped(&self) -> Vec<i32> {
        let mut found = self.look().map_or_else(|| running(&self.spared()), |sorted| sorted.commands);
        found.retain(|pid| !self.is_in_group(*pid));
        found
    }

    /// The escaped processes that are children of this process. The other ones have a parent that has to end them, as
    /// long as they have any grace left: another `deadbeat timeout`, say, or a shell with jobs.
    pub(super) fn orphans(&self) -> Vec<i32> {
        let mut found = self.orphans_among(&children());
        found.retain(|pid| !child_has_ended(*pid));
        found
    }

    /// The orphans outside the command's group among these children of this process, those that have ended included.
    pub(super) fn orphans_among(&self, children: &[i32]) -> Vec<i32> {
        let mut spared = self.spared();
        if self.has_strangers() {
            spared.extend(self.look_at(children).others);
        }
        let is_orphan = |pid: &i32| !spared.contains(pid) && !self.is_in_group(*pid);
        children.iter().copied().filter(is_orphan).collect()
    }

    /// Whether all that can be told to be the command's, outside its group, had ended at one instant, but for the
    /// `hopeless`, which cannot be killed. The head of `group/descendants.rs` says why.
    pub(super) fn has_died_out(&self, hopeless: impl Fn(i32) -> bool) -> bool {
        no_child_runs(|children| {
            let mut spared = self.spared();
            if self.has_strangers() {
                // A process that was about to end when it was looked at may be the command's: it counts, and if another
                // is there in its place, one more look is needed.
                let is_certain = |pid: &i32| !child_has_ended(*pid) && !is_leaving(*pid);
                spared.extend(self.look_at(children).others.into_iter().filter(is_certain));
            }
            spared.extend(children.iter().filter(|pid| self.is_in_group(**pid) || hopeless(**pid)));
            spared
        })
    }

    fn is_in_group(&self, pid: i32) -> bool {
        let leader = self.leader.load(Ordering::SeqCst);
        leader > 0 && (pid == leader || getpgid(Some(Pid::from_raw(pid))) == Ok(Pid::from_raw(leader)))
    }

    /// Holds a process that was found; `None` if its number is another's by now.
    #[cfg(target_os = "linux")]
    pub(super) fn hold(&self, pid: i32) -> Option<GroupWatch> {
        let spared = self.spared();
        let ownership = Some(Arc::clone(&self.ownership)).filter(|_| self.has_strangers());
        GroupWatch::of_process(pid, move |pid| match &ownership {
            Some(ownership) => ownership.is_commands(pid),
            None => is_descendant(pid, &spared),
        })
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn hold(&self, _pid: i32) -> Option<GroupWatch> {
        None
    }
}
