//! Drives one climb on this thread, or has the kill thread drive it for an async caller.

use tokio::sync::oneshot;

use super::in_progress::{Kill, Step};
use super::{KillError, KillErrorKind, KillReport, KillThread, runtime_task};

pub(crate) type KillResult = Result<KillReport, KillError>;

/// On this thread, to the end.
pub(super) fn run(mut kill: Kill) -> KillResult {
    loop {
        match kill.step() {
            Step::Wait(time) => kill.wait(time),
            Step::Done(result) => return result,
        }
    }
}

/// On the kill thread of this process.
pub(crate) async fn off_worker(kill: Kill) -> KillResult {
    off_worker_then(kill, |result| result).await?
}

/// The same, and `then` with the result in the same place, whether or not the caller still waits. `then` is dropped, not
/// called, if the climb never begins.
///
/// Not on tokio's blocking pool: its threads may all be taken, and where it can start none, `spawn_blocking` panics on
/// the worker that calls it. Where the kill thread cannot be started either, a task of the runtime makes the kill.
pub(crate) async fn off_worker_then<T: Send + 'static>(
    kill: Kill,
    then: impl FnOnce(KillResult) -> T + Send + 'static,
) -> Result<T, KillError> {
    let pgid = kill.pgid();
    let (sender, result) = oneshot::channel();
    // The receiver may have gone.
    let then = move |climbed| drop(sender.send(then(climbed)));
    match KillThread::global() {
        Ok(kill_thread) => kill_thread.begin(kill, then),
        Err(_) => runtime_task::begin(kill, Box::new(then))?,
    }
    // An error means that the climb, or what follows it, has panicked.
    result.await.map_err(|_| KillError::new(pgid, KillErrorKind::Panicked))
}
