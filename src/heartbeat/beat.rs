//! The beat: a timer that re-arms itself inside the runtime's driver, so no task has to be polled for it to go on.
//!
//! A ticker task is late behind every other task, and stops telling the two kinds of lateness apart just when it
//! matters. This timer's waker is called by the driver, on the thread that turns it, in the middle of the turn: that
//! is the very moment a worker is back in its scheduler. The waker takes the reading there and arms the next beat.
//!
//! Arming can fire at once, if the thread was preempted for a whole interval, and then calls the waker inside the
//! waker. So the timer is only ever tried for: whoever finds it taken leaves a note, and the holder goes round again.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::{Pin, pin};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, TryLockError};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use tokio::time::Sleep;

use super::reading::Reading;

/// Told of each beat, on the thread that turned the driver.
pub(super) trait OnTurn: Send + Sync + 'static {
    /// `due`: when the beat should have come. `next`: when the next one should.
    fn on_turn(&self, due: Instant, next: Instant, now: Reading);
}

pub(super) struct Beat<T> {
    on_turn: Arc<T>,
    interval: Duration,
    timer: Mutex<Timer>,
    again: AtomicBool,
    stopped: AtomicBool,
}

struct Timer {
    due: Instant,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl<T: OnTurn> Beat<T> {
    /// Arms the first beat in the current runtime and returns when it is due.
    ///
    /// # Panics
    ///
    /// tokio's own message, if the runtime has no timer (`enable_time`).
    pub(super) fn start(on_turn: Arc<T>, interval: Duration) -> (Arc<Self>, Instant) {
        let due = Instant::now() + interval;
        let sleep = Box::pin(tokio::time::sleep_until(due.into()));
        let beat = Arc::new(Self {
            on_turn,
            interval,
            timer: Mutex::new(Timer {
                due,
                sleep: Some(sleep),
            }),
            again: AtomicBool::new(true),
            stopped: AtomicBool::new(false),
        });
        beat.rearm(None);
        (beat, due)
    }

    /// No beat comes after this, except one that is being delivered on another thread right now.
    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::SeqCst);
        if let Ok(mut timer) = self.timer.try_lock() {
            drop(timer.sleep.take());
        }
    }

    /// `again` is set before the timer is tried for, and read after it is let go: no note is lost.
    fn rearm(self: &Arc<Self>, mut woken: Option<Reading>) {
        while self.again.load(Ordering::SeqCst) {
            let mut timer = match self.timer.try_lock() {
                Ok(timer) => timer,
                Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => return,
            };
            self.again.store(false, Ordering::SeqCst);
            if let Some(now) = woken.take() {
                let due = timer.due;
                timer.due = Instant::now() + self.interval;
                self.on_turn.on_turn(due, timer.due, now);
            }
            if self.arm(&mut timer) {
                woken = Some(Reading::here());
                self.again.store(true, Ordering::SeqCst);
            }
            if self.stopped.load(Ordering::SeqCst) {
                drop(timer.sleep.take());
            }
        }
    }

    /// True if the beat was due already when it was armed.
    fn arm(self: &Arc<Self>, timer: &mut Timer) -> bool {
        let due = timer.due.into();
        let Some(sleep) = timer.sleep.as_mut() else {
            return false;
        };
        let waker = Waker::from(Arc::clone(self));
        // A driver that is being shut down wakes every timer, and a timer polled then panics.
        let polled = catch_unwind(AssertUnwindSafe(|| {
            sleep.as_mut().reset(due);
            pin!(tokio::task::coop::unconstrained(sleep.as_mut())).poll(&mut Context::from_waker(&waker))
        }));
        match polled {
            Ok(Poll::Ready(())) => true,
            Ok(Poll::Pending) => false,
            Err(_) => {
                timer.sleep = None;
                false
            }
        }
    }
}

impl<T: OnTurn> Wake for Beat<T> {
    fn wake(self: Arc<Self>) {
        self.again.store(true, Ordering::SeqCst);
        self.rearm(Some(Reading::here()));
    }
}
