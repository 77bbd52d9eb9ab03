//! The life of a lab's own thread: it builds the runtime, runs the future and drops the runtime, and says how far it
//! is.

use std::cell::OnceCell;
use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use tokio::runtime::Runtime;
use tokio::sync::oneshot;

use crate::heartbeat::lab::panic_payload::PanicPayload;
use crate::heartbeat::lab::runtime::WatchedRuntime;
use crate::heartbeat::lab::time_budget::TimeBudget;
use crate::heartbeat::pulse::Watched;
use crate::heartbeat::watch::state::WatchState;
use crate::heartbeat::watch::{Stage, observe};

/// What the lab's thread has to say, in this order.
pub(super) enum LabMessage<T> {
    /// The runtime is there, and the code is about to run.
    Begins(Arc<WatchState>),
    /// The future is done, or was dropped half way because the deadline passed.
    Done(Instant),
    /// No code of theirs keeps this thread from judging what was seen.
    Judging,
    /// What was seen.
    Finished(Box<Watched<Option<T>>>),
    /// It panicked.
    Panicked(PanicPayload),
    NoRuntime(std::io::Error),
    /// The runtime is gone.
    ShutDown(Duration),
}

/// The life of the lab's thread, to the end of its runtime. The receiver of the messages may be gone by then.
/// `judged_by` says until when what was seen may be judged, of a watch that began and a future that was done then.
pub(super) fn run<F, Fut, T>(
    runtime: &WatchedRuntime,
    judged_by: impl FnOnce(Instant, Instant) -> TimeBudget,
    f: F,
    stopped: oneshot::Receiver<()>,
    messages: &Sender<LabMessage<T>>,
) where
    F: FnOnce() -> Fut,
    Fut: Future<Output = T>,
{
    let built = match runtime.build() {
        Ok(built) => built,
        Err(error) => return drop(messages.send(LabMessage::NoRuntime(error))),
    };
    let future = until(stopped, f);
    let finished = catch_unwind(AssertUnwindSafe(|| watch(runtime, &built, judged_by, future, messages)));
    let _ = messages.send(match finished {
        Ok(watched) => LabMessage::Finished(Box::new(watched)),
        Err(panic) => LabMessage::Panicked(PanicPayload::new(panic)),
    });
    let begun = Instant::now();
    drop(built);
    let _ = messages.send(LabMessage::ShutDown(begun.elapsed()));
}

fn watch<T>(
    runtime: &WatchedRuntime,
    built: &Runtime,
    judged_by: impl FnOnce(Instant, Instant) -> TimeBudget,
    future: impl Future<Output = Option<T>>,
    messages: &Sender<LabMessage<T>>,
) -> Watched<Option<T>> {
    built.block_on(async {
        runtime.wait_for_workers(built).await;
        let state = runtime.begin_watch();
        let _ = messages.send(LabMessage::Begins(Arc::clone(&state)));
        let (began, done) = (state.began, OnceCell::new());
        let at = |stage| {
            let _ = messages.send(match stage {
                Stage::Done => LabMessage::Done(*done.get_or_init(Instant::now)),
                Stage::Judging => LabMessage::Judging,
            });
        };
        let mut watched = observe(state, future, at).await;
        let done = *done.get_or_init(Instant::now);
        runtime.close(&mut watched.pulse, judged_by(began, done));
        watched
    })
}

/// Runs what `f` makes until it is done or told to stop.
async fn until<F, Fut, T>(mut stopped: oneshot::Receiver<()>, f: F) -> Option<T>
where
    F: FnOnce() -> Fut,
    Fut: Future<Output = T>,
{
    use std::pin::{Pin, pin};
    use std::task::Poll;

    let mut future = pin!(f());
    std::future::poll_fn(|cx| match Pin::new(&mut stopped).poll(cx) {
        Poll::Ready(Ok(())) => Poll::Ready(None),
        Poll::Ready(Err(_)) | Poll::Pending => future.as_mut().poll(cx).map(Some),
    })
    .await
}
