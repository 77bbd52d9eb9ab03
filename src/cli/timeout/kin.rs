//! Whose a process is where children from before our start exist: their orphans become our children too, and descent alone
//! does not tell them from the command's.
//!
//! A process is the command's only by evidence: its parent was seen to be, it carries the run's mark, it is in the
//! command's group, or in a session that one of the command's has begun. What was born and handed on to us between two
//! looks has no parent to be seen; without other evidence it is left alone, and named at the end.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::unistd::{Pid, getpgid, getpid, getsid};

use crate::group::descendants::{born_since, child_has_ended, children_of, parent, runs, started_at};
#[cfg(target_os = "linux")]
use crate::group::descendants::{is_child, sees_beyond_children};
use crate::group::mark::carries;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Whose {
    Commands,
    /// Of a child from before our start.
    Strangers,
    Unknown,
}

/// What one look at our children and theirs has shown.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Of the command's, those that run.
    pub(super) commands: Vec<i32>,
    /// Children of ours that are not known to be the command's, running or not.
    pub(super) others: Vec<i32>,
    /// Of those, the ones that run and are not known to be a stranger's either.
    pub(super) unknown: Vec<i32>,
}

#[derive(Debug)]
pub(super) struct Kin {
    /// Children from before our start. Not reaped, so that their numbers stay theirs.
    strangers: Vec<i32>,
    /// The name of the variable that each process of the command's is given.
    mark: Option<String>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// By number and start, which together are one process for ever.
    whose: HashMap<i32, (Duration, Whose)>,
    /// Begun by the command's, from the beginning of the end on. One is forgotten when its number is handed out again: then
    /// it is another's, or the same process's, which is seen to be the command's once more.
    sessions: HashSet<Pid>,
    /// The number handed out last when the look before this one began.
    last_born: Option<i32>,
}

impl Known {
    fn forget_reborn(&mut self) {
        match born_since(&mut self.last_born) {
            Some(born) => self.sessions.retain(|session| !born.contains(&session.as_raw())),
            None => self.sessions.clear(),
        }
    }
}

/// A process on the way down from our children.
struct Met {
    pid: i32,
    parent: i32,
    /// Whose its parent is.
    heir_of: Whose,
}

impl Kin {
    pub(super) fn new(strangers: Vec<i32>, mark: Option<String>) -> Kin {
        Kin { strangers, mark, known: Mutex::default() }
    }

    pub(super) fn strangers(&self) -> &[i32] {
        &self.strangers
    }

    /// Whether a process is known to be the command's, and still is the one that was seen.
    #[cfg(target_os = "linux")]
    pub(super) fn is_commands(&self, pid: i32) -> bool {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let seen = known.whose.get(&pid).filter(|(_, whose)| *whose == Whose::Commands);
        seen.is_some_and(|(start, _)| match started_at(pid) {
            Some(now) => now == *start,
            // Where starts cannot be seen, a child of ours keeps its number until it is reaped.
            None => !sees_beyond_children() && is_child(pid),
        })
    }

    /// Looks at `children`, ours without the guardian, and at what descends from them. `leader` is the command until it is
    /// reaped, then 0.
    pub(super) fn look(&self, children: &[i32], leader: i32, is_ending: bool) -> Seen {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        // The next one with its number is told by its start.
        known.whose.retain(|pid, _| is_there(*pid));
        known.forget_reborn();
        let (mut seen, us) = (Seen::default(), getpid().as_raw());
        let mut pending: Vec<Met> =
            children.iter().map(|pid| Met { pid: *pid, parent: us, heir_of: self.root(*pid, leader) }).collect();
        while let Some(met) = pending.pop() {
            if met.parent == us && child_has_ended(met.pid) {
                // Of thousands that have ended none is worth more than a glance.
                if !session(met.pid).is_some_and(|session| known.sessions.contains(&session)) {
                    seen.others.push(met.pid);
                }
                continue;
            }
            let Some((start, whose)) = self.weigh(&met, leader, &known) else { continue };
            if whose != Whose::Unknown {
                known.whose.insert(met.pid, (start, whose));
            }
            if whose == Whose::Commands && is_ending {
                known.sessions.extend(session(met.pid));
            }
            match whose {
                Whose::Commands if runs(met.pid) => seen.commands.push(met.pid),
                Whose::Commands => {}
                _ if met.parent != us => {}
                Whose::Strangers => seen.others.push(met.pid),
                Whose::Unknown => {
                    seen.others.push(met.pid);
                    seen.unknown.extend(Some(met.pid).filter(|pid| runs(*pid)));
                }
            }
            let heirs = children_of(met.pid).into_iter();
            // If another has its number by now, the children may be that one's.
            let heir_of = if started_at(met.pid).is_none_or(|now| now == start) { whose } else { Whose::Unknown };
            pending.extend(heirs.map(|pid| Met { pid, parent: met.pid, heir_of }));
        }
        seen
    }

    fn root(&self, pid: i32, leader: i32) -> Whose {
        match pid {
            pid if self.strangers.contains(&pid) => Whose::Strangers,
            pid if pid == leader => Whose::Commands,
            _ => Whose::Unknown,
        }
    }

    /// `None`: it is not the child that it was listed as any more. A child of ours keeps its number until it is reaped.
    fn weigh(&self, met: &Met, leader: i32, known: &Known) -> Option<(Duration, Whose)> {
        let is_ours = met.parent == getpid().as_raw();
        let start = match started_at(met.pid) {
            Some(start) => start,
            // Where starts cannot be seen.
            None if is_ours => Duration::ZERO,
            None => return None,
        };
        let is_still = || parent(met.pid) == Some(met.parent) && started_at(met.pid) == Some(start);
        if !is_ours && !is_still() {
            return None;
        }
        let seen = known.whose.get(&met.pid).filter(|(at, _)| *at == start).map(|(_, whose)| *whose);
        let whose = match (met.heir_of, seen) {
            (Whose::Unknown, Some(whose)) => whose,
            (Whose::Unknown, None) if self.has_evidence(met.pid, leader, known) => Whose::Commands,
            (heir_of, _) => heir_of,
        };
        Some((start, whose))
    }

    fn has_evidence(&self, pid: i32, leader: i32, known: &Known) -> bool {
        let is_in_group = || leader > 0 && getpgid(Some(Pid::from_raw(pid))) == Ok(Pid::from_raw(leader));
        let is_marked = || self.mark.as_ref().is_some_and(|name| carries(pid, name));
        is_in_group() || session(pid).is_some_and(|session| known.sessions.contains(&session)) || is_marked()
    }
}

/// The session of a process, if it is another than ours: the members of ours may be any that our parents have begun.
fn session(pid: i32) -> Option<Pid> {
    let session = getsid(Some(Pid::from_raw(pid))).ok()?;
    (Ok(session) != getsid(None) && session.as_raw() > 1).then_some(session)
}

fn is_there(pid: i32) -> bool {
    getpgid(Some(Pid::from_raw(pid))).is_ok()
}
