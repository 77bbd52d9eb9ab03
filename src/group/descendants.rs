//! The descendants of this process, wherever they have gone: a member that calls `setsid` leaves its group, and one
//! that clears its environment loses its mark, but each still has a parent.
//!
//! A process whose parent ends gets another, init by default. As a *subreaper* this process gets its orphaned
//! descendants instead, so that whatever descends from it does so until one of them has ended.
//!
//! # When they have died out
//!
//! 1. A process that descends from us and runs has a line of running parents up to us: a parent's end hands its
//!    children on under the lock under which it becomes a zombie. The first of that line is a child of ours. So they
//!    have died out if at one instant no child of ours runs.
//! 2. A child stays in the kernel's list of our children, running or zombie, until it is reaped. Reading the list shows
//!    each child that is in it from the beginning of the read to its end; later ones may be missing.
//! 3. Orphans are reaped by [`reap`] alone, under a lock that a look holds too.
//! 4. A look lists our children, asks the kernel of each whether it has ended, and lists them again. The instant is the
//!    one right before the second list. A child that ran then is in that list (2, 3). If it is in the first one too, it
//!    had not ended when it was asked; if it is not, it is new. If no child is either, none ran at that instant.
//!
//! A chain in which each process forks the next and ends fails step 4 for as long as it goes on: its latest is new or
//! runs.
//!
//! Each thread of ours has a list of its own, and a thread's end moves its children to another's. Orphans come to the
//! first one, which stays to the end; the children of the others are the guardian and what was there before us.
//!
//! What stays open: the command and the guardian are reaped by their owners, which can shift a list of more than a page
//! while it is read, so the look that decides comes after the command was reaped. And where no list can be read and the
//! numbers have come round since our start, see [`asked`].

#[cfg(target_os = "linux")]
mod asked;
#[cfg(target_os = "linux")]
mod listed;

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, getpgid, getsid};

use super::child::has_exited;
#[cfg(target_os = "linux")]
pub(crate) use super::child::is_child;
use super::os;
use super::process::signal_process;
use super::process_group::ProcessGroup;
use crate::signal::Signal;

/// Held while an orphan is reaped, and while a look relies on it that none is.
static REAPING: Mutex<()> = Mutex::new(());

fn hold_reaping() -> MutexGuard<'static, ()> {
    REAPING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has orphaned descendants of this process become its children.
///
/// # Errors
///
/// The system's, where there is no such thing.
pub(crate) fn adopt_orphans() -> nix::Result<()> {
    #[cfg(target_os = "linux")]
    return nix::sys::prctl::set_child_subreaper(true);
    #[cfg(not(target_os = "linux"))]
    return Err(nix::errno::Errno::ENOSYS);
}

/// Children that are this program's own tools: they do not count as descendants, and are reaped where they were
/// started.
static HELPERS: Mutex<Vec<i32>> = Mutex::new(Vec::new());

fn helpers() -> MutexGuard<'static, Vec<i32>> {
    HELPERS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a process that does not count as a descendant, nor does what descends from it.
pub(crate) fn start_helper(command: &mut std::process::Command) -> std::io::Result<std::process::Child> {
    // Under the lock, so that no look comes between the start and the note of it.
    let _reaping = hold_reaping();
    let child = command.spawn()?;
    helpers().extend(i32::try_from(child.id()));
    Ok(child)
}

/// Waits for a helper, whose number can be a stranger's after that.
pub(crate) fn wait_for_helper(mut child: std::process::Child) -> std::io::Result<std::process::ExitStatus> {
    let _reaping = hold_reaping();
    let pid = i32::try_from(child.id());
    let status = child.wait();
    helpers().retain(|helper| Ok(*helper) != pid);
    status
}

/// The children of this process, zombies too, but for its helpers.
pub(crate) fn children() -> Vec<i32> {
    #[cfg(target_os = "linux")]
    let mut children = listed::children().unwrap_or_else(|_| asked::children());
    #[cfg(not(target_os = "linux"))]
    let mut children = Vec::new();
    let helpers = helpers();
    children.retain(|pid| !helpers.contains(pid));
    children
}

/// Reaps the children that have ended, but for those that are reaped elsewhere.
pub(crate) fn reap(is_reaped_elsewhere: impl Fn(i32) -> bool) {
    let _reaping = hold_reaping();
    for pid in children().into_iter().filter(|pid| !is_reaped_elsewhere(*pid)) {
        // It may be alive.
        let _ = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG));
    }
}

