//! Drives one climb on a thread that may block: this one, or one of tokio's blocking pool.

use std::future::{Future, poll_fn};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::Poll;

use tokio::runtime::Handle;
use tokio::sync::oneshot;

use super::climb::{Climb, Step};
use super::seat::Seat;
use super::{KillError, KillErrorKind, KillReport, Undertaker};

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

/// In one `spawn_blocking`.
pub(crate) async fn climb_off_worker(climb: Climb) -> Climbed {
    climb_off_worker_and(climb, |result| result).await?
}

/// The same, and `then` with the result on the same thread, whether or not anybody still waits. `then` is dropped, not
/// called, if the climb never begins.
///
/// The pool may never begin: its threads may all be taken, and where none can be started, some versions of tokio leave
/// the closure in the queue for ever while others panic *here*, on the worker. So the climb lies on a seat. The
/// undertaker takes it from there if nobody has after a second.
pub(crate) async fn climb_off_worker_and<T: Send + 'static>(
    climb: Climb,
    then: impl FnOnce(Climbed) -> T + Send + 'static,
) -> Result<T, KillError> {
    let pgid = climb.pgid();
    let Ok(runtime) = Handle::try_current() else {
        return Err(KillError::new(pgid, KillErrorKind::NoRuntime));
    };
    let (sender, mut result) = oneshot::channel();
    // Whoever asked may have gone.
    let seat = Seat::new(climb, Box::new(move |climbed| drop(sender.send(then(climbed)))));
    let taker = seat.clone();
    let mut closure = catch_unwind(AssertUnwindSafe(|| runtime.spawn_blocking(move || taker.climb_here()))).ok();
    match Undertaker::global() {
        Ok(undertaker) if closure.is_some() => undertaker.begin_if_nobody_does(seat.clone()),
        Err(error) if closure.is_some() && error.kind() != io::ErrorKind::WouldBlock => {}
        undertaker => begin_without_the_pool(&seat, undertaker.ok(), &runtime),
    }
    poll_fn(|cx| {
        if let Poll::Ready(output) = Pin::new(&mut result).poll(cx) {
            // Nobody has it any more, and nobody has answered.
            return Poll::Ready(output.map_err(|_| KillError::new(pgid, KillErrorKind::Panicked)));
        }
        if let Some(Poll::Ready(end)) = closure.as_mut().map(|closure| Pin::new(closure).poll(cx)) {
            closure = None;
            // A closure cannot be cancelled once it runs: it never started, and now nobody else shall.
            if end.is_err_and(|error| error.is_cancelled()) && seat.take().is_some() {
                return Poll::Ready(Err(KillError::new(pgid, KillErrorKind::Cancelled)));
            }
        }
        Poll::Pending
    })
    .await
}

/// The system starts no thread (`EAGAIN`). Goes on when the future that wanted it is dropped, as the closure would.
fn begin_without_the_pool(seat: &Seat, undertaker: Option<&Undertaker>, runtime: &Handle) {
    let Some((climb, then)) = seat.take() else { return };
    tracing::warn!(pgid = climb.pgid(), "no thread for a blocking kill");
    match undertaker {
        Some(undertaker) => undertaker.begin(climb, then),
        None => drop(runtime.spawn(async move { then(climb_between_sleeps(climb).await) })),
    }
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
