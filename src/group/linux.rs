//! What Linux can tell of a group: its members from `/proc`, their exits from pidfds.
//!
//! A group is gone when two walks through `/proc` in a row, the second begun after the first had ended, each saw at
//! least one member and none that can run, while no pid was handed out that may have been a member's; or when the
//! kernel says `ESRCH`. A walk is not atomic: a member can fork into the part already walked and die before the walk
//! reaches it. Two walks make that unlikely, and a chain that forks all the time makes it likely again; the pids handed
//! out meanwhile show it. On a machine that forks all the time there is always a new pid whose process has ended
//! already, and which may have been a member's. There, six walks without a living member decide too, if in none of them
//! a new pid was seen in the group.
//!
//! Between walks one live member is held by its pidfd: while it has not exited and is still in the group, the group is
//! not gone, and no walk is needed to know that. When it exits, the next known member is held; when none is left, the
//! table is walked again. So a kill costs a descriptor or two, however many members there are, and all kills together
//! never take more than half of what this process may open: beyond that they poll.
//!
//! A number is not given out while a member carries it. So where the leader was reaped and a process has the leader's
//! number, the group was gone before that process was started, and the process is a stranger. Where no pidfd tells
//! whether the leader was reaped, because descriptors are used up or the kernel has none, the start of the process with
//! that number does: it is noted at the beginning and compared before each signal. It is counted in clock ticks, of 10
//! ms as a rule, so a stranger that got the number within the tick in which the leader was started is not recognised;
//! and between the comparison and the signal there is an instant.

mod new_pids;
mod pidfd;
mod progress;
mod single_process;
mod spare_fd;
mod table;

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::unistd::{Pid, getpgid};

use self::new_pids::NewPids;
pub(super) use self::new_pids::{handed_out_between, handed_out_since, last_pid};
pub(super) use self::pidfd::Pidfd;
pub(super) use self::pidfd::open as open_pidfd;
use self::pidfd::{has_exited, is_reaped, reach_groups};
pub(super) use self::progress::progress;
pub(super) use self::single_process::{SingleProcess, kill_if};
pub(crate) use self::table::Kin;
#[cfg(fuzzing)]
pub use self::table::stat_line;
pub(super) use self::table::{
    available, command_of, is_dying, is_leaving, kin, members, members_where, runs, since_boot, started_at,
    this_thread, walk,
};
#[cfg(feature = "cli")]
pub(super) use self::table::{hides_processes, parent};
use super::raw;
use super::seen::Seen;

/// The watch that is kept on one group by `/proc` and pidfds.
#[derive(Debug)]
pub(super) struct ProcWatch {
    pgid: i32,
    /// The leader's pidfd, if there was a leader to open: it reaches the group even after the leader was reaped.
    leader: Option<Pidfd>,
    /// There was no leader to open: it had been reaped before.
    leaderless: bool,
    /// Without a pidfd: when the leader was started.
    started: Option<Duration>,
    /// Members that the last walk saw alive and that were not yet seen dead; the held member is not among them.
    known: Vec<i32>,
    held: Option<HeldMember>,
    /// This `/proc` does not show the group: only the kernel is asked.
    blind: bool,
}

/// The member by which a group is known to live.
#[derive(Debug)]
enum HeldMember {
    /// The leader, held by the pidfd that the watch has anyway.
    Leader,
    Member(i32, Pidfd),
    /// A member that no descriptor is left for: the process of this pid that was started at this time.
    Unheld(i32, Duration),
}

impl ProcWatch {
    pub(super) fn new(pgid: i32) -> ProcWatch {
        spare_fd::keep();
        // While anything carries the number as its pgid, no stranger can carry it as its pid.
        ProcWatch::over(pgid, pidfd::open(pgid))
    }

    /// Another watch on the same group, though its number may be a stranger's by now.
    pub(super) fn again(&self) -> ProcWatch {
        let Some(leader) = &self.leader else {
            let (leaderless, started) = (self.leaderless, self.started);
            return ProcWatch { leaderless, started, ..ProcWatch::unheld(self.pgid) };
        };
        match leader.again() {
            Ok(pidfd) => ProcWatch::over(self.pgid, Ok(pidfd)),
            Err(errno) => {
                let watch = ProcWatch::over(self.pgid, Err(errno));
                // The start that was just noted is the leader's only if the leader is still un-reaped after that.
                let leaderless = is_reaped(leader);
                ProcWatch { leaderless, started: watch.started.filter(|_| !leaderless), ..watch }
            }
        }
    }

    fn over(pgid: i32, leader: Result<Pidfd, Errno>) -> ProcWatch {
        match leader {
            Ok(leader) => ProcWatch { leader: Some(leader), ..ProcWatch::unheld(pgid) },
            Err(Errno::ESRCH) => ProcWatch { leaderless: true, ..ProcWatch::unheld(pgid) },
            Err(_) => {
                let started = started_at(pgid);
                ProcWatch { leaderless: started.is_none() && !is_there(pgid), started, ..ProcWatch::unheld(pgid) }
            }
        }
    }

