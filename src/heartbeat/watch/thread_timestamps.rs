//! One thread's timestamps: a stretch between two of them is judged only when it is certain that the thread ran it.
//!
//! A timestamp is a [`Reading`] taken where control is back in the watch. Between two of them the thread may have run
//! other tasks or sat idle in the driver; from outside it cannot be told. What tells is the beat's timer. It fires at
//! the first turn of the driver after it was due, so from then until the turn the driver was not turned: the thread was
//! neither idle nor back in its scheduler. Hence:
//!
//! 1. what lies before the timer was due is never charged (at most one interval);
//! 2. what lies after it is kept, pending, the longest stretches at least;
//! 3. the turn, on this very thread, confirms it.

use std::time::{Duration, Instant};

use crate::heartbeat::reading::Reading;
use crate::heartbeat::reading::thread::ThreadId;
use crate::heartbeat::stretch::{Origin, Stretch};

/// Shorter stretches are not worth keeping.
const SHORT_STRETCH: Duration = Duration::from_micros(500);
/// A thread that never turns the driver confirms nothing; what it left pending need not pile up.
const MOST_PENDING: usize = 64;

#[derive(Debug)]
pub(crate) struct ThreadTimestamps {
    base: Reading,
    parked: bool,
    pending: Vec<Stretch>,
}

impl ThreadTimestamps {
    pub(crate) fn starting(base: Reading) -> Self {
        Self { base, parked: false, pending: Vec::new() }
    }

    pub(crate) fn thread(&self) -> ThreadId {
        self.base.thread
    }

    pub(crate) fn base(&self) -> &Reading {
        &self.base
    }

    /// Control came by, for whatever reason. `due`: when a turn of the driver would have been marked.
    pub(crate) fn pass(&mut self, now: Reading, due: Option<Instant>) {
        if let (false, Some(due)) = (self.parked, due) {
            let stretch = Stretch::between(&self.base, &now, due);
            self.pending.extend(stretch.filter(|stretch| stretch.split.wall >= SHORT_STRETCH));
            if self.pending.len() > MOST_PENDING {
                let shortest = (0..self.pending.len()).min_by_key(|nth| self.pending[*nth].away());
                shortest.map(|shortest| self.pending.remove(shortest));
            }
        }
        self.base = now;
    }

    /// The driver was turned on this thread: what was pending is certain.
    pub(crate) fn turn(&mut self, now: Reading, due: Option<Instant>) -> Vec<Stretch> {
        self.pass(now, due);
        self.parked = false;
        std::mem::take(&mut self.pending)
    }

    /// The thread is about to go idle, which is a return to the scheduler as good as a turn.
    pub(crate) fn park(&mut self, now: Reading, due: Option<Instant>) -> Vec<Stretch> {
        let certain = self.turn(now, due);
        self.parked = true;
        certain
    }

    /// The thread is back from being idle.
    pub(crate) fn unpark(&mut self, now: Reading) {
        self.parked = false;
        self.base = now;
    }

    /// The end of a poll of the watched future itself, which began at `began`: certain as it stands.
    pub(crate) fn polled(&mut self, began: Instant, now: Reading) -> Option<Stretch> {
        let stretch = Stretch::between(&self.base, &now, began);
        self.base = now;
        stretch.map(|stretch| Stretch { origin: Origin::Poll, ..stretch })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    struct Clock(Instant);

    impl Clock {
        fn at(&self, ms: u32) -> Instant {
            self.0 + MS * ms
        }

        fn read(&self, ms: u32) -> Reading {
            Reading { at: self.at(ms), thread: ThreadId(1), on_cpu: Duration::ZERO, run_queue: Some(Duration::ZERO) }
        }
    }

    fn charged(stretches: &[Stretch]) -> Vec<Duration> {
        stretches.iter().map(|stretch| stretch.split.charged()).collect()
    }

    #[test]
    fn a_late_turn_charges_from_when_the_beat_was_due() {
        let clock = Clock(Instant::now());
        let mut track = ThreadTimestamps::starting(clock.read(0));
        assert_eq!(charged(&track.turn(clock.read(120), Some(clock.at(5)))), [MS * 115]);
    }

    #[test]
    fn a_turn_in_time_charges_nothing() {
        let clock = Clock(Instant::now());
        let mut track = ThreadTimestamps::starting(clock.read(0));
        assert_eq!(charged(&track.turn(clock.read(5), Some(clock.at(5)))), []);
    }

    #[test]
    fn a_mark_in_between_makes_two_stretches_of_one() {
        let clock = Clock(Instant::now());
        let mut track = ThreadTimestamps::starting(clock.read(0));
        track.pass(clock.read(40), Some(clock.at(5)));
        assert_eq!(charged(&track.turn(clock.read(80), Some(clock.at(5)))), [MS * 35, MS * 40]);
    }

    #[test]
    fn many_short_stretches_before_a_turn_leave_room_for_a_long_one() {
        let clock = Clock(Instant::now());
        let mut track = ThreadTimestamps::starting(clock.read(0));
        for ms in 1..=100 {
            track.pass(clock.read(ms), Some(clock.at(0)));
        }
        track.pass(clock.read(200), Some(clock.at(0)));
        let found = charged(&track.turn(clock.read(201), Some(clock.at(0))));
        assert!(found.contains(&(MS * 100)) && found.len() == MOST_PENDING, "{found:?}");
    }

    #[test]
    fn an_idle_thread_is_not_stalled() {
        let clock = Clock(Instant::now());
        let mut track = ThreadTimestamps::starting(clock.read(0));
        assert_eq!(charged(&track.park(clock.read(1), Some(clock.at(5)))), []);
        track.unpark(clock.read(300));
        assert_eq!(charged(&track.park(clock.read(301), None)), []);
    }

    #[test]
    fn a_thread_back_from_being_idle_is_charged_from_then_on() {
        let clock = Clock(Instant::now());
        let mut track = ThreadTimestamps::starting(clock.read(0));
        track.park(clock.read(1), Some(clock.at(5)));
        track.unpark(clock.read(300));
        assert_eq!(charged(&track.park(clock.read(420), Some(clock.at(5)))), [MS * 120]);
    }

    #[test]
    fn a_stall_right_before_going_idle_is_certain_without_a_turn() {
        let clock = Clock(Instant::now());
        let mut track = ThreadTimestamps::starting(clock.read(0));
        assert_eq!(charged(&track.park(clock.read(90), Some(clock.at(5)))), [MS * 85]);
    }

    #[test]
    fn a_turn_that_finds_the_thread_idle_charges_nothing() {
        let clock = Clock(Instant::now());
        let mut track = ThreadTimestamps::starting(clock.read(0));
        track.park(clock.read(1), Some(clock.at(5)));
        assert_eq!(charged(&track.turn(clock.read(90), Some(clock.at(5)))), []);
    }

    #[test]
    fn a_poll_of_the_watched_future_is_charged_in_full() {
        let clock = Clock(Instant::now());
        let mut track = ThreadTimestamps::starting(clock.read(0));
        let stretch = track.polled(clock.at(1), clock.read(61)).unwrap();
        assert_eq!(stretch.split.charged(), MS * 60);
        assert!(stretch.origin == Origin::Poll);
        assert_eq!(charged(&track.turn(clock.read(71), Some(clock.at(0)))), [MS * 10], "and not once more by the turn");
    }
}
