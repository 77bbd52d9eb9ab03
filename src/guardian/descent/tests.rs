use super::*;

/// Processes by pid, with parent, session and start, and their marks. Threads are in `threads`.
#[derive(Default)]
struct FakeTable {
    kin: HashMap<i32, Kin>,
    marks: HashMap<i32, u64>,
    threads: Vec<i32>,
}

impl FakeTable {
    fn has(&mut self, pid: i32, parent: i32, session: i32, started: u64) {
        self.kin.insert(pid, Kin { parent, session, started, runs: true, is_of_kernel: false });
    }
}

impl ProcessTable for FakeTable {
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

/// The leader 100 of child 7 is known, in session 5, which is its parent's.
fn begun() -> (Descent, FakeTable) {
    let (mut descent, mut table) = (Descent::new(), FakeTable::default());
    table.has(50, 1, 5, 1);
    table.has(100, 50, 5, 10);
    descent.known.insert(100, KnownProcess { id: 7, started: 10 });
    (descent, table)
}

fn known(descent: &Descent) -> Vec<i32> {
    let mut known: Vec<_> = descent.known().filter(|(_, known)| known.id == 7).map(|(pid, _)| pid).collect();
    known.sort();
    known
}

#[test]
fn a_child_of_a_known_process_is_known_in_whatever_order_they_come_and_others_in_the_session_are_not() {
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
fn an_orphan_is_known_by_a_session_that_a_known_process_opened() {
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
fn a_number_that_was_handed_out_again_is_of_no_child() {
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
    descent.forget_reused(&[101], &table);
    assert_eq!(known(&descent), [100]);
    table.kin.remove(&101);
    descent.note(vec![103], &table);
    assert_eq!(known(&descent), [100], "it has ended, and its session is not of the run");
}

#[test]
fn the_number_of_an_ended_process_is_forgotten_when_it_was_handed_out_again_and_not_before() {
    let (mut descent, mut table) = begun();
    table.has(101, 100, 101, 11);
    descent.note(vec![101], &table);
    table.kin.remove(&101);
    descent.forget_reused(&[99, 102], &table);
    assert_eq!(known(&descent), [100, 101]);
    // It was handed to a process that has ended as well.
    descent.forget_reused(&[101], &table);
    assert_eq!(known(&descent), [100]);
    descent.forget_reused(&[100], &table);
    assert_eq!(known(&descent), [100], "it is the very one");
}

#[test]
fn a_mark_tells_and_threads_and_kernel_threads_are_no_processes() {
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
    assert!(descent.knows(104, &table.kin[&104]), "it is of another child");
    descent.retain(|id| id == 8);
    assert!(known(&descent).is_empty());
    table.has(105, 104, 5, 12);
    table.marks.insert(105, 7);
    descent.settle_all(&mut vec![105], &WithoutMarks(&table));
    assert!(descent.known.get(&105).is_some_and(|known| known.id == 8), "marks are not read");
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
    assert_eq!(descent.pause, SHORTEST_PAUSE);
    descent.last_pid = kin::last_born();
    (0..10).for_each(|_| descent.look(&table));
    assert_eq!(descent.pause, LONGEST_PAUSE);
    assert!(descent.next_look() >= Instant::now());
    descent.rest();
    assert_eq!((known(&descent), descent.last_pid), (vec![], None));
    descent.begin();
    assert_eq!((descent.pause, descent.last_pid.is_some()), (SHORTEST_PAUSE, true));
}
