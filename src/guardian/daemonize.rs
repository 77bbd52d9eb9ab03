//! Detaches the guardian from its parent: from what could end it together with the parent, and from what it would keep
//! in use.

use std::fs;

use nix::sys::signal::SigSet;
use nix::unistd::{Pid, close, getpgid, getppid, setpgid, setsid};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::identity::NAME;

pub(super) fn daemonize() {
    // First of all: until then the process has the name of its file, which may be the name of the guarded program.
    let _ = fs::write("/proc/self/comm", NAME);

    // Signals are blocked and not ignored: their senders see no difference, and it takes no unsafe code.
    let _ = SigSet::all().thread_block();

    // The guardian was started as the leader of a group of its own, out of reach of a signal to the parent's group. A
    // leader cannot open a session, so it joins the parent's group for the time that this takes.
    match getpgid(Some(getppid())) {
        // 0 is a group outside this pid namespace. The guardian is no leader then, and `setpgid` to 0 would make it
        // one.
        Ok(parents) if parents.as_raw() != 0 => drop(setpgid(Pid::from_raw(0), parents)),
        _ => {}
    }
    let _ = setsid();

    // A file system can be unmounted, and the reader of a pipe sees its end, although the guardian runs on.
    let _ = std::env::set_current_dir("/");
    for fd in inherited_fds() {
        let _ = close(fd);
    }

    // One pidfd is needed for each group.
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit });
}

/// The open descriptors but for the three standard ones. The one they are listed through is among them, and is closed
/// by the time this returns.
fn inherited_fds() -> Vec<i32> {
    let Ok(listed) = fs::read_dir("/dev/fd") else { return (3..1024).collect() };
    let numbers = listed.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter(|fd| *fd > 2).collect()
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;

    #[test]
    fn every_descriptor_but_the_standard_ones_is_to_be_closed() {
        let file = fs::File::open("/dev/null").unwrap();
        let inherited = inherited_fds();
        assert!(inherited.contains(&file.as_raw_fd()), "{inherited:?}");
        assert!(inherited.iter().all(|fd| *fd > 2), "{inherited:?}");
    }
}
