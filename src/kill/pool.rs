//! A kill in one `spawn_blocking`, begun by the kill thread where the pool does not begin it.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::Poll;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle};

use super::claim::Claim;
use super::in_progress::Kill;
use super::probe::a_thread_can_be_started;
use super::runner::{KillResult, off_worker};
use super::{KillError, KillErrorKind, KillThread};

/// The whole climb in one closure of the current runtime's blocking pool.
///
/// The pool may never begin it: its threads may all be taken, and where none can be started, some versions of tokio leave
/// the closure in the queue for ever while others panic *here*, on the worker. So:
///
/// 1. From the first poll on the kill thread has the climb too, and begins it after 20 ms if the pool has not.
/// 2. Only where a thread can be started is the pool asked for one. Another that is started in between can still take the
///    last place: then `spawn_blocking` panics, which is caught where panics unwind.
/// 3. Where none can be started, the kill thread begins at once.
pub(super) async fn in_pool(kill: Kill) -> KillResult {
    let runtime = Handle::try_current().map_err(|_| KillError::new(kill.pgid(), KillErrorKind::NoRuntime))?;
    match KillThread::global() {
        Ok(kill_thread) => in_pool_or(kill, &runtime, kill_thread, a_thread_can_be_started()).await,
        Err(_) => off_worker(kill).await,
    }
}

/// The pool is asked only if it `may` be.
async fn in_pool_or(
    kill: Kill,
    runtime: &Handle,
    kill_thread: &KillThread,
    may: impl Future<Output = bool>,
) -> KillResult {
    let pgid = kill.pgid();
    let (sender, mut result) = oneshot::channel();
    // The receiver may have gone.
    let claim = Claim::new(kill, Box::new(move |climbed| drop(sender.send(climbed))));
    kill_thread.begin_if_nobody_does(claim.clone());
    let mut closure = match may.await {
        true => ask(runtime, &claim),
        false => None,
    };
    if closure.is_none() {
        begin_now(&claim, kill_thread);
    }
    poll_fn(|cx| {
        if let Poll::Ready(output) = Pin::new(&mut result).poll(cx) {
            // Whatever had it dropped it without an answer.
            return Poll::Ready(output.unwrap_or_else(|_| Err(KillError::new(pgid, KillErrorKind::Panicked))));
        }
        if let Some(Poll::Ready(end)) = closure.as_mut().map(|closure| Pin::new(closure).poll(cx)) {
            closure = None;
            if is_cancelled(end, &claim) {
                return Poll::Ready(Err(KillError::new(pgid, KillErrorKind::Cancelled)));
            }
        }
        Poll::Pending
    })
    .await
}

/// `None` where the pool has panicked because it can start no thread, although the system can: by the size of its stacks.
fn ask(runtime: &Handle, claim: &Claim) -> Option<JoinHandle<()>> {
    let claim = claim.clone();
    catch_unwind(AssertUnwindSafe(|| runtime.spawn_blocking(move || claim.run()))).ok()
}

fn begin_now(claim: &Claim, kill_thread: &KillThread) {
    let Some((kill, then)) = claim.take() else { return };
    tracing::debug!(pgid = kill.pgid(), "the blocking pool can start no thread for a kill");
    kill_thread.begin(kill, then);
}

/// Whether the climb never begins: its closure has not run, nothing else has taken it, and from here on nothing can.
fn is_cancelled(closure: Result<(), JoinError>, claim: &Claim) -> bool {
    // A closure cannot be cancelled once it runs.
    closure.is_err_and(|error| error.is_cancelled()) && claim.take().is_some()
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::panic::resume_unwind;

    use tokio::runtime::{Builder, Runtime};

    use super::*;
    use crate::kill::kill_thread::tests::without_a_thread;
    use crate::kill::tests::kill_of_nobody;
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
        let claim = Claim::new(kill_of_nobody(), Box::new(drop));
        assert!(!is_cancelled(Ok(()), &claim));
        assert!(!is_cancelled(panicked, &claim));
        assert!(is_cancelled(cancelled(), &claim));
        assert!(!is_cancelled(cancelled(), &claim), "it has been taken");
    }

    #[test]
    fn a_kill_that_never_started_is_cancelled_not_panicked() {
        let (ended, (kill_thread, _door)) = (runtime(), without_a_thread());
        let handle = ended.handle().clone();
        ended.shutdown_background();
        // From here on the pool takes no closure.
        let result = runtime().block_on(in_pool_or(kill_of_nobody(), &handle, &kill_thread, ready(true)));
        let error = result.expect_err("it has started");
        assert_eq!(error.kind(), KillErrorKind::Cancelled, "{error}");
        assert!(error.to_string().contains("never started"), "{error}");
    }

    #[test]
    fn what_the_pool_cannot_begin_the_kill_thread_begins_at_once() {
        let (runtime, kill_thread) = (runtime(), KillThread::new(KillPolicy::default()).unwrap());
        let (told, result) = oneshot::channel();
        let claim = Claim::new(kill_of_nobody(), Box::new(move |climbed| drop(told.send(climbed))));
        begin_now(&claim, &kill_thread);
        assert!(claim.take().is_none(), "it was not begun");
        assert_eq!(runtime.block_on(result).unwrap().unwrap().outcome, Outcome::AlreadyGone);
    }

    #[test]
    fn a_pool_that_can_start_threads_has_the_closure_and_one_that_cannot_has_none() {
        let kills = |runtime: &Runtime| {
            let claim = Claim::new(kill_of_nobody(), Box::new(drop));
            let closure = runtime.block_on(async { ask(&Handle::current(), &claim) });
            let asked = closure.is_some();
            if let Some(closure) = closure {
                runtime.block_on(closure).unwrap();
            }
            (asked, claim.take().is_none())
        };
        assert_eq!(kills(&runtime()), (true, true));
        // No address space has room for such a stack.
        let stackless = Builder::new_current_thread().thread_stack_size(1 << 46).build().unwrap();
        assert_eq!(kills(&stackless), (false, false));
    }
}
