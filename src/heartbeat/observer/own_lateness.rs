//! The observer's own beat, the control: what kept it from waking up on time kept every thread of the process.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::heartbeat::reading::host;

use crate::heartbeat::evidence::MachineEffects;
use crate::heartbeat::reading::Reading;

/// Lateness below this is the timer's own slack.
const SLACK: Duration = Duration::from_millis(1);
/// How often the machine's counters are read while nothing is wrong: a reading costs some 50 µs.
const COUNTERS_EVERY: Duration = Duration::from_millis(200);
/// Oversleeps below this are noise. Summed over a long stretch they would look like a stop, so they are ignored.
const STILL: Duration = Duration::from_millis(10);
const OVERSLEEPS_KEPT: usize = 1024;

/// The wait for a CPU before a sleep is read afresh so often, and after each round that took longer than `SLACK`.
const READ_EVERY: Duration = Duration::from_millis(50);

#[derive(Default)]
pub(crate) struct Control {
    asleep: Option<Instant>,
    woke: Option<Instant>,
    /// The last clock reading. It is not refreshed before every sleep: after punctual sleeps the run-queue wait is
    /// negligible.
    before: Option<Reading>,
    late: VecDeque<Oversleep>,
    counters: VecDeque<Counters>,
}

/// One oversleep of the observer.
#[derive(Debug, Clone, Copy)]
struct Oversleep {
    asleep: Instant,
    due: Instant,
    came: Instant,
    /// How much of it the observer waited for a CPU.
    run_queue: Duration,
}

#[derive(Debug, Clone)]
struct Counters {
    at: Instant,
    /// From each CPU.
    stolen: Vec<Duration>,
    suspended: Duration,
}

impl Counters {
    fn read() -> Self {
        Self { at: Instant::now(), stolen: host::stolen(), suspended: host::suspended() }
    }

    /// The most that can have been stolen from one thread since `before`: it runs on one CPU at a time.
    fn stolen_since(&self, before: &Self) -> Duration {
        let cpus = self.stolen.iter().zip(&before.stolen);
        cpus.map(|(now, before)| now.saturating_sub(*before)).max().unwrap_or_default()
    }
}

impl Control {
    /// The observer has done what there was to do; how long that took is not lateness.
    pub(crate) fn falls_asleep(&mut self) {
        self.falls_asleep_at(Instant::now(), Reading::here);
    }

    fn falls_asleep_at(&mut self, now: Instant, read: impl FnOnce() -> Reading) {
        let long = self.woke.is_none_or(|woke| now - woke > SLACK);
        if long || self.before.is_none_or(|before| now - before.at > READ_EVERY) {
            self.before = Some(read());
        }
        self.asleep = Some(now);
    }

    /// The observer is awake, having meant to sleep for `asked` at most; `None`: until it is asked something.
    pub(crate) fn woke_after(&mut self, asked: Option<Duration>) {
        self.woke_at(Instant::now(), asked, Reading::here);
    }

    fn woke_at(&mut self, now: Instant, asked: Option<Duration>, read: impl FnOnce() -> Reading) {
        self.woke = Some(now);
        if let (Some(asleep), Some(asked)) = (self.asleep.take(), asked) {
            // A sleep that outlasts all clocks is never late.
            if let Some(due) = asleep.checked_add(asked).filter(|due| now > *due + SLACK) {
                let (before, after) = (self.before.and_then(|before| before.run_queue), read());
                let run_queue = before.zip(after.run_queue).map_or(Duration::ZERO, |(from, to)| to - from);
                self.late.push_back(Oversleep { asleep, due, came: now, run_queue });
                self.before = Some(after);
            }
        }
        if self.counters.back().is_none_or(|counters| now - counters.at >= COUNTERS_EVERY) {
            self.counters.push_back(Counters::read());
        }
        self.late.drain(..self.late.len().saturating_sub(OVERSLEEPS_KEPT));
        self.counters.drain(..self.counters.len().saturating_sub(OVERSLEEPS_KEPT));
    }

