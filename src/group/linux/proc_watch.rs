//! The watch that is kept on one group: which processes it is, and which members are known to live.
//!
//! A number is not given out while a member carries it. So where the leader was reaped and a process has the leader's
//! number, the group was gone before that process was started, and the process is a stranger. Where no pidfd tells
//! whether the leader was reaped, because descriptors are used up or the kernel has none, the start of the process with
//! that number does: it is noted at the beginning and compared before each signal. It is counted in clock ticks, of 10
//! ms as a rule, so a stranger that got the number within the tick in which the leader was started is not recognised;
//! and between the comparison and the signal there is an instant.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::unistd::{Pid, getpgid};

use super::super::raw;
use super::super::seen::Seen;
use super::new_pids::NewPids;
use super::pidfd::{self, Pidfd, has_exited, is_reaped, reach_groups};
use super::spare_fd;
use super::table::{is_leaving, runs, started_at};

/// The watch that is kept on one group by `/proc` and pidfds.
#[derive(Debug)]
pub(in crate::group) struct ProcWatch {
    pub(super) pgid: i32,
    /// The leader's pidfd, if there was a leader to open: it reaches the group even after the leader was reaped.
    leader: Option<Pidfd>,
    /// There was no leader to open: it had been reaped before.
    leaderless: bool,
    /// Without a pidfd: when the leader was started.
    started: Option<Duration>,
    /// Members that were found alive and have not been seen to exit; the last is the one that is waited for.
    held: Vec<HeldMember>,
    /// The same, but not held yet.
    known: Vec<i32>,
    /// The last walk whose living members are all held, or were.
    covering: Option<Covering>,
    /// A signal was sent: the next look walks, although a member is known to live.
    walk_is_due: bool,
    /// This `/proc` does not show the group: only the kernel is asked.
    blind: bool,
    reaping: Reaping,
}

/// Whether the owner of the leader reaps it as soon as it exits. Then the kernel soon says that the group is empty, and
/// no walk is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reaping {
    Later,
    AtOnce,
    /// No member has been known to live since then.
    Since(Instant),
}

/// How long the dead members of a group may take to be reaped, by their parents or by init, before the table is walked.
const REAPED_WITHIN: Duration = Duration::from_millis(3);

/// A walk that covers what follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Covering {
    /// The number handed out last before it; `None` where the system does not say.
    pub(super) since: Option<i32>,
}

#[derive(Debug)]
enum HeldMember {
    /// The leader, held by the pidfd that the watch has anyway.
    Leader,
    Member(i32, Pidfd),
    /// A member that no descriptor is left for: the process of this pid that was started at this time.
    Unheld(i32, Duration),
}

impl ProcWatch {
    pub(in crate::group) fn new(pgid: i32) -> ProcWatch {
        spare_fd::keep();
        // While anything carries the number as its pgid, no stranger can carry it as its pid.
        ProcWatch::over(pgid, pidfd::open(pgid))
    }