/// Sends SIGKILL to the children that are `wanted`, and to the whole group of each that has left our session.
///
/// A child of ours keeps its number until it is reaped, so none can be mistaken for a stranger here. A session other
/// than ours was begun by a descendant of ours, and has no members but those that descend from that one. A group is
/// within one session, so a killed group kills no stranger; and no fork in it escapes, as one can from a signal to one
/// process. A zombie still has its group.
pub(crate) fn kill_children(wanted: impl Fn(&[i32]) -> Vec<i32>) {
    let _reaping = hold_reaping();
    let Ok(ours) = getsid(None) else { return };
    let mut groups = HashSet::new();
    for pid in wanted(&children()) {
        let number = Some(Pid::from_raw(pid));
        match (getsid(number), getpgid(number)) {
            (Ok(session), Ok(pgid)) if session != ours && session.as_raw() > 1 && pgid.as_raw() > 1 => {
                // Once for each group: the kernel goes through all its members, of which thousands may be zombies.
                groups.insert(pgid.as_raw());
            }
            // A child that may not be signalled is reported by its own kill.
            _ => drop(signal_process(pid, Signal::KILL)),
        }
    }
    for group in groups.into_iter().filter_map(|pgid| ProcessGroup::new(pgid).ok()) {
        let _ = group.signal(Signal::KILL);
    }
}

/// Whether nothing that descends from this process can run, but for `spared` and what descends from those. `true` only
/// where orphans become its children; `false` says nothing. May block.
pub(crate) fn has_died_out(spared: &[i32]) -> bool {
    sees_all() && no_child_runs(|_| spared.to_vec())
}

/// Whether there was an instant at which no child of this process ran, but for those that `spare` picks from the list:
/// see the head of this file. `spare` is asked twice, after each list.
pub(crate) fn no_child_runs(spare: impl Fn(&[i32]) -> Vec<i32>) -> bool {
    let _reaping = hold_reaping();
    let list = || {
        let mut children = children();
        let spared = spare(&children);
        children.retain(|pid| !spared.contains(pid));
        children
    };
    let first = list();
    first.iter().all(|pid| child_has_ended(*pid)) && list().iter().all(|pid| first.contains(pid))
}

#[cfg(target_os = "linux")]
fn sees_all() -> bool {
    os::available() && nix::sys::prctl::get_child_subreaper() == Ok(true)
}

#[cfg(not(target_os = "linux"))]
fn sees_all() -> bool {
    false
}

/// Whether processes other than our children can be seen: their parents, their starts, their environment.
pub(crate) fn sees_beyond_children() -> bool {
    os::available()
}

/// Whether `/proc` is mounted so that it hides other users' processes.
pub(crate) fn hides_processes() -> bool {
    os::hides_processes()
}

/// The descendants of this process that can still run, but for `spared` and what descends from those. Only its children
/// where no others can be seen: the others become its children when their parents end.
pub(crate) fn running(spared: &[i32]) -> Vec<i32> {
    let (mut living, mut pending) = (Vec::new(), children());
    while let Some(pid) = pending.pop() {
        if spared.contains(&pid) {
            continue;
        }
        // A process that has ended has no children any more.
        if runs(pid) {
            pending.extend(children_of(pid));
            living.push(pid);
        }
    }
    living
}

/// The children of another process, if they can be seen.
pub(crate) fn children_of(pid: i32) -> Vec<i32> {
    #[cfg(target_os = "linux")]
    if sees_beyond_children() {
        return listed::children_of(pid);
    }
    let _ = pid;
    Vec::new()
}

/// Whether a process has not ended; of one that is no child, only where others can be seen.
pub(crate) fn runs(pid: i32) -> bool {
    if sees_beyond_children() { os::runs(pid) } else { has_exited(pid) == Ok(false) }
}

/// Whether a child of ours has ended, or was reaped. The kernel is asked first, which is far cheaper than to read
/// `/proc`. While another process traces the child, the kernel holds the answer back; then `/proc` shows that it is
/// dead.
pub(crate) fn child_has_ended(pid: i32) -> bool {
    has_exited(pid) != Ok(false) || sees_beyond_children() && !runs(pid)
}

/// Whether a process is dying, or gone: it has no environment any more then, and its children are about to get another
/// parent.
pub(crate) fn is_leaving(pid: i32) -> bool {
    if sees_beyond_children() { os::is_leaving(pid) } else { !runs(pid) }
}

/// The command line of a process, or its name in brackets; empty for one that is gone.
pub(crate) fn command_of(pid: i32) -> String {
    if sees_beyond_children() { os::command_of(pid) } else { "its name cannot be read".to_owned() }
}

/// When a process was started; with its number that means one process and no other.
pub(crate) fn started_at(pid: i32) -> Option<Duration> {
    if sees_beyond_children() { os::started_at(pid) } else { None }
}

/// Whether a number was handed out since `until`, which is moved on: none was the first time, or where they cannot be
/// told.
pub(crate) fn was_handed_out_since(until: &mut Option<i32>) -> impl Fn(i32) -> bool + use<> {
    os::was_handed_out_since(until)
}

/// The parent of a process.
pub(crate) fn parent(pid: i32) -> Option<i32> {
    if sees_beyond_children() { os::parent(pid) } else { None }
}

