//! What the process table tells of one process: its parent, its session, its start.
//!
//! A number and a start mean one process and no other: a number is not given out twice within one clock tick.

use super::linux;

pub(crate) use super::linux::Kin;

/// The numbers of all processes, zombies too; none where `/proc` cannot be trusted.
pub(crate) fn all() -> Vec<i32> {
    let mut all = Vec::new();
    if linux::available() {
        // What was seen before an error counts.
        let _ = linux::walk(|pid, _| all.push(pid));
    }
    all
}

/// What is known of the process that has this number now. A thread has a number too, and shows its process's kin.
pub(crate) fn of(pid: i32) -> Option<Kin> {
    // In another namespace's table the number is another process's.
    if linux::available() { linux::kin(pid) } else { None }
}

/// A time since the system was started, as starts are counted.
pub(crate) fn ticks(time: std::time::Duration) -> u64 {
    let ticks = time.as_nanos() * u128::from(rustix::param::clock_ticks_per_second()) / 1_000_000_000;
    u64::try_from(ticks).unwrap_or(u64::MAX)
}

/// Whether this is the number of a process, and not of one of its other threads.
pub(crate) fn is_process(pid: i32) -> bool {
    status(pid, "Tgid:") == Some(pid)
}

/// The real user id of a process, whatever user it runs as.
pub(crate) fn user(pid: i32) -> Option<u32> {
    status(pid, "Uid:")
}

/// The group of a process; `None` when it has gone.
pub(crate) fn group(pid: i32) -> Option<i32> {
    nix::unistd::getpgid(Some(nix::unistd::Pid::from_raw(pid))).ok().map(nix::unistd::Pid::as_raw)
}

/// The processes that are in a group, seen one after the other.
#[cfg(feature = "cli")]
pub(crate) fn members(pgid: i32) -> Vec<i32> {
    let mut members = all();
    members.retain(|pid| group(*pid) == Some(pgid));
    members
}

/// The command line of a process, or its name in brackets.
pub(crate) fn command(pid: i32) -> String {
    linux::command_of(pid)
}

/// Whether the arguments of a process begin with these, after the name that it was called by.
pub(crate) fn is_called_with(pid: i32, first: &[&str]) -> bool {
    let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut arguments = arguments.split(|byte| *byte == 0).skip(1);
    first.iter().all(|word| arguments.next() == Some(word.as_bytes()))
}

/// The first number of a line of `proc_pid_status(5)`.
fn status<T: std::str::FromStr>(pid: i32, name: &str) -> Option<T> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix(name))?.split_ascii_whitespace().next()?.parse().ok()
}

/// The number handed out last, to processes and threads alike.
pub(crate) fn last_born() -> Option<i32> {
    if linux::available() { linux::last_pid() } else { None }
}

/// The numbers handed out after `before`, up to `last`; `None` if they are too many to be looked at one by one.
pub(crate) fn born_between(before: i32, last: i32) -> Option<Vec<i32>> {
    linux::handed_out_between(before, last)
}

/// The numbers handed out since `until`, which is moved on: none the first time, or where they cannot be told; `None`
/// if they are too many.
pub(crate) fn born_since(until: &mut Option<i32>) -> Option<Vec<i32>> {
    linux::handed_out_since(until)
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    use super::super::testing::Started;
    use super::*;

    #[test]
    fn a_child_is_known_by_its_parent_its_session_and_its_start() {
        let mut cat = Started::new(Command::new("cat").process_group(0));
        let us = std::process::id() as i32;
        let session = nix::unistd::getsid(None).unwrap().as_raw();
        let (kin, ours) = (of(cat.pid()).unwrap(), of(us).unwrap());
        assert_eq!((kin.parent, kin.session, kin.runs, kin.is_of_kernel), (us, session, true, false));
        assert!(kin.started >= ours.started && ours.started > 0);
        let now = ticks(super::super::since_boot());
        assert!((now - 100_000..=now).contains(&kin.started), "{} of {now}", kin.started);
        assert_eq!((group(cat.pid()), user(cat.pid())), (Some(cat.pid()), user(us)));
        assert!(all().contains(&cat.pid()));
        cat.kill();
        assert!(!of(cat.pid()).unwrap().runs, "a zombie");
        cat.reap();
        assert!(of(cat.pid()).is_none() && group(cat.pid()).is_none() && !is_process(cat.pid()));
    }

    #[test]
    fn a_thread_is_no_process() {
        let of_thread = std::thread::spawn(|| {
            let thread = rustix::thread::gettid().as_raw_nonzero().get();
            (is_process(thread), of(thread).map(|kin| kin.parent))
        });
        let ours = of(std::process::id() as i32).map(|kin| kin.parent);
        assert!(is_process(std::process::id() as i32));
        assert_eq!(of_thread.join().unwrap(), (false, ours));
    }

    #[test]
    fn a_new_process_has_one_of_the_numbers_handed_out() {
        let before = last_born().unwrap();
        let cat = Started::leader();
        let born = born_between(before, last_born().unwrap());
        assert!(born.is_none_or(|born| born.contains(&cat.pid())));
    }
}
