//! A process group under a checked number: signal it, list who is in it, ask whether it is gone.
//!
//! *Gone* means that no member can run again. It does not mean `ESRCH`: `killpg(pgid, 0)` succeeds for as long as
//! anything of the group is in the process table, and the leader that its parent has not waited for is such a thing.
//!
//! This module and its children are the only ones on the killing side that talk to the system.

use std::fmt;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::unistd::{Pid, getpgid, getpgrp};

pub(crate) use self::descriptors::hold_nothing;
pub(crate) use self::dispositions::{begins_with_default_signals, keeps_exited_children};
use crate::error::{KillError, KillErrorKind};
use crate::signal::Signal;

#[cfg(feature = "cli")]
pub(crate) mod descendants;
mod descriptors;
mod dispositions;
#[cfg(target_os = "linux")]
pub(crate) mod kin;
#[cfg(target_os = "linux")]
mod linux;
pub(crate) mod mark;
mod portable;
mod raw;
#[cfg(feature = "cli")]
pub(crate) mod sender;
pub(crate) mod stop;

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

/// Whether what is left of those that were sent SIGKILL has outlived it: at `deadline`, or a minute later if all of it is
/// dying and only wants for a CPU or a disk.
pub(crate) fn outlived_sigkill(left: &[Member], deadline: Instant) -> bool {
    const DYING: Duration = Duration::from_secs(60);
    let now = Instant::now();
    now >= deadline && (now >= deadline + DYING || !left.iter().all(Member::is_dying))
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
        GroupWatch::new(self).is_gone()
    }

    /// Whether the leader, a child of this process, has ended and can be waited for, or was by somebody else. Does not
    /// wait for it.
    pub(crate) fn leader_has_exited(self) -> bool {
        matches!(portable::has_exited(self.pgid), Ok(true) | Err(Errno::ECHILD))
    }

    /// Whether the leader is dying and only waits for a CPU, as far as that can be seen.
    pub(crate) fn leader_is_leaving(self) -> bool {
        #[cfg(target_os = "linux")]
        if linux::available() {
            return linux::is_leaving(self.pgid);
        }
        false
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

/// What a look at a group tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Some member can run.
    Alive,
    /// It could not be told: neither a living member was seen, nor that there is none.
    Unclear,
    /// No member can run again.
    Gone,
}

/// A watch kept on one group for as long as it is being killed: knows whether it is gone, and can sleep until that
/// may have changed.
///
/// On Linux it holds the leader's pidfd, taken before the first signal, and signals through it where the kernel can
/// (6.9), so that a leader reaped in the middle cannot turn the number into a stranger's.
#[derive(Debug)]
pub(crate) struct GroupWatch {
    group: ProcessGroup,
    inner: Inner,
}

#[derive(Debug)]
enum Inner {
    #[cfg(target_os = "linux")]
    Proc(linux::ProcWatch),
    #[cfg(target_os = "linux")]
    SingleProcess(linux::SingleProcess),
    Probe(portable::ProbeWatch),
}

impl GroupWatch {
    pub(crate) fn new(group: ProcessGroup) -> GroupWatch {
        #[cfg(target_os = "linux")]
        if backend() == Backend::Proc {
            return GroupWatch { group, inner: Inner::Proc(linux::ProcWatch::new(group.pgid)) };
        }
        GroupWatch { group, inner: Inner::Probe(portable::ProbeWatch::new(group.pgid)) }
    }

    /// The same watch kept on a single process, for one that has left its group; the number it goes by is its pid.
    ///
    /// It is held first, and asked whether `is_it` the one that is meant then. `None`: it is not, it has ended, or it
    /// must not be signalled.
    #[cfg(target_os = "linux")]
    pub(crate) fn of_process(pid: i32, is_it: impl Fn(i32) -> bool + Send + 'static) -> Option<GroupWatch> {
        let group = ProcessGroup::new(pid).ok()?;
        let process = linux::SingleProcess::hold(pid, Box::new(is_it))?;
        Some(GroupWatch { group, inner: Inner::SingleProcess(process) })
    }

    pub(crate) fn group(&self) -> ProcessGroup {
        self.group
    }

