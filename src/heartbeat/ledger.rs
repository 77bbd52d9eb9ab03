//! What a watch keeps until it is judged: the stretches that were too long, those that only a wait for a CPU excuses,
//! and the longest of the others.

use std::collections::VecDeque;
use std::time::Duration;

use super::stretch::Stretch;

/// The others would take their places: only so many excused ones are kept, the last.
const EXCUSED_KEPT: usize = 256;

/// So many of those below the budget are kept, for the longest poll in them: a busy period of many short polls may be
/// longer than one that is a single long poll.
const SHORT_KEPT: usize = 16;

/// `T` is what is kept of a stretch: itself, or the busy period that it is the whole of.
#[derive(Debug)]
pub(super) struct Ledger<T> {
    too_long: Vec<T>,
    /// Excused by a wait for a CPU, of threads that have slept. The kernel may have booked that sleep as a wait.
    excused_asleep: VecDeque<T>,
    /// Excused without a sleep, which a spin on `sched_yield` is too. Kept apart, so that neither kind displaces the
    /// other.
    excused_awake: VecDeque<T>,
    /// In the order of what they were charged, which is the number beside them.
    short: Vec<(Duration, T)>,
}

impl<T> Default for Ledger<T> {
    fn default() -> Self {
        let (excused_asleep, excused_awake) = (VecDeque::new(), VecDeque::new());
        Self { too_long: Vec::new(), excused_asleep, excused_awake, short: Vec::new() }
    }
}

impl<T: Clone> Ledger<T> {
    /// Enters a stretch as what `item` makes of it, which is not asked if nothing is to be kept. `slept`: whether the
    /// thread has, or may have.
    pub(super) fn add(&mut self, stretch: &Stretch, slept: bool, budget: Duration, item: impl FnOnce() -> T) {
        let charged = stretch.split.charged();
        let (is_long, is_excused) = (stretch.is_too_long(budget), stretch.is_excused(budget));
        if !is_long && !is_excused && charged <= self.shortest_kept() {
            return;
        }
        let item = item();
        if is_long {
            return self.too_long.push(item);
        }
        if is_excused {
            let like = if slept { &mut self.excused_asleep } else { &mut self.excused_awake };
            like.drain(..(like.len() + 1).saturating_sub(EXCUSED_KEPT));
            like.push_back(item.clone());
        }
        if self.short.len() == SHORT_KEPT {
            self.short.remove(0);
        }
        let place = self.short.partition_point(|(other, _)| *other < charged);
        self.short.insert(place, (charged, item));
    }

    /// Any shorter than this is shorter than all of those that are kept to find the longest.
    fn shortest_kept(&self) -> Duration {
        if self.short.len() < SHORT_KEPT { Duration::ZERO } else { self.short[0].0 }
    }

    /// The most that any was charged which was not too long.
    pub(super) fn longest_short(&self) -> Duration {
        self.short.last().map_or(Duration::ZERO, |(charged, _)| *charged)
    }

    pub(super) fn too_long(&self) -> &[T] {
        &self.too_long
    }

    pub(super) fn take_too_long(&mut self) -> Vec<T> {
        std::mem::take(&mut self.too_long)
    }

    pub(super) fn take_short(&mut self) -> impl Iterator<Item = T> {
        std::mem::take(&mut self.short).into_iter().map(|(_, item)| item)
    }

    /// Those that are too long unless the kernel has booked a sleep as a wait for a CPU.
    pub(super) fn take_excused(&mut self) -> Vec<T> {
        self.excused_asleep.drain(..).chain(self.excused_awake.drain(..)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::heartbeat::stretch::Split;
    use crate::heartbeat::testing::slept;

    const MS: Duration = Duration::from_millis(1);
    const BUDGET: Duration = Duration::from_millis(50);

    /// Of so many ms, of which the thread waited so many for a CPU.
    fn stretch(wall: u32, run_queue: Option<u32>) -> Stretch {
        let stretch = slept(Instant::now(), wall);
        Stretch { split: Split { run_queue: run_queue.map(|ms| MS * ms), ..stretch.split }, ..stretch }
    }

    fn ledger(stretches: &[(u32, Option<u32>, bool)]) -> Ledger<u32> {
        let mut ledger = Ledger::default();
        for (wall, run_queue, slept) in stretches {
            ledger.add(&stretch(*wall, *run_queue), *slept, BUDGET, || *wall);
        }
        ledger
    }

    #[test]
    fn a_stretch_above_the_budget_is_too_long_and_any_other_may_be_the_longest() {
        let mut ledger = ledger(&[(50, Some(0), true), (120, Some(80), true), (51, Some(0), true), (52, None, true)]);
        assert_eq!(ledger.too_long(), [51, 52], "of the last it is not known that it was not blocked");
        assert_eq!(ledger.longest_short(), MS * 50);
        assert_eq!(ledger.take_short().collect::<Vec<_>>(), [120, 50]);
        assert_eq!((ledger.take_too_long(), ledger.longest_short()), (vec![51, 52], Duration::ZERO));
    }

    #[test]
    fn those_that_a_wait_for_a_cpu_excuses_are_kept_apart_by_whether_the_thread_slept() {
        let given = [(120, Some(80), false), (121, Some(80), true), (40, Some(30), true)];
        assert_eq!(ledger(&given).take_excused(), [121, 120], "the last needs no excuse");
    }

    #[test]
    fn the_last_of_the_excused_and_the_longest_of_the_others_are_kept() {
        let most = u32::try_from(EXCUSED_KEPT).unwrap();
        let excused: Vec<_> = (0..=most).map(|nth| (100 + nth, Some(100 + nth), true)).collect();
        assert_eq!(ledger(&excused).take_excused(), (101..=100 + most).collect::<Vec<_>>());
        let short: Vec<_> = (1..=40).map(|wall| (wall, Some(0), true)).collect();
        assert_eq!(ledger(&short).take_short().collect::<Vec<_>>(), (25..=40).collect::<Vec<_>>());
    }
}
