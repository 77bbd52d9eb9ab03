//! Many kills on one thread: they share its walks through the process table, and outlive the callers that asked for
//! them.
//!
//! A `spawn_blocking` per kill only moves the starvation: five hundred kills that wait out their grace take the whole
//! blocking pool, and the next file read waits behind them.

use std::collections::VecDeque;
use std::fmt;
use std::future::Future;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, ready};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::batch::{Batch, OnDone};
use super::claim::Claim;
use super::in_progress::Kill;
use super::policy::KillPolicy;
use super::report::{KillReport, KillResult};
use crate::error::{KillError, KillErrorKind};

/// How long the blocking pool has to begin a kill. Where a thread is idle or can be started it takes less than a
/// millisecond, and a grace that begins later by this much is not noticed.
pub(super) const POOL_BEGINS_WITHIN: Duration = Duration::from_millis(20);

/// A thread that kills any number of groups at once, and needs no runtime.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use deadbeat::{KillPolicy, kill::KillThread};
///
/// let kill_thread = KillThread::new(KillPolicy::default())?;
/// let pending = kill_thread.kill(i32::MAX); // under way from here on, whether or not the result is awaited
/// kill_thread.shutdown_blocking(); // waits for every kill
/// # drop(pending);
/// # Ok(())
/// # }
/// ```
///
/// Dropping it neither blocks nor loses a kill: its thread ends after the last of them. The end of the process is
/// another matter; a `main` that is about to return calls [`shutdown_blocking`](KillThread::shutdown_blocking) first.
#[derive(Debug)]
pub struct KillThread {
    policy: KillPolicy,
    shared: Arc<Shared>,
    ended: oneshot::Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

/// A kill in progress on a [`KillThread`], as a future of its report. Dropping it does not stop the kill.
#[derive(Debug)]
#[must_use = "the kill goes on without it, but only this has the report"]
pub struct PendingKill {
    pgid: i32,
    state: Result<oneshot::Receiver<KillResult>, Option<KillError>>,
}

/// What the thread and its handle share.
struct Shared {
    queue: Mutex<Queue>,
    waker: UnixStream,
}

/// What the thread has yet to take over.
#[derive(Default)]
struct Queue {
    kills: Vec<(Kill, OnDone)>,
    /// Kills that the blocking pool should begin, and until when.
    claims: Vec<(Instant, Claim)>,
    closed: bool,
    /// The thread has panicked, and takes nothing over any more.
    dead: bool,
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shared")
    }
}

impl Shared {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wake(&self) {
        // A full socket means that the thread is about to wake anyway.
        let _ = (&self.waker).write(&[1]);
    }
}

impl KillThread {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// The system's, when there is no thread or descriptor to be had: no kill has been accepted yet.
    pub fn new(policy: KillPolicy) -> io::Result<KillThread> {
        let (waker, wakeups) = UnixStream::pair()?;
        waker.set_nonblocking(true)?;
        wakeups.set_nonblocking(true)?;
        let shared = Arc::new(Shared { queue: Mutex::default(), waker });
        let (sender, ended) = oneshot::channel();
        let theirs = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("kill-thread".into()).spawn(move || {
            let mut kills = Batch::default();
            let dead = catch_unwind(AssertUnwindSafe(|| work(&mut kills, &theirs, &wakeups))).is_err();
            let mut queue = theirs.queue();
            queue.dead = dead;
            // A bug in this crate must not lose a kill, begun or not.
            kills.into_kills().chain(queue.kills.drain(..)).for_each(|(kill, on_done)| run_detached(kill, on_done));
            drop(queue);
            // The receiver may have gone.
            let _ = sender.send(());
        })?;
        Ok(KillThread { policy, shared, ended, thread: Some(thread) })
    }

