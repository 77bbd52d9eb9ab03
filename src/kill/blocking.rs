//! Drives one climb on a thread that may block: this one, or one of tokio's blocking pool.

use std::future::{Future, poll_fn};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::Poll;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::JoinError;

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
    match Beginner::of(closure.is_some(), Undertaker::global()) {
        Beginner::Pool => {}
        Beginner::PoolOr(undertaker) => undertaker.begin_if_nobody_does(seat.clone()),
        Beginner::NotPool(undertaker) => begin_without_the_pool(&seat, undertaker, &runtime),
    }
    poll_fn(|cx| {
        if let Poll::Ready(output) = Pin::new(&mut result).poll(cx) {
            // Nobody has it any more, and nobody has answered.
            return Poll::Ready(output.map_err(|_| KillError::new(pgid, KillErrorKind::Panicked)));
        }
        if let Some(Poll::Ready(end)) = closure.as_mut().map(|closure| Pin::new(closure).poll(cx)) {
            closure = None;
            if is_cancelled(end, &seat) {
                return Poll::Ready(Err(KillError::new(pgid, KillErrorKind::Cancelled)));
            }
        }
        Poll::Pending
    })
    .await
}

/// Who is to begin a climb that lies on its seat.
#[derive(Debug, PartialEq, Eq)]
enum Beginner<U> {
    Pool,
    /// The pool, or the undertaker if the pool takes its time.
    PoolOr(U),
    /// The pool has not taken it, or may never. Without an undertaker there is only the worker.
    NotPool(Option<U>),
}

impl<U> Beginner<U> {
    fn of(pool_has_it: bool, undertaker: io::Result<U>) -> Beginner<U> {
        match undertaker {
            Ok(undertaker) if pool_has_it => Beginner::PoolOr(undertaker),
            // `WouldBlock` is `EAGAIN`: no thread for an undertaker is none for the pool. Any other want is not the pool's.
            Err(error) if pool_has_it && error.kind() != io::ErrorKind::WouldBlock => Beginner::Pool,
            undertaker => Beginner::NotPool(undertaker.ok()),
        }
    }
}

/// Whether the climb never begins: its closure has not run, nobody else has taken it, and from here on nobody can.
fn is_cancelled(closure: Result<(), JoinError>, seat: &Seat) -> bool {
    // A closure cannot be cancelled once it runs.
    closure.is_err_and(|error| error.is_cancelled()) && seat.take().is_some()
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

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::panic::resume_unwind;

    use tokio::runtime::{Builder, Runtime};

    use super::*;
    use crate::kill::tests::climb_of_nobody;
    use crate::kill::{KillPolicy, Outcome};

    fn runtime() -> Runtime {
        Builder::new_current_thread().enable_time().build().unwrap()
    }

    #[test]
    fn the_pool_is_relied_on_alone_only_where_it_can_start_threads() {
        let scarce = || io::Error::from(io::ErrorKind::WouldBlock);
        let other = || io::Error::from(io::ErrorKind::OutOfMemory);
        let cases = [
            (true, Ok("undertaker"), Beginner::PoolOr("undertaker")),
            (true, Err(other()), Beginner::Pool),
            (true, Err(scarce()), Beginner::NotPool(None)),
            (false, Ok("undertaker"), Beginner::NotPool(Some("undertaker"))),
            (false, Err(other()), Beginner::NotPool(None)),
            (false, Err(scarce()), Beginner::NotPool(None)),
        ];
        for (pool_has_it, undertaker, expected) in cases {
            let case = format!("{pool_has_it} {undertaker:?}");
            assert_eq!(Beginner::of(pool_has_it, undertaker), expected, "{case}");
        }
    }

    #[test]
    fn a_kill_is_cancelled_only_if_its_closure_was_and_nobody_else_has_it() {
        let runtime = runtime();
        let cancelled = || {
            let task = runtime.spawn(pending());
            task.abort();
            runtime.block_on(task)
        };
        let panicked = runtime.block_on(runtime.spawn(async {
            resume_unwind(Box::new(()));
        }));
        let seat = Seat::new(climb_of_nobody(), Box::new(drop));
        assert!(!is_cancelled(Ok(()), &seat));
        assert!(!is_cancelled(panicked, &seat));
        assert!(is_cancelled(cancelled(), &seat));
        assert!(!is_cancelled(cancelled(), &seat), "somebody has it");
    }

    #[test]
    fn what_the_pool_cannot_begin_is_begun_at_once_by_whoever_is_there() {
        let (runtime, undertaker) = (runtime(), Undertaker::new(KillPolicy::default()).unwrap());
        for undertaker in [Some(&undertaker), None] {
            let (told, result) = oneshot::channel();
            let seat = Seat::new(climb_of_nobody(), Box::new(move |climbed| drop(told.send(climbed))));
            begin_without_the_pool(&seat, undertaker, runtime.handle());
            assert!(seat.take().is_none(), "nobody has begun");
            assert_eq!(runtime.block_on(result).unwrap().unwrap().outcome, Outcome::AlreadyGone);
        }
    }
}
