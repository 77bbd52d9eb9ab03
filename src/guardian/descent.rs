//! Who is of a run by descent, whatever has become of the mark: told by their parent while that lives, and by their session
//! after that.
//!
//! A process whose environment cannot be read has no mark to be seen (`ssh-agent`, `prctl(PR_SET_DUMPABLE, 0)`), nor has
//! one that has written its title over it (`nginx`, `postgres`). So what is born while a ward is guarded is looked at every
//! now and then, by the numbers that the system has handed out meanwhile, and those of a run are noted down with their
//! start. A session is of the run if the process that opened it is, so it tells of those that lost their parents before a look.
//!
//! What is noted down is a process and not a number. A number that is handed out again is forgotten.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::group::kin::{self, Kin};
use crate::group::mark;

/// Between two looks at who was born, right after a run has begun.
const SHORTEST: Duration = Duration::from_millis(1);

/// The same when it was seen to start something.
const SHORT: Duration = Duration::from_millis(10);

/// The same when nothing of a run has been born for long.
const LONGEST: Duration = Duration::from_millis(100);

/// What a look goes by.
pub(super) trait Table {
    fn kin(&self, pid: i32) -> Option<Kin>;
    /// The ward whose mark it carries, as far as that can be read.
    fn marked(&self, pid: i32) -> Option<u64>;
    fn is_process(&self, pid: i32) -> bool;
}

/// The process table, and the marks of this name.
pub(super) struct Marked<'a>(pub(super) &'a str);

impl Table for Marked<'_> {
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

/// The same table, where no marks are read.
struct Unmarked<'a, T>(&'a T);

impl<T: Table> Table for Unmarked<'_, T> {
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

/// One of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) ward: u64,
    pub(super) started: u64,
}

#[derive(Debug)]
pub(super) struct Descent {
    /// Those of runs, some of which have ended: their sessions may have not.
    known: HashMap<i32, Known>,
    /// How many may be known before those are forgotten that left nothing behind.
    enough: usize,
    /// Up to which number those are looked at who were born.
    until: Option<i32>,
    /// Those of the last look that were of no run, and may have been on their way to their place in the table.
    unsettled: Vec<i32>,
    next: Instant,
    pause: Duration,
}

impl Descent {
    pub(super) fn new() -> Descent {
        let next = Instant::now();
        Descent { known: HashMap::new(), enough: 1024, until: None, unsettled: Vec::new(), next, pause: SHORTEST }
    }

    pub(super) fn known(&self) -> impl Iterator<Item = (i32, Known)> {
        self.known.iter().map(|(pid, known)| (*pid, *known))
    }

    pub(super) fn knows(&self, pid: i32, kin: &Kin) -> bool {
        self.known.get(&pid).is_some_and(|known| known.started == kin.started)
    }

    /// When the next look at who was born is due.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    /// The leader of a ward's group, which is still its own number's. Whatever descends from it was born after it.
    pub(super) fn has_leader(&mut self, pid: i32, ward: u64, table: &impl Table) {
        let Some(kin) = table.kin(pid) else { return };
        self.known.insert(pid, Known { ward, started: kin.started });
        let earlier = kin::last_born().map(|last| kin::born_between(pid, last));
        if let Some(born) = earlier {
            self.note(born.unwrap_or_else(kin::all), table);
        }
        (self.pause, self.next) = (SHORTEST, Instant::now() + SHORTEST);
    }

    /// Looks at those who were born since the last look, and says when the next one is due.
    pub(super) fn look(&mut self, table: &impl Table) {
        let start = Instant::now();
        let found = self.catch_up(table);
        self.pause = (self.pause * 2).min(if found { SHORT } else { LONGEST });
        // A twentieth of the time at most, however many are born.
        self.next = Instant::now() + self.pause.max(start.elapsed() * 20);
    }

    /// Looks at every process there is, by parent and session alone: their marks are read by another.
    pub(super) fn look_at_all(&mut self, table: &impl Table) {
        self.catch_up(table);
        self.settle_all(&mut kin::all(), &Unmarked(table));
    }

    /// One that carries a mark. Asked again once it is held to its start: the number may have gone to another meanwhile.
    pub(super) fn has_marked(&mut self, pid: i32, ward: u64, table: &impl Table) {
        let Some(kin) = table.kin(pid).filter(|kin| !self.knows(pid, kin)) else { return };
        if table.marked(pid) == Some(ward) && table.kin(pid).is_some_and(|again| again.started == kin.started) {
            self.known.insert(pid, Known { ward, started: kin.started });
        }
    }

    fn catch_up(&mut self, table: &impl Table) -> bool {
        match kin::born_since(&mut self.until) {
            Some(born) => {
                self.forget_reborn(&born, table);
                self.note(born, table)
            }
            // Any of those that have ended may have given its number to another.
            None => {
                self.known.retain(|pid, known| table.kin(*pid).is_some_and(|kin| kin.started == known.started));
                self.note(kin::all(), table)
            }
        }
    }