    /// What befell the whole process in that stretch.
    pub(crate) fn between(&self, from: Instant, to: Instant) -> MachineEffects {
        let (mut stood_still, mut at_most, mut control) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
        for late in &self.late {
            let until_came = |since: Instant| late.came.min(to).saturating_duration_since(since.max(from));
            let still = until_came(late.due).saturating_sub(late.run_queue);
            if still >= STILL {
                stood_still += still;
                at_most += until_came(late.asleep).saturating_sub(late.run_queue);
            }
            control = control.max(until_came(late.due));
        }
        let after = self.counters.iter().find(|counters| counters.at >= to).cloned().unwrap_or_else(Counters::read);
        let before = self.counters.iter().rev().find(|counters| counters.at <= from).or(self.counters.front());
        let before = before.unwrap_or(&after);
        MachineEffects {
            stood_still,
            stood_still_at_most: at_most,
            control,
            stolen: after.stolen_since(before),
            // Two clocks are read one after the other: a suspension takes longer than that, busy machine or not.
            asleep: Some(after.suspended.saturating_sub(before.suspended)).filter(|asleep| *asleep >= STILL),
            tracer: host::tracer(),
            ..MachineEffects::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heartbeat::reading::this_thread;

    const MS: Duration = Duration::from_millis(1);

    fn control(due: Instant, late: Duration, run_queue: Duration) -> Control {
        Control {
            late: [Oversleep { asleep: due - MS * 5, due, came: due + late, run_queue }].into(),
            ..Control::default()
        }
    }

    #[test]
    fn an_oversleep_is_the_process_standing_still_only_within_the_stretch() {
        let start = Instant::now();
        let control = control(start + MS * 10, MS * 300, Duration::ZERO);
        let whole = control.between(start, start + MS * 400);
        assert_eq!(
            (whole.stood_still, whole.stood_still_at_most),
            (MS * 300, MS * 305),
            "it may have begun in the sleep"
        );
        assert_eq!(control.between(start + MS * 250, start + MS * 400).stood_still, MS * 60);
        assert_eq!(control.between(start + MS * 311, start + MS * 400).stood_still, Duration::ZERO);
    }

    #[test]
    fn a_sleep_that_outlasts_all_clocks_is_never_late() {
        let mut control = Control::default();
        control.falls_asleep();
        control.woke_after(Some(Duration::MAX / 2));
        assert!(control.late.is_empty());
    }

    #[test]
    fn an_observer_that_had_much_to_do_was_not_late() {
        let mut control = Control::default();
        control.falls_asleep();
        let busy = Instant::now();
        while busy.elapsed() < MS * 20 {
            std::hint::spin_loop();
        }
        control.falls_asleep();
        control.woke_after(Some(MS));
        assert!(control.late.iter().all(|late| late.due > busy + MS * 20), "{:?}", control.late);
    }

    fn reading(at: Instant, run_queue: u32) -> Reading {
        Reading { at, thread: this_thread(), on_cpu: Duration::ZERO, run_queue: Some(MS * run_queue) }
    }

    #[test]
    fn an_observer_that_sleeps_longer_than_it_asked_and_a_timer_takes_was_late() {
        let start = Instant::now();
        let a_little = Duration::from_nanos(1);
        for (asked, slept, late) in [
            (Some(MS * 5), MS * 5, false),
            (Some(MS * 5), MS * 5 + SLACK, false),
            (Some(MS * 5), MS * 5 + SLACK + a_little, true),
            (Some(MS * 5), MS * 900, true),
            (None, MS * 900, false),
        ] {
            let mut control = Control::default();
            control.falls_asleep_at(start, || reading(start, 100));
            let came = start + slept;
            control.woke_at(came, asked, || reading(came, 130));
            assert_eq!(control.late.len(), usize::from(late), "{slept:?}");
            for late in &control.late {
                assert_eq!((late.asleep, late.due, late.came, late.run_queue), (start, start + MS * 5, came, MS * 30));
                assert_eq!(control.before.unwrap().at, came, "what is known now, is known for the next sleep");
            }
            control.woke_at(came + MS * 900, asked, || reading(came, 900));
            assert_eq!(control.late.len(), usize::from(late), "it did not go to sleep");
        }
    }

    #[test]
    fn an_oversleep_is_noticed_by_the_clock_on_the_wall() {
        let mut control = Control::default();
        control.falls_asleep();
        let asleep = Instant::now();
        while asleep.elapsed() <= SLACK {
            std::hint::spin_loop();
        }
        control.woke_after(Some(Duration::ZERO));
        assert_eq!(control.late.len(), 1);
    }

    #[test]
    fn what_the_observer_waited_for_a_cpu_is_read_anew_after_a_long_round_and_now_and_then() {
        let now = Instant::now();
        let a_little = Duration::from_nanos(1);
        for (round, age, anew) in [
            (Some(SLACK), Some(READ_EVERY), false),
            (Some(SLACK + a_little), Some(READ_EVERY), true),
            (Some(SLACK), Some(READ_EVERY + a_little), true),
            (Some(MS * 900), Some(MS * 900), true),
            (None, Some(READ_EVERY), true),
            (Some(SLACK), None, true),
        ] {
            let mut control = Control {
                woke: round.map(|round| now - round),
                before: age.map(|age| reading(now - age, 1)),
                ..Control::default()
            };
            control.falls_asleep_at(now, || reading(now, 2));
            let read = control.before.unwrap().run_queue == Some(MS * 2);
            assert_eq!((read, control.asleep), (anew, Some(now)), "{round:?} {age:?}");
        }
    }

    #[test]
    fn the_counters_are_read_now_and_then() {
        let mut control = Control::default();
        control.woke_at(Instant::now(), None, Reading::here);
        let read = control.counters[0].at;
        for (after, readings) in
            [(Duration::ZERO, 1), (COUNTERS_EVERY - Duration::from_nanos(1), 1), (COUNTERS_EVERY, 2)]
        {
            control.woke_at(read + after, None, Reading::here);
            assert_eq!(control.counters.len(), readings, "{after:?}");
        }
    }

    #[test]
    fn what_was_stolen_after_the_stretch_or_from_another_cpu_is_not_counted() {
        let start = Instant::now();
        let counters = |at, stolen: [u32; 2], asleep| Counters {
            at: start + MS * at,
            stolen: stolen.map(|ms| MS * ms).to_vec(),
            suspended: MS * asleep,
        };
        let counters = [counters(0, [10, 10], 0), counters(200, [40, 30], 0), counters(400, [400, 30], 700)].into();
        let control = Control { counters, ..Control::default() };
        let seen = control.between(start + MS * 50, start + MS * 150);
        assert_eq!((seen.stolen, seen.asleep), (MS * 30, None));
        let seen = control.between(start + MS * 250, start + MS * 400);
        assert_eq!((seen.stolen, seen.asleep), (MS * 360, Some(MS * 700)));
    }

    #[test]
    fn an_observer_that_waited_for_a_cpu_stood_still_for_nobody() {
        let start = Instant::now();
        let control = control(start + MS * 10, MS * 80, MS * 79);
        let seen = control.between(start, start + MS * 400);
        assert_eq!((seen.stood_still, seen.control), (Duration::ZERO, MS * 80));
    }
}
