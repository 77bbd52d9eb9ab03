//! A process group under a checked number: signal it, list who is in it, ask whether it is gone.
//!
//! *Gone* means that no member can run again. It does not mean `ESRCH`: `killpg(pgid, 0)` succeeds for as long as
//! anything of the group is in the process table, and the leader that its parent has not waited for is such a thing.
//!
//! This module and its children are the only ones on the killing side that talk to the system.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::unistd::{Pid, getpgid, getpgrp};

use crate::error::{KillError, KillErrorKind};
use crate::signal::Signal;

#[cfg(feature = "cli")]
pub(crate) mod family;
#[cfg(target_os = "linux")]
mod linux;
pub(crate) mod mark;
mod portable;
mod raw;

#[cfg(fuzzing)]
pub(crate) mod fuzzing {
    pub use super::linux::stat_line;
}

/// A process group that may be signalled: never 0, 1, a negative number or the caller's own group.
///
/// It is a number, not a hold on the group: once the leader was waited for and the last member is gone, the system
/// may give the number to somebody else. [`KillPolicy::kill_child`](crate::kill::KillPolicy::kill_child) holds the
/// group from the first signal to the last.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ProcessGroup {
    pgid: i32,
}

/// How this process tells whether a group is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Backend {
    /// Linux, with a `/proc` that shows everybody: members and their exits are seen.
    Proc,
    /// `killpg(pgid, 0)` alone: zombies cannot be told from the living, so an un-reaped leader holds the grace.
    Probe,
}

/// The back-end in use here, probed once. `--cfg deadbeat_portable` forces [`Backend::Probe`].
pub fn backend() -> Backend {
    #[cfg(target_os = "linux")]
    if !cfg!(deadbeat_portable) && linux::available() {
        return Backend::Proc;
    }
    Backend::Probe
}

/// One process of a group, as it was when somebody looked.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Member {
    /// Its process id.
    pub pid: i32,
    /// Its state as in `proc_pid_stat(5)`: `R` running, `S` sleeping, `D` in uninterruptible sleep, `T` stopped, ..
    pub state: char,
    /// Its command line, arguments separated by blanks; the bare name in brackets where it has none.
    pub command: String,
    /// Whether this process may signal it (`EPERM` otherwise).
    pub signalable: bool,
}

impl Member {
    /// Whether a SIGKILL is on its way to it, so that it will run no code of its own again.
    pub(crate) fn is_dying(&self) -> bool {
        #[cfg(target_os = "linux")]
        return linux::is_dying(self.pid);
        #[cfg(not(target_os = "linux"))]
        return false;
    }
}

impl fmt::Display for Member {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}] {}", self.pid, self.state, self.command)?;
        if self.signalable { Ok(()) } else { f.write_str(" (not permitted to signal it)") }
    }
}

impl ProcessGroup {
    /// Checks the number, and makes no other system call than asking for the caller's own group.
    ///
    /// # Errors
    ///
    /// [`KillErrorKind::InvalidGroup`] for 0 (the caller's group), 1 (to `killpg(3)` every process), a negative
    /// number, and the caller's own group.
    pub fn new(pgid: i32) -> Result<ProcessGroup, KillError> {
        if pgid <= 1 || pgid == getpgrp().as_raw() {
            return Err(KillError::new(pgid, KillErrorKind::InvalidGroup));
        }
        Ok(ProcessGroup { pgid })
    }

    /// The group that this child leads, if it was started with `process_group(0)`.
    ///
    /// # Errors
    ///
    /// [`KillErrorKind::AlreadyReaped`] after its exit was collected, [`KillErrorKind::NotLeader`] for a child in
    /// somebody else's group, which is what `Command` starts by default: `killpg` would miss it.
    pub fn led_by(child: &tokio::process::Child) -> Result<ProcessGroup, KillError> {
        // tokio forgets the pid when it reaps; -1 stands for it in the message.
        let Some(pid) = child.id() else {
            return Err(KillError::new(-1, KillErrorKind::AlreadyReaped));
        };
        let pid = i32::try_from(pid).map_err(|_| KillError::new(i32::MAX, KillErrorKind::InvalidGroup))?;
        match getpgid(Some(Pid::from_raw(pid))) {
            Ok(pgid) if pgid.as_raw() == pid => ProcessGroup::new(pid),
            Ok(_) => Err(KillError::new(pid, KillErrorKind::NotLeader)),
            // Somebody else reaped it, or SIGCHLD is ignored and nobody had to.
            Err(Errno::ESRCH) => Err(KillError::new(pid, KillErrorKind::AlreadyReaped)),
            Err(errno) => Err(KillError::os(pid, errno.into())),
        }
    }

