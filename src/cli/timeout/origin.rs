//! Where signals to us came from, and which came first: noted in their handlers.
//!
//! What the terminal sent is passed on and asks for nothing; what a process sent is a request. A SIGCONT calls off a stop
//! that came before it, also one that is not heeded yet.

use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use nix::unistd::{getpid, getppid};
use signal_hook::consts::{SIGALRM, SIGCONT, SIGINT, SIGQUIT, SIGTSTP, SIGTTIN, SIGTTOU};

use crate::group::sender::{Sender, on_signal};

/// One bit a signal number.
static TYPED: AtomicU32 = AtomicU32::new(0);
static REQUESTED: AtomicU32 = AtomicU32::new(0);

/// How many times we were continued, and how many of them came before the last stop signal.
static CONTINUED: AtomicU32 = AtomicU32::new(0);
static BEFORE_STOP: AtomicU32 = AtomicU32::new(0);

/// The process whose signals are those of the terminal's that it has passed on; 0 is none.
static PASSES_ON: AtomicI32 = AtomicI32::new(0);

/// The process that sends our job what the terminal has sent the command; it means the others of it.
static PASSED_OVER: AtomicI32 = AtomicI32::new(0);

/// The process that has sent the last SIGALRM.
static TIMED_BY: AtomicI32 = AtomicI32::new(0);

/// Begins to note, of those of `signals` where it matters.
pub(super) fn note(signals: &[i32]) -> nix::Result<()> {
    let parent = getppid().as_raw();
    // An outer deadbeat: it has passed on what the terminal sent it, or gives us a grace that it keeps itself.
    if crate::guardian::marked_by(parent) {
        PASSES_ON.store(parent, Ordering::SeqCst);
    }
    let us = getpid().as_raw();
    for signal in signals.iter().copied() {
        match signal {
            SIGINT | SIGQUIT => on_signal(signal, move |sender| note_key(signal, sender, us))?,
            SIGTSTP | SIGTTIN | SIGTTOU => on_signal(signal, |_| {
                BEFORE_STOP.store(CONTINUED.load(Ordering::SeqCst), Ordering::SeqCst);
            })?,
            SIGCONT => on_signal(signal, |_| {
                CONTINUED.fetch_add(1, Ordering::SeqCst);
            })?,
            SIGALRM => on_signal(signal, |sender| {
                if let Sender::Process(pid) = sender {
                    TIMED_BY.store(pid, Ordering::SeqCst);
                }
            })?,
            _ => {}
        }
    }
    Ok(())
}

fn note_key(signal: i32, sender: Sender, us: i32) {
    let kind = match sender {
        Sender::Kernel => &TYPED,
        // To the rest of our job.
        Sender::Process(pid) if pid == us => return,
        Sender::Process(pid) if pid > 0 && pid == PASSED_OVER.load(Ordering::SeqCst) => return,
        Sender::Process(pid) if pid > 0 && pid == PASSES_ON.load(Ordering::SeqCst) => &TYPED,
        Sender::Process(_) => &REQUESTED,
    };
    kind.fetch_or(1 << signal, Ordering::SeqCst);
}

/// What this process sends from here on asks nothing of us.
pub(super) fn pass_over(pid: i32) {
    PASSED_OVER.store(pid, Ordering::SeqCst);
}

/// Of SIGINT or SIGQUIT, since it was asked last: whether the terminal sent it, and whether a process did.
pub(super) fn take(signal: i32) -> (bool, bool) {
    let bit = 1 << signal;
    let was_set = |kind: &AtomicU32| kind.fetch_and(!bit, Ordering::SeqCst) & bit != 0;
    (was_set(&TYPED), was_set(&REQUESTED))
}

pub(super) fn continued() -> u32 {
    CONTINUED.load(Ordering::SeqCst)
}

/// As of the last stop signal.
pub(super) fn continued_before_stop() -> u32 {
    BEFORE_STOP.load(Ordering::SeqCst)
}

/// Whether this process, our guardian, has ended the command, because its time was over while we were stopped.
pub(super) fn timed_by(guardian: i32) -> bool {
    TIMED_BY.load(Ordering::SeqCst) == guardian
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_terminal_sent_is_told_from_what_a_process_sent_and_our_own_is_passed_over() {
        note_key(SIGINT, Sender::Process(7), 7);
        assert_eq!(take(SIGINT), (false, false));
        note_key(SIGINT, Sender::Kernel, 7);
        note_key(SIGQUIT, Sender::Process(8), 7);
        assert_eq!(take(SIGINT), (true, false));
        assert_eq!(take(SIGINT), (false, false), "it is told once");
        note_key(SIGINT, Sender::Process(0), 7);
        note_key(SIGINT, Sender::Kernel, 7);
        assert_eq!((take(SIGINT), take(SIGQUIT)), ((true, true), (false, true)));
        PASSES_ON.store(9, Ordering::SeqCst);
        note_key(SIGINT, Sender::Process(9), 7);
        assert_eq!(take(SIGINT), (true, false), "an outer deadbeat's");
    }
}
