//! The beat: a timer that re-arms itself inside the runtime's driver, so no task has to be polled for it to go on.
//!
//! A ticker task is late behind every other task, and stops telling the two kinds of lateness apart just when it
//! matters. This timer's waker is called by the driver, on the thread that turns it, in the middle of the turn: that
//! is the very moment a worker is back in its scheduler. The waker looks at the clock there and arms the next beat.
//!
//! Two timers take turns, so that at any time one is armed before the driver looks: a timer armed in the middle of a
//! turn, ahead of all others, makes the driver go round once more for nothing.
//!
//! Arming can fire at once, if the thread was preempted for a whole interval, and then calls the waker inside the
//! waker. So the timers are only ever tried for: a thread that finds them taken leaves a note, and the holder goes
//! round again.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, TryLockError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

/// Told of each beat, on the thread that turned the driver.
pub(crate) trait OnTurn: Send + Sync + 'static {
    /// `due`: when the beat should have come. `next`: when the next one should.
    fn on_turn(&self, due: Instant, next: Instant, now: Instant);

    /// A timer fired before it was due: tokio's clock does not go with the world's, and no beat will come any more.
    fn on_early(&self);
}

pub(crate) struct Beat<T> {
    on_turn: Arc<T>,
    interval: Duration,
    timers: Mutex<Timers>,
    again: AtomicBool,
    stopped: AtomicBool,
}

/// The one that is due next, and the other.
struct Timers {
    next: Timer,
    other: Timer,
}

struct Timer {
    due: Instant,
    /// `None` once the beat has stopped.
    sleep: Option<Pin<Box<Sleep>>>,
}

/// Whether the current runtime has a timer (`enable_time`). tokio says so only by a panic, and its message is printed:
/// in a program that was built with `panic = "abort"`, one without a timer ends here, since nothing can be caught.
pub(crate) fn has_timer() -> bool {
    catch_unwind(|| drop(tokio::time::sleep(Duration::ZERO))).is_ok()
}

impl<T: OnTurn> Beat<T> {
    /// Arms the first two beats in the current runtime and returns when the first is due.
    ///
    /// # Panics
    ///
    /// tokio's own message, if the runtime has no timer (`enable_time`).
    pub(crate) fn start(on_turn: Arc<T>, interval: Duration) -> (Arc<Self>, Instant) {
        let now = Instant::now();
        let timer = |due: Instant| Timer { due, sleep: Some(Box::pin(tokio::time::sleep_until(due.into()))) };
        let (next, other) = (timer(now + interval), timer(now + interval * 2));
        let due = next.due;
        let beat = Arc::new(Self {
            on_turn,
            interval,
            timers: Mutex::new(Timers { next, other }),
            again: AtomicBool::new(false),
            stopped: AtomicBool::new(false),
        });
        let waker = Waker::from(Arc::clone(&beat));
        if let Ok(mut timers) = beat.timers.try_lock() {
            let fired = [timers.next.arm(&waker), timers.other.arm(&waker)];
            beat.again.fetch_or(fired.contains(&true), Ordering::SeqCst);
        }
        beat.go_round(None);
        (beat, due)
    }

    /// No beat comes after this, except one that is being delivered on another thread right now.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        if let Ok(mut timers) = self.timers.try_lock() {
            timers.disarm();
        }
    }

    /// `again` is set before the timers are tried for, and read after they are let go: no note is lost.
    fn go_round(self: &Arc<Self>, mut woken: Option<Instant>) {
        while self.again.load(Ordering::SeqCst) {
            let mut timers = match self.timers.try_lock() {
                Ok(timers) => timers,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return,
            };
            self.again.store(false, Ordering::SeqCst);
            let now = woken.take().unwrap_or_else(Instant::now);
            if timers.next.due <= now {
                let due = timers.next.due;
                let fired = timers.rearm(now, self.interval, &Waker::from(Arc::clone(self)));
                self.again.fetch_or(fired, Ordering::SeqCst);
                self.on_turn.on_turn(due, timers.next.due, now);
            } else if timers.next.has_fired() {
                self.on_turn.on_early();
                timers.disarm();
            }
            // Else both timers fired in one turn, and the first wake has armed both afresh.
            if self.stopped.load(Ordering::SeqCst) {
                timers.disarm();
            }
        }
    }
}

impl Timers {
    /// The next timer has fired: it goes behind the other, or both start afresh if both have. True if one of them was
    /// due again at once.
    fn rearm(&mut self, now: Instant, interval: Duration, waker: &Waker) -> bool {
        if self.other.due > now {
            std::mem::swap(&mut self.next, &mut self.other);
            self.other.due = self.next.due + interval;
            return self.other.arm(waker);
        }
        let now = Instant::now();
        (self.next.due, self.other.due) = (now + interval, now + interval * 2);
        [self.next.arm(waker), self.other.arm(waker)].contains(&true)
    }

    fn disarm(&mut self) {
        (self.next.sleep, self.other.sleep) = (None, None);
    }
}

impl Timer {
    fn has_fired(&self) -> bool {
        self.sleep.as_ref().is_some_and(|sleep| sleep.is_elapsed())
    }

    /// True if it was due already.
    fn arm(&mut self, waker: &Waker) -> bool {
        let due = self.due.into();
        let Some(sleep) = self.sleep.as_mut() else {
            return false;
        };
        // A driver that is being shut down wakes every timer, and a timer polled then panics. Nearly all are woken
        // before they are due and not armed again; this is for one that was due in that moment.
        let polled = catch_unwind(AssertUnwindSafe(|| {
            sleep.as_mut().reset(due);
            pin!(tokio::task::coop::unconstrained(sleep.as_mut())).poll(&mut Context::from_waker(waker))
        }));
        if polled.is_err() {
            self.sleep = None;
        }
        matches!(polled, Ok(Poll::Ready(())))
    }
}

