//! Many kills on one thread: they share its walks through the process table, and outlive whoever asked for them.
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

use super::climb::Climb;
use super::many::{Many, Then};
use super::seat::Seat;
use super::{KillError, KillErrorKind, KillPolicy, KillReport};

/// Kills any number of groups at once, on one thread of its own that needs no runtime.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// use deadbeat::{KillPolicy, kill::Undertaker};
///
/// let undertaker = Undertaker::new(KillPolicy::default())?;
/// let burial = undertaker.kill(i32::MAX); // under way from here on, whether or not anybody awaits it
/// undertaker.shutdown_blocking(); // waits for every kill
/// # drop(burial);
/// # Ok(())
/// # }
/// ```
///
/// Dropping it neither blocks nor loses a kill: its thread ends after the last of them. The end of the process is
/// another matter; a `main` that is about to return calls [`shutdown_blocking`](Undertaker::shutdown_blocking) first.
#[derive(Debug)]
pub struct Undertaker {
    policy: KillPolicy,
    inbox: Arc<Inbox>,
    ended: oneshot::Receiver<()>,
    thread: Option<JoinHandle<()>>,
}

/// A kill under way at an [`Undertaker`]. Dropping it does not stop the kill.
#[derive(Debug)]
#[must_use = "the kill goes on without it, but only this tells what became of it"]
pub struct Burial {
    pgid: i32,
    state: Result<oneshot::Receiver<Result<KillReport, KillError>>, Option<KillError>>,
}

struct Inbox {
    letters: Mutex<Letters>,
    bell: UnixStream,
}

#[derive(Default)]
struct Letters {
    jobs: Vec<(Climb, Then)>,
    /// Kills that somebody else should begin, and until when.
    seats: Vec<(Instant, Seat)>,
    closed: bool,
    /// The thread has panicked, and reads no more letters.
    dead: bool,
}

impl fmt::Debug for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Inbox")
    }
}

impl Inbox {
    fn letters(&self) -> MutexGuard<'_, Letters> {
        self.letters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn ring(&self) {
        // Full means that it has been rung already.
        let _ = (&self.bell).write(&[1]);
    }
}

impl Undertaker {
    /// Starts the thread.
    ///
    /// # Errors
    ///
    /// The system's, when there is no thread or descriptor to be had: nothing has been promised to anybody yet.
    pub fn new(policy: KillPolicy) -> io::Result<Undertaker> {
        let (bell, door) = UnixStream::pair()?;
        bell.set_nonblocking(true)?;
        door.set_nonblocking(true)?;
        let inbox = Arc::new(Inbox { letters: Mutex::default(), bell });
        let (end, ended) = oneshot::channel();
        let theirs = Arc::clone(&inbox);
        let thread = std::thread::Builder::new().name("undertaker".into()).spawn(move || {
            let mut kills = Many::default();
            let dead = catch_unwind(AssertUnwindSafe(|| work(&mut kills, &theirs, &door))).is_err();
            let mut letters = theirs.letters();
            letters.dead = dead;
            // A bug of ours must not lose a kill, begun or not.
            kills.into_climbs().chain(letters.jobs.drain(..)).for_each(|(climb, then)| bury_alone(climb, then));
            drop(letters);
            // Nobody may be waiting.
            let _ = end.send(());
        })?;
        Ok(Undertaker { policy, inbox, ended, thread: Some(thread) })
    }

    /// Begins to kill this group, at once and whatever becomes of the future that tells of it.
    ///
    /// The group is pinned before this returns, where the system can do that; so a leader that is reaped afterwards
    /// cannot make the number a stranger's.
    pub fn kill(&self, pgid: i32) -> Burial {
        match self.policy.climb(pgid) {
            Ok(climb) => {
                let (answer, state) = oneshot::channel();
                self.begin(climb, move |result| {
                    // Whoever asked may have gone.
                    let _ = answer.send(result);
                });
                Burial { pgid, state: Ok(state) }
            }
            Err(error) => Burial { pgid, state: Err(Some(error)) },
        }
    }