    /// Another watch on the same group, though its number may be a stranger's by now.
    pub(in crate::group) fn again(&self) -> ProcWatch {
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
            // A leader that is alive is a member as good as any, and saves a walk.
            held: Vec::new(),
            known: vec![pgid],
            covering: None,
            walk_is_due: false,
            blind: false,
            reaping: Reaping::Later,
        }
    }

    /// Whether a stranger that gets the number could not be told from the group: the leader is there, and could be
    /// neither held nor read.
    pub(in crate::group) fn is_unidentified(&self) -> bool {
        self.leader.is_none() && !self.leaderless && self.started.is_none()
    }

    pub(in crate::group) fn signal(&self, signal: i32) -> Result<(), Errno> {
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

    /// A descriptor of the member that is waited for.
    pub(in crate::group) fn held_fd(&self) -> Option<BorrowedFd<'_>> {
        self.fd_of(self.held.last()?)
    }

    fn fd_of<'a>(&'a self, member: &'a HeldMember) -> Option<BorrowedFd<'a>> {
        match member {
            HeldMember::Leader => self.leader.as_ref().map(Pidfd::as_fd),
            HeldMember::Member(_, pidfd) => Some(pidfd.as_fd()),
            HeldMember::Unheld(..) => None,
        }
    }

    /// Takes note that the leader will be reaped as soon as it exits, if the kernel lets the group be signalled
    /// nevertheless, and asked whether it is empty. Whether it does.
    pub(in crate::group) fn expect_leader_reaped(&mut self) -> bool {
        let can = self.leader.as_ref().is_some_and(reach_groups);
        if can {
            self.reaping = Reaping::AtOnce;
        }
        can
    }

    /// Has the next look walk, while the group may be dying of a signal: that walk covers what follows.
    pub(in crate::group) fn walk_while_it_dies(&mut self) {
        self.walk_is_due = true;
    }

    /// The kernel's word that the group is empty, by the leader's pidfd, which cannot be mistaken for a stranger's.
    fn is_empty(&self) -> bool {
        let Some(leader) = &self.leader else { return false };
        reach_groups(leader) && raw::pidfd_killpg(leader.as_fd(), 0) == Err(Errno::ESRCH)
    }

    /// Whether the held member is dying and only waits for a CPU.
    pub(in crate::group) fn is_leaving(&self) -> bool {
        self.held_pid().is_some_and(is_leaving)
    }

    fn held_pid(&self) -> Option<i32> {
        self.held.last().map(|member| self.pid_of(member))
    }

    fn pid_of(&self, member: &HeldMember) -> i32 {
        match member {
            HeldMember::Leader => self.pgid,
            HeldMember::Member(pid, _) | HeldMember::Unheld(pid, _) => *pid,
        }
    }

    /// Whether the member that is waited for is alive and still in the group, at the price of two system calls if it
    /// is held.
    fn held_lives(&self) -> bool {
        let Some(member) = self.held.last() else { return false };
        let pid = self.pid_of(member);
        let lives = match member {
            HeldMember::Unheld(_, started) => runs(pid) && started_at(pid) == Some(*started),
            member => self.fd_of(member).is_some_and(|fd| !has_exited(fd)),
        };
        lives && is_member(pid, self.pgid)
    }

    /// Whether some member is known to be alive: the held one, or else the next known one, which is held then.
    pub(super) fn holds_a_live_member(&mut self) -> bool {
        loop {
            if self.held_lives() {
                return true;
            }
            if self.held.pop().is_some() {
                continue;
            }
            let Some(pid) = self.known.pop() else { return false };
            match self.hold(pid) {
                Held::Yes | Held::Dead => {}
                // No descriptor to be had. One that cannot be read either is asked again by the next look.
                Held::No => match started_at(pid) {
                    Some(started) => self.held.push(HeldMember::Unheld(pid, started)),
                    None if is_member(pid, self.pgid) && runs(pid) => return true,
                    None => {}
                },
            }
        }
    }

    /// Holds a process that was seen in the group, to be asked then whether it lives and is in the group: a number that
    /// was reused meanwhile is told by its group.
    fn hold(&mut self, pid: i32) -> Held {
        if let Some(leader) = self.leader.as_ref().filter(|_| pid == self.pgid) {
            if has_exited(leader.as_fd()) {
                return Held::Dead;
            }
            self.held.push(HeldMember::Leader);
            return Held::Yes;
        }
        match pidfd::open(pid) {
            Ok(pidfd) if has_exited(pidfd.as_fd()) => Held::Dead,
            Ok(pidfd) => {
                self.held.push(HeldMember::Member(pid, pidfd));
                Held::Yes
            }
            Err(Errno::ESRCH) => Held::Dead,
            Err(_) => Held::No,
        }
    }
}

/// What became of the attempt to hold a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Held {
    Yes,
    /// It has exited.
    Dead,
    /// There is no descriptor to be had.
    No,
}

