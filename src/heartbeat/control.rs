//! The observer's own beat, the control: what kept it from waking up on time kept everybody.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::doubt::Circumstances;
use super::reading::{Reading, host};

/// Lateness below this is the timer's own slack.
const SLACK: Duration = Duration::from_millis(1);
/// How often the machine's counters are read while nothing is wrong: a reading costs some 50 µs.
const COUNTERS_EVERY: Duration = Duration::from_millis(200);
/// Shorter, and it was noise; over a long stretch that adds up.
const STILL: Duration = Duration::from_millis(10);
const MEMORY: usize = 1024;

/// The wait for a CPU before a sleep is read afresh so often, and after each round that took longer than `SLACK`.
const READ_EVERY: Duration = Duration::from_millis(50);

#[derive(Default)]
pub(super) struct Control {
    asleep: Option<Instant>,
    woke: Option<Instant>,
    /// The last reading before the sleep. What was waited for since, but punctual sleeps, was not worth reading.
    before: Option<Reading>,
    late: VecDeque<Late>,
    counters: VecDeque<Counters>,
}

/// One oversleep of the observer.
#[derive(Debug, Clone, Copy)]
struct Late {
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
    /// The observer has done what there was to do; how long that took is nobody's lateness.
    pub(super) fn falls_asleep(&mut self) {
        let now = Instant::now();
        let long = self.woke.is_none_or(|woke| now - woke > SLACK);
        if long || self.before.is_none_or(|before| now - before.at > READ_EVERY) {
            self.before = Some(Reading::here());
        }
        self.asleep = Some(now);
    }

    /// The observer is awake, having meant to sleep for `asked` at most; `None`: for as long as nobody calls.
    pub(super) fn woke_after(&mut self, asked: Option<Duration>) {
        let now = Instant::now();
        self.woke = Some(now);
        if let (Some(asleep), Some(asked)) = (self.asleep.take(), asked) {
            let due = asleep + asked;
            if now > due + SLACK {
                let (before, after) = (self.before.and_then(|before| before.run_queue), Reading::here());
                let run_queue = before.zip(after.run_queue).map_or(Duration::ZERO, |(from, to)| to - from);
                self.late.push_back(Late { asleep, due, came: now, run_queue });
                self.before = Some(after);
            }
        }
        if self.counters.back().is_none_or(|counters| now - counters.at >= COUNTERS_EVERY) {
            self.counters.push_back(Counters::read());
        }
        self.late.drain(..self.late.len().saturating_sub(MEMORY));
        self.counters.drain(..self.counters.len().saturating_sub(MEMORY));
    }

    /// What befell the whole process in that stretch.
    pub(super) fn between(&self, from: Instant, to: Instant) -> Circumstances {
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
        Circumstances {
            stood_still,
            stood_still_at_most: at_most,
            control,
            stolen: after.stolen_since(before),
            // Two clocks are read one after the other: a suspension takes longer than that, busy machine or not.
            asleep: Some(after.suspended.saturating_sub(before.suspended)).filter(|asleep| *asleep >= STILL),
            tracer: host::tracer(),
            ..Circumstances::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn control(due: Instant, late: Duration, run_queue: Duration) -> Control {
        Control { late: [Late { asleep: due - MS * 5, due, came: due + late, run_queue }].into(), ..Control::default() }
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
    }

    #[test]
    fn an_observer_that_waited_for_a_cpu_stood_still_for_nobody() {
        let start = Instant::now();
        let control = control(start + MS * 10, MS * 80, MS * 79);
        let seen = control.between(start, start + MS * 400);
        assert_eq!((seen.stood_still, seen.control), (Duration::ZERO, MS * 80));
    }
}
