//! Where a stretch of a thread's time went: wall = on-CPU + run-queue wait + blocked, and the sum always holds.
//!
//! Run-queue wait is the machine's fault. The other two are the code's, and only they are charged.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use super::culprit::Culprit;
use super::reading::{Reading, ThreadId};
use super::verdict::Why;

/// One stretch in which a thread did not return to its scheduler for longer than the budget.
#[derive(Debug, Clone)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Stall {
    /// When it began, counted from the start of the watch.
    #[cfg_attr(feature = "serde", serde(rename = "at_ms", with = "crate::millis"))]
    pub at: Duration,
    /// How long it took by the clock on the wall, without what the process was certainly stopped of it.
    #[cfg_attr(feature = "serde", serde(rename = "wall_ms", with = "crate::millis"))]
    pub wall: Duration,
    /// How much of it the thread spent on a CPU: a computation, a spin (`CLOCK_THREAD_CPUTIME_ID`).
    #[cfg_attr(feature = "serde", serde(rename = "on_cpu_ms", with = "crate::millis"))]
    pub on_cpu: Duration,
    /// How much of it the thread was ready to run and waited for a CPU: the machine was busy. Never charged.
    /// `None` where the kernel does not say (no `/proc/thread-self/schedstat`). Where it says more than the thread was seen
    /// to leave room for, it is what there was room for.
    #[cfg_attr(feature = "serde", serde(rename = "run_queue_ms", with = "crate::millis::maybe"))]
    pub run_queue: Option<Duration>,
    /// The rest: asleep, or waiting for a lock, a child, a file. `None` where it cannot be told from `run_queue`.
    #[cfg_attr(feature = "serde", serde(rename = "blocked_ms", with = "crate::millis::maybe"))]
    pub blocked: Option<Duration>,
    /// What it was doing or waiting for, as far as it could be seen from outside.
    pub culprit: Option<Culprit>,
    /// Why it may not have been the code's doing, if so: then it starves nobody.
    pub doubt: Option<Why>,
}

impl Stall {
    /// What counts against the budget: `on_cpu` + `blocked`, the latter where known.
    pub fn charged(&self) -> Duration {
        self.on_cpu + self.blocked.unwrap_or_default()
    }

    /// If nobody could look, the clocks can still tell a computation from a wait.
    pub(super) fn culprit_by_the_clocks(&self) -> Option<Culprit> {
        (self.on_cpu > self.wall / 2 || self.on_cpu > self.blocked?).then(Culprit::running_by_the_clocks)
    }

    pub(super) fn new(stretch: &Stretch, began: Instant) -> Self {
        let split = stretch.split;
        Self {
            at: stretch.from.saturating_duration_since(began),
            wall: split.wall,
            on_cpu: split.on_cpu,
            run_queue: split.run_queue,
            blocked: split.blocked(),
            culprit: None,
            doubt: None,
        }
    }
}

/// A stretch of one thread's time, on the way to being judged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stretch {
    pub(super) thread: ThreadId,
    pub(super) from: Instant,
    pub(super) to: Instant,
    pub(super) split: Split,
    /// The thread's CPU time at the end.
    pub(super) on_cpu_then: Duration,
    /// What the thread had spent when it was read last before; `None` if it never was.
    pub(super) since: Option<Spent>,
    /// It was one poll, beyond doubt.
    pub(super) one_poll: bool,
}

/// What a thread has spent on a CPU and waiting for one since it began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spent {
    pub(super) on_cpu: Duration,
    pub(super) run_queue: Duration,
}

impl Stretch {
    /// From one reading to another of the same thread, without what came before `earliest`.
    pub(super) fn between(from: &Reading, to: &Reading, earliest: Instant) -> Option<Self> {
        let skip = earliest.saturating_duration_since(from.at);
        let split = Split::between(from, to)?.after(skip);
        let since = from.run_queue.map(|run_queue| Spent { on_cpu: from.on_cpu, run_queue });
        let from = from.at.max(earliest).min(to.at);
        Some(Self { thread: to.thread, from, to: to.at, split, on_cpu_then: to.on_cpu, since, one_poll: false })
    }

