//! The descendants of this process, wherever they have gone: a member that calls `setsid` leaves its group, and one that
//! clears its environment loses its mark, but each still has a parent.
//!
//! A process whose parent ends gets another, init by default. As a *subreaper* this process gets its orphaned
//! descendants instead, so that whoever descends from it does so until one of them has ended.

#[cfg(target_os = "linux")]
use std::fs;

#[cfg(target_os = "linux")]
use nix::sys::prctl::get_child_subreaper;

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

/// The children of this process, those that have ended among them. Nobody where `/proc` cannot tell.
///
/// As good as exact while nobody else reaps them: only a child that is reaped meanwhile can hide another.
pub(crate) fn children() -> Vec<i32> {
    #[cfg(target_os = "linux")]
    if super::linux::available() {
        return children_of(own_pid());
    }
    Vec::new()
}

/// Whether nobody who descends from this process can run, but for `spared` and whoever descends from those. `true` only
/// where nobody is lost from sight when their parents end; `false` says nothing.
///
/// Far cheaper than to look at every process there is, and yet it may block.
pub(crate) fn has_died_out(spared: &[i32]) -> bool {
    // Two looks: somebody else who reaps a child of ours meanwhile can hide another from one.
    sees_everybody() && descendants(spared).is_empty() && descendants(spared).is_empty()
}

#[cfg(target_os = "linux")]
fn sees_everybody() -> bool {
    super::linux::available() && get_child_subreaper() == Ok(true)
}

#[cfg(not(target_os = "linux"))]
fn sees_everybody() -> bool {
    false
}

/// Who descends from this process and can still run, but for `spared` and whoever descends from those.
pub(crate) fn descendants(spared: &[i32]) -> Vec<i32> {
    let (mut living, mut pending) = (Vec::new(), children());
    while let Some(pid) = pending.pop() {
        if spared.contains(&pid) {
            continue;
        }
        #[cfg(target_os = "linux")]
        {
            pending.extend(children_of(pid));
        }
        if runs(pid) {
            living.push(pid);
        }
    }
    living
}

/// Whether it has not ended.
pub(crate) fn runs(pid: i32) -> bool {
    #[cfg(target_os = "linux")]
    return super::linux::runs(pid);
    #[cfg(not(target_os = "linux"))]
    return super::portable::has_exited(pid) == Ok(false);
}

/// Its command line, or its name in brackets; empty for one that is gone.
pub(crate) fn command_of(pid: i32) -> String {
    #[cfg(target_os = "linux")]
    return super::linux::command_of(pid);
    #[cfg(not(target_os = "linux"))]
    return format!("[{pid}]");
}

/// Whether it descends from this process, and not by way of `spared`.
#[cfg(target_os = "linux")]
pub(crate) fn is_descendant(pid: i32, spared: &[i32]) -> bool {
    let (own, mut pid) = (own_pid(), pid);
    // A line of descent is no longer than this, and one that changes under our eyes must not lead us in circles.
    for _ in 0..10_000 {
        if spared.contains(&pid) {
            return false;
        }
        match super::linux::parent(pid) {
            Some(parent) if parent == own => return true,
            // Of the first there is the number 0, which nobody has.
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

#[cfg(target_os = "linux")]
fn children_of(pid: i32) -> Vec<i32> {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    let mut children = Vec::new();
    for task in tasks.flatten() {
        match fs::read_to_string(task.path().join("children")) {
            Ok(list) => children.extend(list.split_ascii_whitespace().filter_map(|pid| pid.parse::<i32>().ok())),
            // A kernel without these lists; or the thread has ended, and its children are another's by now.
            Err(_) => return children_by_parent(pid),
        }
    }
    children
}

#[cfg(target_os = "linux")]
fn children_by_parent(parent: i32) -> Vec<i32> {
    let mut children = Vec::new();
    // What was seen before an error counts.
    let _ = super::linux::walk(|pid, _| {
        if super::linux::parent(pid) == Some(parent) {
            children.push(pid);
        }
    });
    children
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    use super::super::inside::inside;
    use super::super::tests::Started;
    use super::*;

    #[test]
    fn a_child_is_found_in_the_kernels_list_and_by_its_parent_alike() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let pid = i32::try_from(child.id()).unwrap();
        let found = [children(), children_by_parent(own_pid()), descendants(&[])];
        let related = [is_descendant(pid, &[]), is_descendant(pid, &[pid])];
        drop(child.stdin.take());
        child.wait().unwrap();
        assert!(found.iter().all(|children| children.contains(&pid)), "{pid}: {found:?}");
        assert_eq!(related, [true, false]);
        assert!(!is_descendant(1, &[]) && !descendants(&[]).contains(&pid));
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
        assert!(!is_descendant(own_pid(), &[]), "nobody is their own");
        let with = descendants(&[]);
        let without = descendants(&[child.pid()]);
        end(grandchild);
        assert!(with.contains(&child.pid()) && with.contains(&grandchild), "{with:?}");
        assert!(!without.contains(&child.pid()) && !without.contains(&grandchild), "{without:?}");
    }

    #[test]
    fn a_command_is_told_while_there_is_somebody_to_have_it() {
        let mut cat = Started::leader();
        assert_eq!((runs(cat.pid()), command_of(cat.pid())), (true, "cat".into()));
        cat.kill();
        assert_eq!((runs(cat.pid()), command_of(cat.pid())), (false, "[cat]".into()));
        cat.reap();
        assert_eq!((runs(cat.pid()), command_of(cat.pid())), (false, String::new()));
    }

    #[test]
    fn nobody_is_known_to_have_died_out_before_orphans_are_adopted() {
        if !inside(nobody_is_known_to_have_died_out_before_orphans_are_adopted, &[]) {
            return;
        }
        assert_eq!((children(), has_died_out(&[])), (vec![], false), "orphans would be lost from sight");
        adopt_orphans().unwrap();
        assert!(has_died_out(&[]));
        let (mut child, grandchild) = two_generations();
        assert!(!has_died_out(&[]) && has_died_out(&[child.pid()]));
        child.reap();
        assert_eq!((children(), descendants(&[])), (vec![grandchild], vec![grandchild]), "an orphan");
        assert!(!has_died_out(&[]) && has_died_out(&[grandchild]));
        end(grandchild);
        nix::sys::wait::waitpid(nix::unistd::Pid::from_raw(grandchild), None).unwrap();
        assert!(has_died_out(&[]));
    }
}