    /// Another watch kept on the same group, not on whoever has its number by now.
    pub(crate) fn again(&self) -> GroupWatch {
        let inner = match &self.inner {
            #[cfg(target_os = "linux")]
            Inner::Proc(watch) => Inner::Proc(watch.again()),
            #[cfg(target_os = "linux")]
            Inner::SingleProcess(_) => unreachable!("a process is no group"),
            Inner::Probe(_) => Inner::Probe(portable::ProbeWatch::new(self.group.pgid)),
        };
        GroupWatch { group: self.group, inner }
    }

    /// Whether, for want of a descriptor, a stranger that gets the number will not be told from the group. What POSIX alone
    /// can tell is never enough for that.
    pub(crate) fn is_unidentified(&self) -> bool {
        match &self.inner {
            #[cfg(target_os = "linux")]
            Inner::Proc(watch) => watch.is_unidentified(),
            #[cfg(target_os = "linux")]
            Inner::SingleProcess(_) => false,
            Inner::Probe(_) => false,
        }
    }

    /// Whether any member can still run.
    pub(crate) fn look(&mut self) -> Seen {
        look_at_all(&mut [self])[0]
    }

    pub(crate) fn is_gone(&mut self) -> bool {
        self.look() == Seen::Gone
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<(), Errno> {
        match &self.inner {
            #[cfg(target_os = "linux")]
            Inner::Proc(watch) => watch.signal(signal.as_raw()),
            #[cfg(target_os = "linux")]
            Inner::SingleProcess(process) => process.signal(signal.as_raw()),
            Inner::Probe(watch) => watch.signal(signal.as_raw()),
        }
    }

    /// A descriptor that becomes readable when the answer to [`look`](GroupWatch::look) may have changed. Without one the
    /// only way is to look again.
    pub(crate) fn wake_fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.inner {
            #[cfg(target_os = "linux")]
            Inner::Proc(watch) => watch.held_fd(),
            #[cfg(target_os = "linux")]
            Inner::SingleProcess(process) => process.fd(),
            Inner::Probe(_) => None,
        }
    }