    /// How long the thread was away, waits for a CPU excluded as far as they are known.
    pub(super) fn away(&self) -> Duration {
        self.split.charged() + self.split.unexplained()
    }

    /// Whether nothing but a wait for a CPU, if that is what it was, keeps it from being too long.
    pub(super) fn is_excused(&self, budget: Duration) -> bool {
        self.away() <= budget && self.split.wall > budget
    }

    /// Up to the first reading of a thread that was never read before. If all it ever waited for a CPU was in this
    /// stretch and the rest is still above the budget, that is proof enough; else only the wall clock is known.
    pub(super) fn of_a_stranger(from: Instant, to: &Reading, budget: Duration) -> Option<Self> {
        let wall = to.at.checked_duration_since(from)?;
        let run_queue = to.run_queue.map(|ever| ever.min(wall)).filter(|ever| wall - *ever > budget);
        let on_cpu = run_queue.map_or(Duration::ZERO, |ever| to.on_cpu.min(wall - ever));
        let split = Split { wall, on_cpu, run_queue };
        Some(Self { thread: to.thread, from, to: to.at, split, on_cpu_then: to.on_cpu, since: None, one_poll: false })
    }
}

/// The last of those whose excuse is to be looked into. What was seen of older ones is forgotten.
#[derive(Debug)]
pub(super) struct Excused<T>(VecDeque<T>);

impl<T> Default for Excused<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T> Excused<T> {
    const MOST: usize = 256;

    pub(super) fn push(&mut self, one: T) {
        if self.0.len() == Self::MOST {
            self.0.pop_front();
        }
        self.0.push_back(one);
    }

    pub(super) fn take(&mut self) -> Vec<T> {
        std::mem::take(&mut self.0).into()
    }
}

/// How a stretch divides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Split {
    pub(super) wall: Duration,
    pub(super) on_cpu: Duration,
    pub(super) run_queue: Option<Duration>,
}

impl Split {
    /// `None` for readings of two threads: their clocks have nothing in common.
    pub(super) fn between(from: &Reading, to: &Reading) -> Option<Self> {
        if from.thread != to.thread {
            return None;
        }
        let wall = to.at.saturating_duration_since(from.at);
        let run_queue = from.run_queue.zip(to.run_queue).map(|(from, to)| to.saturating_sub(from).min(wall));
        let on_cpu = to.on_cpu.saturating_sub(from.on_cpu).min(wall - run_queue.unwrap_or_default());
        Some(Self { wall, on_cpu, run_queue })
    }

    /// The least that must have come after the first `skip`: every wait for a CPU is taken to be in what is left,
    /// so doubt speaks for the code.
    pub(super) fn after(self, skip: Duration) -> Self {
        let wall = self.wall.saturating_sub(skip);
        let run_queue = self.run_queue.map(|wait| wait.min(wall));
        let on_cpu = self.on_cpu.min(wall - run_queue.unwrap_or_default());
        Self { wall, on_cpu, run_queue }
    }

    /// The same for a thread that was seen to be blocked for so long. That leaves less room for waits for a CPU than the
    /// kernel may have booked: since Linux 6.12 a thread that is moved to another CPU while it falls asleep has all its
    /// sleep booked as one, some two in a thousand on a busy machine.
    ///
    /// Charged is then what was seen, or what was charged before if that is more, and never their sum: some of the CPU time
    /// may lie before the stretch.
    pub(super) fn given(self, blocked: Duration) -> Self {
        let room = self.wall.saturating_sub(blocked);
        let run_queue = self.run_queue.map(|wait| wait.min(room));
        Self { run_queue, ..self }
    }

    /// Of a stretch with several sleeps, no more than the longest is known to have taken.
    pub(super) fn asleep(self, time: Duration) -> Self {
        Self { wall: time, on_cpu: Duration::ZERO, run_queue: self.run_queue.map(|_| Duration::ZERO) }
    }

    pub(super) fn blocked(&self) -> Option<Duration> {
        Some(self.wall - self.on_cpu - self.run_queue?)
    }

    /// On-CPU + blocked where the two can be told from waiting for a CPU, else on-CPU alone.
    pub(super) fn charged(&self) -> Duration {
        self.on_cpu + self.blocked().unwrap_or_default()
    }

