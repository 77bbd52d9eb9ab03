//! Whose a process is, where deadbeat was started with children: their orphans become its children too, and descent
//! alone does not tell them from the command's.
//!
//! A process is the command's only by evidence: its parent was seen to be, it carries the run's mark, it is in the
//! command's group, or in a session that a process of the command's has opened. A process that was born and handed on
//! to deadbeat between two looks has no parent to be seen; without other evidence it is left alone, and named at the
//! end.
//!
//! The guardian decides the same in `guardian/descent.rs`, from the other side: it has no children to walk down from,
//! but the pids that were handed out; and it may take every session for the command's that a known process has opened,
//! since no stranger has a parent there. Here a session counts from the beginning of the end on.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::unistd::{Pid, getpgid, getpid, getsid};

use crate::group::descendants::{child_has_ended, children_of, parent, runs, started_at, was_handed_out_since};
#[cfg(target_os = "linux")]
use crate::group::descendants::{is_child, sees_beyond_children};
use crate::group::mark::carries;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    Command,
    /// A child that deadbeat was started with, or a descendant of one.
    Stranger,
    Unknown,
}

/// What one look at the children of this process and their descendants has shown.
#[derive(Debug, Default)]
pub(super) struct SortedProcesses {
    /// The command's, those that run.
    pub(super) commands: Vec<i32>,
    /// Children of this process that are not known to be the command's, running or not.
    pub(super) others: Vec<i32>,
    /// Those of `others` that run and are not known to be a stranger's either.
    pub(super) unknown: Vec<i32>,
}

#[derive(Debug)]
pub(super) struct Ownership {
    /// The children that deadbeat was started with. They are not reaped, so that their numbers stay theirs.
    strangers: Vec<i32>,
    /// The name of the variable that marks the command's processes.
    mark: Option<String>,
    known: Mutex<KnownOwners>,
}

#[derive(Debug, Default)]
struct KnownOwners {
    /// By pid, with the start: together they are one process for ever.
    owners: HashMap<i32, (Duration, Owner)>,
    /// Sessions that processes of the command's have opened, from the beginning of the end on. A session is forgotten
    /// when its number is handed out again: the number is then another process's, or belongs to the same session, which
    /// is seen to be the command's once more.
    sessions: HashSet<Pid>,
    /// The pid handed out last when the look before this one began.
    last_born: Option<i32>,
}

impl KnownOwners {
    fn forget_reused_sessions(&mut self) {
        let was_handed_out = was_handed_out_since(&mut self.last_born);
        self.sessions.retain(|session| !was_handed_out(session.as_raw()));
    }
}

/// A process that the walk down from the children of this process has come to.
struct VisitedProcess {
    pid: i32,
    parent: i32,
    parents_owner: Owner,
}

impl Ownership {
    pub(super) fn new(strangers: Vec<i32>, mark: Option<String>) -> Ownership {
        Ownership { strangers, mark, known: Mutex::default() }
    }

    pub(super) fn strangers(&self) -> &[i32] {
        &self.strangers
    }

