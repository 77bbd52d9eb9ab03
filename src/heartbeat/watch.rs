//! The watched future, its beats before, during and after: it is polled only when it was woken itself, so it does
//! not notice.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::oneshot;

use super::beat::{Beat, has_timer};
use super::boundaries::bounds;
use super::culprit::{Stacks, Suspect, find_lines};
use super::doubt::{unwitnessed, weigh};
use super::journal::{Journal, Poller, clock_paused};
use super::observer::{Observer, Question, Testimony};
use super::pulse::{Pulse, Watched};
use super::stall::{Stall, Stretch};
use super::takeover::{free_since, may_begin_late};
use super::verdict::Why;
use super::{ConfigError, Heartbeat, Place};

/// A runtime that does not turn its driver for so long when nothing is left to do is not driven by anyone.
const UNDRIVEN: Duration = Duration::from_secs(1);

pub(super) async fn watch<F: Future>(journal: Arc<Journal>, future: F) -> Watched<F::Output> {
    let mut watch = Watch::start(journal);
    let mut future = pin!(Some(future));
    let output = poll_fn(|cx| watch.poll(future.as_mut(), cx)).await;
    let driven = watch.last_beat().await;
    let pulse = watch.pulse(driven).await;
    Watched { output, pulse }
}

struct Watch {
    journal: Arc<Journal>,
    beat: Option<Arc<Beat<Journal>>>,
    poller: Poller,
    own: Arc<OwnWaker>,
    waker: Waker,
    observer: Option<Observer>,
    unwatchable: Option<Why>,
}

impl Watch {
    fn start(journal: Arc<Journal>) -> Self {
        let config = journal.config;
        let place = Place::here();
        let unwatchable = match config.check() {
            Err(error) => Some(Why::Config(error)),
            Ok(()) if place == Place::Nowhere => Some(Why::NoRuntime),
            Ok(()) if !has_timer() => Some(Why::Config(ConfigError::NoTimer)),
            Ok(()) => None,
        };
        let observer = Observer::get();
        if let Some(observer) = &observer {
            observer.watch(Arc::downgrade(journal.beacon()));
        }
        let (mut beat, mut due) = (None, None);
        if unwatchable.is_none() {
            let (started, first) = Beat::start(Arc::clone(&journal), config.interval);
            (beat, due) = (Some(started), Some(first));
        }
        journal.begin(place, due);
        let own = Arc::new(OwnWaker { woken: AtomicBool::new(true), journal: Arc::clone(&journal) });
        let waker = Waker::from(Arc::clone(&own));
        Self { journal, beat, poller: Poller::new(place, config), own, waker, observer, unwatchable }
    }

    fn poll<F: Future>(&mut self, mut future: Pin<&mut Option<F>>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.journal.task().set(cx.waker());
        self.journal.beat_arrives();
        if !self.own.woken.swap(false, Ordering::SeqCst) {
            return Poll::Pending;
        }
        let began = self.journal.poll_begins(&mut self.poller);
        let watched = future.as_mut().as_pin_mut().expect("not polled after completion");
        let polled = watched.poll(&mut Context::from_waker(&self.waker));
        if polled.is_ready() {
            // What it holds may block when dropped.
            future.set(None);
        }
        self.journal.poll_ended(&mut self.poller, began);
        polled
    }

    /// One beat after completion, if one is overdue: what happened since the last is proved by the turn that brings it.
    /// False if it does not come.
    async fn last_beat(&self) -> bool {
        let Some(observer) = &self.observer else {
            return !self.journal.beat_overdue();
        };
        let give_up = Instant::now() + UNDRIVEN;
        let mut alarmed = false;
        poll_fn(|cx| {
            self.journal.task().set(cx.waker());
            let driven = !self.journal.beat_overdue();
            if driven || Instant::now() >= give_up {
                return Poll::Ready(driven);
            }
            if !std::mem::replace(&mut alarmed, true) {
                observer.alarm(give_up, cx.waker().clone());
            }
            Poll::Pending
        })
        .await
    }