impl<T: OnTurn> Wake for Beat<T> {
    fn wake(self: Arc<Self>) {
        self.again.store(true, Ordering::SeqCst);
        self.go_round(Some(Instant::now()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    #[derive(Default)]
    struct Told {
        /// When each beat was due, when the next one is, and when it came.
        turns: Mutex<Vec<[Instant; 3]>>,
        early: AtomicBool,
    }

    impl OnTurn for Told {
        fn on_turn(&self, due: Instant, next: Instant, now: Instant) {
            let mut turns = self.turns.lock().unwrap();
            turns.push([due, next, now]);
            assert!(turns.len() < 10, "it never ends: {turns:?}");
        }

        fn on_early(&self) {
            self.early.store(true, Ordering::SeqCst);
        }
    }

    impl Beat<Told> {
        /// Once an hour, so that none comes by itself.
        fn hourly() -> Arc<Self> {
            Self::start(Arc::default(), HOUR).0
        }

        fn with_due(self: Arc<Self>, next: Instant, other: Instant) -> Arc<Self> {
            let mut timers = self.timers.lock().unwrap();
            (timers.next.due, timers.other.due) = (next, other);
            drop(timers);
            self
        }

        fn turns(&self) -> Vec<[Instant; 3]> {
            self.on_turn.turns.lock().unwrap().clone()
        }

        fn is_armed(&self) -> [bool; 2] {
            let timers = self.timers.lock().unwrap();
            [&timers.next, &timers.other].map(|timer| timer.sleep.is_some())
        }
    }

    #[test]
    fn a_runtime_without_a_timer_is_told_from_one_with() {
        let has = |builder: &mut tokio::runtime::Builder| builder.build().unwrap().block_on(async { has_timer() });
        assert!(has(tokio::runtime::Builder::new_current_thread().enable_time()));
        assert!(!has(&mut tokio::runtime::Builder::new_current_thread()));
    }

    #[tokio::test]
    async fn the_first_beats_are_due_after_one_interval_and_after_two() {
        let before = Instant::now();
        let (beat, due) = Beat::start(Arc::<Told>::default(), HOUR);
        assert!(before + HOUR <= due && due <= Instant::now() + HOUR);
        let timers = beat.timers.lock().unwrap();
        assert_eq!((timers.next.due, timers.other.due), (due, due + HOUR));
        assert!(beat.turns().is_empty());
    }

    #[tokio::test]
    async fn a_beat_is_told_when_it_comes_and_goes_behind_the_other() {
        let now = Instant::now();
        let (due, next) = (now - HOUR, now + HOUR / 2);
        let beat = Beat::hourly().with_due(due, next);
        Arc::clone(&beat).wake();
        let [[told_due, told_next, came]] = beat.turns()[..] else { panic!("{:?}", beat.turns()) };
        assert_eq!((told_due, told_next), (due, next));
        assert!(now <= came && came <= Instant::now());
        let timers = beat.timers.lock().unwrap();
        assert_eq!((timers.next.due, timers.other.due), (next, next + HOUR));
    }

    #[tokio::test]
    async fn if_both_are_due_the_beat_starts_afresh() {
        let now = Instant::now();
        for other in [now - HOUR, now] {
            let beat = Beat::hourly().with_due(now - HOUR * 2, other);
            let mut timers = beat.timers.lock().unwrap();
            assert!(!timers.rearm(now, HOUR, Waker::noop()));
            assert!(now + HOUR <= timers.next.due && timers.next.due <= Instant::now() + HOUR);
            assert_eq!(timers.other.due, timers.next.due + HOUR);
        }
    }

    #[tokio::test]
    async fn a_timer_says_whether_it_was_due_already() {
        let beat = Beat::hourly();
        let mut timers = beat.timers.lock().unwrap();
        let timer = &mut timers.next;
        assert!(!timer.arm(Waker::noop()) && !timer.has_fired());
        timer.due = Instant::now() - HOUR;
        assert!(timer.arm(Waker::noop()) && timer.has_fired());
        timers.disarm();
        assert!(!timers.next.arm(Waker::noop()) && !timers.next.has_fired(), "it is no more");
    }

    #[tokio::test]
    async fn a_wake_for_which_nothing_is_due_is_none() {
        let beat = Beat::hourly();
        Arc::clone(&beat).wake();
        assert!(beat.turns().is_empty() && !beat.on_turn.early.load(Ordering::SeqCst));
        assert_eq!(beat.is_armed(), [true, true]);
    }

    #[tokio::test]
    async fn a_timer_that_fired_before_it_was_due_ends_the_beat() {
        let beat = Beat::hourly();
        let mut timers = beat.timers.lock().unwrap();
        timers.next.due = Instant::now() - HOUR;
        assert!(timers.next.arm(Waker::noop()));
        timers.next.due = Instant::now() + HOUR;
        drop(timers);
        Arc::clone(&beat).wake();
        assert!(beat.turns().is_empty() && beat.on_turn.early.load(Ordering::SeqCst));
        assert_eq!(beat.is_armed(), [false, false]);
    }

    #[tokio::test]
    async fn a_beat_that_is_stopped_has_no_timers_as_soon_as_nobody_holds_them() {
        let beat = Beat::hourly();
        beat.stop();
        assert_eq!(beat.is_armed(), [false, false]);
        let beat = Beat::hourly();
        let delivering = beat.timers.lock().unwrap();
        beat.stop();
        drop(delivering);
        assert_eq!(beat.is_armed(), [true, true]);
        Arc::clone(&beat).wake();
        assert_eq!(beat.is_armed(), [false, false]);
    }
}