    /// Whether a process is known to be the command's, and still is the one that was seen.
    #[cfg(target_os = "linux")]
    pub(super) fn is_commands(&self, pid: i32) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = known.owners.get(&pid).filter(|(_, owner)| *owner == Owner::Command);
        seen.is_some_and(|(start, _)| match started_at(pid) {
            Some(now) => now == *start,
            // Where starts cannot be seen: a child keeps its number until this process reaps it.
            None => !sees_beyond_children() && is_child(pid),
        })
    }

    /// Looks at `children`, those of this process but for the guardian, and at their descendants. `leader` is the
    /// command until it is reaped, then 0.
    pub(super) fn look(&self, children: &[i32], leader: i32, is_ending: bool) -> SortedProcesses {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // A number that is in use again by then is told by its start.
        known.owners.retain(|pid, _| is_there(*pid));
        known.forget_reused_sessions();
        let (mut sorted, own) = (SortedProcesses::default(), getpid().as_raw());
        let visit = |pid: &i32| VisitedProcess { pid: *pid, parent: own, parents_owner: self.root(*pid, leader) };
        let mut pending: Vec<VisitedProcess> = children.iter().map(visit).collect();
        while let Some(visited) = pending.pop() {
            let VisitedProcess { pid, parent, .. } = visited;
            if parent == own && child_has_ended(pid) {
                // There may be thousands that have ended: their sessions are asked for, and nothing that costs more.
                if !session(pid).is_some_and(|session| known.sessions.contains(&session)) {
                    sorted.others.push(pid);
                }
                continue;
            }
            let Some((start, owner)) = self.owner_of(&visited, leader, &known) else { continue };
            if owner != Owner::Unknown {
                known.owners.insert(pid, (start, owner));
            }
            if owner == Owner::Command && is_ending {
                known.sessions.extend(session(pid));
            }
            match owner {
                Owner::Command if runs(pid) => sorted.commands.push(pid),
                Owner::Command => {}
                _ if parent != own => {}
                Owner::Stranger => sorted.others.push(pid),
                Owner::Unknown => {
                    sorted.others.push(pid);
                    sorted.unknown.extend(Some(pid).filter(|pid| runs(*pid)));
                }
            }
            let children = children_of(pid).into_iter();
            // If the number is another process's by now, the children may be that one's.
            let is_same = started_at(pid).is_none_or(|now| now == start);
            let parents_owner = if is_same { owner } else { Owner::Unknown };
            pending.extend(children.map(|child| VisitedProcess { pid: child, parent: pid, parents_owner }));
        }
        sorted
    }

    /// What a child of this process is taken for before it is looked at.
    fn root(&self, pid: i32, leader: i32) -> Owner {
        match pid {
            pid if self.strangers.contains(&pid) => Owner::Stranger,
            pid if pid == leader => Owner::Command,
            _ => Owner::Unknown,
        }
    }

    /// The start and the owner of a process; `None` if it is not the child that it was listed as any more.
    fn owner_of(&self, visited: &VisitedProcess, leader: i32, known: &KnownOwners) -> Option<(Duration, Owner)> {
        let pid = visited.pid;
        let is_own_child = visited.parent == getpid().as_raw();
        let start = match started_at(pid) {
            Some(start) => start,
            // Where starts cannot be seen. An own child keeps its number until it is reaped.
            None if is_own_child => Duration::ZERO,
            None => return None,
        };
        let is_still = || parent(pid) == Some(visited.parent) && started_at(pid) == Some(start);
        if !is_own_child && !is_still() {
            return None;
        }
        let seen = known.owners.get(&pid).filter(|(at, _)| *at == start).map(|(_, owner)| *owner);
        let owner = match (visited.parents_owner, seen) {
            (Owner::Unknown, Some(owner)) => owner,
            (Owner::Unknown, None) if self.has_evidence(pid, leader, known) => Owner::Command,
            (parents_owner, _) => parents_owner,
        };
        Some((start, owner))
    }

    fn has_evidence(&self, pid: i32, leader: i32, known: &KnownOwners) -> bool {
        let is_in_group = || leader > 0 && getpgid(Some(Pid::from_raw(pid))) == Ok(Pid::from_raw(leader));
        let is_marked = || self.mark.as_ref().is_some_and(|name| carries(pid, name));
        is_in_group() || session(pid).is_some_and(|session| known.sessions.contains(&session)) || is_marked()
    }
}

/// The session of a process, if it is another than that of this process, in which any process of the terminal's may be.
fn session(pid: i32) -> Option<Pid> {
    let session = getsid(Some(Pid::from_raw(pid))).ok()?;
    (Ok(session) != getsid(None) && session.as_raw() > 1).then_some(session)
}

fn is_there(pid: i32) -> bool {
    getpgid(Some(Pid::from_raw(pid))).is_ok()
}
