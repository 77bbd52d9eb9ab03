//! Whether a child has ended, asked of the kernel without reaping it: the status belongs to the child's owner.

use nix::errno::Errno;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

/// Whether this child has ended and can be waited for; `ECHILD` for a process that is no child, or was reaped.
pub(crate) fn has_exited(pid: i32) -> Result<bool, Errno> {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    let pid = Pid::from_raw(pid).ok_or(Errno::ECHILD)?;
    let status = waitid(WaitId::Pid(pid), options).map_err(|error| Errno::from_raw(error.raw_os_error()))?;
    Ok(status.is_some())
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
        assert_eq!([has_exited(pid), has_exited(pid)], [Ok(true); 2]);
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&child.0.wait().unwrap()), Some(9));
        assert_eq!([has_exited(pid), has_exited(0)], [Err(Errno::ECHILD); 2]);
    }
}