    /// A number that was handed out is another's, unless its process is the one that is known.
    fn forget_reborn(&mut self, born: &[i32], table: &impl Table) {
        for pid in born {
            if let Some(known) = self.known.get(pid) {
                if table.kin(*pid).is_none_or(|kin| kin.started != known.started) {
                    self.known.remove(pid);
                }
            }
        }
    }

    /// Tells whether any of these are of a run, and were not known.
    fn note(&mut self, born: Vec<i32>, table: &impl Table) -> bool {
        let mut open = std::mem::take(&mut self.unsettled);
        open.extend(&born);
        let found = self.settle_all(&mut open, table);
        // A number is handed out before its process is in the table.
        open.retain(|pid| born.contains(pid));
        open.truncate(1024);
        self.unsettled = open;
        self.forget_spent(table);
        found
    }

    /// Takes out those of which nothing more is to be found out; until that finds none any more, since a child can have a
    /// smaller number than its parent. Tells whether there were some of a run.
    fn settle_all(&mut self, open: &mut Vec<i32>, table: &impl Table) -> bool {
        let before = self.known.len();
        loop {
            let known = self.known.len();
            open.retain(|pid| !self.settle(*pid, table));
            if self.known.len() == known {
                return known > before;
            }
        }
    }

    /// Whether nothing more is to be found out of it.
    fn settle(&mut self, pid: i32, table: &impl Table) -> bool {
        let Some(kin) = table.kin(pid) else { return false };
        if kin.is_of_kernel || self.knows(pid, &kin) {
            return true;
        }
        let Some(ward) = self.ward_of(pid, &kin, table) else { return false };
        // The number may have gone to another while it was asked for its mark; threads have their process's kin.
        let is_it = table.kin(pid).is_some_and(|again| again.started == kin.started) && table.is_process(pid);
        if is_it {
            self.known.insert(pid, Known { ward, started: kin.started });
        }
        is_it
    }

    fn ward_of(&self, pid: i32, kin: &Kin, table: &impl Table) -> Option<u64> {
        let parent = self.known.get(&kin.parent).filter(|parent| {
            // The very one, for as long as it was this one's parent.
            parent.started <= kin.started && table.kin(kin.parent).is_some_and(|is| is.started == parent.started)
        });
        let opener = self.known.get(&kin.session).filter(|opener| {
            // A number is not handed out while it is a session's, and one that was handed out again is forgotten.
            kin.session != pid
                && opener.started <= kin.started
                && table.kin(kin.session).is_none_or(|is| is.started == opener.started)
        });
        parent.or(opener).map(|known| known.ward).or_else(|| table.marked(pid))
    }

    /// Of those that have ended, all but the openers of sessions that go on.
    fn forget_spent(&mut self, table: &impl Table) {
        if self.known.len() <= self.enough {
            return;
        }
        let sessions: Vec<i32> = kin::all().into_iter().filter_map(|pid| Some(table.kin(pid)?.session)).collect();
        self.known
            .retain(|pid, known| table.kin(*pid).map_or(sessions.contains(pid), |kin| kin.started == known.started));
        self.enough = 1024.max(self.known.len() * 2);
    }

    /// Of a ward that is no more.
    pub(super) fn retain(&mut self, is_guarded: impl Fn(u64) -> bool) {
        self.known.retain(|_, known| is_guarded(known.ward));
    }

    /// Nothing is guarded: the next ward begins anew.
    pub(super) fn rest(&mut self) {
        self.known.clear();
        self.unsettled.clear();
        self.until = None;
    }

