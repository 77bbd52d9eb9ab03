//! One poll or many: outside a lab a current_thread runtime turns its driver only after many polls, and what lies
//! between two turns is no stall if some task ended in the middle of it.
//!
//! The runtime tells how many tasks are alive. Only its worker ends them, so whenever there are fewer than at the look
//! before, the worker was back in its scheduler in between. That bounds the longest poll from both sides. A number that
//! never falls proves nothing; then the stretch is taken for what it looks like, one poll.

use std::time::Duration;

use crate::heartbeat::evidence::TaskLook;
use crate::heartbeat::reading::booked;
use crate::heartbeat::stretch::{Origin, Split, Stretch};

/// What the longest poll in a stretch was charged, at least and at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) least: Duration,
    pub(crate) most: Duration,
}

/// How long a part of a stretch took, and what of it the thread was on a CPU.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Part {
    pub(crate) wall: Duration,
    pub(crate) on_cpu: Duration,
}

/// The least that a poll was charged which lasted for all of `part`. Of the time that the whole stretch was off the
/// CPU, what does not fit beside the work in the rest of the stretch was in this part. `unbooked`: CPU time that the
/// account of the part may have too much, since it was booked late.
pub(crate) fn least_of_one_poll(whole: &Split, part: Part, unbooked: Duration) -> Duration {
    let rest = whole.wall.saturating_sub(part.wall).saturating_sub(whole.on_cpu.saturating_sub(part.on_cpu));
    (part.on_cpu.saturating_sub(unbooked) + whole.lost().saturating_sub(rest)).min(part.wall)
}

/// The most that a poll was charged which lay within `part`: all its CPU time, and as much of the time that the whole
/// stretch was off the CPU as has room beside that and a wait of `queued` for a CPU. `unbooked`: CPU time that may be
/// missing.
pub(crate) fn most_of_one_poll(whole: &Split, part: Part, queued: Duration, unbooked: Duration) -> Duration {
    let on_cpu = (part.on_cpu + unbooked).min(part.wall);
    on_cpu + whole.lost().min((part.wall - on_cpu).saturating_sub(queued))
}

