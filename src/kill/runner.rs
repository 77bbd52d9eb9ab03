//! Who runs a kill: the one place where that is decided.
//!
//! | the call | runs on | else on |
//! | --- | --- | --- |
//! | `KillPolicy::kill_blocking` | the thread that calls | |
//! | `kill_process_group` | a thread of tokio's blocking pool | the kill thread, if the pool does not begin |
//! | `KillPolicy::kill`, `kill_child`, the agent | the kill thread | a task of the runtime |
//! | `KillThread::kill` | that thread | a thread of its own, if that one has panicked |
//! | a run that is dropped, a group registered after `kill_all` | the kill thread | none: SIGKILL at once |
//!
//! A kill that has begun and loses its thread or its task goes to the kill thread, else to a thread of its own; and
//! where none can be started, the group is sent SIGKILL without a grace.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::Poll;
use std::time::Instant;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinHandle};

use super::claim::Claim;
use super::in_progress::Kill;
use super::kill_thread::{KillThread, POOL_BEGINS_WITHIN};
use super::report::KillResult;
use super::runtime_task;
use crate::error::{KillError, KillErrorKind};
use crate::group::{has_thread, this_thread};

/// Runs the kill on the kill thread of this process.
pub(crate) async fn off_worker(kill: Kill) -> KillResult {
    off_worker_then(kill, |result| result).await?
}

/// Runs the kill on the kill thread, and `then` with the result in the same place, whether or not the caller still
/// waits. `then` is dropped, not called, if the kill never begins.
///
/// Tokio's blocking pool is no place for this: its threads may all be taken, and where it can start none,
/// `spawn_blocking` panics on the worker that calls it. Where the kill thread cannot be started either, a task of the
/// runtime runs the kill.
pub(crate) async fn off_worker_then<T: Send + 'static>(
    kill: Kill,
    then: impl FnOnce(KillResult) -> T + Send + 'static,
) -> Result<T, KillError> {
    let pgid = kill.pgid();
    let (sender, result) = oneshot::channel();
    // The receiver may have gone.
    let on_done = move |result| drop(sender.send(then(result)));
    match KillThread::global() {
        Ok(kill_thread) => kill_thread.begin(kill, on_done),
        Err(_) => runtime_task::begin(kill, Box::new(on_done))?,
    }
    // An error means that the kill, or `then`, has panicked.
    result.await.map_err(|_| KillError::new(pgid, KillErrorKind::Panicked))
}

/// Runs the kill, by `run`, in one closure of the current runtime's blocking pool.
///
/// The pool may never begin it: its threads may all be taken, and where none can be started, some versions of tokio
/// leave the closure in the queue for ever while others panic *here*, on the worker. So:
///
/// 1. From the first poll on the kill thread has the kill too, and begins it after 20 ms if the pool has not.
/// 2. Only where a thread can be started is the pool asked for one. Another that is started in between can still take
///    the last place: then `spawn_blocking` panics, which is caught where panics unwind.
/// 3. Where none can be started, the kill thread begins at once.
pub(super) async fn in_pool(kill: Kill, run: fn(Kill) -> KillResult) -> KillResult {
    let runtime = Handle::try_current().map_err(|_| KillError::new(kill.pgid(), KillErrorKind::NoRuntime))?;
    match KillThread::global() {
        Ok(kill_thread) => in_pool_or_on(kill_thread, kill, run, &runtime, a_thread_can_be_started()).await,
        Err(_) => off_worker(kill).await,
    }
}

