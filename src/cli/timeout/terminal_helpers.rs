//! Starts two small processes while the terminal is lent to the command, both of them this program started again.
//!
//! - The *keeper*, in deadbeat's group: if deadbeat is killed by SIGKILL, it gives the terminal back to that group.
//!   Only a process of the terminal's session can do that, and the guardian is in a session of its own.
//! - The *listener*, in the command's group: a key's signal comes to that group alone, and a command that catches it
//!   ends without a trace of it. The listener receives it too, and sends it to the rest of deadbeat's job.
//!
//! They block every signal, hold no descriptor of the caller's, end with deadbeat at the latest, and are ended before
//! it ends.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::SigSet;
use nix::unistd::getpgrp;

use super::signal_origin;
use super::terminal::Terminal;
use crate::group::descendants::{child_has_ended, start_helper, wait_for_helper};
use crate::group::{hold_nothing, pause, signal_process};
use crate::guardian;
use crate::signal::Signal;

/// The first argument that starts this program as one of the two.
pub(super) const HELPER_REQUEST: &str = "__proc-terminal";
pub(super) const KEEPER: &str = "keeper";
pub(super) const LISTENER: &str = "listener";

/// How long a listener may take to end after its command: it sends on what it has received. It bounds one that cannot.
const LISTENER_TIMEOUT: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct TerminalHelpers {
    keeper: Option<Child>,
    listener: Option<Child>,
    /// Held open: its end tells them that deadbeat has ended.
    _socket: UnixStream,
}

impl TerminalHelpers {
    /// Starts the helpers for the loan of the terminal to the group `pgid`. `None` where there is no `/proc` to start
    /// them from, or a process cannot be started: the terminal is lent all the same.
    pub(super) fn start(terminal: Terminal, pgid: i32) -> Option<TerminalHelpers> {
        let program = Path::new("/proc/self/exe");
        if !program.exists() {
            return None;
        }
        let (socket, theirs) = UnixStream::pair().ok()?;
        let theirs = OwnedFd::from(theirs);
        let start = |role: &str, group: Option<i32>| {
            let mut command = Command::new(program);
            command.arg0(guardian::NAME).args([HELPER_REQUEST, role, &getpgrp().to_string(), &pgid.to_string()]);
            guardian::remove_marks(&mut command);
            command.stdin(theirs.try_clone().ok()?).stderr(Stdio::null());
            command.stdout(terminal.open().map_or_else(|_| Stdio::null(), Stdio::from));
            if let Some(group) = group {
                command.process_group(group);
            }
            detach(&mut command);
            start_helper(&mut command).ok()
        };
        let listener = start(LISTENER, Some(pgid));
        if let Some(pid) = listener.as_ref().and_then(|child| i32::try_from(child.id()).ok()) {
            signal_origin::set_own_listener(pid);
        }
        Some(TerminalHelpers { keeper: start(KEEPER, None), listener, _socket: socket })
    }

    /// Ends the helpers of a command that has ended. Returns whether the rest of deadbeat's job has received what keys
    /// sent.
    pub(super) fn end(self) -> bool {
        let TerminalHelpers { keeper, listener, _socket } = self;
        let was_sent_on = listener.is_some_and(|listener| {
            let deadline = Instant::now() + LISTENER_TIMEOUT;
            // The listener may have been stopped with its group.
            let _ = i32::try_from(listener.id()).map(|pid| signal_process(pid, Signal::CONT));
            while i32::try_from(listener.id()).is_ok_and(|pid| !child_has_ended(pid)) && Instant::now() < deadline {
                pause(Duration::from_millis(1));
            }
            end(listener)
        });
        keeper.map(end);
        was_sent_on
    }
}

/// Returns whether the helper had ended by itself, having done its work.
fn end(mut helper: Child) -> bool {
    // An error means that the helper is dead already.
    let _ = helper.kill();
    wait_for_helper(helper).is_ok_and(|status| status.success())
}

/// Detaches a helper before its first instruction: a Ctrl-C may come at any time.
#[expect(unsafe_code, reason = "what is called between fork and exec makes system calls only and allocates nothing")]
fn detach(command: &mut Command) {
    let hook = || {
        SigSet::all().thread_block()?;
        hold_nothing();
        Ok(())
    };
    // SAFETY: see `reason`.
    unsafe { command.pre_exec(hook) };
}
