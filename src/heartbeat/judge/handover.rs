//! A poll that blocks in `block_in_place` keeps no worker: another thread has taken it over. Inside a
//! multi-thread runtime that is no lab's the workers' public numbers tell.
//!
//! A worker that is stuck in a poll is awake and shows the same numbers in every look. So if each of them was idle in
//! some look, or has moved since the first, none was.
//!
//! The thread that is to take it over is often a new one, and until that has begun to run the worker shows what it
//! shows when it is stuck. So a new thread that had not come to rest all the while is a doubt. One that was idle in the
//! pool before cannot be told from the others there: if it wakes late, the poll is taken for one that blocks its
//! worker.

use std::time::{Duration, Instant};

use crate::heartbeat::evidence::WorkersLook;

/// From when on no worker can have been in the poll that was over at `end` and that all `looks` begin in; `None` if one
/// may have been to the end.
pub(crate) fn free_since(looks: &[WorkersLook], end: Instant) -> Option<Instant> {
    let first = looks.first()?;
    let mut stuck = vec![true; first.workers.len()];
    looks.iter().filter(|look| look.at <= end).find_map(|look| {
        for (stuck, (now, before)) in stuck.iter_mut().zip(look.workers.iter().zip(&first.workers)) {
            *stuck &= now == before && now.is_awake();
        }
        (!stuck.contains(&true)).then_some(look.at)
    })
}

/// For how long the workers were looked at: what is seen once may have been so for that moment. `None`: there were no
/// looks.
pub(crate) fn looked_for(looks: &[WorkersLook]) -> Option<Duration> {
    Some(looks.last()?.at - looks.first()?.at)
}

/// Whether in every look up to `late` a thread was just beginning, which may have been meant to take the worker over.
pub(crate) fn may_begin_late(looks: &[WorkersLook], late: Instant) -> bool {
    let mut looks = looks.iter().take_while(|look| look.at <= late).peekable();
    looks.peek().is_some() && looks.all(|look| look.begins)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heartbeat::evidence::WorkerNumbers;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_workers_were_looked_at_from_the_first_look_to_the_last() {
        assert_eq!(looked_for(&[]), None);
        assert_eq!(looked_for(&looks(&[[2, 1]])), Some(Duration::ZERO));
        let mut three = looks(&[[2, 1], [2, 1], [2, 1]]);
        three[2].at = three[0].at + MS * 7;
        assert_eq!(looked_for(&three), Some(MS * 7));
    }

    fn looks(numbers: &[[u64; 2]]) -> Vec<WorkersLook> {
        let look = |[parks, busy]: &[u64; 2]| WorkersLook {
            at: Instant::now(),
            workers: [(2, 1), (*parks, *busy as u32)]
                .map(|(parks, busy)| WorkerNumbers { parks, busy: MS * busy })
                .into(),
            begins: false,
        };
        numbers.iter().map(look).collect()
    }

    #[test]
    fn a_worker_that_stands_still_is_stuck_whatever_the_others_do() {
        assert_eq!(free_since(&looks(&[[2, 1], [2, 2], [3, 3]]), Instant::now()), None);
        assert_eq!(free_since(&[], Instant::now()), None, "there were no looks");
    }

    #[test]
    fn a_thread_that_begins_late_may_have_been_meant_to_take_the_worker_over() {
        let mut looks = looks(&[[2, 1], [2, 1], [2, 1]]);
        let late = looks[1].at;
        assert!(!may_begin_late(&looks, late));
        looks[0].begins = true;
        assert!(!may_begin_late(&looks, late), "it came to rest in time, and took nothing over");
        looks[1].begins = true;
        assert!(may_begin_late(&looks, late));
        assert!(!may_begin_late(&[], late), "there were no looks");
    }

    #[test]
    fn no_worker_is_stuck_once_each_was_idle_or_has_moved() {
        let mut looks = looks(&[[2, 1], [3, 2], [4, 2]]);
        looks[2].workers[0].busy = MS * 2;
        assert_eq!(free_since(&looks, looks[2].at), Some(looks[2].at));
        assert_eq!(free_since(&looks, looks[1].at), None, "it moved when the poll was over");
    }
}
