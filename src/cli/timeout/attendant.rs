//! The `main` of the two processes that attend a terminal that is lent: see `lending.rs`.
//!
//! Standard input is a socket that ends with deadbeat, standard output the terminal.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags};
use nix::sys::signal::SigSet;
#[cfg(target_os = "linux")]
use nix::sys::signal::{Signal as Named, killpg};
use nix::unistd::{Pid, tcgetpgrp, tcsetpgrp};

use super::lending::{KEEPER, LISTENER, REQUEST};
use super::terminal::is_empty;
#[cfg(target_os = "linux")]
use crate::group::kin;
#[cfg(target_os = "linux")]
use crate::group::sender::send_with;
use crate::group::{pause, wait_readable};
use crate::guardian;

/// Between two looks at a terminal that a group of the command's still has, and how long that may be.
const LOOK: Duration = Duration::from_millis(50);
const PATIENCE: Duration = Duration::from_secs(60);

const FOREVER: Duration = Duration::from_secs(1 << 30);

/// Becomes one of the two if this process was started for that, and does not return then.
pub(in crate::cli) fn main_if_requested() {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_none_or(|first| first != REQUEST) {
        return;
    }
    // First of all: until then it has the name of a file, by which it could be killed with deadbeat.
    let _ = std::fs::write("/proc/self/comm", guardian::NAME);
    let _ = SigSet::all().thread_block();
    let role = args.next().and_then(|role| role.into_string().ok());
    let (Some(ours), Some(theirs)) = (group(args.next()), group(args.next())) else { std::process::exit(2) };
    let is_done = match role.as_deref() {
        Some(KEEPER) => keep(ours, theirs),
        Some(LISTENER) => listen(ours, theirs),
        _ => None,
    };
    std::process::exit(if is_done.is_some() { 0 } else { 2 })
}

/// Never one that would mean a stranger's, or all of them.
fn group(arg: Option<OsString>) -> Option<Pid> {
    let number: i32 = arg?.to_str()?.parse().ok()?;
    (number > 1).then(|| Pid::from_raw(number))
}

/// When deadbeat has died, gives the terminal back to its group.
fn keep(ours: Pid, theirs: Pid) -> Option<()> {
    let line = io::stdin();
    while !wait_readable(&mut [PollFd::new(line.as_fd(), PollFlags::POLLIN)], FOREVER) {}
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let holder = tcgetpgrp(io::stdout()).ok()?;
        if holder == theirs || holder.as_raw() > 1 && is_empty(holder) {
            // SIGTTOU is blocked.
            return tcsetpgrp(io::stdout(), ours).ok();
        }
        if holder == ours || !is_younger(holder) {
            return Some(());
        }
        // A group that a shell of the command's has opened: the guardian ends it.
        pause(LOOK);
    }
    None
}

/// Whether a group was opened after the terminal was lent, and so by the command: a shell's that has taken it back was
/// not.
fn is_younger(leader: Pid) -> bool {
    #[cfg(target_os = "linux")]
    {
        let started = |pid| kin::of(pid).map(|kin| kin.started);
        started(leader.as_raw()) >= started(std::process::id() as i32)
    }
    #[cfg(not(target_os = "linux"))]
    {
        let _ = leader;
        false
    }
}

/// While the command lives, sends on to deadbeat's group what keys send the command's. `None` if it could not.
#[cfg(target_os = "linux")]
fn listen(ours: Pid, theirs: Pid) -> Option<()> {
    use nix::sys::signalfd::{SfdFlags, SignalFd};
    use rustix::process::{PidfdFlags, pidfd_open};

    let keys: SigSet = [Named::SIGINT, Named::SIGQUIT].into_iter().collect();
    let heard = SignalFd::with_flags(&keys, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).ok()?;
    let leader = rustix::process::Pid::from_raw(theirs.as_raw())?;
    let command = pidfd_open(leader, PidfdFlags::empty()).ok()?;
    let line = io::stdin();
    loop {
        let waits_for = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut all = [waits_for(line.as_fd()), waits_for(command.as_fd()), waits_for(heard.as_fd())];
        wait_readable(&mut all, FOREVER);
        // Asked before the signals are read: what came before the command's end is heard.
        let is_over = all[..2].iter().any(|fd| fd.revents().is_some_and(|events| !events.is_empty()));
        while let Ok(Some(signal)) = heard.read_signal() {
            let is_handed_on = signal.ssi_code == nix::libc::SI_QUEUE && signal.ssi_int == HANDED_ON;
            let is_typed = signal.ssi_code == nix::libc::SI_KERNEL || is_handed_on;
            if let (true, Ok(name)) = (is_typed, Named::try_from(signal.ssi_signo as i32)) {
                tell(ours, name);
            }
        }
        if is_over {
            return Some(());
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn listen(_ours: Pid, _theirs: Pid) -> Option<()> {
    None
}

/// What comes with a signal from one listener to another.
#[cfg(target_os = "linux")]
const HANDED_ON: i32 = 0x0DEA_DBEA;

/// The group, and first the listener in it, if deadbeat runs within another: that one has to know that a key sent it,
/// which the number of its sender does not tell once that has ended.
#[cfg(target_os = "linux")]
fn tell(group: Pid, signal: Named) {
    for pid in kin::members(group.as_raw()).into_iter().filter(|pid| kin::is_called_with(*pid, &[REQUEST, LISTENER])) {
        let _ = send_with(pid, signal, HANDED_ON);
    }
    let _ = killpg(group, signal);
}