    /// Begins to kill this group at once, whatever becomes of the future that is returned.
    ///
    /// The group is pinned before this returns, where the system can do that, or else known by the start of its leader:
    /// so a stranger that gets the number afterwards is told from it, as [`KillPolicy::kill_child`] says in detail.
    pub fn kill(&self, pgid: i32) -> PendingKill {
        match Kill::of(pgid, &self.policy) {
            Ok(kill) => {
                let (sender, state) = oneshot::channel();
                self.begin(kill, move |result| {
                    // The future may have been dropped.
                    let _ = sender.send(result);
                });
                PendingKill { pgid, state: Ok(state) }
            }
            Err(error) => PendingKill { pgid, state: Err(Some(error)) },
        }
    }

    /// Hands a kill over to the thread, which calls `on_done` when it has ended.
    pub(crate) fn begin(&self, kill: Kill, on_done: impl FnOnce(KillResult) + Send + 'static) {
        let mut queue = self.shared.queue();
        if queue.dead {
            drop(queue);
            return run_detached(kill, Box::new(on_done));
        }
        queue.kills.push((kill, Box::new(on_done)));
        drop(queue);
        self.shared.wake();
    }

    /// Begins this kill if no other thread has taken it within [`POOL_BEGINS_WITHIN`], by the claim that is returned.
    pub(super) fn begin_unless_taken(&self, kill: Kill, on_done: OnDone) -> Claim {
        let claim = Claim::new(kill, on_done);
        let mut queue = self.shared.queue();
        if queue.dead {
            drop(queue);
            claim.take().into_iter().for_each(|(kill, on_done)| run_detached(kill, on_done));
        } else {
            queue.claims.push((Instant::now() + POOL_BEGINS_WITHIN, claim.clone()));
            drop(queue);
            self.shared.wake();
        }
        claim
    }

    /// The kill thread of this process, for a kill that must go on when the future that began it is dropped.
    ///
    /// # Errors
    ///
    /// As [`new`](KillThread::new): there is no thread or descriptor to be had.
    pub(crate) fn global() -> io::Result<&'static KillThread> {
        static GLOBAL: OnceLock<KillThread> = OnceLock::new();
        if let Some(kill_thread) = GLOBAL.get() {
            return Ok(kill_thread);
        }
        let new = KillThread::new(KillPolicy::default())?;
        Ok(GLOBAL.get_or_init(|| new))
    }

    /// Waits until every kill has ended.
    pub async fn shutdown(mut self) {
        self.close();
        // An error means that the thread has ended too.
        let _ = (&mut self.ended).await;
    }

    /// Waits until every kill has ended, blocking this thread.
    pub fn shutdown_blocking(mut self) {
        self.close();
        if let Some(thread) = self.thread.take() {
            // Each pending kill that a panic there lost has been told so.
            let _ = thread.join();
        }
    }

    /// Has the thread end after the last kill. Wakes it once only: after that it may be gone.
    fn close(&self) {
        if !std::mem::replace(&mut self.shared.queue().closed, true) {
            self.shared.wake();
        }
    }
}

impl Drop for KillThread {
    fn drop(&mut self) {
        self.close();
    }
}

impl PendingKill {
    /// The group.
    pub fn pgid(&self) -> i32 {
        self.pgid
    }

    /// Waits for the end of the kill, blocking this thread.
    ///
    /// # Errors
    ///
    /// As [`KillPolicy::kill_blocking`].
    ///
    /// # Panics
    ///
    /// On a tokio worker, which must not be blocked.
    pub fn wait_blocking(self) -> Result<KillReport, KillError> {
        match self.state {
            Ok(receiver) => receiver.blocking_recv().unwrap_or_else(|_| Err(lost(self.pgid))),
            Err(error) => Err(error.unwrap_or_else(|| lost(self.pgid))),
        }
    }
}

impl Future for PendingKill {
    type Output = Result<KillReport, KillError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let pgid = self.pgid;
        match &mut self.state {
            Ok(receiver) => Poll::Ready(ready!(Pin::new(receiver).poll(cx)).unwrap_or_else(|_| Err(lost(pgid)))),
            Err(error) => Poll::Ready(Err(error.take().unwrap_or_else(|| lost(pgid)))),
        }
    }
}

