//! Drives one climb on a thread that may block: this one, or one of tokio's blocking pool.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError, mpsc};

use tokio::runtime::Handle;
use tokio::task::JoinError;

use super::climb::{Climb, Step};
use super::many::Many;
use super::{KillError, KillErrorKind, KillReport};

pub(crate) type Climbed = Result<KillReport, KillError>;

/// On this thread, to the end.
pub(super) fn climb_here(mut climb: Climb) -> Climbed {
    loop {
        match climb.step() {
            Step::Wait(time) => climb.vigil().wait(time),
            Step::Done(result) => return result,
        }
    }
}

/// All of them together on this thread, to the end; the results in no particular order.
pub(crate) fn climb_all_here(climbs: Vec<Climb>) -> Vec<Climbed> {
    let (sender, results) = mpsc::channel();
    let mut kills = Many::default();
    for climb in climbs {
        let sender = sender.clone();
        // The receiver is ours and outlives them.
        kills.add(climb, Box::new(move |result| drop(sender.send(result))));
    }
    drop(sender);
    loop {
        kills.step();
        if kills.is_empty() {
            return results.iter().collect();
        }
        kills.sleep(None);
    }
}

/// In one `spawn_blocking`.
///
/// With no thread to be had, `spawn_blocking` panics *here*, on the worker, and keeps the closure in its queue, where a
/// thread that frees itself later may yet find it. So the climb lies on a seat that only one of them can take it from.
pub(crate) async fn climb_off_worker(climb: Climb) -> Climbed {
    let pgid = climb.pgid();
    let Ok(runtime) = Handle::try_current() else {
        return Err(KillError::new(pgid, KillErrorKind::NoRuntime));
    };
    let seat = Arc::new(Mutex::new(Some(climb)));
    let take = |seat: &Mutex<Option<Climb>>| seat.lock().unwrap_or_else(PoisonError::into_inner).take();
    let taker = Arc::clone(&seat);
    let started = catch_unwind(AssertUnwindSafe(|| runtime.spawn_blocking(move || take(&taker).map(climb_here))));
    let joined = match started {
        Ok(climbing) => climbing.await,
        Err(_) => match take(&seat) {
            Some(climb) => {
                tracing::warn!(pgid, "no thread for a blocking kill: looking at the group from an async task instead");
                // A task of its own goes on when this future is dropped, as the closure would.
                runtime.spawn(climb_between_sleeps(climb)).await.map(Some)
            }
            None => Ok(None),
        },
    };
    joined.map_err(|error| failed(pgid, &error))?.unwrap_or_else(|| Err(KillError::new(pgid, KillErrorKind::Panicked)))
}

/// Without a thread of its own: each look takes a fraction of a millisecond of the worker's time, the waits none.
async fn climb_between_sleeps(mut climb: Climb) -> Climbed {
    loop {
        match climb.step() {
            Step::Wait(time) => tokio::time::sleep(time).await,
            Step::Done(result) => return result,
        }
    }
}

fn failed(pgid: i32, error: &JoinError) -> KillError {
    // A closure cannot be cancelled once it runs, so a cancelled one never started.
    let kind = if error.is_cancelled() { KillErrorKind::Cancelled } else { KillErrorKind::Panicked };
    KillError::new(pgid, kind)
}