/// The pool is asked only if `may_ask`.
async fn in_pool_or_on(
    kill_thread: &KillThread,
    kill: Kill,
    run: fn(Kill) -> KillResult,
    runtime: &Handle,
    may_ask: impl Future<Output = bool>,
) -> KillResult {
    let pgid = kill.pgid();
    let (sender, mut result) = oneshot::channel();
    // The receiver may have gone.
    let claim = kill_thread.begin_unless_taken(kill, Box::new(move |result| drop(sender.send(result))));
    let mut closure = match may_ask.await {
        true => ask_pool(runtime, &claim, run),
        false => None,
    };
    if closure.is_none() {
        begin_now(&claim, kill_thread);
    }
    poll_fn(|cx| {
        if let Poll::Ready(output) = Pin::new(&mut result).poll(cx) {
            // The thread that had the kill dropped it without an answer.
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

/// `None` where the pool has panicked because it can start no thread, although the system can: by the size of its
/// stacks.
fn ask_pool(runtime: &Handle, claim: &Claim, run: fn(Kill) -> KillResult) -> Option<JoinHandle<()>> {
    let claim = claim.clone();
    let closure = move || {
        if let Some((kill, on_done)) = claim.take() {
            on_done(run(kill));
        }
    };
    catch_unwind(AssertUnwindSafe(|| runtime.spawn_blocking(closure))).ok()
}

fn begin_now(claim: &Claim, kill_thread: &KillThread) {
    let Some((kill, on_done)) = claim.take() else { return };
    tracing::debug!(pgid = kill.pgid(), "the blocking pool can start no thread for a kill");
    kill_thread.begin(kill, on_done);
}

/// Whether the kill never begins: its closure has not run, no other thread has taken it, and from here on none can.
fn is_cancelled(closure: Result<(), JoinError>, claim: &Claim) -> bool {
    // A closure cannot be cancelled once it runs.
    closure.is_err_and(|error| error.is_cancelled()) && claim.take().is_some()
}

/// Whether the system starts a thread now, found out by starting one, without blocking and without a panic.
///
/// By the time this says yes, the thread that was started has ended and its place is free again. The answer is no, too,
/// if that takes longer than the kill thread waits for the pool anyway.
async fn a_thread_can_be_started() -> bool {
    let begun = Instant::now();
    let (sender, ended) = oneshot::channel();
    let say_which = move || {
        // The receiver may have gone.
        let _ = sender.send(this_thread());
    };
    if std::thread::Builder::new().name("deadbeat-probe".into()).spawn(say_which).is_err() {
        return false;
    }
    let Ok(thread) = ended.await else { return false };
    // Sending its number was the last thing that the thread did; it still counts until the kernel has taken it off.
    while has_thread(thread) {
        if begun.elapsed() >= POOL_BEGINS_WITHIN {
            return false;
        }
        tokio::task::yield_now().await;
    }
    true
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::panic::resume_unwind;

    use tokio::runtime::{Builder, Runtime};

    use super::*;
    use crate::kill::kill_thread::tests::without_a_thread;
    use crate::kill::testing::kill_of_no_group;
    use crate::kill::{KillPolicy, Outcome, run};

    fn runtime() -> Runtime {
        Builder::new_current_thread().enable_time().build().unwrap()
    }

    #[test]
    fn a_kill_is_cancelled_only_if_its_closure_was_and_no_other_thread_has_it() {
        let runtime = runtime();
        let cancelled = || {
            let task = runtime.spawn(pending());
            task.abort();
            runtime.block_on(task)
        };
        let panicked = runtime.block_on(runtime.spawn(async {
            resume_unwind(Box::new(()));
        }));
        let claim = Claim::new(kill_of_no_group(), Box::new(drop));
        assert!(!is_cancelled(Ok(()), &claim));
        assert!(!is_cancelled(panicked, &claim));
        assert!(is_cancelled(cancelled(), &claim));
        assert!(!is_cancelled(cancelled(), &claim), "it has been taken");
    }

    #[test]
    fn a_kill_that_never_started_is_cancelled_not_panicked() {
        let (ended, (kill_thread, _wakeups)) = (runtime(), without_a_thread());
        let handle = ended.handle().clone();
        ended.shutdown_background();
        // From here on the pool takes no closure.
        let kill = in_pool_or_on(&kill_thread, kill_of_no_group(), run, &handle, ready(true));
        let error = runtime().block_on(kill).expect_err("it has started");
        assert_eq!(error.kind(), KillErrorKind::Cancelled, "{error}");
        assert!(error.to_string().contains("never started"), "{error}");
    }

    #[test]
    fn what_the_pool_cannot_begin_the_kill_thread_begins_at_once() {
        let (runtime, kill_thread) = (runtime(), KillThread::new(KillPolicy::default()).unwrap());
        let (sender, result) = oneshot::channel();
        let claim = Claim::new(kill_of_no_group(), Box::new(move |result| drop(sender.send(result))));
        begin_now(&claim, &kill_thread);
        assert!(claim.take().is_none(), "it was not begun");
        assert_eq!(runtime.block_on(result).unwrap().unwrap().outcome, Outcome::AlreadyGone);
    }

    #[test]
    fn a_pool_that_can_start_threads_has_the_closure_and_one_that_cannot_has_none() {
        let asks = |runtime: &Runtime| {
            let claim = Claim::new(kill_of_no_group(), Box::new(drop));
            let closure = runtime.block_on(async { ask_pool(&Handle::current(), &claim, run) });
            let asked = closure.is_some();
            if let Some(closure) = closure {
                runtime.block_on(closure).unwrap();
            }
            (asked, claim.take().is_none())
        };
        assert_eq!(asks(&runtime()), (true, true));
        // No address space has room for such a stack.
        let stackless = Builder::new_current_thread().thread_stack_size(1 << 46).build().unwrap();
        assert_eq!(asks(&stackless), (false, false));
    }

    #[test]
    fn a_thread_is_started_and_nothing_of_it_is_left() {
        let runtime = runtime();
        // On a machine that gives it no CPU for so long the answer is no now and then.
        let started = (0..100).filter(|_| runtime.block_on(a_thread_can_be_started())).count();
        assert!(started > 0);
    }
}
