//! The `main` of the two helper processes of a terminal that is lent, see `terminal_helpers.rs`.
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

use super::terminal::is_empty;
use super::terminal_helpers::{HELPER_REQUEST, KEEPER, LISTENER};
#[cfg(target_os = "linux")]
use crate::group::kin;
#[cfg(target_os = "linux")]
use crate::group::sender::send_with;
use crate::group::{pause, wait_readable};
use crate::guardian;

/// Between two looks at a terminal that a group of the dead command's still has.
const KEEPER_LOOK: Duration = Duration::from_millis(50);

/// How long a group of the dead command's may have the terminal before the keeper gives up.
const KEEPER_TIMEOUT: Duration = Duration::from_secs(60);

/// For a wait that only an event ends.
const NO_TIMEOUT: Duration = Duration::from_secs(1 << 30);

/// Becomes a helper if this process was started as one, and does not return then.
pub(in crate::cli) fn main_if_requested() {
    let mut args = std::env::args_os().skip(1);
    if args.next().is_none_or(|first| first != HELPER_REQUEST) {
        return;
    }
    // First of all: until then the process has the name of its file, and a kill by deadbeat's name would end it too.
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

/// Parses the number of a group; 0, 1 and negative numbers mean other processes than a group's.
fn group(arg: Option<OsString>) -> Option<Pid> {
    let number: i32 = arg?.to_str()?.parse().ok()?;
    (number > 1).then(|| Pid::from_raw(number))
}

/// Waits for deadbeat's death, and gives the terminal back to its group. `None` if it could not.
fn keep(ours: Pid, theirs: Pid) -> Option<()> {
    let socket = io::stdin();
    while !wait_readable(&mut [PollFd::new(socket.as_fd(), PollFlags::POLLIN)], NO_TIMEOUT) {}
    let deadline = Instant::now() + KEEPER_TIMEOUT;
    while Instant::now() < deadline {
        let holder = tcgetpgrp(io::stdout()).ok()?;
        if holder == theirs || holder.as_raw() > 1 && is_empty(holder) {
            // SIGTTOU, which would stop a process in the background, is blocked.
            return tcsetpgrp(io::stdout(), ours).ok();
        }
        if holder == ours || !is_younger(holder) {
            return Some(());
        }
        // A group that a shell within the command has opened: the guardian kills it.
        pause(KEEPER_LOOK);
    }
    None
}

/// Whether a group was opened after the terminal was lent, and so by the command. A shell that has taken the terminal
/// back is older.
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

/// Sends deadbeat's group the signals that keys send to the command's, while the command lives. `None` if it could not.
#[cfg(target_os = "linux")]
fn listen(ours: Pid, theirs: Pid) -> Option<()> {
    use nix::sys::signalfd::{SfdFlags, SignalFd};
    use rustix::process::{PidfdFlags, pidfd_open};

    let keys: SigSet = [Named::SIGINT, Named::SIGQUIT].into_iter().collect();
    let signals = SignalFd::with_flags(&keys, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).ok()?;
    let leader = rustix::process::Pid::from_raw(theirs.as_raw())?;
    let command = pidfd_open(leader, PidfdFlags::empty()).ok()?;
    let socket = io::stdin();
    loop {
        let waits_for = |fd| PollFd::new(fd, PollFlags::POLLIN);
        let mut all = [waits_for(socket.as_fd()), waits_for(command.as_fd()), waits_for(signals.as_fd())];
        wait_readable(&mut all, NO_TIMEOUT);
        // This is asked before the signals are read, so that a signal that came before the command's end is sent on.
        let is_over = all[..2].iter().any(|fd| fd.revents().is_some_and(|events| !events.is_empty()));
        while let Ok(Some(signal)) = signals.read_signal() {
            let is_sent_on = signal.ssi_code == nix::libc::SI_QUEUE && signal.ssi_int == SENT_ON;
            let is_by_key = signal.ssi_code == nix::libc::SI_KERNEL || is_sent_on;
            if let (true, Ok(name)) = (is_by_key, Named::try_from(signal.ssi_signo as i32)) {
                send_on(ours, name);
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

/// The value that comes with a key's signal from one listener to another.
#[cfg(target_os = "linux")]
const SENT_ON: i32 = 0x0DEA_DBEA;

/// Signals a group. If deadbeat runs within another deadbeat, the listener of that one is in the group, and is
/// signalled first with a value: it has to know that a key sent the signal, which the sender's number does not tell
/// once the sender has ended.
#[cfg(target_os = "linux")]
fn send_on(group: Pid, signal: Named) {
    for pid in
        kin::members(group.as_raw()).into_iter().filter(|pid| kin::is_called_with(*pid, &[HELPER_REQUEST, LISTENER]))
    {
        let _ = send_with(pid, signal, SENT_ON);
    }
    let _ = killpg(group, signal);
}