    /// A ward is there, and its leader not yet: who is born is looked at from here on.
    pub(super) fn begin(&mut self) {
        if self.until.is_none() {
            self.until = kin::last_born();
            (self.pause, self.next) = (SHORTEST, Instant::now() + SHORTEST);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Processes by number: their parent, session and start, and a mark. Threads are in `threads`.
    #[derive(Default)]
    struct Fake {
        kin: HashMap<i32, Kin>,
        marks: HashMap<i32, u64>,
        threads: Vec<i32>,
    }

    impl Fake {
        fn has(&mut self, pid: i32, parent: i32, session: i32, started: u64) {
            self.kin.insert(pid, Kin { parent, session, started, runs: true, is_of_kernel: false });
        }
    }

    impl Table for Fake {
        fn kin(&self, pid: i32) -> Option<Kin> {
            self.kin.get(&pid).copied()
        }

        fn marked(&self, pid: i32) -> Option<u64> {
            self.marks.get(&pid).copied()
        }

        fn is_process(&self, pid: i32) -> bool {
            !self.threads.contains(&pid)
        }
    }

    /// The leader 100 of ward 7 is known, in the session 5, which is its parent's.
    fn begun() -> (Descent, Fake) {
        let (mut descent, mut table) = (Descent::new(), Fake::default());
        table.has(50, 1, 5, 1);
        table.has(100, 50, 5, 10);
        descent.known.insert(100, Known { ward: 7, started: 10 });
        (descent, table)
    }

    fn known(descent: &Descent) -> Vec<i32> {
        let mut known: Vec<_> = descent.known().filter(|(_, known)| known.ward == 7).map(|(pid, _)| pid).collect();
        known.sort();
        known
    }

    #[test]
    fn a_child_of_one_that_is_known_is_known_in_whatever_order_they_come_and_its_siblings_in_the_session_are_not() {
        let (mut descent, mut table) = begun();
        table.has(102, 103, 5, 12);
        table.has(103, 100, 5, 11);
        table.has(104, 50, 5, 11);
        table.has(105, 1, 5, 11);
        assert!(descent.note(vec![102, 103, 104, 105, 106], &table));
        assert_eq!(known(&descent), [100, 102, 103]);
        assert!(!descent.note(vec![], &table));
    }

    #[test]
    fn one_that_has_lost_its_parent_is_known_by_a_session_that_one_of_the_run_opened() {
        let (mut descent, mut table) = begun();
        table.has(101, 100, 101, 11);
        assert!(descent.note(vec![101], &table));
        table.kin.remove(&101);
        table.has(102, 1, 101, 12);
        // It opened one of its own, and where it came from is not known.
        table.has(103, 1, 103, 12);
        assert!(descent.note(vec![102, 103], &table));
        assert_eq!(known(&descent), [100, 101, 102]);
    }

    #[test]
    fn a_number_that_was_handed_out_again_is_nobodys() {
        let (mut descent, mut table) = begun();
        table.has(101, 100, 101, 11);
        descent.note(vec![101], &table);
        // Another process has the number, a session of that number, and a child.
        table.has(101, 1, 101, 20);
        table.has(102, 101, 101, 21);
        table.has(103, 1, 101, 21);
        descent.note(vec![102, 103], &table);
        assert_eq!(known(&descent), [100, 101], "none of them is the known one's");
        assert!(!descent.knows(101, &table.kin[&101]));
        descent.forget_reborn(&[101], &table);
        assert_eq!(known(&descent), [100]);
        table.kin.remove(&101);
        descent.note(vec![103], &table);
        assert_eq!(known(&descent), [100], "it has ended, and its session is not of the run");
    }

    #[test]
    fn of_one_that_has_ended_the_number_is_forgotten_when_it_was_handed_out_again_and_not_before() {
        let (mut descent, mut table) = begun();
        table.has(101, 100, 101, 11);
        descent.note(vec![101], &table);
        table.kin.remove(&101);
        descent.forget_reborn(&[99, 102], &table);
        assert_eq!(known(&descent), [100, 101]);
        // To one that has ended as well meanwhile.
        descent.forget_reborn(&[101], &table);
        assert_eq!(known(&descent), [100]);
        descent.forget_reborn(&[100], &table);
        assert_eq!(known(&descent), [100], "it is the very one");
    }

    #[test]
    fn a_mark_tells_and_threads_and_the_kernels_own_are_nobody() {
        let (mut descent, mut table) = begun();
        for pid in 101..=104 {
            table.has(pid, 1, pid, 11);
            table.marks.insert(pid, 7);
        }
        table.threads.push(102);
        table.kin.get_mut(&103).unwrap().is_of_kernel = true;
        table.marks.insert(104, 8);
        descent.note((101..=104).collect(), &table);
        assert_eq!(known(&descent), [100, 101]);
        assert!(descent.knows(104, &table.kin[&104]), "it is of another ward");
        descent.retain(|ward| ward == 8);
        assert!(known(&descent).is_empty());
        table.has(105, 104, 5, 12);
        table.marks.insert(105, 7);
        descent.settle_all(&mut vec![105], &Unmarked(&table));
        assert!(descent.known.get(&105).is_some_and(|known| known.ward == 8), "marks are not read");
    }

    #[test]
    fn a_number_that_is_not_in_the_table_yet_is_looked_for_once_more() {
        let (mut descent, mut table) = begun();
        assert!(!descent.note(vec![101], &table));
        table.has(101, 100, 5, 11);
        assert!(descent.note(vec![], &table));
        assert!(!descent.note(vec![102], &table) && !descent.note(vec![], &table));
        table.has(102, 100, 5, 11);
        assert!(!descent.note(vec![], &table), "it was never born");
    }

    #[test]
    fn the_looks_are_farther_apart_while_nothing_is_born() {
        let (mut descent, table) = begun();
        descent.has_leader(100, 7, &table);
        assert_eq!(descent.pause, SHORTEST);
        descent.until = kin::last_born();
        (0..10).for_each(|_| descent.look(&table));
        assert_eq!(descent.pause, LONGEST);
        assert!(descent.next() >= Instant::now());
        descent.rest();
        assert_eq!((known(&descent), descent.until), (vec![], None));
        descent.begin();
        assert_eq!((descent.pause, descent.until.is_some()), (SHORTEST, true));
    }
}