    async fn pulse(self, driven: bool) -> Pulse {
        self.stop();
        let config = self.journal.config;
        let watched = self.journal.began.elapsed();
        let found = std::mem::take(&mut self.journal.state().found);
        let stalls = stalls(&found, testify(self.observer.as_ref(), &found).await, &self.journal);
        let root = self.journal.state().root.filter(|root| root.away() > config.budget);
        let root = root.as_slice();
        let root_blocked = root.iter().zip(testify(self.observer.as_ref(), root).await).map(root_blocked).next();
        let state = self.journal.state();
        let clock_stopped = state.clock_paused || (state.place != Place::Nowhere && clock_paused());
        let unwatchable = self.unwatchable.clone().or(clock_stopped.then_some(Why::PausedClock));
        let uncovered = unwatchable.or(match state.place {
            Place::Task => Some(Why::MultiThread),
            Place::Root => root_blocked.or(Some(Why::MultiThread)),
            Place::CurrentThread | Place::Nowhere => (!driven).then_some(Why::TooFewBeats { beats: state.beats }),
        });
        Pulse {
            beats: state.beats,
            longest: stalls.iter().map(Stall::charged).fold(state.longest, Duration::max),
            stalls,
            queue_delay: state.queue_delay,
            watched,
            budget: config.budget,
            interval: config.interval,
            rhythm: state.rhythm.clone(),
            lateness: state.lateness.clone(),
            blocking_pool: self.journal.take_pool(),
            shutdown: None,
            uncovered,
        }
    }

    fn stop(&self) {
        if let Some(beat) = &self.beat {
            beat.stop();
        }
        self.journal.beacon().idle();
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Has the observer say what it saw of each stretch.
async fn testify(observer: Option<&Observer>, found: &[Stretch]) -> Vec<Testimony> {
    if found.is_empty() {
        return Vec::new();
    }
    let (sender, answer) = oneshot::channel();
    if let Some(observer) = observer {
        // The watch may have been dropped by the time the answer comes.
        observer.ask(found.iter().map(Question::from).collect(), |testimonies| drop(sender.send(testimonies)));
    } else {
        drop(sender);
    }
    let mut testimonies = answer.await.unwrap_or_else(|_| found.iter().map(|_| Testimony::default()).collect());
    let (sender, lines) = oneshot::channel();
    find_lines(stacks(&mut testimonies), |lines| drop(sender.send(lines)));
    add_lines(&mut testimonies, lines.await.unwrap_or_default());
    testimonies
}

pub(super) fn stacks(testimonies: &mut [Testimony]) -> Vec<Stacks> {
    let stacks = |testimony: &mut Testimony| testimony.suspect.as_mut().map(Suspect::take_stacks);
    testimonies.iter_mut().map(|testimony| stacks(testimony).unwrap_or_default()).collect()
}

pub(super) fn add_lines(testimonies: &mut [Testimony], lines: Vec<Option<String>>) {
    for (testimony, line) in testimonies.iter_mut().zip(lines) {
        if let Some(suspect) = &mut testimony.suspect {
            suspect.culprit.line = line;
        }
    }
}

/// The root of a multi-thread runtime is no worker: that it was away starves nobody, and its beats prove nothing.
pub(super) fn root_blocked((stretch, testimony): (&Stretch, Testimony)) -> Why {
    Why::RootBlocked { charged: stretch.away(), culprit: testimony.suspect.map(|suspect| suspect.culprit) }
}

/// What is left of the stretches once the circumstances are weighed, with their culprits.
pub(super) fn stalls(found: &[Stretch], testimonies: Vec<Testimony>, journal: &Journal) -> Vec<Stall> {
    let mut testimonies = testimonies.into_iter();
    let stalls = found.iter().filter_map(|stretch| {
        let testimony = testimonies.next().unwrap_or_default();
        let stall = Stall::new(stretch, journal.began);
        let (unexplained, budget) = (stretch.split.unexplained(), journal.config.budget);
        let mut stall = match &testimony.circumstances {
            Some(circumstances) => weigh(stall, unexplained, budget, circumstances)?,
            None => unwitnessed(stall, unexplained, budget)?,
        };
        match bounds(stretch, &testimony.tasks) {
            Some(bounds) if bounds.most <= budget => return None,
            Some(bounds) if bounds.least <= budget => {
                let charged = stall.charged();
                stall.doubt.get_or_insert(Why::Undecided { charged });
            }
            _ => {}
        }
        match free_since(&testimony.workers, stretch.to) {
            Some(free) if free <= stretch.from + budget => return None,
            // It may have blocked before it handed its worker over.
            Some(_) => {
                let charged = stall.charged();
                stall.doubt.get_or_insert(Why::Undecided { charged });
            }
            None if may_begin_late(&testimony.workers, stretch.from + budget) => {
                stall.doubt.get_or_insert(Why::HandedOver { waited: budget });
            }
            None => {}
        }
        let suspect = testimony.suspect.map(|suspect| suspect.culprit);
        stall.culprit = suspect.or_else(|| stall.culprit_by_the_clocks());
        Some(stall)
    });
    stalls.collect()
}

/// Wakes the task, and remembers that it was the watched future that asked for it.
struct OwnWaker {
    woken: AtomicBool,
    journal: Arc<Journal>,
}

impl Wake for OwnWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::SeqCst);
        self.journal.task().wake();
    }
}