/// How many members of one group are held at most: the others leave room for other kills.
const MOST_HELD: usize = 256;

/// What a walk showed of one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shown {
    /// No member, dead or alive.
    Nothing,
    /// Dead members alone. `second`: every member that was held had exited before the walk began.
    Dead { second: bool },
    /// A member that can run.
    Alive,
}

impl ProcWatch {
    /// What can be said of the group without a walk.
    pub(super) fn without_walk(&mut self) -> Option<Seen> {
        let walk_is_due = std::mem::take(&mut self.walk_is_due) && self.reaping == Reaping::Later;
        if self.is_a_strangers() {
            return Some(Seen::Gone);
        }
        if self.blind {
            let gone = raw::killpg(self.pgid, 0) == Err(Errno::ESRCH);
            return Some(if gone { Seen::Gone } else { Seen::Alive });
        }
        if self.holds_a_live_member() {
            if matches!(self.reaping, Reaping::Since(_)) {
                self.reaping = Reaping::AtOnce;
            }
            return (!walk_is_due).then_some(Seen::Alive);
        }
        if self.is_empty() {
            return Some(Seen::Gone);
        }
        self.is_being_reaped().then_some(Seen::Emptying)
    }

    fn is_being_reaped(&mut self) -> bool {
        let since = match self.reaping {
            Reaping::Later => return false,
            Reaping::AtOnce => Instant::now(),
            Reaping::Since(since) => since,
        };
        self.reaping = Reaping::Since(since);
        since.elapsed() < REAPED_WITHIN
    }

    /// Holds the members that live, of those that a walk came upon, and tells what it showed.
    pub(super) fn take_up_walk(&mut self, members: &[i32]) -> Shown {
        let second = self.held.is_empty() && self.known.is_empty();
        match self.take_up(members) {
            true => Shown::Alive,
            false if members.is_empty() => Shown::Nothing,
            false => Shown::Dead { second },
        }
    }

    /// What can be said of the group after a walk. `unseen` counts the walks in a row that came upon no member.
    pub(super) fn after_walk(
        &mut self,
        walk: Covering,
        shown: Shown,
        new: &mut NewPids,
        unseen: &mut usize,
    ) -> Option<Seen> {
        if self.is_a_strangers() {
            return Some(Seen::Gone);
        }
        if shown == Shown::Nothing {
            if raw::killpg(self.pgid, 0) == Err(Errno::ESRCH) {
                return Some(Seen::Gone);
            }
            *unseen += 1;
            self.covering = None;
            // The kernel knows of members, and this `/proc` does not show them; or they start and end between walks.
            self.blind = *unseen >= 2 && new.members(walk.since, self.pgid).is_some_and(|born| born.is_empty());
            return self.blind.then_some(Seen::Alive);
        }
        *unseen = 0;
        if let (Shown::Dead { second: true }, Some(covering)) = (shown, self.covering) {
            let born = new.members(covering.since, self.pgid);
            if born.as_ref().is_some_and(Vec::is_empty) {
                return Some(Seen::Gone);
            }
            self.take_up(&born.unwrap_or_default());
        }
        self.covering = self.known.is_empty().then_some(walk);
        self.holds_a_live_member().then_some(Seen::Alive)
    }

    /// Holds those of the group's members that live, as many as can be held; the others are known. Whether any lives.
    fn take_up(&mut self, members: &[i32]) -> bool {
        let mut lives = false;
        for pid in members.iter().copied() {
            if self.held.iter().any(|member| self.pid_of(member) == pid) {
                lives = true;
                continue;
            }
            let held = if self.held.len() < MOST_HELD { self.hold(pid) } else { Held::No };
            if held == Held::No && runs(pid) {
                self.known.push(pid);
            }
            lives |= held == Held::Yes || self.known.last() == Some(&pid);
        }
        lives
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
