//! The watched future, its beats before, during and after: it is polled only when it was woken itself, so it does
//! not notice.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};
use std::time::{Duration, Instant};

mod beat;
pub(super) mod place;
mod pool;
pub(super) mod state;
mod task_waker;
mod thread_timestamps;

use crate::heartbeat::config::{ConfigError, Heartbeat};
use crate::heartbeat::judge::{root_blocked, stalls};
use crate::heartbeat::lines;
use crate::heartbeat::observer::Observer;
use crate::heartbeat::observer::ask::ask;
use crate::heartbeat::pulse::{Findings, Pulse, Watched};
use crate::heartbeat::stretch::Split;
use crate::heartbeat::verdict::Why;
use crate::heartbeat::watch::beat::{Beat, has_timer};
use crate::heartbeat::watch::place::Place;
use crate::heartbeat::watch::state::{PollTimestamps, WatchState, clock_paused};

/// A runtime that does not turn its driver for so long when nothing is left to do is not driven by any thread.
pub(super) const UNDRIVEN: Duration = Duration::from_secs(1);

async fn watch<F: Future>(state: Arc<WatchState>, future: F) -> Watched<F::Output> {
    let mut watched = observe(state, future, |_| ()).await;
    lines::add(&mut watched.pulse, Observer::get().as_ref()).await;
    watched
}

impl Heartbeat {
    /// Runs `future` and watches the runtime it runs in. Its output comes back beside the pulse; a panic passes
    /// through.
    ///
    /// A poll that hands its worker over (`block_in_place`) is not charged if the worker was seen to be free. If an
    /// idle thread of the pool is to take it over and gets no CPU for longer than the budget, the two cannot be told
    /// apart: the poll is charged. A [`Lab`](crate::heartbeat::Lab) can tell.
    ///
    /// On a current_thread runtime everything is covered: the future, its siblings, the root of `block_on`. On a
    /// multi-thread one only the future's own polls are, and the verdict is never
    /// [`Verdict::Steady`](crate::heartbeat::Verdict::Steady). Outside any runtime, in one without a timer, with
    /// tokio's clock paused, or with settings that cannot be used, the future runs all the same and the verdict is
    /// [`Verdict::Inconclusive`](crate::heartbeat::Verdict::Inconclusive), unless the future blocked in its own polls.
    ///
    /// If a stall was found, the future returns only when the observer has said what it saw of it: some milliseconds
    /// later.
    pub async fn watch<F: Future>(self, future: F) -> Watched<F::Output> {
        watch(WatchState::new(self, false, None), future).await
    }

    /// [`watch`](Self::watch), or the reason why it could prove nothing, before anything runs.
    ///
    /// # Errors
    ///
    /// Settings that cannot be used, no runtime, or one without a timer. In the last case tokio's own panic is caught,
    /// so a program built with `panic = "abort"` ends here, and in [`watch`](Self::watch).
    pub async fn try_watch<F: Future>(self, future: F) -> Result<Watched<F::Output>, ConfigError> {
        self.check()?;
        match tokio::runtime::Handle::try_current() {
            Ok(_) if !has_timer() => Err(ConfigError::NoTimer),
            Ok(_) => Ok(self.watch(future).await),
            Err(_) => Err(ConfigError::NoRuntime),
        }
    }
}

/// How far a watch has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// The future is done. Other tasks of its thread may still run, until the last beat.
    Done,
    /// What was seen is about to be judged.
    Judging,
}

/// All but the source lines, which take long to find.
pub(super) async fn observe<F: Future>(state: Arc<WatchState>, future: F, at: impl Fn(Stage)) -> Watched<F::Output> {
    let mut watch = Watch::start(state);
    let mut future = pin!(Some(future));
    let output = poll_fn(|cx| watch.poll(future.as_mut(), cx)).await;
    at(Stage::Done);
    let end = watch.last_beat().await;
    at(Stage::Judging);
    let pulse = watch.pulse(end).await;
    Watched { output, pulse }
}

struct Watch {
    state: Arc<WatchState>,
    beat: Option<Arc<Beat<WatchState>>>,
    poller: PollTimestamps,
    own: Arc<OwnWaker>,
    waker: Waker,
    observer: Option<Observer>,
    unwatchable: Option<Why>,
}

/// When the watch was over, and whether the driver was turned until then, as far as that matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct WatchEnd {
    at: Instant,
    driven: bool,
}

impl Watch {
    fn start(state: Arc<WatchState>) -> Self {
        let config = state.config;
        let place = Place::here();
        let unwatchable = match config.check() {
            Err(error) => Some(Why::Config(error)),
            Ok(()) if place == Place::Nowhere => Some(Why::NoRuntime),
            Ok(()) if !has_timer() => Some(Why::Config(ConfigError::NoTimer)),
            Ok(()) => None,
        };
        let observer = Observer::get();
        if let Some(observer) = &observer {
            observer.watch(Arc::downgrade(state.away()));
        }
        let (mut beat, mut due) = (None, None);
        if unwatchable.is_none() {
            let (started, first) = Beat::start(Arc::clone(&state), config.interval);
            (beat, due) = (Some(started), Some(first));
        }
        state.begin(place, due);
        let own = Arc::new(OwnWaker { woken: AtomicBool::new(true), state: Arc::clone(&state) });
        let waker = Waker::from(Arc::clone(&own));
        Self { state, beat, poller: PollTimestamps::new(place, config), own, waker, observer, unwatchable }
    }