fn lost(pgid: i32) -> KillError {
    KillError::new(pgid, KillErrorKind::Panicked)
}

/// Begins a kill wherever a thread is to be had: on the kill thread, on a thread of its own; without any, SIGKILL at
/// once.
pub(super) fn begin_anywhere(kill: Kill, on_done: OnDone) {
    match KillThread::global() {
        Ok(kill_thread) => kill_thread.begin(kill, on_done),
        Err(_) => run_detached(kill, on_done),
    }
}

/// Runs a kill on a thread of its own; without one, SIGKILL at once and without a grace.
fn run_detached(kill: Kill, on_done: OnDone) {
    let claim = Claim::new(kill, on_done);
    let theirs = claim.clone();
    let run = move || {
        if let Some((kill, on_done)) = theirs.take() {
            let mut kills = Batch::default();
            kills.add(kill, on_done);
            kills.run();
        }
    };
    if std::thread::Builder::new().spawn(run).is_err() {
        if let Some((kill, on_done)) = claim.take() {
            on_done(kill.kill_at_once());
        }
    }
}

/// The first claim, if its time has come. All wait equally long, so the first to come is the first to be due.
fn due(claims: &mut VecDeque<(Instant, Claim)>, now: Instant) -> Option<Claim> {
    if claims.front()?.0 > now {
        return None;
    }
    claims.pop_front().map(|(_, claim)| claim)
}