    /// A watch without a hold on the leader.
    fn unheld(pgid: i32) -> ProcWatch {
        ProcWatch {
            pgid,
            leader: None,
            leaderless: false,
            started: None,
            // A live leader is as good a member to hold as any, and saves the first walk.
            known: vec![pgid],
            held: None,
            blind: false,
        }
    }

    /// Whether a stranger that gets the number could not be told from the group: the leader is there, and could be
    /// neither held nor read.
    pub(super) fn is_unidentified(&self) -> bool {
        self.leader.is_none() && !self.leaderless && self.started.is_none()
    }

    pub(super) fn signal(&self, signal: i32) -> Result<(), Errno> {
        match &self.leader {
            Some(leader) if reach_groups(leader) => return raw::pidfd_killpg(leader.as_fd(), signal),
            _ if self.is_a_strangers() => return Err(Errno::ESRCH),
            // By number, which is the group's for as long as its leader is un-reaped or a member is in the table.
            Some(leader) if is_reaped(leader) && !self.has_a_known_member() => return Err(Errno::ESRCH),
            None => self.check_start()?,
            _ => {}
        }
        raw::killpg(self.pgid, signal)
    }

    /// Without a pidfd: whether the number is the group's still.
    fn check_start(&self) -> Result<(), Errno> {
        if self.started.is_none() || started_at(self.pgid) == self.started {
            return Ok(());
        }
        match is_there(self.pgid) {
            // Its start cannot be read, and is not guessed.
            true => Err(Errno::EMFILE),
            false if self.has_a_known_member() => Ok(()),
            false => Err(Errno::ESRCH),
        }
    }

    /// Whether the number is a stranger's: the leader was reaped, and yet there is a process that has it.
    fn is_a_strangers(&self) -> bool {
        match (&self.leader, self.started) {
            (None, Some(started)) => started_at(self.pgid).is_some_and(|now| now != started),
            (leader, _) => leader.as_ref().map_or(self.leaderless, is_reaped) && is_there(self.pgid),
        }
    }

    /// Whether a member that was seen is still in the group, dead or not: the number is the group's for as long.
    fn has_a_known_member(&self) -> bool {
        let others = self.known.iter().filter(|pid| **pid != self.pgid);
        self.held_lives() || others.into_iter().any(|pid| is_member(*pid, self.pgid))
    }

    pub(super) fn held_fd(&self) -> Option<BorrowedFd<'_>> {
        match self.held.as_ref()? {
            HeldMember::Leader => self.leader.as_ref().map(Pidfd::as_fd),
            HeldMember::Member(_, pidfd) => Some(pidfd.as_fd()),
            HeldMember::Unheld(..) => None,
        }
    }

    /// The kernel's word that the group is empty, by the leader's pidfd, which cannot be mistaken for a stranger's.
    fn is_empty(&self) -> bool {
        let Some(leader) = &self.leader else { return false };
        reach_groups(leader) && raw::pidfd_killpg(leader.as_fd(), 0) == Err(Errno::ESRCH)
    }

    /// Whether the held member is dying and only waits for a CPU.
    pub(super) fn is_leaving(&self) -> bool {
        self.held_pid().is_some_and(is_leaving)
    }

    fn held_pid(&self) -> Option<i32> {
        match self.held.as_ref()? {
            HeldMember::Leader => Some(self.pgid),
            HeldMember::Member(pid, _) | HeldMember::Unheld(pid, _) => Some(*pid),
        }
    }

    /// Whether the held member is alive and still in the group; two system calls if it is held by a pidfd.
    fn held_lives(&self) -> bool {
        let Some(pid) = self.held_pid() else { return false };
        let lives = match self.held {
            Some(HeldMember::Unheld(_, started)) => runs(pid) && started_at(pid) == Some(started),
            _ => self.held_fd().is_some_and(|fd| !has_exited(fd)),
        };
        lives && is_member(pid, self.pgid)
    }

    /// Whether some member is known to be alive: the held one, or else the next known one, which is held then.
    fn holds_a_live_member(&mut self) -> bool {
        loop {
            if self.held_lives() {
                return true;
            }
            self.held = None;
            let Some(pid) = self.known.pop() else { return false };
            if pid == self.pgid && self.leader.is_some() {
                self.held = Some(HeldMember::Leader);
                continue;
            }
            match pidfd::open(pid) {
                // The pidfd comes before the question for the group, so a reused number is recognised.
                Ok(pidfd) => self.held = Some(HeldMember::Member(pid, pidfd)),
                Err(Errno::ESRCH) => {}
                // No descriptor is left. A member that cannot be read either is asked for by the next look.
                Err(_) => match started_at(pid) {
                    Some(started) => self.held = Some(HeldMember::Unheld(pid, started)),
                    None if is_member(pid, self.pgid) && runs(pid) => return true,
                    None => {}
                },
            }
        }
    }
}