/// `None` if no task was seen to end.
pub(crate) fn bounds(stretch: &Stretch, looks: &[TaskLook]) -> Option<Bounds> {
    let ends: Vec<usize> = (1..looks.len()).filter(|at| looks[*at].alive < looks[at - 1].alive).collect();
    if stretch.origin == Origin::Poll || ends.is_empty() {
        return None;
    }
    let edge = |at, on_cpu| TaskLook { at, alive: 0, on_cpu, turns: 0, waiting: false };
    let begin = edge(stretch.from, stretch.on_cpu_then.saturating_sub(stretch.split.on_cpu));
    let end = edge(stretch.to, stretch.on_cpu_then);
    let asleep = looks.chunk_by(TaskLook::blocked_until).map(|chain| chain[chain.len() - 1].at - chain[0].at);
    let (mut least, mut most) = (asleep.max().unwrap_or_default(), Duration::ZERO);
    for run in 0..=ends.len() {
        // From its first look to its last no task was seen to end.
        let first = run.checked_sub(1).map_or(0, |before| ends[before]);
        let last = ends.get(run).map_or(looks.len(), |next| *next) - 1;
        let (before, after) = (if first == 0 { begin } else { looks[first - 1] }, *looks.get(last + 1).unwrap_or(&end));
        let part = |from: TaskLook, to: TaskLook| Part {
            wall: to.at.saturating_duration_since(from.at),
            on_cpu: to.on_cpu.saturating_sub(from.on_cpu),
        };
        most = most.max(most_of_one_poll(&stretch.split, part(before, after), Duration::ZERO, booked::AT_A_TICK));
        least = least.max(least_of_one_poll(&stretch.split, part(looks[first], looks[last]), booked::AT_A_TICK));
    }
    Some(Bounds { least, most })
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;
    use crate::heartbeat::reading::thread::ThreadId;
    use crate::heartbeat::stretch::Split;

    const MS: Duration = Duration::from_millis(1);

    fn stretch(wall: u32, on_cpu: u32, run_queue: u32) -> Stretch {
        let from = Instant::now();
        let split = Split { wall: MS * wall, on_cpu: MS * on_cpu, run_queue: Some(MS * run_queue) };
        let on_cpu_then = MS * (1000 + on_cpu);
        Stretch {
            thread: ThreadId(1),
            from,
            to: from + MS * wall,
            split,
            on_cpu_then,
            since: None,
            origin: Origin::DriverTurns,
        }
    }

    fn look(stretch: &Stretch, at: u32, alive: usize, on_cpu: u32) -> TaskLook {
        TaskLook { at: stretch.from + MS * at, alive, on_cpu: MS * (1000 + on_cpu), turns: 1, waiting: false }
    }

    #[test]
    fn forty_tasks_of_five_milliseconds_are_forty_polls() {
        let stretch = stretch(200, 200, 0);
        let looks: Vec<_> = (10..200).map(|at| look(&stretch, at, 40 - at as usize / 5, at)).collect();
        let bounds = bounds(&stretch, &looks).unwrap();
        assert!(bounds.most < MS * 20, "{bounds:?}");
    }

    #[test]
    fn a_slow_machine_does_not_make_them_longer() {
        let stretch = stretch(2000, 200, 1800);
        let looks: Vec<_> = (1..40).map(|nth| look(&stretch, nth * 50, 40 - nth as usize, nth * 5)).collect();
        assert!(bounds(&stretch, &looks).unwrap().most < MS * 20);
    }

    #[test]
    fn a_long_one_among_them_is_found() {
        for (on_cpu, ran) in [(200, 1), (80, 0)] {
            let stretch = stretch(200, on_cpu, 0);
            let alive = |at: u32| 40 - if (40..160).contains(&at) { 8 } else { at as usize / 5 };
            let cpu = |at: u32| if ran == 1 { at } else { at.min(40) + at.saturating_sub(160) };
            let looks: Vec<_> = (10..200).map(|at| look(&stretch, at, alive(at), cpu(at))).collect();
            let bounds = bounds(&stretch, &looks).unwrap();
            assert!(bounds.least > MS * 100 && bounds.least <= bounds.most, "{bounds:?}");
        }
    }

    #[test]
    fn a_sleep_among_them_is_found_however_slow_the_machine() {
        let stretch = stretch(400, 40, 210);
        let look = |at: u32, alive, waiting| TaskLook {
            waiting,
            ..look(&stretch, at, alive, if waiting { 20 } else { at / 10 })
        };
        let looks = [
            look(20, 40, false),
            look(60, 30, false),
            look(120, 25, true),
            look(200, 25, true),
            look(260, 25, true),
            look(380, 9, false),
        ];
        assert!(bounds(&stretch, &looks).unwrap().least >= MS * 140);
    }

    /// A wait for a CPU is not charged, so a stretch with one of 130 ms holds 10 ms that were blocked somewhere.
    #[test]
    fn the_longest_poll_lies_between_what_one_run_of_looks_shows_and_what_its_surroundings_leave() {
        let spent = stretch(200, 60, 130);
        let looks =
            [look(&spent, 20, 3, 5), look(&spent, 60, 3, 15), look(&spent, 100, 2, 30), look(&spent, 150, 2, 50)];
        // At least the 20 ms on a CPU from the third look to the last, at most the 45 ms from the second look to the
        // end; give or take a tick, and what was blocked may have been anywhere.
        let least_and_most = Bounds { least: MS * 20 - booked::AT_A_TICK, most: MS * 45 + booked::AT_A_TICK + MS * 10 };
        assert_eq!(bounds(&spent, &looks), Some(least_and_most));
    }

    #[test]
    fn what_was_blocked_and_has_no_room_elsewhere_was_in_the_run_that_is_left() {
        let spent = stretch(200, 60, 0);
        let looks = [look(&spent, 10, 3, 5), look(&spent, 20, 2, 10), look(&spent, 180, 2, 30)];
        let least_and_most = Bounds { least: MS * 20 - booked::AT_A_TICK + MS * 140, most: MS * 190 };
        assert_eq!(bounds(&spent, &looks), Some(least_and_most));
    }

    #[test]
    fn a_thread_that_was_waiting_in_two_looks_was_blocked_between_them_if_it_had_no_cpu() {
        let stretch = stretch(200, 60, 0);
        let waiting = TaskLook { waiting: true, ..look(&stretch, 20, 3, 5) };
        let awake = TaskLook { waiting: false, ..waiting };
        assert!(waiting.blocked_until(&TaskLook { at: stretch.to, alive: 9, ..waiting }));
        assert!(!waiting.blocked_until(&awake) && !awake.blocked_until(&waiting) && !awake.blocked_until(&awake));
        assert!(!waiting.blocked_until(&TaskLook { turns: 2, ..waiting }));
        assert!(!waiting.blocked_until(&TaskLook { on_cpu: waiting.on_cpu + MS, ..waiting }));
    }

    #[test]
    fn tasks_that_nobody_saw_end_prove_nothing_and_nor_do_those_that_begin() {
        let stretch = stretch(200, 200, 0);
        assert_eq!(bounds(&stretch, &[]), None);
        let looks: Vec<_> = (10..200).map(|at| look(&stretch, at, at as usize, at)).collect();
        assert_eq!(bounds(&stretch, &looks), None);
    }

    #[test]
    fn a_poll_of_the_watched_future_is_one_poll_whoever_ends_meanwhile() {
        let stretch = Stretch { origin: Origin::Poll, ..stretch(200, 200, 0) };
        let looks: Vec<_> = (10..200).map(|at| look(&stretch, at, 400 - at as usize, at)).collect();
        assert_eq!(bounds(&stretch, &looks), None);
    }
}
