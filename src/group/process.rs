//! Single processes and threads: signalled, asked how they do, and whether SIGKILL has come to them.

#[cfg(feature = "cli")]
use std::io;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::unistd::{Pid, getpgid};

use super::member::Member;
use super::{os, raw};
#[cfg(feature = "cli")]
use crate::signal::Signal;

/// Whether a SIGKILL is on its way to this process, so that it will run no code of its own again.
pub(crate) fn is_dying(member: &Member) -> bool {
    os::is_dying(member.pid)
}

/// Whether what is left of the processes that were sent SIGKILL has outlived it: at `deadline`, or a minute later if
/// all of it is dying and only waits for a CPU or a disk.
pub(crate) fn outlived_sigkill(left: &[Member], deadline: Instant) -> bool {
    const DYING: Duration = Duration::from_secs(60);
    let now = Instant::now();
    now >= deadline && (now >= deadline + DYING || !left.iter().all(is_dying))
}

/// `kill(2)`, to one process: a child of this one that is not reaped yet.
#[cfg(feature = "cli")]
pub(crate) fn signal_process(pid: i32, signal: Signal) -> io::Result<()> {
    if pid <= 1 {
        // It would go to a whole group, to every process, or to init.
        return Err(io::ErrorKind::InvalidInput.into());
    }
    raw::kill(pid, signal.as_raw()).map_err(io::Error::from)
}

/// The group of this process, if it lives and leads none of its own; zero for a group of another pid namespace. Without
/// `/proc` a zombie looks alive.
#[cfg(feature = "cli")]
pub(crate) fn group_of_member(pid: i32) -> Option<i32> {
    let group = getpgid(Some(Pid::from_raw(pid))).ok()?.as_raw();
    if os::available() && !os::runs(pid) {
        return None;
    }
    (group != pid).then_some(group)
}

/// Whether this process ignores the signal, as one may be started to.
pub(crate) fn ignores(signal: i32) -> bool {
    raw::is_ignored(signal)
}

/// Whether a process makes progress.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Its main thread is ready to run, or in uninterruptible sleep: it waits for a CPU, a disk or a page, if it does
    /// not run.
    pub(crate) wants_to_run: bool,
    /// What its main thread has spent on a CPU, as of the last tick or switch.
    pub(crate) on_cpu: Duration,
}

/// `None` for a process that is not there, or where the system does not tell.
pub(crate) fn progress(pid: i32) -> Option<Progress> {
    let (wants_to_run, on_cpu) = os::available().then(|| os::progress(pid))??;
    Some(Progress { wants_to_run, on_cpu })
}

/// The id of this thread; zero where threads have none that others can ask for.
pub(crate) fn this_thread() -> i32 {
    os::this_thread()
}

/// Whether the kernel still counts this thread, or another that got its number.
pub(crate) fn has_thread(thread: i32) -> bool {
    thread != 0 && getpgid(Some(Pid::from_raw(thread))) != Err(Errno::ESRCH)
}

/// The time since the system was started; zero where the starts of processes cannot be told.
pub(crate) fn since_boot() -> Duration {
    os::since_boot()
}

/// Whether the process that has this number now is known to have been started later than `at`, as
/// [`since_boot`] counts: then the number meant another one at that time.
pub(crate) fn was_started_after(pid: i32, at: Duration) -> bool {
    os::available() && os::started_at(pid).is_some_and(|started| started > at)
}

#[cfg(test)]
mod tests {
    use super::super::testing::Started;
    use super::*;

    #[test]
    #[cfg(feature = "cli")]
    fn what_kill_would_read_as_more_than_one_process_is_refused() {
        // Should it be sent, it does nothing to a process that runs.
        for pid in [0, 1, -1, i32::MIN] {
            assert_eq!(signal_process(pid, Signal::CONT).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
    }

    #[test]
    #[cfg(feature = "cli")]
    fn a_child_is_signalled_by_its_number() {
        let error = signal_process(i32::MAX, Signal::KILL).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(Errno::ESRCH as i32));
        let cat = Started::leader();
        signal_process(cat.pid(), Signal::KILL).unwrap();
        cat.wait_for_its_end();
    }

    #[test]
    fn a_signal_is_ignored_only_by_order() {
        // The standard library gives this order, and no other.
        assert!(ignores(nix::libc::SIGPIPE) && !ignores(Signal::KILL.as_raw()));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_process_that_is_dying_has_a_minute_more() {
        let mut leader = Started::leader();
        let members = leader.group().members().unwrap();
        let (now, minute) = (Instant::now(), Duration::from_secs(60));
        let deadlines = [now + minute, now, now - minute];
        let outlived = || deadlines.map(|deadline| outlived_sigkill(&members, deadline));
        assert_eq!(outlived(), [false, true, true]);
        leader.0.kill().unwrap();
        assert_eq!(outlived(), [false, false, true]);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn only_what_was_started_later_was_started_after() {
        let mut cat = Started::leader();
        let started = os::started_at(cat.pid()).unwrap();
        assert!(started > Duration::ZERO && since_boot() >= started);
        let (tick, instant) = (Duration::from_millis(10), Duration::from_nanos(1));
        for (at, is_after) in [(started - instant, true), (started, false), (started + tick, false)] {
            assert_eq!(was_started_after(cat.pid(), at), is_after, "{at:?} {started:?}");
        }
        cat.reap();
        assert!(!was_started_after(cat.pid(), Duration::ZERO), "no process has the number");
    }
}