    /// Hands over a climb, and what is to be done on the thread when it has ended.
    pub(crate) fn begin(&self, climb: Climb, then: impl FnOnce(Result<KillReport, KillError>) + Send + 'static) {
        let mut letters = self.inbox.letters();
        if letters.dead {
            return bury_alone(climb, Box::new(then));
        }
        letters.jobs.push((climb, Box::new(then)));
        drop(letters);
        self.inbox.ring();
    }

    /// Begins this kill if in a second nobody else has.
    pub(super) fn begin_if_nobody_does(&self, seat: Seat) {
        const PATIENCE: Duration = Duration::from_secs(1);
        let mut letters = self.inbox.letters();
        // With its thread dead, the others are all there is.
        if !letters.dead {
            letters.seats.push((Instant::now() + PATIENCE, seat));
            drop(letters);
            self.inbox.ring();
        }
    }

    /// The one of this process, for what must go on when whoever began it is dropped.
    ///
    /// # Errors
    ///
    /// As [`new`](Undertaker::new): there is no thread or descriptor to be had.
    pub(crate) fn global() -> io::Result<&'static Undertaker> {
        static GLOBAL: OnceLock<Undertaker> = OnceLock::new();
        if let Some(undertaker) = GLOBAL.get() {
            return Ok(undertaker);
        }
        let new = Undertaker::new(KillPolicy::default())?;
        Ok(GLOBAL.get_or_init(|| new))
    }

    /// Waits until every kill has ended.
    pub async fn shutdown(mut self) {
        self.close();
        // An error means that the thread has ended too.
        let _ = (&mut self.ended).await;
    }

    /// The same, blocking this thread.
    pub fn shutdown_blocking(mut self) {
        self.close();
        if let Some(thread) = self.thread.take() {
            // A panic there has been told to each burial that it lost.
            let _ = thread.join();
        }
    }

    /// Once: after that there may be nobody left to hear the bell.
    fn close(&self) {
        if !std::mem::replace(&mut self.inbox.letters().closed, true) {
            self.inbox.ring();
        }
    }
}

impl Drop for Undertaker {
    fn drop(&mut self) {
        self.close();
    }
}

impl Burial {
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

impl Future for Burial {
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

/// On a thread of its own; without one, at once and without grace.
fn bury_alone(climb: Climb, then: Then) {
    let seat = Seat::new(climb, then);
    let theirs = seat.clone();
    if std::thread::Builder::new().spawn(move || theirs.climb_here()).is_err() {
        if let Some((climb, then)) = seat.take() {
            then(climb.cut_short());
        }
    }
}

/// The first of them, if its time has come. All have the same patience, so the first to come is the first to be due.
fn due(seats: &mut VecDeque<(Instant, Seat)>) -> Option<Seat> {
    if seats.front()?.0 > Instant::now() {
        return None;
    }
    seats.pop_front().map(|(_, seat)| seat)
}

/// The thread.
fn work(kills: &mut Many, inbox: &Inbox, mut door: &UnixStream) {
    let mut seats = VecDeque::new();
    loop {
        let closed = {
            let mut letters = inbox.letters();
            letters.jobs.drain(..).for_each(|(climb, then)| kills.add(climb, then));
            seats.extend(letters.seats.drain(..));
            letters.closed
        };
        while let Some(seat) = due(&mut seats) {
            if let Some((climb, then)) = seat.take() {
                tracing::debug!(pgid = climb.pgid(), "the blocking pool has not begun a kill");
                kills.add(climb, then);
            }
        }
        kills.step();
        if kills.is_empty() && seats.is_empty() && closed {
            return;
        }
        let left = seats.front().map_or(Duration::MAX, |(until, _)| until.saturating_duration_since(Instant::now()));
        kills.sleep(Some(door.as_fd()), left);
        // Emptied before the letters are read, so that no ring is lost.
        while door.read(&mut [0; 64]).is_ok_and(|length| length == 64) {}
    }
}
