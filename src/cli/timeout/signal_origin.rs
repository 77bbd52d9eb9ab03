//! Where the signals to deadbeat came from, and which came first: noted in their handlers.
//!
//! A signal from a key of the terminal is passed on and asks deadbeat for nothing; a signal from a process is a
//! request. A SIGCONT calls off a stop signal that came before it, even one that is not handled yet.

use std::sync::atomic::{AtomicI32, AtomicU32, Ordering};

use nix::unistd::{getpid, getppid};
use signal_hook::consts::{SIGALRM, SIGCONT, SIGINT, SIGQUIT, SIGTSTP, SIGTTIN, SIGTTOU};

use crate::group::sender::{Sender, on_signal};

/// The signals that came from a key since they were asked for last: one bit for each number.
static BY_KEY: AtomicU32 = AtomicU32::new(0);

/// The signals that came from a process since they were asked for last: one bit for each number.
static REQUESTED: AtomicU32 = AtomicU32::new(0);

/// How many times this process was continued, and how many of them came before the last stop signal.
static CONTINUED: AtomicU32 = AtomicU32::new(0);
static BEFORE_STOP: AtomicU32 = AtomicU32::new(0);

/// The process that only passes on signals of the terminal's; 0 is none.
static RELAY: AtomicI32 = AtomicI32::new(0);

/// The listener that this process has started: its signals are meant for the rest of the job. 0 is none.
static OWN_LISTENER: AtomicI32 = AtomicI32::new(0);

/// The process that sent the last SIGALRM.
static TIMED_BY: AtomicI32 = AtomicI32::new(0);

/// Begins to note the origins of these signals, as far as they matter.
pub(super) fn note(signals: &[i32]) -> nix::Result<()> {
    let parent = getppid().as_raw();
    // An outer deadbeat: what it sends is a key's signal that it passes on, or begins a grace that it keeps itself.
    if crate::guardian::marked_by(parent) {
        RELAY.store(parent, Ordering::SeqCst);
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
        Sender::Kernel => &BY_KEY,
        // It was meant for the rest of the job.
        Sender::Process(pid) if pid == us => return,
        Sender::Process(pid) if pid > 0 && pid == OWN_LISTENER.load(Ordering::SeqCst) => return,
        Sender::Process(pid) if pid > 0 && pid == RELAY.load(Ordering::SeqCst) => &BY_KEY,
        Sender::Process(_) => &REQUESTED,
    };
    kind.fetch_or(1 << signal, Ordering::SeqCst);
}

/// Ignores what this process sends from here on: it is the listener that this process has started.
pub(super) fn set_own_listener(pid: i32) {
    OWN_LISTENER.store(pid, Ordering::SeqCst);
}

/// Whether a key sent this SIGINT or SIGQUIT, and whether a process did, since this was asked last.
pub(super) fn take(signal: i32) -> (bool, bool) {
    let bit = 1 << signal;
    let was_set = |kind: &AtomicU32| kind.fetch_and(!bit, Ordering::SeqCst) & bit != 0;
    (was_set(&BY_KEY), was_set(&REQUESTED))
}

/// How many times this process was continued.
pub(super) fn continued() -> u32 {
    CONTINUED.load(Ordering::SeqCst)
}

/// How many times this process had been continued when the last stop signal came.
pub(super) fn continued_before_stop() -> u32 {
    BEFORE_STOP.load(Ordering::SeqCst)
}

/// Whether the guardian has ended the command, because its time was over while this process was stopped.
pub(super) fn timed_by(guardian: i32) -> bool {
    TIMED_BY.load(Ordering::SeqCst) == guardian
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_key_sent_is_told_from_what_a_process_sent_and_our_own_is_ignored() {
        note_key(SIGINT, Sender::Process(7), 7);
        assert_eq!(take(SIGINT), (false, false));
        note_key(SIGINT, Sender::Kernel, 7);
        note_key(SIGQUIT, Sender::Process(8), 7);
        assert_eq!(take(SIGINT), (true, false));
        assert_eq!(take(SIGINT), (false, false), "it is told once");
        note_key(SIGINT, Sender::Process(0), 7);
        note_key(SIGINT, Sender::Kernel, 7);
        assert_eq!((take(SIGINT), take(SIGQUIT)), ((true, true), (false, true)));
        RELAY.store(9, Ordering::SeqCst);
        note_key(SIGINT, Sender::Process(9), 7);
        assert_eq!(take(SIGINT), (true, false), "an outer deadbeat's");
    }
}
