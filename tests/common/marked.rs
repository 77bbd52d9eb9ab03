//! Processes that are found, and killed, by an entry of their environment. That of a zombie is empty.

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

pub(crate) fn carries(pid: i32, entry: &str) -> bool {
    let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environment.split(|b| *b == 0).any(|other| other == entry.as_bytes())
}

/// The processes that can run and carry it.
pub(crate) fn marked(entry: &str) -> Vec<i32> {
    let pids = std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter(|pid| carries(*pid, entry)).collect()
}

/// SIGKILL to one that carries it, held by its pidfd while that is read again.
pub(crate) fn kill(pid: i32, entry: &str) {
    let Some(pidfd) = Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else { return };
    if carries(pid, entry) {
        let _ = pidfd_send_signal(pidfd, Signal::KILL);
    }
}