    /// The checked number.
    pub fn pgid(self) -> i32 {
        self.pgid
    }

    /// `killpg(3)`: sends `signal` to every member that may be signalled.
    ///
    /// # Errors
    ///
    /// The system's: `ESRCH` when nothing of the group is in the process table, `EPERM` when no member at all could
    /// be signalled (if at least one could, the call succeeds).
    pub fn signal(self, signal: Signal) -> io::Result<()> {
        raw::killpg(self.pgid, signal.as_raw()).map_err(io::Error::from)
    }

    /// The members that can still run. Zombies are none; one whose main thread has ended while others run on is one.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::Unsupported`] where there is no `/proc` to read that is known to show this process's world.
    pub fn members(self) -> io::Result<Vec<Member>> {
        #[cfg(target_os = "linux")]
        if linux::available() {
            return linux::members(self.pgid);
        }
        Err(io::Error::new(io::ErrorKind::Unsupported, "members of a group cannot be listed without /proc"))
    }

    /// Whether no member can run again.
    ///
    /// Without `/proc` zombies cannot be told from the living, and a group is gone only when nothing of it is left in
    /// the process table.
    pub fn is_gone(self) -> bool {
        Vigil::new(self).look()
    }

    /// Whether the leader, a child of this process, has ended and can be waited for, or was by somebody else. Does not
    /// wait for it.
    pub(crate) fn leader_has_exited(self) -> bool {
        matches!(portable::has_exited(self.pgid), Ok(true) | Err(Errno::ECHILD))
    }
}

impl fmt::Debug for ProcessGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ProcessGroup({})", self.pgid)
    }
}

impl fmt::Display for ProcessGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pgid.fmt(f)
    }
}

/// A watch kept on one group for as long as it is being killed: knows whether it is gone, and can sleep until that
/// may have changed.
///
/// On Linux it holds the leader's pidfd, taken before the first signal, and signals through it where the kernel can
/// (6.9), so that a leader reaped in the middle cannot turn the number into a stranger's.
#[derive(Debug)]
pub(crate) struct Vigil {
    group: ProcessGroup,
    eyes: Eyes,
}

#[derive(Debug)]
enum Eyes {
    #[cfg(target_os = "linux")]
    Proc(linux::Watch),
    #[cfg(target_os = "linux")]
    Stray(linux::Stray),
    Probe(portable::Watch),
}

impl Vigil {
    pub(crate) fn new(group: ProcessGroup) -> Vigil {
        #[cfg(target_os = "linux")]
        if backend() == Backend::Proc {
            return Vigil { group, eyes: Eyes::Proc(linux::Watch::new(group.pgid)) };
        }
        Vigil { group, eyes: Eyes::Probe(portable::Watch::new(group.pgid)) }
    }

    /// The same watch kept on a single process, for one that has left its group; the number it goes by is its pid.
    ///
    /// It is held first, and asked whether `is_it` the one that is meant then. `None`: it is not, it has ended, or it
    /// must not be signalled.
    #[cfg(target_os = "linux")]
    pub(crate) fn of_process(pid: i32, is_it: impl Fn(i32) -> bool + Send + 'static) -> Option<Vigil> {
        let group = ProcessGroup::new(pid).ok()?;
        let stray = linux::Stray::hold(pid, Box::new(is_it))?;
        Some(Vigil { group, eyes: Eyes::Stray(stray) })
    }

    pub(crate) fn group(&self) -> ProcessGroup {
        self.group
    }