/// What the thread does.
fn work(kills: &mut Batch, shared: &Shared, mut wakeups: &UnixStream) {
    let mut claims = VecDeque::new();
    loop {
        let closed = {
            let mut queue = shared.queue();
            queue.kills.drain(..).for_each(|(kill, on_done)| kills.add(kill, on_done));
            claims.extend(queue.claims.drain(..));
            queue.closed
        };
        while let Some(claim) = due(&mut claims, Instant::now()) {
            if let Some((kill, on_done)) = claim.take() {
                tracing::debug!(pgid = kill.pgid(), "the blocking pool has not begun a kill");
                kills.add(kill, on_done);
            }
        }
        kills.step();
        if kills.is_empty() && claims.is_empty() && closed {
            return;
        }
        let left = claims.front().map_or(Duration::MAX, |(until, _)| until.saturating_duration_since(Instant::now()));
        kills.sleep(Some(wakeups.as_fd()), left);
        // Before the queue is read, so that no wake-up is lost. Of very many the rest ends the next sleep.
        let _ = wakeups.read(&mut [0; 64]);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::sync::mpsc::channel;

    use tokio::runtime::Builder;
    use tokio::time::timeout;

    use super::*;
    use crate::group::pause;
    use crate::kill::Outcome;
    use crate::kill::testing::{SOON, eventually, kill_of_no_group};

    fn kill_thread() -> KillThread {
        KillThread::new(KillPolicy::default()).unwrap()
    }

    /// A kill thread without its thread, whose queue stays to be read; and the end of the socket that the thread would
    /// read.
    pub(in crate::kill) fn without_a_thread() -> (KillThread, UnixStream) {
        let (waker, wakeups) = UnixStream::pair().unwrap();
        wakeups.set_nonblocking(true).unwrap();
        let shared = Arc::new(Shared { queue: Mutex::default(), waker });
        let (_, ended) = oneshot::channel();
        (KillThread { policy: KillPolicy::default(), shared, ended, thread: None }, wakeups)
    }

    fn claim_of_no_group() -> Claim {
        Claim::new(kill_of_no_group(), Box::new(drop))
    }

    /// A kill whose end takes a while, and whether it has come.
    fn slow_end() -> (Arc<AtomicBool>, OnDone) {
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let on_done: OnDone = Box::new(move |_| {
            pause(Duration::from_millis(40));
            over.store(true, Ordering::SeqCst);
        });
        (is_over, on_done)
    }

    #[test]
    fn each_kill_is_begun_however_long_there_was_none() {
        let (kill_thread, runtime) = (kill_thread(), Builder::new_current_thread().enable_time().build().unwrap());
        for _ in 0..10 {
            let pending = kill_thread.kill(i32::MAX);
            assert_eq!(pending.pgid(), i32::MAX);
            let report = runtime.block_on(async { timeout(SOON, pending).await }).expect("it was not begun").unwrap();
            assert_eq!(report.outcome, Outcome::AlreadyGone);
        }
    }

    #[test]
    fn a_shutdown_waits_for_the_last_kill_to_have_ended() {
        let (is_over, on_done) = slow_end();
        let awaited = kill_thread();
        awaited.begin(kill_of_no_group(), on_done);
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async { timeout(SOON, awaited.shutdown()).await }).expect("it does not end");
        assert!(is_over.load(Ordering::SeqCst), "it was not waited for");

        let (is_over, on_done) = slow_end();
        let blocking = kill_thread();
        blocking.begin(kill_of_no_group(), on_done);
        let (told, end) = channel();
        std::thread::spawn(move || {
            blocking.shutdown_blocking();
            told.send(is_over.load(Ordering::SeqCst)).unwrap();
        });
        assert_eq!(end.recv_timeout(SOON), Ok(true), "it does not end, or was not waited for");
    }

    #[test]
    fn dropped_it_leaves_no_thread_behind() {
        let kill_thread = kill_thread();
        let shared = Arc::downgrade(&kill_thread.shared);
        drop(kill_thread);
        // The thread has the other half of it.
        eventually("the thread has ended", || shared.strong_count() == 0);
    }

    #[test]
    fn a_kill_that_the_pool_should_begin_is_left_to_it_for_20_ms() {
        assert_eq!(POOL_BEGINS_WITHIN, Duration::from_millis(20));
        let (kill_thread, mut wakeups) = without_a_thread();
        let before = Instant::now();
        let claim = kill_thread.begin_unless_taken(kill_of_no_group(), Box::new(drop));
        let until = kill_thread.shared.queue().claims[0].0;
        assert!(before + POOL_BEGINS_WITHIN <= until && until <= Instant::now() + POOL_BEGINS_WITHIN);
        assert_eq!(wakeups.read(&mut [0; 8]).unwrap(), 1, "the thread would not wake");
        assert!(
            claim.take().is_some() && kill_thread.shared.queue().claims[0].1.take().is_none(),
            "it is another kill"
        );

        let mut claims = VecDeque::from([(until, claim_of_no_group()), (until, claim_of_no_group())]);
        assert!(due(&mut claims, until - Duration::from_nanos(1)).is_none());
        assert!(due(&mut claims, until).is_some());
        assert!(due(&mut claims, until + POOL_BEGINS_WITHIN).is_some());
        assert!(due(&mut claims, until + POOL_BEGINS_WITHIN).is_none(), "there is none left");
    }

    #[test]
    fn what_comes_after_its_thread_has_died_is_done_by_others() {
        let (kill_thread, _wakeups) = without_a_thread();
        kill_thread.shared.queue().dead = true;
        let (told, ends) = channel();
        let theirs = told.clone();
        kill_thread.begin_unless_taken(kill_of_no_group(), Box::new(move |end| theirs.send(end).unwrap()));
        assert_eq!(ends.recv_timeout(SOON).expect("it was lost").unwrap().outcome, Outcome::AlreadyGone);
        assert!(kill_thread.shared.queue().claims.is_empty(), "nothing would ever take it");
        kill_thread.begin(kill_of_no_group(), move |result| told.send(result).unwrap());
        let report = ends.recv_timeout(SOON).expect("it was lost").unwrap();
        assert_eq!(report.outcome, Outcome::AlreadyGone);
    }

    #[test]
    fn it_can_be_shown_while_others_use_it() {
        let kill_thread = kill_thread();
        let _queue = kill_thread.shared.queue();
        assert!(format!("{kill_thread:?}").contains("shared: Shared"));
    }
}
