//! The loop of `kill.rs` for many kills on one thread: they share their walks through the process table.
//!
//! The steps are the same and come in the same order: for each kill the clock, then one look at all groups together,
//! then for each what follows from it. What waits is the thread: for the first exit, or until the first kill is due.

use std::os::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags};

use super::escalation::Next;
use super::in_progress::Kill;
use super::report::KillResult;
use crate::group::{Seen, look_at_all, wait_readable};

/// What is done with the result of a kill, on the thread that made it.
pub(crate) type OnDone = Box<dyn FnOnce(KillResult) + Send>;

/// Stands for a time that no clock reaches: such a wait is for the exit alone.
const FAR: Duration = Duration::from_secs(24 * 60 * 60);

/// Kills in progress on one thread.
#[derive(Default)]
pub(crate) struct Batch {
    entries: Vec<Entry>,
}

struct Entry {
    kill: Kill,
    /// `None` once it has been called.
    on_done: Option<OnDone>,
    /// When the kill has to be looked at next, whatever happens.
    due: Instant,
}

impl Batch {
    pub(crate) fn add(&mut self, kill: Kill, on_done: OnDone) {
        self.entries.push(Entry { kill, on_done: Some(on_done), due: Instant::now() });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The kills that have not ended.
    pub(super) fn into_kills(self) -> impl Iterator<Item = (Kill, OnDone)> {
        self.entries.into_iter().filter_map(|entry| Some((entry.kill, entry.on_done?)))
    }

    /// Makes all kills to their ends, on a thread that may block.
    pub(super) fn run(&mut self) {
        loop {
            self.step();
            if self.is_empty() {
                return;
            }
            self.sleep(None, Duration::MAX);
        }
    }

    /// Takes each kill that is due to its next wait, or to its end.
    pub(crate) fn step(&mut self) {
        let now = Instant::now();
        let mut due: Vec<&mut Entry> = self.entries.iter_mut().filter(|entry| entry.due <= now).collect();
        let mut open: Vec<&mut Entry> = due.iter_mut().map(|entry| &mut **entry).collect();
        open.retain(|entry| !entry.kill.has_ended());
        while !open.is_empty() {
            let times: Vec<Duration> = open.iter_mut().map(|entry| entry.kill.elapsed()).collect();
            let seen = look_at_all(&mut open.iter_mut().map(|entry| &mut entry.kill.watch).collect::<Vec<_>>());
            let mut looks = times.into_iter().zip(seen);
            open.retain_mut(|entry| looks.next().is_some_and(|(now, seen)| entry.follow(now, seen)));
        }
        // Only now, so that no kill waits for what follows another.
        due.into_iter().filter(|entry| entry.kill.has_ended()).for_each(Entry::finish);
        self.entries.retain(|entry| entry.on_done.is_some());
    }

    /// Has the next step look at every kill, due or not.
    pub(super) fn make_due(&mut self) {
        let now = Instant::now();
        self.entries.iter_mut().for_each(|entry| entry.due = now);
    }

    /// The time until the first kill is due; `None` if there is no kill left.
    pub(super) fn until_due(&self) -> Option<Duration> {
        let now = Instant::now();
        self.entries.iter().map(|entry| entry.due.saturating_duration_since(now)).min()
    }

    /// Sleeps until a member exits whose exit may be the end of its group, a kill is due, or `waker` becomes readable,
    /// for `at_most` this long. A kill whose member has exited is due then.
    pub(crate) fn sleep(&mut self, waker: Option<BorrowedFd<'_>>, at_most: Duration) {
        let left = self.until_due();
        let mut fds = Vec::with_capacity(self.entries.len() + 1);
        let mut watched = Vec::with_capacity(self.entries.len());
        for (i, entry) in self.entries.iter().enumerate() {
            if let Some(fd) = entry.kill.wake_fd() {
                fds.push(PollFd::new(fd, PollFlags::POLLIN));
                watched.push(i);
            }
        }
        fds.extend(waker.map(|waker| PollFd::new(waker, PollFlags::POLLIN)));
        wait_readable(&mut fds, left.map_or(at_most, |left| left.min(at_most)));
        let exited = |fd: &PollFd<'_>| fd.any().unwrap_or(false);
        let woken: Vec<usize> = fds.iter().zip(watched).filter(|(fd, _)| exited(fd)).map(|(_, i)| i).collect();
        drop(fds);
        let now = Instant::now();
        for i in woken {
            self.entries[i].due = now;
        }
    }
}

impl Entry {
    /// Does what follows from a look, as the loop of `kill.rs` does; whether that is another look, at once.
    fn follow(&mut self, now: Duration, seen: Seen) -> bool {
        let kill = &mut self.kill;
        let mut next = kill.escalation.next(now, seen, || kill.watch.is_leaving());
        loop {
            match next {
                Next::Send(signal) => match kill.send(signal) {
                    Ok(after) => next = after,
                    Err(error) => {
                        kill.hold_back(Err(error));
                        return false;
                    }
                },
                Next::Look => return true,
                Next::Wait(time) => {
                    self.due = later(Instant::now(), time);
                    return false;
                }
                Next::Done(end) => {
                    let result = kill.finish(end);
                    kill.hold_back(result);
                    return false;
                }
            }
        }
    }