impl Place {
    fn here() -> Self {
        let Ok(handle) = Handle::try_current() else {
            return Self::Nowhere;
        };
        match handle.runtime_flavor() {
            RuntimeFlavor::CurrentThread => Self::CurrentThread,
            _ if tokio::task::try_id().is_some() => Self::Task,
            _ => Self::Root,
        }
    }
}

impl Heartbeat {
    /// A thread away for so long is looked at.
    pub(super) fn patience(&self) -> Duration {
        self.interval.saturating_add(self.budget / 8)
    }

    /// While all is well, the observer comes by so often: no stall is over before it was looked at.
    pub(super) fn round(&self) -> Duration {
        self.budget / 2
    }

    /// A reading younger than this need not be taken again.
    pub(super) fn fresh(&self) -> Duration {
        self.interval / 10
    }

    /// Nor need one younger than this, when the thread was just seen to be punctual.
    pub(super) fn reusable(&self) -> Duration {
        self.budget / 5 * 2
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heartbeat::doubt::Circumstances;
    use crate::heartbeat::reading::ThreadId;
    use crate::heartbeat::stall::Split;

    #[test]
    fn a_stall_without_a_testimony_convicts_nobody() {
        let journal = Journal::new(Heartbeat::new(), false, None);
        let verdict = |testimonies, run_queue| {
            let wall = Duration::from_millis(120);
            let split = Split { wall, on_cpu: Duration::ZERO, run_queue };
            let (from, on_cpu_then) = (journal.began, Duration::ZERO);
            let stretch = Stretch { thread: ThreadId(1), from, to: from + wall, split, on_cpu_then, one_poll: true };
            let [stall] = &stalls(&[stretch], testimonies, &journal)[..] else { panic!("no stall") };
            stall.doubt.clone()
        };
        for run_queue in [Some(Duration::ZERO), None] {
            assert_eq!(verdict(Vec::new(), run_queue), Some(Why::Unwitnessed), "nobody could be asked");
            assert_eq!(verdict(vec![Testimony::default()], run_queue), Some(Why::Unwitnessed), "nobody answered");
            let circumstances = Some(Circumstances::default());
            assert_eq!(verdict(vec![Testimony { circumstances, ..Testimony::default() }], run_queue), None);
        }
    }
}
