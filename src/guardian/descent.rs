//! Notes which processes belong to a child by descent, whatever has become of its mark: by their parents while those
//! live, and by their sessions after that.
//!
//! A process whose environment cannot be read shows no mark (`ssh-agent`, `prctl(PR_SET_DUMPABLE, 0)`), nor does one
//! that has written its title over it (`nginx`, `postgres`). So while a child is guarded, the pids that the system has
//! handed out are looked at every now and then, and the processes that belong to a child are noted with their starts. A
//! session belongs to a child if the process that opened it does, which tells of processes that lost their parents
//! before a look.
//!
//! A process is noted, and not a number: a number that is handed out again is forgotten.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::group::kin::{self, Kin};
use crate::group::mark;

/// Between two looks at new processes, right after a child has started.
const SHORTEST_PAUSE: Duration = Duration::from_millis(1);

/// Between two looks at new processes while a child was seen to start some.
const BUSY_PAUSE: Duration = Duration::from_millis(10);

/// Between two looks at new processes when no child has started any for long.
const LONGEST_PAUSE: Duration = Duration::from_millis(100);

/// What a look reads of processes; a test has its own.
pub(super) trait ProcessTable {
    fn kin(&self, pid: i32) -> Option<Kin>;
    /// The child whose mark the process carries, as far as that can be read.
    fn marked(&self, pid: i32) -> Option<u64>;
    fn is_process(&self, pid: i32) -> bool;
}

/// The system's process table, and the marks of this name.
pub(super) struct ProcFs<'a>(pub(super) &'a str);

impl ProcessTable for ProcFs<'_> {
    fn kin(&self, pid: i32) -> Option<Kin> {
        kin::of(pid)
    }

    fn marked(&self, pid: i32) -> Option<u64> {
        mark::value(pid, self.0)?.parse().ok()
    }

    fn is_process(&self, pid: i32) -> bool {
        kin::is_process(pid)
    }
}

/// A process table of which no marks are read.
struct WithoutMarks<'a, T>(&'a T);

impl<T: ProcessTable> ProcessTable for WithoutMarks<'_, T> {
    fn kin(&self, pid: i32) -> Option<Kin> {
        self.0.kin(pid)
    }

    fn marked(&self, _pid: i32) -> Option<u64> {
        None
    }

    fn is_process(&self, pid: i32) -> bool {
        self.0.is_process(pid)
    }
}

/// A process that belongs to the child `id`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct KnownProcess {
    pub(super) id: u64,
    pub(super) started: u64,
}

#[derive(Debug)]
pub(super) struct Descent {
    /// By pid. Some of them have ended: their sessions may go on.
    known: HashMap<i32, KnownProcess>,
    /// How many may be known before those are forgotten that have ended and left no session.
    forget_above: usize,
    /// The last pid that was handed out before the last look; `None` while no child is guarded.
    last_pid: Option<i32>,
    /// New pids of the last look that belonged to no child. A pid is handed out before its process is in the table.
    unsettled: Vec<i32>,
    next_look: Instant,
    pause: Duration,
}

/// How many new pids are looked at a second time, and how many ended processes are remembered, at most.
const REMEMBERED: usize = 1024;

impl Descent {
    pub(super) fn new() -> Descent {
        Descent {
            known: HashMap::new(),
            forget_above: REMEMBERED,
            last_pid: None,
            unsettled: Vec::new(),
            next_look: Instant::now(),
            pause: SHORTEST_PAUSE,
        }
    }

    pub(super) fn known(&self) -> impl Iterator<Item = (i32, KnownProcess)> {
        self.known.iter().map(|(pid, known)| (*pid, *known))
    }

    pub(super) fn knows(&self, pid: i32, kin: &Kin) -> bool {
        self.known.get(&pid).is_some_and(|known| known.started == kin.started)
    }

    /// When the next look at new processes is due.
    pub(super) fn next_look(&self) -> Instant {
        self.next_look
    }

    /// Begins to look at new processes: a child is announced, and not started yet.
    pub(super) fn begin(&mut self) {
        if self.last_pid.is_none() {
            self.last_pid = kin::last_born();
            (self.pause, self.next_look) = (SHORTEST_PAUSE, Instant::now() + SHORTEST_PAUSE);
        }
    }

    /// Notes the leader of a child's group, which is held, so that its number is still its own. All that descend from
    /// it were born after it.
    pub(super) fn has_leader(&mut self, pid: i32, id: u64, table: &impl ProcessTable) {
        let Some(kin) = table.kin(pid) else { return };
        self.known.insert(pid, KnownProcess { id, started: kin.started });
        let later = kin::last_born().map(|last| kin::born_between(pid, last));
        if let Some(born) = later {
            self.note(born.unwrap_or_else(kin::all), table);
        }
        (self.pause, self.next_look) = (SHORTEST_PAUSE, Instant::now() + SHORTEST_PAUSE);
    }

    /// Looks at the processes born since the last look.
    pub(super) fn look(&mut self, table: &impl ProcessTable) {
        let start = Instant::now();
        let found = self.catch_up(table);
        self.pause = (self.pause * 2).min(if found { BUSY_PAUSE } else { LONGEST_PAUSE });
        // However many are born, looking at them takes a twentieth of the time at most.
        self.next_look = Instant::now() + self.pause.max(start.elapsed() * 20);
    }

