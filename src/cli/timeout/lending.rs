//! While the terminal is lent two small processes see to what we could not, both of them this program started again.
//!
//! - The *keeper*, in our group: should we die by SIGKILL, it gives the terminal back. Only a process of our session
//!   can: the guardian is in one of its own, and a terminal's foreground is set by processes of its session alone.
//! - The *listener*, in the command's group: a key's signal comes to that group alone, and if the command catches it,
//!   its end says nothing of it. The listener has it too, and sends it to the rest of our job.
//!
//! They block every signal, hold nothing of the caller's, end with us at the latest, and are ended before we end.

use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::SigSet;
use nix::unistd::getpgrp;

use super::origin;
use super::terminal::Terminal;
use crate::group::descendants::{child_has_ended, start_helper, wait_for_helper};
use crate::group::{hold_nothing, pause, signal_process};
use crate::guardian;
use crate::signal::Signal;

/// The first argument of a process that is one of the two.
pub(super) const REQUEST: &str = "__proc-terminal";
pub(super) const KEEPER: &str = "keeper";
pub(super) const LISTENER: &str = "listener";

/// A listener whose command has ended says what it has heard and ends; this bounds one that cannot.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Debug)]
pub(super) struct Lending {
    keeper: Option<Child>,
    listener: Option<Child>,
    /// Held open: they see our end by its end.
    _line: UnixStream,
}

impl Lending {
    /// To the command's group. `None` where there is nothing to start them from, or no process to be had: the terminal
    /// is lent all the same.
    pub(super) fn begin(terminal: Terminal, pgid: i32) -> Option<Lending> {
        let program = Path::new("/proc/self/exe");
        if !program.exists() {
            return None;
        }
        let (line, theirs) = UnixStream::pair().ok()?;
        let theirs = OwnedFd::from(theirs);
        let start = |role: &str, group: Option<i32>| {
            let mut command = Command::new(program);
            command.arg0(guardian::NAME).args([REQUEST, role, &getpgrp().to_string(), &pgid.to_string()]);
            guardian::remove_marks(&mut command);
            command.stdin(theirs.try_clone().ok()?).stderr(Stdio::null());
            command.stdout(terminal.open().map_or_else(|_| Stdio::null(), Stdio::from));
            if let Some(group) = group {
                command.process_group(group);
            }
            retreat(&mut command);
            start_helper(&mut command).ok()
        };
        let listener = start(LISTENER, Some(pgid));
        if let Some(pid) = listener.as_ref().and_then(|child| i32::try_from(child.id()).ok()) {
            origin::pass_over(pid);
        }
        Some(Lending { keeper: start(KEEPER, None), listener, _line: line })
    }

    /// The command has ended. Tells whether the rest of our job has had what the keys sent.
    pub(super) fn end(self) -> bool {
        let Lending { keeper, listener, _line } = self;
        let told = listener.is_some_and(|listener| {
            let deadline = Instant::now() + PATIENCE;
            // It may have been stopped with its group.
            let _ = i32::try_from(listener.id()).map(|pid| signal_process(pid, Signal::CONT));
            while i32::try_from(listener.id()).is_ok_and(|pid| !child_has_ended(pid)) && Instant::now() < deadline {
                pause(Duration::from_millis(1));
            }
            end(listener)
        });
        keeper.map(end);
        told
    }
}

/// Tells whether it was there to the end, by its own.
fn end(mut helper: Child) -> bool {
    // An error means that it is dead already.
    let _ = helper.kill();
    wait_for_helper(helper).is_ok_and(|status| status.success())
}

#[expect(unsafe_code, reason = "what is called between fork and exec makes system calls only and allocates nothing")]
fn retreat(command: &mut Command) {
    let hook = || {
        // Before its first instruction: a Ctrl-C may come any time.
        SigSet::all().thread_block()?;
        hold_nothing();
        Ok(())
    };
    // SAFETY: see `reason`.
    unsafe { command.pre_exec(hook) };
}
