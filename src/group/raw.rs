//! The calls that neither nix nor rustix has in full: a group signal by any number, and signals through a pidfd.

#[cfg(target_os = "linux")]
use std::os::fd::BorrowedFd;

use nix::errno::Errno;
use nix::libc;

/// `killpg(3)` by raw number, since nix's takes no real-time signals. 0 only asks whether it could be sent.
#[expect(unsafe_code, reason = "nix::killpg cannot send real-time signals")]
pub(super) fn killpg(pgid: i32, signal: i32) -> Result<(), Errno> {
    debug_assert!(pgid > 1, "killpg({pgid}) would reach beyond one group");
    // SAFETY: takes two integers and touches no memory of this process.
    Errno::result(unsafe { libc::killpg(pgid, signal) }).map(drop)
}

/// `kill(2)` to one process, by raw number.
#[cfg(any(target_os = "linux", feature = "cli"))]
#[expect(unsafe_code, reason = "nix::kill cannot send real-time signals")]
pub(super) fn kill(pid: i32, signal: i32) -> Result<(), Errno> {
    debug_assert!(pid > 1, "kill({pid}) would reach beyond one process");
    // SAFETY: takes two integers and touches no memory of this process.
    Errno::result(unsafe { libc::kill(pid, signal) }).map(drop)
}

/// `pidfd_send_signal(2)` with `PIDFD_SIGNAL_PROCESS_GROUP` (Linux 6.9): to the group that the pidfd's process leads or
/// led. Reaches the same group after the leader was reaped, and is `ESRCH` when the group is empty: never a stranger.
#[cfg(target_os = "linux")]
pub(super) fn pidfd_killpg(leader: BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    const PIDFD_SIGNAL_PROCESS_GROUP: libc::c_uint = 1 << 2;
    pidfd_send_signal(leader, signal, PIDFD_SIGNAL_PROCESS_GROUP)
}

/// `pidfd_send_signal(2)`: to this process and no other, even if its number is a stranger's by now. 0 only asks whether
/// it could be sent.
#[cfg(target_os = "linux")]
pub(super) fn pidfd_kill(process: BorrowedFd<'_>, signal: i32) -> Result<(), Errno> {
    pidfd_send_signal(process, signal, 0)
}

#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "rustix's takes no flags, no real-time signals and no null signal")]
fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: i32, flags: libc::c_uint) -> Result<(), Errno> {
    use std::os::fd::AsRawFd;
    // SAFETY: the descriptor outlives the call; a null siginfo is allowed and means "as kill(2) would".
    let sent = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            pidfd.as_raw_fd(),
            signal,
            std::ptr::null::<libc::siginfo_t>(),
            flags,
        )
    };
    Errno::result(sent).map(drop)
}

/// `close_range(2)` with `CLOSE_RANGE_CLOEXEC` (Linux 5.11): all descriptors from this one on are closed by the next
/// exec of this process. Makes one system call and allocates nothing.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "neither nix nor rustix has it")]
pub(super) fn close_range_on_exec(first: libc::c_uint) -> Result<(), Errno> {
    // SAFETY: takes three integers, and closes nothing that is in use here.
    let marked = unsafe { libc::syscall(libc::SYS_close_range, first, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    Errno::result(marked).map(drop)
}

/// `fcntl(2)` with `FD_CLOEXEC`, for a number that may be no descriptor. Makes one system call and allocates nothing.
#[expect(unsafe_code, reason = "the safe calls want an open descriptor")]
pub(super) fn close_on_exec(fd: libc::c_int) {
    // SAFETY: takes three integers and touches no memory; a number that is not open is an error, which changes nothing.
    unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
}

/// Whether this process ignores the signal.
#[expect(unsafe_code, reason = "nix can only ask by setting another action")]
pub(super) fn is_ignored(signal: i32) -> bool {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: asks only, and writes into `action`, which is of the right type and valid when it is all zeros.
    let action = unsafe {
        libc::sigaction(signal, std::ptr::null(), action.as_mut_ptr());
        action.assume_init()
    };
    action.sa_sigaction == libc::SIG_IGN
}

/// Restores the default action of the signal. Makes one system call and allocates nothing; where the system has
/// no such signal, or refuses to change it, nothing happens.
#[expect(unsafe_code, reason = "nix takes no real-time signals")]
pub(super) fn set_default(signal: i32) {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: an action of all zeros is valid: no flags, an empty mask. The default action runs no code of ours.
    unsafe {
        (*action.as_mut_ptr()).sa_sigaction = libc::SIG_DFL;
        libc::sigaction(signal, action.as_ptr(), std::ptr::null_mut());
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Started;
    use super::*;

    #[test]
    fn a_signal_comes_to_the_process_it_is_sent_to_and_not_to_one_that_is_gone() {
        assert_eq!([killpg(i32::MAX, 0), kill(i32::MAX, 0)], [Err(Errno::ESRCH); 2]);
        for send in [killpg, kill] {
            let mut leader = Started::leader();
            assert_eq!(send(leader.pid(), libc::SIGKILL), Ok(()));
            let status = leader.0.wait().unwrap();
            assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(libc::SIGKILL));
        }
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_pidfd_is_the_same_process_and_the_same_group_for_ever() {
        use std::os::fd::AsFd;
        let mut leader = Started::leader();
        let pid = rustix::process::Pid::from_child(&leader.0);
        let pidfd = rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty()).unwrap();
        let ask = || [pidfd_kill(pidfd.as_fd(), 0), pidfd_killpg(pidfd.as_fd(), 0)];
        // Before Linux 6.9 there is no such thing for groups.
        let unknown = ask()[1] == Err(Errno::EINVAL);
        let both = |answer| [answer, if unknown { Err(Errno::EINVAL) } else { answer }];
        assert_eq!(ask(), both(Ok(())));
        leader.reap();
        assert_eq!(ask(), both(Err(Errno::ESRCH)));
    }
}
