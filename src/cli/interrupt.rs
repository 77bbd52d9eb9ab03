//! Ctrl-C during a suite: every fixture is killed, and the status says which signal it was.

use std::sync::{Mutex, MutexGuard, PoisonError};

use signal_hook::iterator::Signals;

use crate::shutdown::heeded;

/// Held by what ends the program: an interruption, or a suite that writes its report.
static ENDING: Mutex<()> = Mutex::new(());

/// Keeps interruptions from ending the program while the guard is held. Does not return if one is under way.
pub(super) fn hold_off() -> MutexGuard<'static, ()> {
    ENDING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Makes SIGINT, SIGTERM and SIGHUP kill every fixture and end the program with status 128 + signal.
pub(super) fn kill_cells_on_signal() -> std::io::Result<()> {
    let mut signals = Signals::new(heeded())?;
    std::thread::Builder::new().name("deadbeat-signals".into()).spawn(move || {
        let Some(signal) = signals.forever().next() else { return };
        let _ending = hold_off();
        crate::suite::process::kill_all();
        super::output::tell(&"\ndeadbeat: interrupted, every fixture was killed");
        std::process::exit(128 + signal);
    })?;
    Ok(())
}
