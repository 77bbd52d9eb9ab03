//! What Linux can tell of a group: its members from `/proc`, their exits from pidfds.
//!
//! A group is gone when two walks through `/proc` in a row, the second begun after the first had ended, each saw at
//! least one member and none that can run, while no pid was handed out that may have been a member's; or when the kernel
//! says `ESRCH`. A walk is not atomic: a member can fork into the part already walked and die before the walk reaches it.
//! Two walks make that unlikely, and a chain that forks all the time makes it likely again; the pids handed out tell. On
//! a machine that forks all the time there is always one that vanished and may have been anybody's: there, six walks in
//! vain decide too, if in none of them a newborn was seen in the group.
//!
//! Between walks one live member, the *witness*, is held by its pidfd: while it has not exited and is still in the
//! group, the group is not gone, and no walk is needed to know that. When it exits, the next known member takes over;
//! when none is left, the table is walked again. So a kill costs a descriptor or two, however many members there are,
//! and all kills together never take more than half of what this process may open: beyond that they poll.
//!
//! A number is not given out while a member carries it. So where the leader was reaped and a process has the leader's
//! number, the group was gone before that process was born, and it is a stranger.

mod births;
mod pidfd;
mod reserve;
mod stray;
mod table;

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::unistd::{Pid, getpgid};

use self::births::Born;
pub(super) use self::pidfd::Pidfd;
pub(super) use self::pidfd::open as open_pidfd;
use self::pidfd::{has_exited, is_reaped, reach_groups};
pub(super) use self::stray::{Stray, kill_if};
#[cfg(fuzzing)]
pub use self::table::stat_line;
pub(super) use self::table::{
    available, is_dying, is_leaving, members, members_where, runs, since_boot, started_at, walk,
};
#[cfg(feature = "cli")]
pub(super) use self::table::{command_of, parent};
use super::raw;

/// What a look at one group said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    Alive,
    Gone,
}

/// The watch kept on one group.
#[derive(Debug)]
pub(super) struct Watch {
    pgid: i32,
    /// The leader's pidfd, if there was a leader to open: it reaches the group even after the leader was reaped.
    leader: Option<Pidfd>,
    /// There was none: it had been reaped before.
    leaderless: bool,
    /// Seen alive by the last walk and not yet seen dead; excludes the witness.
    known: Vec<i32>,
    witness: Option<Witness>,
    /// This `/proc` does not show the group: only the kernel is asked.
    blind: bool,
    /// The last look could not tell, and the next is worth having soon.
    undecided: bool,
}

#[derive(Debug)]
enum Witness {
    /// Held by the pidfd that is there anyway.
    Leader,
    Member(i32, Pidfd),
}

impl Watch {
    pub(super) fn new(pgid: i32) -> Watch {
        reserve::keep();
        // While anything carries the number as its pgid, no stranger can carry it as its pid.
        Watch::over(pgid, pidfd::open(pgid))
    }

    /// The same group, though its number may be a stranger's by now.
    pub(super) fn again(&self) -> Watch {
        match &self.leader {
            Some(leader) => Watch::over(self.pgid, leader.again()),
            None => Watch::over(self.pgid, Err(if self.leaderless { Errno::ESRCH } else { Errno::EMFILE })),
        }
    }

    fn over(pgid: i32, leader: Result<Pidfd, Errno>) -> Watch {
        Watch {
            pgid,
            leaderless: matches!(leader, Err(Errno::ESRCH)),
            leader: leader.ok(),
            // A leader that is alive is a witness as good as any, and saves the first walk.
            known: vec![pgid],
            witness: None,
            blind: false,
            undecided: false,
        }
    }

    pub(super) fn signal(&self, signal: i32) -> Result<(), Errno> {
        match &self.leader {
            Some(leader) if reach_groups(leader) => raw::pidfd_killpg(leader.as_fd(), signal),
            _ if self.is_a_strangers() => Err(Errno::ESRCH),
            // By number, which is the group's for as long as its leader is un-reaped or a member is alive.
            Some(leader) if is_reaped(leader) && !self.witness_lives() => Err(Errno::ESRCH),
            _ => raw::killpg(self.pgid, signal),
        }
    }

    /// Whether the number has been given out anew: its leader was reaped, and yet there is a process that has it.
    fn is_a_strangers(&self) -> bool {
        self.leader.as_ref().map_or(self.leaderless, is_reaped) && getpgid(Some(Pid::from_raw(self.pgid))).is_ok()
    }

    /// Whether the next look is worth having before the poll interval is over.
    pub(super) fn is_undecided(&self) -> bool {
        self.undecided
    }

