//! Whether a child has ended, or was stopped, asked of the kernel without reaping it: the status belongs to the child's
//! owner.

use nix::errno::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions, WaitIdStatus, waitid};

/// Whether this child has ended and can be waited for; `ECHILD` for a process that is no child, or was reaped.
pub(crate) fn has_exited(pid: i32) -> Result<bool, Errno> {
    Ok(exit_of(pid)?.is_some())
}

/// How this child has ended; `None` if it has not.
pub(crate) fn exit_of(pid: i32) -> Result<Option<WaitIdStatus>, Errno> {
    peek(pid, WaitIdOptions::EXITED | WaitIdOptions::NOHANG)
}

/// Whether this child is stopped.
pub(crate) fn is_stopped(pid: i32) -> Result<bool, Errno> {
    Ok(peek(pid, WaitIdOptions::STOPPED | WaitIdOptions::NOHANG)?.is_some())
}

/// Blocks until this child has ended.
pub(crate) fn wait_for_exit(pid: i32) {
    while matches!(peek(pid, WaitIdOptions::EXITED), Err(Errno::EINTR)) {}
}

fn peek(pid: i32, event: WaitIdOptions) -> Result<Option<WaitIdStatus>, Errno> {
    let pid = Pid::from_raw(pid).ok_or(Errno::ECHILD)?;
    waitid(WaitId::Pid(pid), event | WaitIdOptions::NOWAIT).map_err(|error| Errno::from_raw(error.raw_os_error()))
}

/// Whether this is a child of this process that was not reaped.
#[cfg(all(target_os = "linux", feature = "cli"))]
pub(crate) fn is_child(pid: i32) -> bool {
    has_exited(pid).is_ok()
}

#[cfg(test)]
mod tests {
    use super::super::testing::Started;
    use super::*;

    #[test]
    fn an_exit_is_seen_without_being_collected() {
        let mut child = Started::leader();
        let pid = child.pid();
        assert_eq!(has_exited(pid), Ok(false));
        child.kill();
        wait_for_exit(pid);
        assert_eq!([has_exited(pid), has_exited(pid)], [Ok(true); 2]);
        assert_eq!(exit_of(pid).unwrap().unwrap().terminating_signal(), Some(9));
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&child.0.wait().unwrap()), Some(9));
        assert_eq!([has_exited(pid), has_exited(0)], [Err(Errno::ECHILD); 2]);
    }
}