    /// Hands the result over, once the leader is not waited for any more.
    fn finish(&mut self) {
        let result = match self.kill.released() {
            Ok(result) => result,
            Err(time) => return self.due = later(Instant::now(), time),
        };
        // A panic in the caller's code must not end the other kills.
        let on_done = self.on_done.take();
        if catch_unwind(AssertUnwindSafe(|| on_done.map(|on_done| on_done(result)))).is_err() {
            tracing::warn!(pgid = self.kill.pgid(), "what was to follow a kill panicked");
        }
    }
}

/// That much later, if any clock goes so far.
fn later(now: Instant, time: Duration) -> Instant {
    now.checked_add(time).unwrap_or(now + FAR)
}
#[cfg(test)]
mod tests {
    use std::panic::resume_unwind;
    use std::sync::mpsc::channel;

    use super::*;
    use crate::group::{Backend, backend};
    use crate::kill::testing::{kill_of_no_group, start};
    use crate::kill::{KillPolicy, Outcome};
    use crate::signal::Signal;

    const HOUR: Duration = Duration::from_secs(3600);

    #[test]
    fn a_wait_beyond_every_clock_is_one_of_a_day_at_least() {
        let now = Instant::now();
        assert_eq!(later(now, HOUR), now + HOUR);
        assert!(later(now, Duration::MAX) >= now + 24 * HOUR);
    }

    #[test]
    fn each_on_done_is_called_whatever_the_others_do() {
        let (told, ends) = channel();
        let mut batch = Batch::default();
        assert!(batch.is_empty());
        batch.add(
            kill_of_no_group(),
            Box::new(|_| {
                resume_unwind(Box::new(()));
            }),
        );
        batch.add(kill_of_no_group(), Box::new(move |result| told.send(result).unwrap()));
        assert!(!batch.is_empty());
        batch.step();
        assert_eq!(ends.try_recv().expect("not told").unwrap().outcome, Outcome::AlreadyGone);
        assert!(batch.is_empty());
    }

    #[test]
    fn a_kill_that_is_not_due_is_not_looked_at_and_can_be_had_back() {
        let mut batch = Batch::default();
        batch.add(kill_of_no_group(), Box::new(drop));
        batch.entries[0].due += HOUR;
        batch.step();
        let left: Vec<i32> = batch.into_kills().map(|(kill, _)| kill.pgid()).collect();
        assert_eq!(left, [i32::MAX]);
    }

    #[test]
    fn a_batch_runs_until_the_last_kill_has_ended() {
        let running = start("ignore-term");
        let (told, ends) = channel();
        let mut batch = Batch::default();
        let policy = KillPolicy::default().grace(Duration::from_millis(20)).confirm(Duration::ZERO);
        let stubborn = Kill::new(running.group(), &policy);
        for kill in [stubborn, kill_of_no_group()] {
            let told = told.clone();
            batch.add(kill, Box::new(move |result| told.send(result.unwrap().outcome).unwrap()));
        }
        batch.run();
        assert_eq!(ends.try_iter().collect::<Vec<_>>(), [Outcome::AlreadyGone, Outcome::Killed]);
        assert!(batch.is_empty() && batch.until_due().is_none());
    }

    #[test]
    fn a_kill_that_is_made_due_is_looked_at_by_the_next_step() {
        let mut batch = Batch::default();
        batch.add(kill_of_no_group(), Box::new(drop));
        batch.entries[0].due += HOUR;
        assert!(batch.until_due().is_some_and(|left| left > HOUR / 2));
        batch.step();
        assert!(!batch.is_empty());
        batch.make_due();
        batch.step();
        assert!(batch.is_empty());
    }

    #[test]
    fn an_exit_ends_a_sleep_of_an_hour() {
        if backend() != Backend::Proc {
            return;
        }
        let running = start("ignore-term");
        let (told, ends) = channel();
        let mut batch = Batch::default();
        let policy = KillPolicy::default().grace(HOUR).poll_interval(HOUR);
        batch.add(Kill::new(running.group(), &policy), Box::new(move |result| told.send(result).unwrap()));
        batch.step();
        running.group().signal(Signal::KILL).unwrap();
        // A signal to this process makes it a short one now and then.
        for _ in 0..100 {
            if batch.is_empty() {
                break;
            }
            batch.sleep(None, HOUR);
            batch.step();
        }
        assert_eq!(ends.try_recv().expect("the exit has not ended the sleep").unwrap().outcome, Outcome::Terminated);
    }
}
