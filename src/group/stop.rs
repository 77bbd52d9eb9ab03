//! Stops: by which signal a process was stopped, and how this one stops by a signal that it has a handler for.

#[cfg(feature = "cli")]
use nix::sys::signal::{SaFlags, SigAction, SigHandler, SigSet, SigmaskHow, Signal as Named, kill, sigaction};
#[cfg(feature = "cli")]
use nix::unistd::{Pid, getpid};

/// Which processes are to stop.
#[cfg(feature = "cli")]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    /// This process: the others of its group have had the signal.
    Alone,
    /// Its whole group.
    Group,
}

/// Does what `signal` does by default (SIGTSTP, SIGTTIN or SIGTTOU), and returns when this process is continued; at
/// once where nothing could continue it, since the system discards such a stop in an orphaned group.
///
/// 1. The signal was handled, and SIGCONT after it, before this was called.
/// 2. A stop now would last until the next SIGCONT, which may never come.
///
/// So the stop is pending and blocked when `is_called_off` is asked: a SIGCONT from then on takes it back itself.
#[cfg(feature = "cli")]
pub(crate) fn stop_by(signal: Named, who: Stopped, is_called_off: impl FnOnce() -> bool) -> nix::Result<()> {
    let blocked: SigSet = [signal].into_iter().collect();
    let mask = blocked.thread_swap_mask(SigmaskHow::SIG_BLOCK)?;
    let handled = act(signal, &SigAction::new(SigHandler::SigDfl, SaFlags::empty(), SigSet::empty()));
    let sent = match who {
        Stopped::Alone => kill(getpid(), signal),
        Stopped::Group => kill(Pid::from_raw(0), signal),
    };
    if is_called_off() {
        // Ignoring the signal discards the pending stop.
        let _ = act(signal, &SigAction::new(SigHandler::SigIgn, SaFlags::empty(), SigSet::empty()));
    }
    // A stop that is still pending takes effect here.
    let unblocked = mask.thread_set_mask();
    if let Ok(handled) = handled {
        let _ = act(signal, &handled);
    }
    sent.and(unblocked)
}

#[cfg(feature = "cli")]
#[expect(unsafe_code, reason = "a handler could do anything")]
fn act(signal: Named, action: &SigAction) -> nix::Result<SigAction> {
    // SAFETY: the default, ignoring, or the very action that was there before.
    unsafe { sigaction(signal, action) }
}

/// The signal by which a process is stopped now, or 0 where the system does not say which; `None` for one that is not
/// stopped or cannot be seen.
#[cfg(target_os = "linux")]
pub(crate) fn stopped_by(pid: i32) -> Option<i32> {
    if !super::linux::available() {
        return None;
    }
    stop_in(&std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn stopped_by(_pid: i32) -> Option<i32> {
    None
}

/// Of a line of `proc_pid_stat(5)`: the state is its third field, and of a stopped process the 52nd is the signal.
#[cfg(target_os = "linux")]
fn stop_in(stat: &str) -> Option<i32> {
    let mut fields = stat.rsplit_once(") ")?.1.split_ascii_whitespace();
    (fields.next()? == "T").then(|| fields.nth(48).and_then(|code| code.parse().ok()).unwrap_or(0))
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::super::testing::Started;
    use super::*;

    #[test]
    fn a_stopped_process_says_by_which_signal() {
        let leader = Started::leader();
        let send = |signal| kill(Pid::from_raw(leader.pid()), signal).unwrap();
        assert_eq!(stopped_by(leader.pid()), None);
        for signal in [Named::SIGSTOP, Named::SIGTSTP, Named::SIGTTIN, Named::SIGTTOU] {
            send(signal);
            let start = std::time::Instant::now();
            let seen = loop {
                match stopped_by(leader.pid()) {
                    None if start.elapsed().as_secs() < 40 => std::thread::yield_now(),
                    seen => break seen,
                }
            };
            // A kernel that does not say leaves it at 0.
            assert!([Some(signal as i32), Some(0)].contains(&seen), "{signal}: {seen:?}");
            send(Named::SIGCONT);
        }
    }

    #[test]
    fn the_signal_is_the_last_field_of_a_stopped_process_and_no_other() {
        let line = |state| format!("7 (a) T b) {state} {}21\n", "0 ".repeat(48));
        assert_eq!(stop_in(&line("T")), Some(21));
        assert_eq!(stop_in(&line("S")), None);
        assert_eq!(stop_in(&line("t")), None, "a debugger's");
        assert_eq!(stop_in("7 (a) T 1 2\n"), Some(0));
    }
}
