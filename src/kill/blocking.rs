//! Drives one climb on this thread, or has the kill thread drive it for an async caller.

use tokio::sync::oneshot;

use super::climb::{Climb, Step};
use super::{KillError, KillErrorKind, KillReport, Undertaker, between_sleeps};

pub(crate) type Climbed = Result<KillReport, KillError>;

/// On this thread, to the end.
pub(super) fn climb_here(mut climb: Climb) -> Climbed {
    loop {
        match climb.step() {
            Step::Wait(time) => climb.wait(time),
            Step::Done(result) => return result,
        }
    }
}

/// On the kill thread of this process.
pub(crate) async fn climb_off_worker(climb: Climb) -> Climbed {
    climb_off_worker_and(climb, |result| result).await?
}

/// The same, and `then` with the result in the same place, whether or not the caller still waits. `then` is dropped, not
/// called, if the climb never begins.
///
/// Not on tokio's blocking pool: its threads may all be taken, and where it can start none, `spawn_blocking` panics on
/// the worker that calls it. Where the kill thread cannot be started either, a task of the runtime makes the kill.
pub(crate) async fn climb_off_worker_and<T: Send + 'static>(
    climb: Climb,
    then: impl FnOnce(Climbed) -> T + Send + 'static,
) -> Result<T, KillError> {
    let pgid = climb.pgid();
    let (sender, result) = oneshot::channel();
    // The receiver may have gone.
    let then = move |climbed| drop(sender.send(then(climbed)));
    match Undertaker::global() {
        Ok(undertaker) => undertaker.begin(climb, then),
        Err(_) => between_sleeps::begin(climb, Box::new(then))?,
    }
    // An error means that the climb, or what follows it, has panicked.
    result.await.map_err(|_| KillError::new(pgid, KillErrorKind::Panicked))
}
