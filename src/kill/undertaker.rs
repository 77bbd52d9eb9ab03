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

/// How long the blocking pool has to begin a kill. It takes less than one where a thread is idle or can be started, and a
/// grace that begins later by so much is not noticed.
pub(super) const PATIENCE: Duration = Duration::from_millis(20);

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
    /// The group is pinned before this returns, where the system can do that, or else known by the start of its leader: so a
    /// stranger that gets the number afterwards is told from it, as [`KillPolicy::kill_child`] says in detail.
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
            drop(letters);
            return bury_alone(climb, Box::new(then));
        }
        letters.jobs.push((climb, Box::new(then)));
        drop(letters);
        self.inbox.ring();
    }

    /// Begins this kill if nothing else has in [`PATIENCE`].
    pub(super) fn begin_if_nobody_does(&self, seat: Seat) {
        let mut letters = self.inbox.letters();
        if letters.dead {
            drop(letters);
            return seat.take().into_iter().for_each(|(climb, then)| bury_alone(climb, then));
        }
        letters.seats.push((Instant::now() + PATIENCE, seat));
        drop(letters);
        self.inbox.ring();
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

/// Where there is a thread to be had: the kill thread's, one of its own; without any, at once and without grace.
pub(super) fn begin_anywhere(climb: Climb, then: Then) {
    match Undertaker::global() {
        Ok(undertaker) => undertaker.begin(climb, then),
        Err(_) => bury_alone(climb, then),
    }
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
fn due(seats: &mut VecDeque<(Instant, Seat)>, now: Instant) -> Option<Seat> {
    if seats.front()?.0 > now {
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
        while let Some(seat) = due(&mut seats, Instant::now()) {
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
        // Before the letters are read, so that no ring is lost; of very many the rest wakes us once more.
        let _ = door.read(&mut [0; 64]);
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
    use crate::kill::tests::{SOON, climb_of_nobody, eventually};

    fn undertaker() -> Undertaker {
        Undertaker::new(KillPolicy::default()).unwrap()
    }

    /// What it is told lies there to be read; the other end of its bell.
    pub(in crate::kill) fn without_a_thread() -> (Undertaker, UnixStream) {
        let (bell, door) = UnixStream::pair().unwrap();
        door.set_nonblocking(true).unwrap();
        let inbox = Arc::new(Inbox { letters: Mutex::default(), bell });
        let (_, ended) = oneshot::channel();
        (Undertaker { policy: KillPolicy::default(), inbox, ended, thread: None }, door)
    }

    fn seat_of_nobody() -> Seat {
        Seat::new(climb_of_nobody(), Box::new(drop))
    }

    /// A kill whose end takes a while, and whether it has come.
    fn slow_end() -> (Arc<AtomicBool>, Then) {
        let is_over = Arc::new(AtomicBool::new(false));
        let over = Arc::clone(&is_over);
        let then: Then = Box::new(move |_| {
            pause(Duration::from_millis(40));
            over.store(true, Ordering::SeqCst);
        });
        (is_over, then)
    }

    #[test]
    fn each_kill_is_begun_however_long_there_was_none() {
        let (undertaker, runtime) = (undertaker(), Builder::new_current_thread().enable_time().build().unwrap());
        for _ in 0..10 {
            let burial = undertaker.kill(i32::MAX);
            assert_eq!(burial.pgid(), i32::MAX);
            let report = runtime.block_on(async { timeout(SOON, burial).await }).expect("nobody has begun").unwrap();
            assert_eq!(report.outcome, Outcome::AlreadyGone);
        }
    }

    #[test]
    fn whoever_shuts_it_down_waits_for_the_last_kill_to_have_ended() {
        let (is_over, then) = slow_end();
        let awaited = undertaker();
        awaited.begin(climb_of_nobody(), then);
        let runtime = Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async { timeout(SOON, awaited.shutdown()).await }).expect("it does not end");
        assert!(is_over.load(Ordering::SeqCst), "it was not waited for");

        let (is_over, then) = slow_end();
        let blocking = undertaker();
        blocking.begin(climb_of_nobody(), then);
        let (told, end) = channel();
        std::thread::spawn(move || {
            blocking.shutdown_blocking();
            told.send(is_over.load(Ordering::SeqCst)).unwrap();
        });
        assert_eq!(end.recv_timeout(SOON), Ok(true), "it does not end, or was not waited for");
    }

    #[test]
    fn dropped_it_leaves_no_thread_behind() {
        let undertaker = undertaker();
        let inbox = Arc::downgrade(&undertaker.inbox);
        drop(undertaker);
        // The thread has the other half of it.
        eventually("the thread has ended", || inbox.strong_count() == 0);
    }

    #[test]
    fn a_kill_that_the_pool_should_begin_is_left_to_it_for_20_ms() {
        assert_eq!(PATIENCE, Duration::from_millis(20));
        let (undertaker, mut door) = without_a_thread();
        let before = Instant::now();
        undertaker.begin_if_nobody_does(seat_of_nobody());
        let until = undertaker.inbox.letters().seats[0].0;
        assert!(before + PATIENCE <= until && until <= Instant::now() + PATIENCE);
        assert_eq!(door.read(&mut [0; 8]).unwrap(), 1, "nobody would read it");

        let mut seats = VecDeque::from([(until, seat_of_nobody()), (until, seat_of_nobody())]);
        assert!(due(&mut seats, until - Duration::from_nanos(1)).is_none());
        assert!(due(&mut seats, until).is_some());
        assert!(due(&mut seats, until + PATIENCE).is_some());
        assert!(due(&mut seats, until + PATIENCE).is_none(), "there is none left");
    }

    #[test]
    fn what_comes_after_its_thread_has_died_is_done_by_others() {
        let (undertaker, _door) = without_a_thread();
        undertaker.inbox.letters().dead = true;
        let (told, ends) = channel();
        let theirs = told.clone();
        undertaker.begin_if_nobody_does(Seat::new(climb_of_nobody(), Box::new(move |end| theirs.send(end).unwrap())));
        assert_eq!(ends.recv_timeout(SOON).expect("it was lost").unwrap().outcome, Outcome::AlreadyGone);
        assert!(undertaker.inbox.letters().seats.is_empty(), "nothing would ever take it");
        undertaker.begin(climb_of_nobody(), move |result| told.send(result).unwrap());
        let report = ends.recv_timeout(SOON).expect("it was lost").unwrap();
        assert_eq!(report.outcome, Outcome::AlreadyGone);
    }

    #[test]
    fn it_can_be_shown_while_others_use_it() {
        let undertaker = undertaker();
        let _letters = undertaker.inbox.letters();
        assert!(format!("{undertaker:?}").contains("inbox: Inbox"));
    }
}
