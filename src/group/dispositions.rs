//! Signal dispositions at the start of a process: all default, whatever its parent ignores or blocks.

use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::libc;
use nix::sys::signal::SigSet;

use super::raw;

/// The highest number of a signal on any system.
const LAST: i32 = 64;

/// Has the command begin with the default action of every signal and none of them blocked. An ignored or blocked signal
/// stays so across an exec, and no POSIX shell can change what it was started to ignore: so it is done between fork and
/// exec.
#[expect(unsafe_code, reason = "the hook makes system calls only and allocates nothing")]
pub(crate) fn begins_with_default_signals(command: &mut Command) {
    let hook = || {
        (1..=LAST).for_each(raw::set_default);
        SigSet::empty().thread_set_mask().map_err(Into::into)
    };
    // SAFETY: see `reason`.
    unsafe { command.pre_exec(hook) };
}

/// Has a child that has exited stay until it is waited for. Where SIGCHLD is ignored, as a process may be started to,
/// the kernel reaps children at once: the status is lost, and the number free while it is still to be signalled.
pub(crate) fn keeps_exited_children() {
    if raw::is_ignored(libc::SIGCHLD) {
        raw::set_default(libc::SIGCHLD);
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    /// What a child of a thread that blocks SIGTERM has ignored and blocked, by the two lines of its status.
    fn status(is_clean: bool) -> String {
        let mut command = Command::new("grep");
        command.args(["-E", "^Sig(Ign|Blk):", "/proc/self/status"]);
        let mut blocked = SigSet::empty();
        blocked.add(nix::sys::signal::SIGTERM);
        // Of this thread alone.
        let before = blocked.thread_swap_mask(nix::sys::signal::SigmaskHow::SIG_BLOCK).unwrap();
        if is_clean {
            begins_with_default_signals(&mut command);
        }
        let output = command.output();
        before.thread_set_mask().unwrap();
        String::from_utf8(output.unwrap().stdout).unwrap()
    }

    #[test]
    fn a_child_has_no_signal_blocked_that_its_parent_has() {
        let blocks_term = |status: &str| status.lines().any(|line| line == "SigBlk:\t0000000000004000");
        assert!(blocks_term(&status(false)), "the control passes on nothing: {}", status(false));
        let clean = status(true);
        // The C library refuses to change two numbers that it keeps for itself, 32 and 33.
        let standard = |line: &str| i64::from_str_radix(line.split_once('\t').unwrap().1, 16).unwrap() & 0x7FFF_FFFF;
        assert!(clean.lines().count() == 2 && clean.lines().all(|line| standard(line) == 0), "{clean}");
    }
}
