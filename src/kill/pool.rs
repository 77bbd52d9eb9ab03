//! A kill in one `spawn_blocking`, begun by the kill thread where the pool does not begin it.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::Poll;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle};

use super::blocking::{Climbed, climb_off_worker};
use super::climb::Climb;
use super::probe::a_thread_can_be_started;
use super::seat::Seat;
use super::{KillError, KillErrorKind, Undertaker};

/// The whole climb in one closure of the current runtime's blocking pool.
///
/// The pool may never begin it: its threads may all be taken, and where none can be started, some versions of tokio leave
/// the closure in the queue for ever while others panic *here*, on the worker. So:
///
/// 1. From the first poll on the kill thread has the climb too, and begins it after 20 ms if the pool has not.
/// 2. Only where a thread can be started is the pool asked for one. Another that is started in between can still take the
///    last place: then `spawn_blocking` panics, which is caught where panics unwind.
/// 3. Where none can be started, the kill thread begins at once.
pub(super) async fn climb_in_pool(climb: Climb) -> Climbed {
    let runtime = Handle::try_current().map_err(|_| KillError::new(climb.pgid(), KillErrorKind::NoRuntime))?;
    match Undertaker::global() {
        Ok(undertaker) => climb_in_pool_or(climb, &runtime, undertaker, a_thread_can_be_started()).await,
        Err(_) => climb_off_worker(climb).await,
    }
}

/// The pool is asked only if it `may` be.
async fn climb_in_pool_or(
    climb: Climb,
    runtime: &Handle,
    undertaker: &Undertaker,
    may: impl Future<Output = bool>,
) -> Climbed {
    let pgid = climb.pgid();
    let (sender, mut result) = oneshot::channel();
    // The receiver may have gone.
    let seat = Seat::new(climb, Box::new(move |climbed| drop(sender.send(climbed))));
    undertaker.begin_if_nobody_does(seat.clone());
    let mut closure = match may.await {
        true => ask(runtime, &seat),
        false => None,
    };
    if closure.is_none() {
        begin_now(&seat, undertaker);
    }
    poll_fn(|cx| {
        if let Poll::Ready(output) = Pin::new(&mut result).poll(cx) {
            // Whatever had it dropped it without an answer.
            return Poll::Ready(output.unwrap_or_else(|_| Err(KillError::new(pgid, KillErrorKind::Panicked))));
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

/// `None` where the pool has panicked because it can start no thread, although the system can: by the size of its stacks.
fn ask(runtime: &Handle, seat: &Seat) -> Option<JoinHandle<()>> {
    let seat = seat.clone();
    catch_unwind(AssertUnwindSafe(|| runtime.spawn_blocking(move || seat.climb_here()))).ok()
}

fn begin_now(seat: &Seat, undertaker: &Undertaker) {
    let Some((climb, then)) = seat.take() else { return };
    tracing::debug!(pgid = climb.pgid(), "the blocking pool can start no thread for a kill");
    undertaker.begin(climb, then);
}

/// Whether the climb never begins: its closure has not run, nothing else has taken it, and from here on nothing can.
fn is_cancelled(closure: Result<(), JoinError>, seat: &Seat) -> bool {
    // A closure cannot be cancelled once it runs.
    closure.is_err_and(|error| error.is_cancelled()) && seat.take().is_some()
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::panic::resume_unwind;

    use tokio::runtime::{Builder, Runtime};

    use super::*;
    use crate::kill::tests::climb_of_nobody;
    use crate::kill::undertaker::tests::without_a_thread;
    use crate::kill::{KillPolicy, Outcome};

    fn runtime() -> Runtime {
        Builder::new_current_thread().enable_time().build().unwrap()
    }

    #[test]
    fn a_kill_is_cancelled_only_if_its_closure_was_and_nothing_else_has_it() {
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
        assert!(!is_cancelled(cancelled(), &seat), "it has been taken");
    }

    #[test]
    fn a_kill_that_never_started_is_cancelled_not_panicked() {
        let (ended, (undertaker, _door)) = (runtime(), without_a_thread());
        let handle = ended.handle().clone();
        ended.shutdown_background();
        // From here on the pool takes no closure.
        let result = runtime().block_on(climb_in_pool_or(climb_of_nobody(), &handle, &undertaker, ready(true)));
        let error = result.expect_err("it has started");
        assert_eq!(error.kind(), KillErrorKind::Cancelled, "{error}");
        assert!(error.to_string().contains("never started"), "{error}");
    }

    #[test]
    fn what_the_pool_cannot_begin_the_kill_thread_begins_at_once() {
        let (runtime, undertaker) = (runtime(), Undertaker::new(KillPolicy::default()).unwrap());
        let (told, result) = oneshot::channel();
        let seat = Seat::new(climb_of_nobody(), Box::new(move |climbed| drop(told.send(climbed))));
        begin_now(&seat, &undertaker);
        assert!(seat.take().is_none(), "it was not begun");
        assert_eq!(runtime.block_on(result).unwrap().unwrap().outcome, Outcome::AlreadyGone);
    }

    #[test]
    fn a_pool_that_can_start_threads_has_the_closure_and_one_that_cannot_has_none() {
        let climbs = |runtime: &Runtime| {
            let seat = Seat::new(climb_of_nobody(), Box::new(drop));
            let closure = runtime.block_on(async { ask(&Handle::current(), &seat) });
            let asked = closure.is_some();
            if let Some(closure) = closure {
                runtime.block_on(closure).unwrap();
            }
            (asked, seat.take().is_none())
        };
        assert_eq!(climbs(&runtime()), (true, true));
        // No address space has room for such a stack.
        let stackless = Builder::new_current_thread().thread_stack_size(1 << 46).build().unwrap();
        assert_eq!(climbs(&stackless), (false, false));
    }
}
