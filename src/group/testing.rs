//! Tools of the tests: children that wait to be killed, and threads on which system calls fail.

use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
#[cfg(target_os = "linux")]
use std::time::Duration;

#[cfg(target_os = "linux")]
use nix::errno::Errno;
#[cfg(target_os = "linux")]
use nix::libc;
#[cfg(target_os = "linux")]
use nix::poll::{PollFd, PollFlags};
use rustix::process::{WaitId, WaitIdOptions, WaitIdStatus, waitid};

use super::os;
use super::process_group::ProcessGroup;
#[cfg(target_os = "linux")]
use super::wait::wait_readable;

/// A child of ours, killed and reaped when dropped.
pub(super) struct Started(pub(super) Child);

impl Started {
    /// One that is what it is started as: right after a spawn its command line may still be ours, or empty.
    pub(super) fn new(command: &mut Command) -> Started {
        let started = Started(command.stdin(Stdio::piped()).spawn().unwrap());
        if os::available() {
            let (line, ours) = (format!("/proc/{}/cmdline", started.pid()), std::fs::read("/proc/self/cmdline").ok());
            let is_early = || std::fs::read(&line).is_ok_and(|line| line.is_empty() || ours.as_ref() == Some(&line));
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

    pub(super) fn wait_for_its_end(&self) {
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
        let mut leader = Started::new(Command::new("sh").args(["-c", script]).process_group(0).stdout(Stdio::piped()));
        let mut line = String::new();
        std::io::BufReader::new(leader.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
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