    fn poll<F: Future>(&mut self, mut future: Pin<&mut Option<F>>, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.state.task().set(cx.waker());
        self.state.beat_arrives();
        if !self.own.woken.swap(false, Ordering::SeqCst) {
            return Poll::Pending;
        }
        let began = self.state.poll_begins(&mut self.poller);
        let watched = future.as_mut().as_pin_mut().expect("not polled after completion");
        let polled = watched.poll(&mut Context::from_waker(&self.waker));
        if polled.is_ready() {
            // What it holds may block when dropped.
            future.set(None);
        }
        self.state.poll_ended(&mut self.poller, began);
        polled
    }

    /// One beat after completion, if one is overdue: what happened since the last is proved by the turn that brings it.
    async fn last_beat(&self) -> WatchEnd {
        let end = self.awaited_beat().await;
        if end.driven || self.observer.is_none() || self.beats_have_ended() {
            return end;
        }
        // A task that was woken can be polled before the driver is turned, but not after it has yielded.
        tokio::task::yield_now().await;
        self.end()
    }

    /// Until it has come, or has not for so long that no thread can be turning the driver.
    async fn awaited_beat(&self) -> WatchEnd {
        let (begun, within) = (self.state.config.reading(), self.beat_comes_within());
        let mut alarmed = None;
        poll_fn(|cx| {
            self.state.task().set(cx.waker());
            let end = self.end();
            let Some(observer) = self.observer.as_ref().filter(|_| !end.driven && !self.beats_have_ended()) else {
                return Poll::Ready(end);
            };
            // While this thread waited for a CPU it could turn no driver.
            let waited = || Split::between(&begun, &self.state.config.reading()).and_then(|split| split.run_queue);
            let give_up = match alarmed {
                Some(before) if end.at >= before => begun.at + within + waited().unwrap_or_default(),
                before => before.unwrap_or(begun.at + within),
            };
            if alarmed.is_some() && end.at >= give_up {
                return Poll::Ready(end);
            }
            if alarmed.replace(give_up) != Some(give_up) {
                // Whose waker it is then: a task can be moved.
                observer.alarm(give_up, self.waker.clone());
            }
            Poll::Pending
        })
        .await
    }

    /// How it stands now. Short of the budget no beat is needed.
    fn end(&self) -> WatchEnd {
        // Before the beat is looked for: what comes later is no part of the watch.
        let at = Instant::now();
        let brief = at - self.state.began < self.state.config.budget;
        let overdue = self.state.beat_overdue();
        let driven = !overdue && (brief || self.beat.is_none() || self.state.so_far().beats > 0);
        WatchEnd { at, driven }
    }

    /// With the clock paused a beat comes as soon as the runtime has nothing else to do, or never.
    fn beat_comes_within(&self) -> Duration {
        if clock_paused() { self.state.config.interval.min(UNDRIVEN) } else { UNDRIVEN }
    }

    /// One has come too early: tokio's clock was paused, and no other will come.
    fn beats_have_ended(&self) -> bool {
        self.state.so_far().clock_paused
    }

    async fn pulse(self, WatchEnd { at, driven }: WatchEnd) -> Pulse {
        self.stop();
        let (began, budget) = (self.state.began, self.state.config.budget);
        let mut found = self.state.so_far().ledger.take_too_long();
        let excused = self.state.so_far().ledger.take_excused();
        let observed = ask(self.observer.as_ref(), &excused).await;
        let capped = excused.iter().zip(&observed).map(|(stretch, observed)| stretch.capped_at(observed.blocked()));
        let (unexcused, fair): (Vec<_>, Vec<_>) = capped.partition(|stretch| stretch.is_too_long(budget));
        found.extend(unexcused);
        let stalls = stalls(&found, ask(self.observer.as_ref(), &found).await, began, budget);
        let longest = fair.iter().map(|stretch| stretch.split.charged()).max().unwrap_or_default();
        let root = self.state.so_far().root.filter(|root| root.is_too_long(budget));
        let root = root.as_slice();
        let root_blocked = root.iter().zip(ask(self.observer.as_ref(), root).await).map(root_blocked).next();
        let mut pulse = self.state.pulse(at - began);
        let uncovered = self.uncovered(driven, root_blocked);
        pulse.add(Findings { stalls, longest, uncovered });
        pulse.blocking_pool = self.state.take_pool();
        pulse
    }

    /// Why the watch did not cover all that could have stalled, if so.
    fn uncovered(&self, driven: bool, root_blocked: Option<Why>) -> Option<Why> {
        let state = self.state.so_far();
        let clock_stopped = state.clock_paused || (state.place != Place::Nowhere && clock_paused());
        let unwatchable = self.unwatchable.clone().or(clock_stopped.then_some(Why::PausedClock));
        unwatchable.or(match state.place {
            Place::Task => Some(Why::MultiThread),
            Place::Root => root_blocked.or(Some(Why::MultiThread)),
            Place::CurrentThread | Place::Nowhere => (!driven).then_some(Why::TooFewBeats { beats: state.beats }),
        })
    }

    fn stop(&self) {
        if let Some(beat) = &self.beat {
            beat.stop();
        }
        self.state.away().idle();
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Wakes the task, and remembers that it was the watched future that asked for it.
struct OwnWaker {
    woken: AtomicBool,
    state: Arc<WatchState>,
}

impl Wake for OwnWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::SeqCst);
        self.state.task().wake();
    }
}

#[cfg(test)]
mod tests;
