//! Drives one climb on a thread that may block: this one, or one of tokio's blocking pool.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::climb::{Climb, Step};
use super::many::Many;
use super::{KillError, KillErrorKind, KillReport, Undertaker};

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
        kills.sleep(None, Duration::MAX);
    }
}

/// In one `spawn_blocking`.
pub(crate) async fn climb_off_worker(climb: Climb) -> Climbed {
    climb_off_worker_and(climb, |result| result).await?
}

/// The same, and `then` with the result on the same thread, whether or not anybody still waits. `then` is dropped, not
/// called, if the climb never begins.
///
/// With no thread to be had, `spawn_blocking` panics *here*, on the worker, and keeps the closure in its queue, where a
/// thread that frees itself later may yet find it. So the climb lies on a seat that only one of them can take it from.
pub(crate) async fn climb_off_worker_and<T: Send + 'static>(
    climb: Climb,
    then: impl FnOnce(Climbed) -> T + Send + 'static,
) -> Result<T, KillError> {
    let pgid = climb.pgid();
    let Ok(runtime) = Handle::try_current() else {
        return Err(KillError::new(pgid, KillErrorKind::NoRuntime));
    };
    let seat = Arc::new(Mutex::new(Some((climb, then))));
    let taker = Arc::clone(&seat);
    let closure = move || take(&taker).map(|(climb, then)| then(climb_here(climb)));
    let panicked = || KillError::new(pgid, KillErrorKind::Panicked);
    if let Ok(climbing) = catch_unwind(AssertUnwindSafe(|| runtime.spawn_blocking(closure))) {
        return match climbing.await {
            Ok(output) => output.ok_or_else(panicked),
            // A closure cannot be cancelled once it runs, so this one never started.
            Err(error) if error.is_cancelled() => Err(KillError::new(pgid, KillErrorKind::Cancelled)),
            Err(_) => Err(panicked()),
        };
    }
    let Some((climb, then)) = take(&seat) else { return Err(panicked()) };
    tracing::warn!(pgid, "no thread for a blocking kill");
    // Both go on when this future is dropped, as the closure would.
    match Undertaker::global() {
        Some(undertaker) => {
            let (sender, receiver) = oneshot::channel();
            // Whoever asked may have gone.
            undertaker.begin(climb, move |result| drop(sender.send(then(result))));
            receiver.await.map_err(|_| panicked())
        }
        None => runtime.spawn(async move { then(climb_between_sleeps(climb).await) }).await.map_err(|_| panicked()),
    }
}

fn take<T>(seat: &Mutex<Option<T>>) -> Option<T> {
    seat.lock().unwrap_or_else(PoisonError::into_inner).take()
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