/// Whether a process descends from this one, and not by way of `spared`. Where only children can be seen, whether it is
/// a child.
#[cfg(target_os = "linux")]
pub(crate) fn is_descendant(pid: i32, spared: &[i32]) -> bool {
    if !sees_beyond_children() {
        return !spared.contains(&pid) && is_child(pid);
    }
    let (own, mut pid) = (own_pid(), pid);
    // No line of descent is longer than this, and one that changes meanwhile must not lead in circles.
    for _ in 0..10_000 {
        if spared.contains(&pid) {
            return false;
        }
        match os::parent(pid) {
            Some(parent) if parent == own => return true,
            // The parent of the first process is 0, which no process has.
            Some(parent) => pid = parent,
            None => return false,
        }
    }
    false
}

#[cfg(target_os = "linux")]
fn own_pid() -> i32 {
    nix::unistd::getpid().as_raw()
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    use super::super::inside::inside;
    use super::super::testing::Started;
    use super::*;

    #[test]
    fn a_child_is_found_in_the_kernels_list_by_its_parent_and_by_asking_for_it() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let found = [children(), listed::children_by_parent(own_pid()), asked::children(), running(&[])];
        let related = [is_descendant(pid, &[]), is_descendant(pid, &[pid])];
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(found.iter().all(|children| children.contains(&pid)), "{pid}: {found:?}");
        assert_eq!(related, [true, false]);
        assert!(!is_descendant(1, &[]) && !running(&[]).contains(&pid));
    }

    /// A child, and its child, which says its own number and outlives its parent.
    fn two_generations() -> (Started, i32) {
        let script = "sh -c 'echo $$; exec sleep 60 2>&1' & exec cat";
        let mut child = Started::new(Command::new("sh").args(["-c", script]).stdout(Stdio::piped()));
        let mut line = String::new();
        BufReader::new(child.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
        (child, line.trim().parse().unwrap())
    }

    fn end(pid: i32) {
        nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
    }

    #[test]
    fn a_grandchild_descends_from_us_and_not_if_its_parent_is_spared() {
        let (child, grandchild) = two_generations();
        assert!(is_descendant(grandchild, &[]) && !is_descendant(grandchild, &[child.pid()]));
        assert!(!is_descendant(own_pid(), &[]), "no process descends from itself");
        let with = running(&[]);
        let without = running(&[child.pid()]);
        end(grandchild);
        assert!(with.contains(&child.pid()) && with.contains(&grandchild), "{with:?}");
        assert!(!without.contains(&child.pid()) && !without.contains(&grandchild), "{without:?}");
    }

    /// Each link lives for a moment; two looks by descent pass between two of them, once in some thousand.
    #[test]
    fn a_chain_is_never_taken_for_dead() {
        if !inside(a_chain_is_never_taken_for_dead, &[]) {
            return;
        }
        let script = "use POSIX; setsid(); $| = 1; print \"ready\\n\"; $begin = time; \
                      while (time < $begin + 20) { fork and POSIX::_exit(0); select undef, undef, undef, 0.0001 }";
        adopt_orphans().unwrap();
        let Ok(mut first) = Command::new("perl").args(["-e", script]).stdout(Stdio::piped()).spawn() else {
            return super::super::inside::skip("a chain: needs perl");
        };
        let mut line = String::new();
        BufReader::new(first.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n");
        let begin = std::time::Instant::now();
        let mut looks = 0;
        while begin.elapsed() < Duration::from_secs(1) {
            assert!(!has_died_out(&[]), "after {looks} looks");
            reap(|_| false);
            looks += 1;
        }
        while !has_died_out(&[]) {
            kill_children(<[i32]>::to_vec);
            reap(|_| false);
        }
        // Nothing is left that could fork: the list stays as it is.
        reap(|_| false);
        assert_eq!(children(), Vec::<i32>::new());
        assert!(looks > 100, "{looks} looks");
        let _ = first.wait();
    }

    #[test]
    fn a_command_can_be_read_while_its_process_is_there() {
        let mut cat = Started::leader();
        assert_eq!((runs(cat.pid()), command_of(cat.pid())), (true, "cat".into()));
        cat.kill();
        assert_eq!((runs(cat.pid()), command_of(cat.pid())), (false, "[cat]".into()));
        cat.reap();
        assert_eq!((runs(cat.pid()), command_of(cat.pid())), (false, String::new()));
    }

    #[test]
    fn no_descendants_are_said_to_have_died_out_before_orphans_are_adopted() {
        if !inside(no_descendants_are_said_to_have_died_out_before_orphans_are_adopted, &[]) {
            return;
        }
        assert_eq!((children(), has_died_out(&[])), (vec![], false), "orphans would be lost from sight");
        adopt_orphans().unwrap();
        assert!(has_died_out(&[]));
        let (mut child, grandchild) = two_generations();
        assert!(!has_died_out(&[]) && has_died_out(&[child.pid()]));
        child.reap();
        assert_eq!((children(), running(&[])), (vec![grandchild], vec![grandchild]), "an orphan");
        assert!(!has_died_out(&[]) && has_died_out(&[grandchild]));
        end(grandchild);
        nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(grandchild), None).unwrap();
        assert!(has_died_out(&[]));
    }
}