/// How many walks one look may take; after that a group whose members change all the time is unclear.
const WALKS: usize = 6;

/// Looks at many groups at once; only those without a held member cost a walk, and they share it.
pub(super) fn look<K: Copy>(watches: &mut [(K, &mut ProcWatch)]) -> Vec<(K, Seen)> {
    let mut all_seen: Vec<Option<Seen>> = watches.iter_mut().map(|(_, watch)| watch.without_walk()).collect();
    if all_seen.contains(&None) {
        look_by_walks(watches, &mut all_seen);
    }
    watches.iter().zip(all_seen).map(|((key, _), seen)| (*key, seen.unwrap_or(Seen::Unclear))).collect()
}

/// Walks through the table until each group is seen alive or gone, or six times.
fn look_by_walks<K>(watches: &mut [(K, &mut ProcWatch)], all_seen: &mut [Option<Seen>]) {
    let mut series = vec![Walks::default(); watches.len()];
    let mut new_since = new_pids::last_pid();
    for _ in 0..WALKS {
        let open = watches.iter().zip(&*all_seen).filter(|(_, seen)| seen.is_none());
        let mut found: HashMap<i32, Vec<Found>> = open.map(|((_, watch), _)| (watch.pgid, Vec::new())).collect();
        if found.is_empty() {
            break;
        }
        let walked = walk(|pid, pgid| {
            if let Some(members) = found.get_mut(&pgid) {
                members.push(Found { pid, runs: runs(pid) })
            }
        });
        if walked.is_err() {
            // Out of descriptors or memory, say: this decides nothing, and the next look may do better.
            break;
        }
        let new = NewPids::since(new_since);
        for (((_, watch), seen), walks) in watches.iter_mut().zip(&mut *all_seen).zip(&mut series) {
            if seen.is_none() {
                *seen = watch.after_walk(&found[&watch.pgid], &new, walks);
            }
        }
        if is_between_series(&series) {
            new_since = new_pids::last_pid();
        }
    }
}

/// A member that a walk came upon.
struct Found {
    pid: i32,
    runs: bool,
}

/// What the walks of one look have shown of one group so far.
#[derive(Clone, Copy, Default)]
struct Walks {
    /// Walks in a row that saw members and none that can run, while no pid was handed out that may have been one's.
    dead: usize,
    /// Walks in a row that saw no member at all.
    unseen: usize,
    /// Walks that saw no live member and no new pid in the group, whatever other processes came and went.
    quiet: usize,
}

/// Whether no group is in the middle of its two walks: the next pair starts here.
fn is_between_series(series: &[Walks]) -> bool {
    series.iter().all(|walks| walks.dead != 1)
}

impl ProcWatch {
    /// What can be said of the group without a walk.
    fn without_walk(&mut self) -> Option<Seen> {
        if self.is_a_strangers() {
            return Some(Seen::Gone);
        }
        if self.blind {
            let gone = raw::killpg(self.pgid, 0) == Err(Errno::ESRCH);
            return Some(if gone { Seen::Gone } else { Seen::Alive });
        }
        if self.holds_a_live_member() {
            return Some(Seen::Alive);
        }
        self.is_empty().then_some(Seen::Gone)
    }

    /// What can be said of the group after a walk that found these members.
    fn after_walk(&mut self, members: &[Found], new: &NewPids, walks: &mut Walks) -> Option<Seen> {
        if self.is_a_strangers() {
            return Some(Seen::Gone);
        }
        if members.iter().any(|member| member.runs) {
            (walks.dead, walks.unseen) = (0, 0);
            self.known.extend(members.iter().filter(|member| member.runs).map(|member| member.pid));
            return self.holds_a_live_member().then_some(Seen::Alive);
        }
        if members.is_empty() {
            if raw::killpg(self.pgid, 0) == Err(Errno::ESRCH) {
                return Some(Seen::Gone);
            }
            (walks.dead, walks.unseen) = (0, walks.unseen + 1);
            // The kernel knows of members, and this `/proc` does not show them; or they start and end between walks.
            self.blind = walks.unseen >= 2 && !new.may_include(self.pgid);
            return self.blind.then_some(Seen::Alive);
        }
        walks.unseen = 0;
        walks.dead = if new.may_include(self.pgid) { 0 } else { walks.dead + 1 };
        walks.quiet += usize::from(!new.include(self.pgid));
        (walks.dead >= 2 || walks.quiet == WALKS).then_some(Seen::Gone)
    }
}

/// Whether a process has this number, a zombie too.
fn is_there(pid: i32) -> bool {
    getpgid(Some(Pid::from_raw(pid))).is_ok()
}

fn is_member(pid: i32, pgid: i32) -> bool {
    getpgid(Some(Pid::from_raw(pid))) == Ok(Pid::from_raw(pgid))
}

#[cfg(test)]
mod tests;