    /// Another watch kept on the same group, not on whoever has its number by now.
    pub(crate) fn again(&self) -> Vigil {
        let eyes = match &self.eyes {
            #[cfg(target_os = "linux")]
            Eyes::Proc(watch) => Eyes::Proc(watch.again()),
            #[cfg(target_os = "linux")]
            Eyes::Stray(_) => unreachable!("a stray is no group"),
            Eyes::Probe(_) => Eyes::Probe(portable::Watch::new(self.group.pgid)),
        };
        Vigil { group: self.group, eyes }
    }

    /// Whether the group is gone.
    pub(crate) fn look(&mut self) -> bool {
        look_at_all(&mut [self])[0]
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<(), Errno> {
        match &self.eyes {
            #[cfg(target_os = "linux")]
            Eyes::Proc(watch) => watch.signal(signal.as_raw()),
            #[cfg(target_os = "linux")]
            Eyes::Stray(stray) => stray.signal(signal.as_raw()),
            Eyes::Probe(watch) => watch.signal(signal.as_raw()),
        }
    }

    /// A descriptor that becomes readable when the answer to [`look`](Vigil::look) may have changed. Without one the
    /// only way is to look again.
    pub(crate) fn wake_fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.eyes {
            #[cfg(target_os = "linux")]
            Eyes::Proc(watch) => watch.witness_fd(),
            #[cfg(target_os = "linux")]
            Eyes::Stray(stray) => stray.fd(),
            Eyes::Probe(_) => None,
        }
    }

    /// Of a group that was sent SIGKILL and was not seen gone by the last look: whether that is no sign of anybody who
    /// survives it. The one seen is on its way out, or the look could not tell.
    pub(crate) fn may_be_leaving(&self) -> bool {
        match &self.eyes {
            #[cfg(target_os = "linux")]
            Eyes::Proc(watch) => watch.may_be_leaving(),
            #[cfg(target_os = "linux")]
            Eyes::Stray(_) => linux::is_leaving(self.group.pgid),
            Eyes::Probe(_) => false,
        }
    }

    /// How long to wait for the next look where `at_most` is allowed: less after one that could not tell.
    pub(crate) fn patience(&self, at_most: Duration) -> Duration {
        match &self.eyes {
            #[cfg(target_os = "linux")]
            Eyes::Proc(watch) if watch.is_undecided() => at_most.min(Duration::from_millis(5)),
            _ => at_most,
        }
    }

    /// Sleeps until the answer may have changed, for `at_most` this long.
    pub(crate) fn wait(&self, at_most: Duration) {
        match self.wake_fd() {
            Some(fd) => {
                wait_readable(&mut [PollFd::new(fd, PollFlags::POLLIN)], at_most);
            }
            None => pause(at_most),
        }
    }
}

/// A descriptor that becomes readable when the leader of a group, a child of this process, has ended.
#[derive(Debug)]
pub(crate) struct ExitFd {
    #[cfg(target_os = "linux")]
    pidfd: linux::Pidfd,
    #[cfg(not(target_os = "linux"))]
    never: std::convert::Infallible,
}

impl ExitFd {
    /// `None` where the system has no such thing, or none to spare; or where the leader was reaped.
    pub(crate) fn of_leader(group: ProcessGroup) -> Option<ExitFd> {
        #[cfg(target_os = "linux")]
        if backend() == Backend::Proc {
            return linux::open_pidfd(group.pgid).ok().map(|pidfd| ExitFd { pidfd });
        }
        let _ = group;
        None
    }
}

impl AsRawFd for ExitFd {
    fn as_raw_fd(&self) -> RawFd {
        #[cfg(target_os = "linux")]
        return self.pidfd.as_raw_fd();
        #[cfg(not(target_os = "linux"))]
        match self.never {}
    }
}