    pub(super) fn witness_fd(&self) -> Option<BorrowedFd<'_>> {
        match self.witness.as_ref()? {
            Witness::Leader => self.leader.as_ref().map(Pidfd::as_fd),
            Witness::Member(_, pidfd) => Some(pidfd.as_fd()),
        }
    }

    /// The kernel's word that the group is empty, by the leader's pidfd, which cannot be mistaken for a stranger's.
    fn is_empty(&self) -> bool {
        let Some(leader) = &self.leader else { return false };
        reach_groups(leader) && raw::pidfd_killpg(leader.as_fd(), 0) == Err(Errno::ESRCH)
    }

    /// The one who was seen alive is on its way out; or nobody was, and it could not be told.
    pub(super) fn may_be_leaving(&self) -> bool {
        self.witness_pid().map_or(self.undecided, is_leaving)
    }

    fn witness_pid(&self) -> Option<i32> {
        match self.witness.as_ref()? {
            Witness::Leader => Some(self.pgid),
            Witness::Member(pid, _) => Some(*pid),
        }
    }

    /// Whether the witness is alive and still in the group, at the price of two system calls.
    fn witness_lives(&self) -> bool {
        let Some(pid) = self.witness_pid() else { return false };
        self.witness_fd().is_some_and(|fd| !has_exited(fd)) && is_member(pid, self.pgid)
    }

    /// Whether some member is known to be alive.
    fn has_witness(&mut self) -> bool {
        loop {
            if self.witness_lives() {
                return true;
            }
            self.witness = None;
            let Some(pid) = self.known.pop() else { return false };
            if pid == self.pgid && self.leader.is_some() {
                self.witness = Some(Witness::Leader);
                continue;
            }
            match pidfd::open(pid) {
                // The pidfd came first, so a number that was reused meanwhile is told by its group.
                Ok(pidfd) => self.witness = Some(Witness::Member(pid, pidfd)),
                Err(Errno::ESRCH) => {}
                // No descriptor to be had: is it still alive? The next look walks again.
                Err(_) => {
                    self.known.clear();
                    return is_member(pid, self.pgid) && runs(pid);
                }
            }
        }
    }
}

/// How many walks one look may take before a group whose members change all the time is just called alive.
const WALKS: usize = 6;

/// Looks at many groups at once; only those without a witness cost a walk, and they share it.
pub(super) fn look<K: Copy>(watches: &mut [(K, &mut Watch)]) -> Vec<(K, Sight)> {
    let mut sights: Vec<Option<Sight>> = watches.iter_mut().map(|(_, watch)| watch.glance()).collect();
    let mut rows = vec![Row::default(); watches.len()];
    let mut born_since = births::last_pid();
    for _ in 0..WALKS {
        let open = watches.iter().zip(&sights).filter(|(_, sight)| sight.is_none());
        let mut seen: HashMap<i32, Vec<Seen>> = open.map(|((_, watch), _)| (watch.pgid, Vec::new())).collect();
        if seen.is_empty() {
            break;
        }
        let walked = walk(|pid, pgid| {
            if let Some(members) = seen.get_mut(&pgid) {
                members.push(Seen { pid, runs: runs(pid) })
            }
        });
        if walked.is_err() {
            // Out of descriptors or memory, say: it decides nothing, and the next look may do better.
            break;
        }
        let born = Born::since(born_since);
        for (((_, watch), sight), row) in watches.iter_mut().zip(&mut sights).zip(&mut rows) {
            if sight.is_none() {
                *sight = watch.weigh(&seen[&watch.pgid], &born, row);
            }
        }
        if are_between_rows(&rows) {
            born_since = births::last_pid();
        }
    }
    let mut all = Vec::with_capacity(watches.len());
    for ((key, watch), sight) in watches.iter_mut().zip(sights) {
        watch.undecided = sight.is_none();
        all.push((*key, sight.unwrap_or(Sight::Alive)));
    }
    all
}

/// A member that a walk came upon.
struct Seen {
    pid: i32,
    runs: bool,
}

/// What the walks of one look have shown of one group so far.
#[derive(Clone, Copy, Default)]
struct Row {
    /// Walks in a row that saw members and none that can run, with nobody born who may have been one.
    dead: usize,
    /// Walks in a row that saw no member at all.
    unseen: usize,
    /// Walks that saw nobody alive and nobody born in the group, whoever else came and went meanwhile.
    quiet: usize,
}

/// Nobody is in the middle of a row: the next one starts here.
fn are_between_rows(rows: &[Row]) -> bool {
    rows.iter().all(|row| row.dead != 1)
}

impl Watch {
    /// What can be said without a walk.
    fn glance(&mut self) -> Option<Sight> {
        if self.is_a_strangers() {
            return Some(Sight::Gone);
        }
        if self.blind {
            let gone = raw::killpg(self.pgid, 0) == Err(Errno::ESRCH);
            return Some(if gone { Sight::Gone } else { Sight::Alive });
        }
        if self.has_witness() {
            return Some(Sight::Alive);
        }
        self.is_empty().then_some(Sight::Gone)
    }

    /// What can be said after a walk that came upon these members.
    fn weigh(&mut self, members: &[Seen], born: &Born, row: &mut Row) -> Option<Sight> {
        if self.is_a_strangers() {
            return Some(Sight::Gone);
        }
        if members.iter().any(|member| member.runs) {
            (row.dead, row.unseen) = (0, 0);
            self.known.extend(members.iter().filter(|member| member.runs).map(|member| member.pid));
            return self.has_witness().then_some(Sight::Alive);
        }
        if members.is_empty() {
            if raw::killpg(self.pgid, 0) == Err(Errno::ESRCH) {
                return Some(Sight::Gone);
            }
            (row.dead, row.unseen) = (0, row.unseen + 1);
            // The kernel knows of members, and this `/proc` does not show them.
            self.blind = row.unseen == 2;
            return self.blind.then_some(Sight::Alive);
        }
        row.unseen = 0;
        row.dead = if born.may_be_in(self.pgid) { 0 } else { row.dead + 1 };
        row.quiet += usize::from(!born.is_seen_in(self.pgid));
        (row.dead >= 2 || row.quiet == WALKS).then_some(Sight::Gone)
    }
}

fn is_member(pid: i32, pgid: i32) -> bool {
    getpgid(Some(Pid::from_raw(pid))) == Ok(Pid::from_raw(pgid))
}