    /// Looks at every process there is, by parent and session alone: the caller has read their marks.
    pub(super) fn look_at_all(&mut self, table: &impl ProcessTable) {
        self.catch_up(table);
        self.settle_all(&mut kin::all(), &WithoutMarks(table));
    }

    /// Notes a process that was seen to carry a mark. The mark is read again between two reads of the start, since the
    /// number may have become another process's.
    pub(super) fn has_marked(&mut self, pid: i32, id: u64, table: &impl ProcessTable) {
        let Some(kin) = table.kin(pid).filter(|kin| !self.knows(pid, kin)) else { return };
        if table.marked(pid) == Some(id) && table.kin(pid).is_some_and(|again| again.started == kin.started) {
            self.known.insert(pid, KnownProcess { id, started: kin.started });
        }
    }

    fn catch_up(&mut self, table: &impl ProcessTable) -> bool {
        match kin::born_since(&mut self.last_pid) {
            Some(born) => {
                self.forget_reused(&born, table);
                self.note(born, table)
            }
            // Too many were born to be listed: the number of each process that has ended may be another's by now.
            None => {
                self.known.retain(|pid, known| table.kin(*pid).is_some_and(|kin| kin.started == known.started));
                self.note(kin::all(), table)
            }
        }
    }

    /// Forgets numbers that were handed out since, unless their processes are still the known ones.
    fn forget_reused(&mut self, born: &[i32], table: &impl ProcessTable) {
        for pid in born {
            if let Some(known) = self.known.get(pid) {
                if table.kin(*pid).is_none_or(|kin| kin.started != known.started) {
                    self.known.remove(pid);
                }
            }
        }
    }

    /// Notes those of the new processes that belong to a child; returns whether there were some.
    fn note(&mut self, born: Vec<i32>, table: &impl ProcessTable) -> bool {
        let mut open = std::mem::take(&mut self.unsettled);
        open.extend(&born);
        let found = self.settle_all(&mut open, table);
        open.retain(|pid| born.contains(pid));
        open.truncate(REMEMBERED);
        self.unsettled = open;
        self.forget_spent(table);
        found
    }

    /// Takes out the pids of which nothing more is to be found out. Repeats that until it finds no new process, since a
    /// child can have a smaller pid than its parent. Returns whether some belong to a child.
    fn settle_all(&mut self, open: &mut Vec<i32>, table: &impl ProcessTable) -> bool {
        let before = self.known.len();
        loop {
            let known = self.known.len();
            open.retain(|pid| !self.settle(*pid, table));
            if self.known.len() == known {
                return known > before;
            }
        }
    }

    /// Returns whether nothing more is to be found out about a pid.
    fn settle(&mut self, pid: i32, table: &impl ProcessTable) -> bool {
        let Some(kin) = table.kin(pid) else { return false };
        if kin.is_of_kernel || self.knows(pid, &kin) {
            return true;
        }
        let Some(id) = self.child_of(pid, &kin, table) else { return false };
        // The number may have become another's while the mark was read. A thread shows the kin of its process.
        let is_it = table.kin(pid).is_some_and(|again| again.started == kin.started) && table.is_process(pid);
        if is_it {
            self.known.insert(pid, KnownProcess { id, started: kin.started });
        }
        is_it
    }

    /// The child that a process belongs to: by its parent, its session or its mark.
    fn child_of(&self, pid: i32, kin: &Kin, table: &impl ProcessTable) -> Option<u64> {
        let parent = self.known.get(&kin.parent).filter(|parent| {
            // The number was the known process's for as long as it was this one's parent.
            parent.started <= kin.started && table.kin(kin.parent).is_some_and(|is| is.started == parent.started)
        });
        let opener = self.known.get(&kin.session).filter(|opener| {
            // A number is not handed out while a session has it, and one that was handed out after that is forgotten.
            kin.session != pid
                && opener.started <= kin.started
                && table.kin(kin.session).is_none_or(|is| is.started == opener.started)
        });
        parent.or(opener).map(|known| known.id).or_else(|| table.marked(pid))
    }

    /// Forgets the processes that have ended, but for those whose sessions go on, once there are many.
    fn forget_spent(&mut self, table: &impl ProcessTable) {
        if self.known.len() <= self.forget_above {
            return;
        }
        let sessions: Vec<i32> = kin::all().into_iter().filter_map(|pid| Some(table.kin(pid)?.session)).collect();
        self.known
            .retain(|pid, known| table.kin(*pid).map_or(sessions.contains(pid), |kin| kin.started == known.started));
        self.forget_above = REMEMBERED.max(self.known.len() * 2);
    }

    /// Forgets the processes of children that are guarded no more.
    pub(super) fn retain(&mut self, is_guarded: impl Fn(u64) -> bool) {
        self.known.retain(|_, known| is_guarded(known.id));
    }

    /// Stops looking: no child is guarded.
    pub(super) fn rest(&mut self) {
        self.known.clear();
        self.unsettled.clear();
        self.last_pid = None;
    }
}

#[cfg(test)]
mod tests;
