//! What a child does between fork and exec to have all its descriptors closed by that exec, whatever their origin.

use rustix::process::{Resource, getrlimit};

use super::raw;

/// The numbers that are tried one by one, where the system cannot close all of them in one call.
const TRIED_SINGLY: u64 = 4096;

/// Has the next exec of this process close every descriptor from `first` on. For a child between fork and exec: it
/// makes system calls only, allocates nothing and takes no lock.
///
/// Before Linux 5.11 those with numbers above 4095 stay open.
fn close_on_exec_from(first: u32) {
    #[cfg(target_os = "linux")]
    if raw::close_range_on_exec(first).is_ok() {
        return;
    }
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(TRIED_SINGLY).min(TRIED_SINGLY);
    // Both are small.
    (first..limit as u32).for_each(|fd| raw::close_on_exec(fd as i32));
}

/// Lets go of what this process inherited: a lock, the end of a pipe, a directory. The processes that gave it count on
/// it being free when this process has ended, and a helper may live longer. For a helper between fork and exec, as
/// [`close_on_exec_from`].
pub(crate) fn hold_nothing() {
    // If this fails, the helper's own program leaves the directory.
    let _ = rustix::process::chdir(c"/");
    close_on_exec_from(3);
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::process::CommandExt;
    use std::process::Command;

    use super::*;

    /// What a child holds of a file that is open to every child.
    #[expect(unsafe_code, reason = "the hook makes system calls only and allocates nothing")]
    fn held(hook: fn()) -> String {
        let file = File::open("/etc/passwd").unwrap();
        rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).unwrap();
        let mut command = Command::new("ls");
        command.args(["-l", "/dev/fd/"]);
        // SAFETY: see `reason`.
        unsafe {
            command.pre_exec(move || {
                hook();
                Ok(())
            })
        };
        // It would not have started if the end of its own hook could not be told.
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn a_child_holds_nothing_of_what_is_marked_between_fork_and_exec() {
        let is_held = |hook| held(hook).contains("/etc/passwd");
        assert!(is_held(|| ()), "the control inherits nothing");
        assert!(!is_held(|| close_on_exec_from(3)));
        assert!(is_held(|| close_on_exec_from(4000)), "it has a smaller number");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn where_they_cannot_be_marked_at_once_they_are_marked_one_by_one() {
        use nix::errno::Errno;
        use nix::libc::SYS_close_range;

        use super::super::testing::failing;
        for errno in [Errno::ENOSYS, Errno::EINVAL] {
            let left = failing(&[SYS_close_range], errno, || held(|| close_on_exec_from(3)));
            assert!(!left.contains("/etc/passwd"), "{errno}: {left}");
        }
    }
}