    /// Whether the member that the last look saw is dying and only waits for a CPU.
    pub(crate) fn is_leaving(&self) -> bool {
        match &self.inner {
            #[cfg(target_os = "linux")]
            Inner::Proc(watch) => watch.is_leaving(),
            #[cfg(target_os = "linux")]
            Inner::SingleProcess(_) => linux::is_leaving(self.group.pgid),
            Inner::Probe(_) => false,
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

/// Looks at many groups for the price of one walk through the process table.
pub(crate) fn look_at_all(watches: &mut [&mut GroupWatch]) -> Vec<Seen> {
    let mut all_seen = vec![Seen::Alive; watches.len()];
    #[cfg(target_os = "linux")]
    {
        let mut by_proc = Vec::with_capacity(watches.len());
        for (i, watch) in watches.iter_mut().enumerate() {
            if let Inner::Proc(watch) = &mut watch.inner {
                by_proc.push((i, watch));
            }
        }
        for (i, seen) in linux::look(&mut by_proc) {
            all_seen[i] = seen;
        }
    }
    for (seen, watch) in all_seen.iter_mut().zip(watches) {
        let is_gone = match &mut watch.inner {
            #[cfg(target_os = "linux")]
            Inner::Proc(_) => continue,
            #[cfg(target_os = "linux")]
            Inner::SingleProcess(process) => process.is_gone(),
            Inner::Probe(watch) => watch.look(),
        };
        *seen = if is_gone { Seen::Gone } else { Seen::Alive };
    }
    all_seen
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

/// The group of this process, if it lives and leads none of its own; zero for a group of another pid namespace. Without
/// `/proc` a zombie looks alive.
#[cfg(feature = "cli")]
pub(crate) fn group_of_member(pid: i32) -> Option<i32> {
    let group = getpgid(Some(Pid::from_raw(pid))).ok()?.as_raw();
    #[cfg(target_os = "linux")]
    if linux::available() && !linux::runs(pid) {
        return None;
    }
    (group != pid).then_some(group)
}

/// Whether this process ignores the signal, as one may be started to.
pub(crate) fn ignores(signal: i32) -> bool {
    raw::is_ignored(signal)
}

/// Whether a process gets on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Its main thread is ready to run, or in uninterruptible sleep: it waits for a CPU, a disk or a page, if it does not run.
    pub(crate) wants_to_run: bool,
    /// What its main thread has spent on a CPU, as of the last tick or switch.
    pub(crate) on_cpu: Duration,
}

/// `None` for a process that is not there, or where the system does not tell.
pub(crate) fn progress(pid: i32) -> Option<Progress> {
    #[cfg(target_os = "linux")]
    if linux::available() {
        return linux::progress(pid);
    }
    let _ = pid;
    None
}

/// The id of this thread; zero where threads have none that others can ask for.
pub(crate) fn this_thread() -> i32 {
    #[cfg(target_os = "linux")]
    return rustix::thread::gettid().as_raw_nonzero().get();
    #[cfg(not(target_os = "linux"))]
    return 0;
}

/// Whether the kernel still counts this thread, or another that got its number.
pub(crate) fn has_thread(thread: i32) -> bool {
    thread != 0 && getpgid(Some(Pid::from_raw(thread))) != Err(Errno::ESRCH)
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

#[cfg(all(test, target_os = "linux"))]
#[path = "../tests/common/inside.rs"]
mod inside;

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::{Child, Command, Stdio};
    use std::time::Instant;

    #[cfg(target_os = "linux")]
    use nix::libc;
    use rustix::process::{WaitId, WaitIdOptions, WaitIdStatus, waitid};

    #[cfg(target_os = "linux")]
    use super::inside::inside;
    use super::*;

    /// A child of ours, killed and reaped when dropped.
    pub(super) struct Started(pub(super) Child);

    impl Started {
        /// One that is what it is started as: right after a spawn its command line may still be ours, or empty.
        pub(super) fn new(command: &mut Command) -> Started {
            let started = Started(command.stdin(Stdio::piped()).spawn().unwrap());
            #[cfg(target_os = "linux")]
            if linux::available() {
                let (line, ours) =
                    (format!("/proc/{}/cmdline", started.pid()), std::fs::read("/proc/self/cmdline").ok());
                let is_early =
                    || std::fs::read(&line).is_ok_and(|line| line.is_empty() || ours.as_ref() == Some(&line));
                while !started.has_ended() && is_early() {
                    std::thread::yield_now();
                }
            }
            started
        }

        /// One that leads a group of its own, and lives until its stdin ends.
        pub(super) fn leader() -> Started {
            Started::new(Command::new("cat").process_group(0))
        }

        pub(super) fn pid(&self) -> i32 {
            i32::try_from(self.0.id()).unwrap()
        }

        pub(super) fn group(&self) -> ProcessGroup {
            ProcessGroup::new(self.pid()).unwrap()
        }

        /// It ends by itself, and is not reaped.
        pub(super) fn end(&mut self) {
            drop(self.0.stdin.take());
            self.wait_for_its_end();
        }

        /// SIGKILL, and the end of it; it is not reaped.
        pub(super) fn kill(&mut self) {
            self.0.kill().unwrap();
            self.wait_for_its_end();
        }

        fn wait_for_its_end(&self) {
            self.status(WaitIdOptions::empty());
        }

        pub(super) fn has_ended(&self) -> bool {
            self.status(WaitIdOptions::NOHANG).is_some()
        }

        fn status(&self, how: WaitIdOptions) -> Option<WaitIdStatus> {
            let pid = WaitId::Pid(rustix::process::Pid::from_child(&self.0));
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | how;
            rustix::io::retry_on_intr(|| waitid(pid.clone(), options)).unwrap()
        }

        /// SIGKILL, and nothing of it is left.
        pub(super) fn reap(&mut self) {
            self.0.kill().unwrap();
            self.0.wait().unwrap();
        }
    }

    impl Drop for Started {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    /// A leader with one more in its group, which lives on without it.
    #[cfg(target_os = "linux")]
    pub(super) struct Pair {
        pub(super) leader: Started,
        pub(super) member: i32,
        held: std::os::fd::OwnedFd,
    }

    #[cfg(target_os = "linux")]
    impl Pair {
        pub(super) fn start() -> Pair {
            use std::io::BufRead;
            let script = "sleep 60 2>&1 & echo $!; exec cat";
            let mut leader =
                Started::new(Command::new("sh").args(["-c", script]).process_group(0).stdout(Stdio::piped()));
            let mut line = String::new();
            io::BufReader::new(leader.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
            let member = line.trim().parse().unwrap();
            let held = rustix::process::pidfd_open(
                rustix::process::Pid::from_raw(member).unwrap(),
                rustix::process::PidfdFlags::empty(),
            );
            Pair { leader, member, held: held.unwrap() }
        }

        /// SIGKILL, and the end of it; who reaps it is not ours to say.
        pub(super) fn kill_member(&self) {
            use std::os::fd::AsFd;
            let _ = rustix::process::pidfd_send_signal(&self.held, rustix::process::Signal::KILL);
            while !wait_readable(&mut [PollFd::new(self.held.as_fd(), PollFlags::POLLIN)], Duration::from_secs(1)) {}
        }
    }

    #[cfg(target_os = "linux")]
    impl Drop for Pair {
        fn drop(&mut self) {
            let _ = rustix::process::pidfd_send_signal(&self.held, rustix::process::Signal::KILL);
        }
    }

    /// What opens a file by its name.
    #[cfg(target_os = "linux")]
    pub(super) const OPEN: &[libc::c_long] = &[
        libc::SYS_openat,
        #[cfg(target_arch = "x86_64")]
        libc::SYS_open,
    ];

    /// Runs it where these calls fail: on a thread of its own.
    #[cfg(target_os = "linux")]
    pub(super) fn failing<T: Send>(calls: &[libc::c_long], error: Errno, run: impl FnOnce() -> T + Send) -> T {
        failing_if(calls.iter().map(|call| (*call, Vec::new())).collect(), error, run)
    }

    /// Runs it where no group can be signalled by a pidfd, as before Linux 6.9.
    #[cfg(target_os = "linux")]
    pub(super) fn before_6_9<T: Send>(run: impl FnOnce() -> T + Send) -> T {
        use seccompiler::{SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompRule};
        let has_flags = SeccompCondition::new(3, SeccompCmpArgLen::Dword, SeccompCmpOp::Ne, 0).unwrap();
        let rule = SeccompRule::new(vec![has_flags]).unwrap();
        failing_if(vec![(libc::SYS_pidfd_send_signal, vec![rule])], Errno::EINVAL, run)
    }

    #[cfg(target_os = "linux")]
    fn failing_if<T: Send>(
        calls: Vec<(libc::c_long, Vec<seccompiler::SeccompRule>)>,
        error: Errno,
        run: impl FnOnce() -> T + Send,
    ) -> T {
        use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter};
        let arch = std::env::consts::ARCH.try_into().unwrap();
        let refuse = SeccompAction::Errno(error as u32);
        let filter = SeccompFilter::new(calls.into_iter().collect(), SeccompAction::Allow, refuse, arch).unwrap();
        let program = BpfProgram::try_from(filter).unwrap();
        let on_thread = || {
            apply_filter(&program).unwrap();
            run()
        };
        let ran = std::thread::scope(|scope| scope.spawn(on_thread).join());
        ran.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

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

    #[test]
    fn a_group_is_shown_by_its_number() {
        let group = ProcessGroup::new(i32::MAX).unwrap();
        assert_eq!(group.pgid(), i32::MAX);
        assert_eq!(
            (format!("{group}"), format!("{group:?}")),
            ("2147483647".into(), "ProcessGroup(2147483647)".into())
        );
    }

    #[test]
    fn a_member_that_may_not_be_signalled_is_shown_as_such() {
        let member = Member { pid: 42, state: 'S', command: "sleep 60".into(), signalable: true };
        assert_eq!(member.to_string(), "42 [S] sleep 60");
        let member = Member { signalable: false, ..member };
        assert_eq!(member.to_string(), "42 [S] sleep 60 (not permitted to signal it)");
    }

    #[test]
    fn the_back_end_is_what_this_proc_and_the_build_allow() {
        #[cfg(target_os = "linux")]
        let has_proc = linux::available() && !cfg!(deadbeat_portable);
        #[cfg(not(target_os = "linux"))]
        let has_proc = false;
        assert_eq!(backend() == Backend::Proc, has_proc);
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_proc_of_another_pid_namespace_is_not_believed() {
        let place = ["unshare", "--pid", "--fork", "--kill-child"];
        if !inside(a_proc_of_another_pid_namespace_is_not_believed, &place) {
            return;
        }
        assert_eq!((linux::available(), backend()), (false, Backend::Probe));
        let mut leader = Started::leader();
        let (group, mark) = (leader.group(), mark::Mark::new("DEADBEAT_TEST", "nobody"));
        let refused = [group.members(), mark.members()].map(|members| members.unwrap_err().kind());
        assert_eq!(refused, [io::ErrorKind::Unsupported; 2]);
        assert!(mark::carriers("PATH").found.is_empty());
        assert!(ExitFd::of_leader(group).is_none());
        assert!(!was_started_after(leader.pid(), Duration::ZERO), "it is somebody else's start");
        // Its number is known to no group here until it is reaped.
        assert!(!group.is_gone());
        leader.kill();
        assert!(!group.is_gone());
        leader.reap();
        assert!(group.is_gone());
    }

    #[tokio::test]
    async fn of_a_child_only_the_group_that_it_leads_is_had() {
        let start = |command: &mut tokio::process::Command| command.stdin(Stdio::piped()).spawn().unwrap();
        let mut leader = start(tokio::process::Command::new("cat").process_group(0));
        let mut follower = start(&mut tokio::process::Command::new("cat"));
        let (group, none) = (ProcessGroup::led_by(&leader), ProcessGroup::led_by(&follower));
        let pids = [&leader, &follower].map(|child| i32::try_from(child.id().unwrap()).unwrap());
        for child in [&mut leader, &mut follower] {
            child.kill().await.unwrap();
        }
        assert_eq!(group.unwrap().pgid(), pids[0]);
        let none = none.unwrap_err();
        assert_eq!((none.kind(), none.pgid()), (KillErrorKind::NotLeader, pids[1]));
        let reaped = ProcessGroup::led_by(&leader).unwrap_err();
        assert_eq!((reaped.kind(), reaped.pgid()), (KillErrorKind::AlreadyReaped, -1));
    }

    #[test]
    fn a_living_group_is_not_gone_and_can_be_asked_for_its_members() {
        let mut leader = Started::leader();
        let group = leader.group();
        assert!(!group.is_gone() && !group.leader_has_exited());
        group.signal(Signal::CONT).unwrap();
        match group.members() {
            Ok(members) => assert_eq!(members.iter().map(|member| member.pid).collect::<Vec<_>>(), [leader.pid()]),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::Unsupported),
        }
        leader.kill();
        assert!(group.leader_has_exited(), "it can be waited for");
        assert_eq!(group.is_gone(), backend() == Backend::Proc, "a zombie");
        leader.reap();
        assert!(group.leader_has_exited(), "it was waited for");
        assert!(group.is_gone());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_member_is_dying_from_its_sigkill_on() {
        let mut leader = Started::leader();
        let [member] = <[Member; 1]>::try_from(leader.group().members().unwrap()).unwrap();
        assert!(!member.is_dying());
        leader.0.kill().unwrap();
        assert!(member.is_dying());
    }

    #[test]
    fn many_looks_at_once_are_answered_in_their_order() {
        let (mut gone, alive) = (Started::leader(), Started::leader());
        let mut watches = [gone.group(), alive.group(), gone.group()].map(GroupWatch::new);
        assert_eq!(look_at_all(&mut watches.each_mut()), [Seen::Alive; 3]);
        gone.reap();
        assert_eq!(look_at_all(&mut watches.each_mut()), [Seen::Gone, Seen::Alive, Seen::Gone]);
        assert!(watches[0].is_gone() && !watches[1].is_gone());
        assert_eq!([0, 1].map(|i| watches[i].signal(Signal::CONT)), [Err(Errno::ESRCH), Ok(())]);
        assert_eq!(watches[1].wake_fd().is_some(), backend() == Backend::Proc, "what its exit wakes");
        assert!(watches[0].wake_fd().is_none(), "nobody is left whose exit could be waited for");
        assert!(!watches[1].is_leaving() && look_at_all(&mut []).is_empty());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_single_process_is_watched_for_as_long_as_it_is_the_one_that_is_meant() {
        let mut leader = Started::leader();
        let pid = leader.pid();
        assert!(
            GroupWatch::of_process(pid, |_| false).is_none() && GroupWatch::of_process(i32::MAX, |_| true).is_none()
        );
        assert!(GroupWatch::of_process(1, |_| true).is_none(), "init must not be signalled");
        let mut watch = GroupWatch::of_process(pid, move |it| it == pid).unwrap();
        assert_eq!(watch.group().pgid(), pid);
        assert!(!watch.is_gone() && !watch.is_leaving() && watch.wake_fd().is_some());
        watch.signal(Signal::KILL).unwrap();
        assert!(linux::is_dying(pid));
        leader.kill();
        assert!(watch.is_gone() && watch.is_leaving());
    }

    #[test]
    fn a_wait_is_no_spin() {
        let (mut gone, alive) = (Started::leader(), Started::leader());
        gone.reap();
        for group in [gone.group(), alive.group()] {
            let mut watch = GroupWatch::new(group);
            watch.look();
            // A signal to this process may end one early, but not all of them.
            let (start, mut waits) = (Instant::now(), 0);
            while start.elapsed() < Duration::from_millis(20) {
                watch.wait(Duration::from_millis(20));
                waits += 1;
            }
            assert!(waits < 100, "{waits} waits of {group}");
        }
        let start = Instant::now();
        pause(Duration::from_millis(5));
        assert!(start.elapsed() >= Duration::from_millis(5));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn the_exit_of_a_leader_makes_its_descriptor_readable() {
        use std::os::fd::AsFd;
        let mut leader = Started::leader();
        let Some(exit) = ExitFd::of_leader(leader.group()) else {
            return assert_eq!(backend(), Backend::Probe);
        };
        let link = std::fs::read_link(format!("/proc/self/fd/{}", exit.as_raw_fd())).unwrap();
        assert!(link.to_string_lossy().contains("pidfd"), "{link:?}");
        let is_readable = || wait_readable(&mut [PollFd::new(exit.pidfd.as_fd(), PollFlags::POLLIN)], Duration::ZERO);
        assert!(!is_readable());
        leader.kill();
        assert!(is_readable());
    }

    #[test]
    fn what_there_is_to_read_ends_a_wait() {
        use std::io::Write;
        use std::os::fd::AsFd;
        let (mut writer, reader) = std::os::unix::net::UnixStream::pair().unwrap();
        let is_readable = |at_most| wait_readable(&mut [PollFd::new(reader.as_fd(), PollFlags::POLLIN)], at_most);
        assert!(!is_readable(Duration::ZERO) && !is_readable(Duration::from_micros(1)));
        writer.write_all(b"x").unwrap();
        // However long it was to be: nothing overflows.
        assert!(is_readable(Duration::ZERO) && is_readable(Duration::MAX));
    }

    #[test]
    fn a_signal_is_ignored_only_by_order() {
        // The standard library gives this order, and nobody the other.
        assert!(ignores(nix::libc::SIGPIPE) && !ignores(Signal::KILL.as_raw()));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn only_what_was_started_later_was_started_after() {
        let mut cat = Started::leader();
        let started = linux::started_at(cat.pid()).unwrap();
        assert!(started > Duration::ZERO && since_boot() >= started);
        let (tick, instant) = (Duration::from_millis(10), Duration::from_nanos(1));
        for (at, is_after) in [(started - instant, true), (started, false), (started + tick, false)] {
            assert_eq!(was_started_after(cat.pid(), at), is_after, "{at:?} {started:?}");
        }
        cat.reap();
        assert!(!was_started_after(cat.pid(), Duration::ZERO), "nobody has the number");
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
}
