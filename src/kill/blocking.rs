//! Drives one climb on a thread that may block: this one, or one of tokio's blocking pool.

use super::climb::{Climb, Step};
use super::{KillError, KillErrorKind, KillReport};

/// On this thread, to the end.
pub(super) fn climb_here(mut climb: Climb) -> Result<KillReport, KillError> {
    loop {
        match climb.step() {
            Step::Wait(time) => climb.vigil().wait(time),
            Step::Done(result) => return result,
        }
    }
}

/// In one `spawn_blocking`.
pub(super) async fn climb_off_worker(climb: Climb) -> Result<KillReport, KillError> {
    let pgid = climb.pgid();
    let Ok(runtime) = tokio::runtime::Handle::try_current() else {
        return Err(KillError::new(pgid, KillErrorKind::NoRuntime));
    };
    match runtime.spawn_blocking(move || climb_here(climb)).await {
        Ok(result) => result,
        // A closure cannot be cancelled once it runs, so this one never started.
        Err(error) if error.is_cancelled() => Err(KillError::new(pgid, KillErrorKind::Cancelled)),
        Err(_) => Err(KillError::new(pgid, KillErrorKind::Panicked)),
    }
}
