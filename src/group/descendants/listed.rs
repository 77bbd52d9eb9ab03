//! Children as `/proc` lists them, by our own pid namespace's numbers.
//!
//! A `/proc` of the namespace around ours has its own numbers for the same processes: `NSpid` of `proc_pid_status(5)`
//! has both, the last one ours. One of any other namespace does not know this process, and lists nothing.

use std::fs::{self, File};
use std::io::{self, Read};

use super::super::os;

/// How often threads of ours may end while their children are listed.
const TRIES: usize = 10;

/// The children of this process, those that have ended among them.
pub(super) fn children() -> io::Result<Vec<i32>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let (listed_as, ours) = numbers(&status).ok_or(io::ErrorKind::Unsupported)?;
    let is_foreign = status.lines().any(|line| line.starts_with("NSpid:") && line.split_whitespace().count() > 2);
    if ours != nix::unistd::getpid().as_raw() {
        return Err(io::ErrorKind::Unsupported.into());
    }
    // A thread that ends in the middle is no reason to look elsewhere.
    let lists = || children_of_tasks(listed_as).transpose();
    let listed = match (0..TRIES).find_map(|_| lists()).transpose()? {
        Some(listed) => listed,
        // A kernel without these lists.
        None if os::available() => return Ok(children_by_parent(ours)),
        None => return Err(io::ErrorKind::Unsupported.into()),
    };
    if !is_foreign {
        return Ok(listed);
    }
    let own_number = |pid| {
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        Ok(numbers(&status).ok_or(io::ErrorKind::InvalidData)?.1)
    };
    listed.into_iter().map(own_number).collect()
}

/// The children of another process, for a `/proc` of our own namespace.
pub(super) fn children_of(pid: i32) -> Vec<i32> {
    match children_of_tasks(pid) {
        Ok(Some(children)) => children,
        _ => children_by_parent(pid),
    }
}

/// `None`: no such lists, or a thread has ended and its children are another's by now.
fn children_of_tasks(pid: i32) -> io::Result<Option<Vec<i32>>> {
    let mut children = Vec::new();
    for task in fs::read_dir(format!("/proc/{pid}/task"))?.flatten() {
        match File::open(task.path().join("children")) {
            Ok(file) => children.extend(read_list(file)?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        }
    }
    Ok(Some(children))
}

/// In reads that are as large as the kernel's own: between two of them it counts its way to where it was, and one child
/// that was reaped meanwhile would hide another.
fn read_list(mut file: File) -> io::Result<Vec<i32>> {
    let (mut text, mut buffer) = (Vec::new(), [0; 16 * 1024]);
    loop {
        match file.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => text.extend_from_slice(&buffer[..length]),
            // The thread has ended, and its children are another's by now.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let numbers = String::from_utf8_lossy(&text);
    Ok(numbers.split_ascii_whitespace().filter_map(|pid| pid.parse().ok()).collect())
}

/// The children by a walk through the process table.
pub(super) fn children_by_parent(parent: i32) -> Vec<i32> {
    let mut children = Vec::new();
    // What was seen before an error counts.
    let _ = os::walk(|pid, _| {
        if os::parent(pid) == Some(parent) {
            children.push(pid);
        }
    });
    children
}

/// The number that a process has in `/proc`, and the one in the innermost namespace that it is in; a kernel without
/// namespaces has one for both.
fn numbers(status: &str) -> Option<(i32, i32)> {
    let line = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
    let mut all = line("NSpid:").or_else(|| line("Pid:"))?.split_ascii_whitespace();
    let first = all.next()?.parse().ok()?;
    Some((first, all.next_back().map_or(Ok(first), str::parse).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_in_the_innermost_namespace_is_the_last_one() {
        assert_eq!(numbers("Name:\tsh\nPid:\t4242\nNSpid:\t4242\n"), Some((4242, 4242)));
        assert_eq!(numbers("Pid:\t4242\nNSpid:\t4242\t17\t3\n"), Some((4242, 3)));
        assert_eq!(numbers("Pid:\t4242\n"), Some((4242, 4242)));
        assert_eq!(numbers("Name:\tsh\n"), None);
    }
}
