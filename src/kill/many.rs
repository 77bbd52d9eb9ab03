//! Many climbs on one thread: looks at whoever is due or was woken, all in one go, and sleeps until the next is.

use std::os::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags};

use super::climb::{Climb, Step, step_all};
use super::{KillError, KillReport};
use crate::group::wait_readable;

/// What is done with the result of a climb.
pub(crate) type Then = Box<dyn FnOnce(Result<KillReport, KillError>) + Send>;

/// Further than any clock goes: such a wait is for the exit alone.
const FAR: Duration = Duration::from_secs(24 * 60 * 60);

/// Climbs under way.
#[derive(Default)]
pub(crate) struct Many {
    jobs: Vec<Job>,
}

struct Job {
    climb: Climb,
    then: Option<Then>,
    /// When it has to be looked at next, whatever happens.
    due: Instant,
}

impl Many {
    pub(crate) fn add(&mut self, climb: Climb, then: Then) {
        self.jobs.push(Job { climb, then: Some(then), due: Instant::now() });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.jobs.is_empty()
    }

    /// Those that have not ended.
    pub(crate) fn into_climbs(self) -> impl Iterator<Item = (Climb, Then)> {
        self.jobs.into_iter().filter_map(|job| Some((job.climb, job.then?)))
    }

    /// One look at each that is due, and what follows from it.
    pub(crate) fn step(&mut self) {
        let now = Instant::now();
        let mut due: Vec<&mut Job> = self.jobs.iter_mut().filter(|job| job.due <= now).collect();
        let steps = step_all(&mut due.iter_mut().map(|job| &mut job.climb).collect::<Vec<_>>());
        for (job, step) in due.into_iter().zip(steps) {
            match step {
                Step::Wait(time) => {
                    let now = Instant::now();
                    job.due = now.checked_add(time).unwrap_or(now + FAR);
                }
                Step::Done(result) => {
                    // What it does is its owner's affair, and must not end the other kills.
                    let then = job.then.take();
                    if catch_unwind(AssertUnwindSafe(|| then.map(|then| then(result)))).is_err() {
                        tracing::warn!(pgid = job.climb.pgid(), "what was to follow a kill panicked");
                    }
                }
            }
        }
        self.jobs.retain(|job| job.then.is_some());
    }

    /// Until somebody's witness has exited, somebody is due, or the door's bell rings, for `at_most` this long. Those
    /// whose witness has exited are due then.
    pub(crate) fn sleep(&mut self, door: Option<BorrowedFd<'_>>, at_most: Duration) {
        let now = Instant::now();
        let left = self.jobs.iter().map(|job| job.due.saturating_duration_since(now)).min();
        let mut fds = Vec::with_capacity(self.jobs.len() + 1);
        let mut watched = Vec::with_capacity(self.jobs.len());
        for (i, job) in self.jobs.iter().enumerate() {
            if let Some(fd) = job.climb.wake_fd() {
                fds.push(PollFd::new(fd, PollFlags::POLLIN));
                watched.push(i);
            }
        }
        fds.extend(door.map(|door| PollFd::new(door, PollFlags::POLLIN)));
        wait_readable(&mut fds, left.map_or(at_most, |left| left.min(at_most)));
        let exited = |fd: &PollFd<'_>| fd.any().unwrap_or(false);
        let woken: Vec<usize> = fds.iter().zip(watched).filter(|(fd, _)| exited(fd)).map(|(_, i)| i).collect();
        drop(fds);
        let now = Instant::now();
        for i in woken {
            self.jobs[i].due = now;
        }
    }
}