    /// Time off the CPU that may or may not be the code's.
    pub(super) fn unexplained(&self) -> Duration {
        if self.run_queue.is_some() { Duration::ZERO } else { self.wall - self.on_cpu }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn reading(start: Instant, at: u32, on_cpu: u32, run_queue: Option<u32>) -> Reading {
        Reading {
            at: start + MS * at,
            thread: ThreadId(1),
            on_cpu: MS * on_cpu,
            run_queue: run_queue.map(|ms| MS * ms),
        }
    }

    fn stretch(wall: u32, on_cpu: u32, run_queue: Option<u32>) -> Split {
        let start = Instant::now();
        let from = reading(start, 0, 100, run_queue.map(|_| 200));
        let to = reading(start, wall, 100 + on_cpu, run_queue.map(|ms| 200 + ms));
        Split::between(&from, &to).unwrap()
    }

    #[test]
    fn a_sleep_is_blocked_a_spin_is_on_cpu_and_a_busy_machine_is_neither() {
        assert_eq!(stretch(120, 0, Some(0)).blocked(), Some(MS * 120));
        assert_eq!(stretch(120, 120, Some(0)).charged(), MS * 120);
        assert_eq!(stretch(120, 0, Some(120)).charged(), Duration::ZERO);
        assert_eq!(stretch(120, 10, Some(80)).blocked(), Some(MS * 30));
    }

    #[test]
    fn without_a_schedstat_only_cpu_time_is_charged_and_the_rest_is_unexplained() {
        let split = stretch(120, 20, None);
        assert_eq!((split.charged(), split.blocked(), split.unexplained()), (MS * 20, None, MS * 100));
    }

    #[test]
    fn no_more_is_booked_as_a_wait_for_a_cpu_than_what_was_seen_leaves_room_for() {
        let split = stretch(120, 10, Some(105));
        assert_eq!(split.given(Duration::ZERO), split);
        assert_eq!(split.given(MS * 5), split, "there is room for both");
        assert_eq!(split.given(MS * 80).run_queue, Some(MS * 40));
        assert_eq!(split.given(MS * 80).charged(), MS * 80, "what it had worked before may have been worked earlier");
        assert_eq!(stretch(120, 100, Some(20)).given(MS * 80).charged(), MS * 100);
        assert_eq!(split.given(MS * 500).charged(), MS * 120);
        assert_eq!(stretch(120, 10, None).given(MS * 80), stretch(120, 10, None));
    }

    #[test]
    fn excused_is_what_a_wait_for_a_cpu_alone_keeps_from_being_too_long_and_the_last_are_kept() {
        let start = Instant::now();
        let excused = |wall, run_queue: u32| {
            let (from, to) = (reading(start, 0, 0, Some(0)), reading(start, wall, 0, Some(run_queue)));
            Stretch::between(&from, &to, start).unwrap().is_excused(MS * 50)
        };
        assert!(excused(51, 1) && excused(120, 120));
        assert!(!excused(51, 0), "it is too long");
        assert!(!excused(50, 50), "it is short, whatever it was");
        let mut last = Excused::default();
        (0..=Excused::<usize>::MOST).for_each(|nth| last.push(nth));
        assert_eq!(last.take(), (1..=Excused::<usize>::MOST).collect::<Vec<_>>());
        assert!(last.take().is_empty());
    }

    #[test]
    fn what_came_before_the_beat_was_due_is_not_charged() {
        assert_eq!(stretch(120, 0, Some(0)).after(MS * 5).charged(), MS * 115);
        assert_eq!(stretch(120, 0, Some(100)).after(MS * 50).charged(), Duration::ZERO);
    }

    #[test]
    fn clocks_that_disagree_never_charge_more_than_the_wall_shows() {
        assert_eq!(stretch(10, 12, Some(3)).charged(), MS * 7);
    }

    #[test]
    fn two_threads_have_no_common_stretch() {
        let start = Instant::now();
        let from = reading(start, 0, 0, Some(0));
        let to = Reading { thread: ThreadId(2), ..reading(start, 10, 0, Some(0)) };
        assert_eq!(Split::between(&from, &to), None);
    }

    #[test]
    fn a_stretch_begins_no_earlier_than_it_is_asked_to_and_keeps_what_came_after() {
        let start = Instant::now();
        let (from, to) = (reading(start, 10, 0, Some(0)), reading(start, 110, 40, Some(20)));
        for (earliest, begins, charged) in [(0, 10, 80), (10, 10, 80), (60, 60, 30), (150, 110, 0)] {
            let stretch = Stretch::between(&from, &to, start + MS * earliest).unwrap();
            assert_eq!((stretch.from, stretch.to), (start + MS * begins, to.at), "{earliest}");
            assert_eq!((stretch.split.charged(), stretch.on_cpu_then), (MS * charged, MS * 40), "{earliest}");
        }
    }

    #[test]
    fn a_thread_was_away_all_the_time_that_is_not_known_to_be_a_wait_for_a_cpu() {
        let start = Instant::now();
        for (run_queue, away) in [(Some(30), 90), (None, 120)] {
            let (from, to) = (reading(start, 0, 0, run_queue.map(|_| 0)), reading(start, 120, 20, run_queue));
            assert_eq!(Stretch::between(&from, &to, start).unwrap().away(), MS * away);
        }
    }

    /// Of a thread that was never read before it is known how long it ever waited for a CPU and ran, not when.
    #[test]
    fn a_strangers_waits_for_a_cpu_are_all_taken_to_be_in_the_stretch_if_it_is_too_long_all_the_same() {
        let (start, budget) = (Instant::now(), MS * 50);
        for (on_cpu, run_queue, of_it) in [
            (300, Some(149), (51, Some(149))),
            (20, Some(149), (20, Some(149))),
            (300, Some(150), (0, None)),
            (300, Some(151), (0, None)),
            (300, Some(900), (0, None)),
            (300, Some(0), (200, Some(0))),
            (300, None, (0, None)),
        ] {
            let to = reading(start, 200, on_cpu, run_queue);
            let stretch = Stretch::of_a_stranger(start, &to, budget).unwrap();
            let (on_cpu, run_queue) = (MS * of_it.0, of_it.1.map(|ms| MS * ms));
            assert_eq!(stretch.split, Split { wall: MS * 200, on_cpu, run_queue });
            assert_eq!((stretch.from, stretch.to), (start, to.at));
        }
        assert!(Stretch::of_a_stranger(start + MS, &reading(start, 0, 0, None), budget).is_none(), "not yet");
    }

    #[test]
    fn a_stall_that_nobody_saw_is_a_computation_if_it_ran_for_most_of_it_or_for_longer_than_it_was_blocked() {
        let ran = |on_cpu: u32, blocked: Option<u32>| {
            let (at, wall, on_cpu, run_queue) = (Duration::ZERO, MS * 100, MS * on_cpu, None);
            let blocked = blocked.map(|ms| MS * ms);
            let stall = Stall { at, wall, on_cpu, run_queue, blocked, culprit: None, doubt: None };
            stall.culprit_by_the_clocks().is_some_and(|culprit| culprit.is_running())
        };
        assert!(ran(51, None) && !ran(50, None), "of the rest nothing is known");
        assert!(ran(51, Some(49)) && !ran(50, Some(50)));
        assert!(ran(40, Some(39)) && !ran(40, Some(40)), "the rest was a wait for a CPU");
        assert!(!ran(10, Some(90)));
    }

    proptest! {
        #[test]
        fn the_parts_always_sum_to_the_whole(wall in 0u32..500, cpu in 0u32..600, queue in proptest::option::of(0u32..600), skip in 0u32..600) {
            let split = stretch(wall, cpu, queue).after(MS * skip);
            let parts = split.on_cpu + split.run_queue.unwrap_or_default() + split.blocked().unwrap_or(split.unexplained());
            prop_assert_eq!(parts, split.wall);
        }

        #[test]
        fn a_later_start_never_charges_more(wall in 0u32..500, cpu in 0u32..600, queue in 0u32..600, skip in 0u32..600) {
            let whole = stretch(wall, cpu, Some(queue));
            prop_assert!(whole.after(MS * skip).charged() <= whole.charged());
        }
    }
}
