//! The two calls that neither nix nor rustix has: a group signal by any number, and one through a pidfd.

use nix::errno::Errno;
use nix::libc;

/// `killpg(3)` by raw number, since nix's takes no real-time signals. 0 only asks whether it could.
#[expect(unsafe_code, reason = "nix::killpg cannot send real-time signals")]
pub(super) fn killpg(pgid: i32, signal: i32) -> Result<(), Errno> {
    debug_assert!(pgid > 1, "killpg({pgid}) would reach beyond one group");
    // SAFETY: takes two integers and touches no memory of ours.
    Errno::result(unsafe { libc::killpg(pgid, signal) }).map(drop)
}

/// `pidfd_send_signal(2)` with `PIDFD_SIGNAL_PROCESS_GROUP` (Linux 6.9): to the group that the pidfd's process leads or
/// led. Reaches the same group after the leader was reaped, and is `ESRCH` when the group is empty: never a stranger.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "rustix's pidfd_send_signal takes no flags")]
pub(super) fn pidfd_killpg(leader: std::os::fd::BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    use std::os::fd::AsRawFd;
    const PIDFD_SIGNAL_PROCESS_GROUP: libc::c_uint = 1 << 2;
    // SAFETY: the descriptor outlives the call; a null siginfo is allowed and means "as kill(2) would".
    let sent = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            leader.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            PIDFD_SIGNAL_PROCESS_GROUP,
        )
    };
    Errno::result(sent).map(drop)
}
