//! The guardian leaves everything that could end it together with its parent, or that it would keep from ending.

use std::fs;

use nix::sys::signal::SigSet;
use nix::unistd::{Pid, close, getpgid, getppid, setpgid, setsid};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

pub(super) fn leave_everything() {
    // First of all: until then it has the name of a file, which may be the program's that it guards.
    let _ = fs::write("/proc/self/comm", super::NAME);

    // Not ignored but blocked, which is the same to whoever sends them and takes no unsafe code.
    let _ = SigSet::all().thread_block();

    // It was started in a group of its own, out of reach of whatever is sent to the parent's while it starts. A leader
    // cannot open a session, so it joins the parent's group for the instant that takes.
    match getpgid(Some(getppid())) {
        // Outside our pid namespace: it was started in there, and 0 would make it a leader.
        Ok(parents) if parents.as_raw() != 0 => drop(setpgid(Pid::from_raw(0), parents)),
        _ => {}
    }
    let _ = setsid();

    // No file system is kept from being unmounted, and no reader of a pipe from seeing its end.
    let _ = std::env::set_current_dir("/");
    for fd in inherited() {
        let _ = close(fd);
    }

    // One pidfd for each group.
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// All but the three that everybody has. The one they were listed through is among them, and closed already.
fn inherited() -> Vec<i32> {
    let Ok(listed) = fs::read_dir("/dev/fd") else { return (3..1024).collect() };
    let numbers = listed.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter(|fd| *fd > 2).collect()
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn all_that_is_open_is_let_go_but_what_everybody_has() {
        let file = fs::File::open("/dev/null").unwrap();
        let inherited = inherited();
        assert!(inherited.contains(&file.as_raw_fd()), "{inherited:?}");
        assert!(inherited.iter().all(|fd| *fd > 2), "{inherited:?}");
    }
}
