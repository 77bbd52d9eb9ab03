//! Many climbs on one thread: looks at whoever is due or was woken, all in one go, and sleeps until the next is.

use std::os::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags};

use super::in_progress::{Kill, Step, step_all};
use super::{KillError, KillReport};
use crate::group::wait_readable;

/// What is done with the result of a climb.
pub(crate) type OnDone = Box<dyn FnOnce(Result<KillReport, KillError>) + Send>;

/// Further than any clock goes: such a wait is for the exit alone.
const FAR: Duration = Duration::from_secs(24 * 60 * 60);

/// Climbs under way.
#[derive(Default)]
pub(crate) struct Batch {
    entries: Vec<Entry>,
}

struct Entry {
    kill: Kill,
    then: Option<OnDone>,
    /// When it has to be looked at next, whatever happens.
    due: Instant,
}

impl Batch {
    pub(crate) fn add(&mut self, kill: Kill, then: OnDone) {
        self.entries.push(Entry { kill, then: Some(then), due: Instant::now() });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Those that have not ended.
    pub(crate) fn into_kills(self) -> impl Iterator<Item = (Kill, OnDone)> {
        self.entries.into_iter().filter_map(|entry| Some((entry.kill, entry.then?)))
    }

    /// One look at each that is due, and what follows from it.
    pub(crate) fn step(&mut self) {
        let now = Instant::now();
        let mut due: Vec<&mut Entry> = self.entries.iter_mut().filter(|entry| entry.due <= now).collect();
        let steps = step_all(&mut due.iter_mut().map(|entry| &mut entry.kill).collect::<Vec<_>>());
        for (entry, step) in due.into_iter().zip(steps) {
            match step {
                Step::Wait(time) => entry.due = later(Instant::now(), time),
                Step::Done(result) => {
                    // What it does is its owner's affair, and must not end the other kills.
                    let then = entry.then.take();
                    if catch_unwind(AssertUnwindSafe(|| then.map(|then| then(result)))).is_err() {
                        tracing::warn!(pgid = entry.kill.pgid(), "what was to follow a kill panicked");
                    }
                }
            }
        }
        self.entries.retain(|entry| entry.then.is_some());
    }

    /// Until somebody's witness has exited, somebody is due, or the door's bell rings, for `at_most` this long. Those
    /// whose witness has exited are due then.
    pub(crate) fn sleep(&mut self, wakeups: Option<BorrowedFd<'_>>, at_most: Duration) {
        let now = Instant::now();
        let left = self.entries.iter().map(|entry| entry.due.saturating_duration_since(now)).min();
        let mut fds = Vec::with_capacity(self.entries.len() + 1);
        let mut watched = Vec::with_capacity(self.entries.len());
        for (i, entry) in self.entries.iter().enumerate() {
            if let Some(fd) = entry.kill.wake_fd() {
                fds.push(PollFd::new(fd, PollFlags::POLLIN));
                watched.push(i);
            }
        }
        fds.extend(wakeups.map(|wakeups| PollFd::new(wakeups, PollFlags::POLLIN)));
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
    use crate::kill::tests::{kill_of_nobody, start};
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
    fn each_is_told_of_its_end_whatever_the_others_do_when_they_are() {
        let (told, ends) = channel();
        let mut batch = Batch::default();
        assert!(batch.is_empty());
        batch.add(
            kill_of_nobody(),
            Box::new(|_| {
                resume_unwind(Box::new(()));
            }),
        );
        batch.add(kill_of_nobody(), Box::new(move |result| told.send(result).unwrap()));
        assert!(!batch.is_empty());
        batch.step();
        assert_eq!(ends.try_recv().expect("not told").unwrap().outcome, Outcome::AlreadyGone);
        assert!(batch.is_empty());
    }

    #[test]
    fn whoever_is_not_due_is_not_looked_at_and_can_be_had_back() {
        let mut batch = Batch::default();
        batch.add(kill_of_nobody(), Box::new(drop));
        batch.entries[0].due += HOUR;
        batch.step();
        let left: Vec<i32> = batch.into_kills().map(|(kill, _)| kill.pgid()).collect();
        assert_eq!(left, [i32::MAX]);
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
        assert_eq!(ends.try_recv().expect("nobody has woken it").unwrap().outcome, Outcome::Terminated);
    }
}
