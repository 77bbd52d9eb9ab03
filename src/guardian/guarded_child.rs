//! One child under guard, from before it is started until it is released.

use std::io;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::client::{Blocking, Client};
use crate::group::{ProcessGroup, since_boot};
use crate::kill::KillPolicy;

/// A child under guard, from before it is started until it is released.
///
/// Dropping it does not release it: what a panic forgets dies with the parent.
#[derive(Debug)]
#[must_use = "a child that is not released is killed when this process ends, even if it ends well"]
pub struct GuardedChild {
    client: Arc<Client>,
    id: u64,
    mark_value: String,
    deferred: Option<Deferred>,
}

impl GuardedChild {
    pub(super) fn announce(client: &Arc<Client>, policy: &KillPolicy, blocking: Blocking) -> io::Result<GuardedChild> {
        let id = client.announce(policy, blocking)?;
        Ok(GuardedChild { client: Arc::clone(client), id, mark_value: id.to_string(), deferred: None })
    }

    /// Announces a child without blocking a worker: on another thread if it cannot be done at once.
    pub(super) async fn announce_off_worker(client: &Arc<Client>, policy: &KillPolicy) -> io::Result<GuardedChild> {
        if let Ok(child) = GuardedChild::announce(client, policy, Blocking::Forbidden) {
            return Ok(child);
        }
        let (client, policy) = (Arc::clone(client), policy.clone());
        let (sender, receiver) = oneshot::channel();
        let mut pending = PendingChild(receiver);
        on_new_thread(move || {
            if let Err(Ok(unwanted)) = sender.send(GuardedChild::announce(&client, &policy, Blocking::Allowed)) {
                unwanted.release();
            }
        })?;
        (&mut pending.0)
            .await
            .unwrap_or_else(|_| Err(io::Error::other("the thread that starts the guardian has panicked")))
    }

    /// Name and value of the variable to put into the child's environment, and of no other child.
    pub fn mark(&self) -> (&str, &str) {
        (&self.client.mark, &self.mark_value)
    }

    /// Has the group guarded that this child leads. To be called while the leader is un-reaped.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`] for a pgid that must not be signalled. Otherwise the guardian has died and no
    /// new one can be started now; the group will be guarded if that succeeds at a later use.
    pub fn guard(&mut self, pgid: i32) -> io::Result<()> {
        ProcessGroup::new(pgid).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        self.client.guard(self.id, pgid, since_boot(), Blocking::Allowed)
    }

    /// Has the group guarded without blocking a worker: on another thread if it cannot be done at once. The caller does
    /// not wait for that; later calls for this child keep their order.
    pub(crate) fn guard_off_worker(&mut self, group: ProcessGroup) {
        let (id, at) = (self.id, since_boot());
        self.send_off_worker(move |client, blocking| client.guard(id, group.pgid(), at, blocking));
    }

    /// Has the guardian kill, by the child's policy and from here on, the processes that carry its mark and have left
    /// its group. The kill goes on after the release. Does not block a worker, as
    /// [`guard_off_worker`](Self::guard_off_worker).
    pub(crate) fn kill_escaped_off_worker(&mut self) {
        let id = self.id;
        self.send_off_worker(move |client, blocking| client.kill_escaped(id, blocking));
    }

    fn send_off_worker(&mut self, send: impl Fn(&Client, Blocking) -> io::Result<()> + Send + 'static) {
        if self.deferred.is_none() && send(&self.client, Blocking::Forbidden).is_ok() {
            return;
        }
        let client = Arc::clone(&self.client);
        let send = move || send(&client, Blocking::Allowed).unwrap_or_else(warn);
        match self.deferred.take().map_or_else(Deferred::begin, Ok) {
            Ok(deferred) => self.deferred.insert(deferred).push(send),
            Err(error) => warn(error),
        }
    }

    /// Waits until the deferred messages are sent.
    fn wait_for_deferred(&mut self) {
        if let Some(deferred) = self.deferred.take() {
            deferred.finish();
        }
    }

    /// Ends the guard of the child's group, and of the processes that carry its mark.
    ///
    /// To be called before the leader is reaped, because from then on its number may be another process's. Also to be
    /// called when the child could not be started.
    pub fn release(mut self) {
        self.wait_for_deferred();
        self.client.release(self.id, Blocking::Allowed).unwrap_or_else(warn);
    }

    /// Ends the guard of the child's group, which is dead, before its leader is reaped. The processes that carry its
    /// mark stay under guard until the release. May block.
    #[cfg(feature = "cli")]
    pub(crate) fn release_group(&mut self) {
        self.wait_for_deferred();
        self.client.release_group(self.id, Blocking::Allowed).unwrap_or_else(warn);
    }

    /// Releases the child without blocking a worker; it is released when this resolves.
    pub(crate) async fn release_off_worker(self) {
        if self.deferred.is_none() && self.client.release(self.id, Blocking::Forbidden).is_ok() {
            return;
        }
        let (done, is_done) = oneshot::channel();
        let release = move || {
            self.release();
            // The receiver is gone if this future was dropped.
            let _ = done.send(());
        };
        match on_new_thread(release) {
            // An error means that the thread has panicked, and is over too.
            Ok(_) => drop(is_done.await),
            Err(error) => tracing::warn!("a guarded child is not released, no thread can be started: {error}"),
        }
    }
}

fn warn(error: io::Error) {
    tracing::warn!("the guardian has died and no new one can be started: {error}");
}

/// Runs `f` on a thread of its own: it may start a process, or wait for a guardian that does not read.
fn on_new_thread(f: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("guardian-client".into()).spawn(f)
}

/// Runs `f` on a thread of its own, or on the calling thread if none can be started.
pub(crate) fn on_new_thread_or_here<F: FnOnce() + Send + 'static>(f: F) {
    // The closure of a thread that cannot be started is dropped, so `f` is shared and not moved into it.
    let shared = Arc::new(Mutex::new(Some(f)));
    let threads = Arc::clone(&shared);
    let take_and_call = |shared: &Mutex<Option<F>>| {
        let f = shared.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(f) = f {
            f();
        }
    };
    if on_new_thread(move || take_and_call(&threads)).is_err() {
        take_and_call(&shared);
    }
}

/// The messages of one child that a worker could not send at once, and all later ones, sent in order by one thread. A
/// release that overtook the message to kill escaped processes would spare them.
#[derive(Debug)]
struct Deferred {
    queue: mpsc::Sender<Box<dyn FnOnce() + Send>>,
    thread: JoinHandle<()>,
}

impl Deferred {
    fn begin() -> io::Result<Deferred> {
        let (queue, waiting) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
        let thread = on_new_thread(move || waiting.into_iter().for_each(|send| send()))?;
        Ok(Deferred { queue, thread })
    }

    fn push(&self, send: impl FnOnce() + Send + 'static) {
        // This fails only if an earlier message has panicked.
        let _ = self.queue.send(Box::new(send));
    }

    fn finish(self) {
        drop(self.queue);
        // The message of a panic has been printed.
        let _ = self.thread.join();
    }
}

/// A child that is being announced on another thread. Dropped, it is released when it has been announced.
struct PendingChild(oneshot::Receiver<io::Result<GuardedChild>>);

impl Drop for PendingChild {
    fn drop(&mut self) {
        self.0.close();
        if let Ok(Ok(unwanted)) = self.0.try_recv() {
            on_new_thread(|| unwanted.release()).map_or_else(warn, drop);
        }
    }
}

#[cfg(test)]
mod tests;