/// Looks at many groups for the price of one walk through the process table. `true`: that one is gone.
pub(crate) fn look_at_all(vigils: &mut [&mut Vigil]) -> Vec<bool> {
    let mut gone = vec![false; vigils.len()];
    #[cfg(target_os = "linux")]
    {
        let mut watches = Vec::with_capacity(vigils.len());
        for (i, vigil) in vigils.iter_mut().enumerate() {
            if let Eyes::Proc(watch) = &mut vigil.eyes {
                watches.push((i, watch));
            }
        }
        for (i, sight) in linux::look(&mut watches) {
            gone[i] = sight == linux::Sight::Gone;
        }
    }
    for (i, vigil) in vigils.iter_mut().enumerate() {
        match &mut vigil.eyes {
            #[cfg(target_os = "linux")]
            Eyes::Proc(_) => {}
            #[cfg(target_os = "linux")]
            Eyes::Stray(stray) => gone[i] = stray.is_gone(),
            Eyes::Probe(watch) => gone[i] = watch.look(),
        }
    }
    gone
}

/// `kill(2)`: to one process, a child of ours that is not reaped yet.
#[cfg(feature = "cli")]
pub(crate) fn signal_process(pid: i32, signal: Signal) -> io::Result<()> {
    if pid <= 1 {
        // It would go to a whole group, to everybody, or to init.
        return Err(io::ErrorKind::InvalidInput.into());
    }
    raw::kill(pid, signal.as_raw()).map_err(io::Error::from)
}

/// Whether this process ignores the signal, as one may be started to.
pub(crate) fn ignores(signal: i32) -> bool {
    raw::is_ignored(signal)
}

/// The time since the system was started; zero where the starts of processes cannot be told.
pub(crate) fn since_boot() -> Duration {
    #[cfg(target_os = "linux")]
    return linux::since_boot();
    #[cfg(not(target_os = "linux"))]
    return Duration::ZERO;
}

/// Whether the process that has this number now is known to have been started later than `at`, as
/// [`since_boot`] counts: then the number meant another one at that time.
pub(crate) fn was_started_after(pid: i32, at: Duration) -> bool {
    #[cfg(target_os = "linux")]
    if linux::available() {
        return linux::started_at(pid).is_some_and(|started| started > at);
    }
    let _ = (pid, at);
    false
}

/// `poll(2)`, rounded up to its milliseconds; an interrupted wait is a short one. Tells whether any is readable.
pub(crate) fn wait_readable(fds: &mut [PollFd<'_>], at_most: Duration) -> bool {
    let millis = at_most.as_micros().div_ceil(1000);
    let timeout = i32::try_from(millis).ok().and_then(|ms| PollTimeout::try_from(ms).ok()).unwrap_or(PollTimeout::MAX);
    match nix::poll::poll(fds, timeout) {
        Ok(ready) => ready > 0,
        Err(Errno::EINTR) => false,
        Err(_) => {
            // Out of memory, say: without the pause the caller would spin.
            pause(at_most.min(Duration::from_millis(100)));
            false
        }
    }
}

/// The pause between two looks where no exit can wake us.
pub(crate) fn pause(time: Duration) {
    #[expect(clippy::disallowed_methods, reason = "the portable poll: for threads that may block, never a worker")]
    std::thread::sleep(time);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pgid_that_killpg_would_read_as_somebody_else_is_refused() {
        let own = getpgrp().as_raw();
        for pgid in [0, 1, -1, -4242, i32::MIN, own] {
            let error = ProcessGroup::new(pgid).expect_err("accepted");
            assert_eq!((error.kind(), error.pgid()), (KillErrorKind::InvalidGroup, pgid));
            assert!(error.to_string().contains(&format!("process group {pgid}:")), "{error}");
        }
    }

    #[test]
    #[cfg(feature = "cli")]
    fn what_kill_would_read_as_more_than_one_process_is_refused() {
        // Should it be sent, it does nothing to anybody who runs.
        for pid in [0, 1, -1, i32::MIN] {
            assert_eq!(signal_process(pid, Signal::CONT).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        }
    }

    #[test]
    fn a_group_that_does_not_exist_is_gone() {
        // Beyond any pid_max, so that no process can carry it.
        let group = ProcessGroup::new(i32::MAX).unwrap();
        assert!(group.is_gone());
        assert_eq!(group.signal(Signal::TERM).unwrap_err().raw_os_error(), Some(Errno::ESRCH as i32));
    }
}
