//! How long the machine can have delayed what each kill does: wake up, get a thread, walk through the process table.
//!
//! The observer of a cell does the same three again and again while the subject is at work, and records how late each
//! such pass was. A right kill needs a few passes once its group is gone. So the machine can have delayed it by the few
//! longest delays together, and by no more, however many passes were late.

use std::time::Duration;

/// How many passes a right kill function makes at most between its group's end and its return: it wakes, looks, looks
/// again, and wakes its caller. Each pass of the observer waits for a CPU several times.
pub(super) const OF_A_FUNCTION: usize = 4;

/// How many passes a right program makes at most: a shell script starts one process for each step.
pub(super) const OF_A_PROGRAM: usize = 8;

/// The longest delays, in descending order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct MachineDelays(Vec<Duration>);

impl MachineDelays {
    /// Adds the delay of one pass.
    pub(super) fn add(&mut self, late: Duration) {
        if late.is_zero() {
            return;
        }
        let place = self.0.partition_point(|longer| *longer >= late);
        self.0.insert(place, late);
        self.0.truncate(OF_A_PROGRAM);
    }

    /// How long the machine can have delayed so many passes, together.
    pub(super) fn of(&self, passes: usize) -> Duration {
        self.0.iter().take(passes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_passes_are_kept_waiting_for_the_longest_delays_and_no_longer() {
        let ms = Duration::from_millis(1);
        let mut delays = MachineDelays::default();
        assert_eq!(delays.of(OF_A_FUNCTION), Duration::ZERO);
        // A busy machine has many short delays, and the long ones come in any order.
        for late in [0, 60, 300, 60, 500, 60, 60, 400].into_iter().chain([60; 50]) {
            delays.add(ms * late);
        }
        assert_eq!(delays.of(1), ms * 500);
        assert_eq!(delays.of(OF_A_FUNCTION), ms * (500 + 400 + 300 + 60));
        assert_eq!(delays.of(OF_A_PROGRAM), ms * (1200 + 5 * 60));
        assert_eq!(delays.of(usize::MAX), delays.of(OF_A_PROGRAM));
    }
}
