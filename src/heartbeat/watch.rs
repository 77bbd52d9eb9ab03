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
use super::journal::{Journal, Poller, clock_paused};
use super::judge::{capped, root_blocked, stalls, too_long};
use super::lines;
use super::observer::{Observer, Question, Testimony};
use super::pulse::{Pulse, Watched};
use super::stall::{Split, Stall, Stretch};
use super::verdict::Why;
use super::{ConfigError, Heartbeat, Place};

/// A runtime that does not turn its driver for so long when nothing is left to do is not driven by anyone.
pub(super) const UNDRIVEN: Duration = Duration::from_secs(1);

pub(super) async fn watch<F: Future>(journal: Arc<Journal>, future: F) -> Watched<F::Output> {
    let mut watched = observe(journal, future, |_| ()).await;
    lines::add(&mut watched.pulse, Observer::get().as_ref()).await;
    watched
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
pub(super) async fn observe<F: Future>(journal: Arc<Journal>, future: F, at: impl Fn(Stage)) -> Watched<F::Output> {
    let mut watch = Watch::start(journal);
    let mut future = pin!(Some(future));
    let output = poll_fn(|cx| watch.poll(future.as_mut(), cx)).await;
    at(Stage::Done);
    let end = watch.last_beat().await;
    at(Stage::Judging);
    let pulse = watch.pulse(end).await;
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

/// When the watch was over, and whether the driver was turned until then, as far as that matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct End {
    at: Instant,
    driven: bool,
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
    async fn last_beat(&self) -> End {
        let end = self.awaited_beat().await;
        if end.driven || self.observer.is_none() || self.beats_have_ended() {
            return end;
        }
        // A task that was woken can be polled before the driver is turned, but not after it has yielded.
        tokio::task::yield_now().await;
        self.end()
    }

    /// Until it has come, or has not for so long that no thread can be turning the driver.
    async fn awaited_beat(&self) -> End {
        let (begun, patience) = (self.journal.config.reading(), self.patience());
        let mut alarmed = None;
        poll_fn(|cx| {
            self.journal.task().set(cx.waker());
            let end = self.end();
            let Some(observer) = self.observer.as_ref().filter(|_| !end.driven && !self.beats_have_ended()) else {
                return Poll::Ready(end);
            };
            // While this thread waited for a CPU it could turn no driver.
            let waited = || Split::between(&begun, &self.journal.config.reading()).and_then(|split| split.run_queue);
            let give_up = match alarmed {
                Some(before) if end.at >= before => begun.at + patience + waited().unwrap_or_default(),
                before => before.unwrap_or(begun.at + patience),
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
    fn end(&self) -> End {
        // Before the beat is looked for: what comes later is no part of the watch.
        let at = Instant::now();
        let brief = at - self.journal.began < self.journal.config.budget;
        let overdue = self.journal.beat_overdue();
        let driven = !overdue && (brief || self.beat.is_none() || self.journal.state().beats > 0);
        End { at, driven }
    }

    /// With the clock paused a beat comes as soon as the runtime has nothing else to do, or never.
    fn patience(&self) -> Duration {
        if clock_paused() { self.journal.config.interval.min(UNDRIVEN) } else { UNDRIVEN }
    }

    /// One has come too early: tokio's clock was paused, and no other will come.
    fn beats_have_ended(&self) -> bool {
        self.journal.state().clock_paused
    }

    async fn pulse(self, End { at, driven }: End) -> Pulse {
        self.stop();
        let config = self.journal.config;
        let watched = at - self.journal.began;
        let mut found = std::mem::take(&mut self.journal.state().found);
        let excused = self.journal.state().excused.take();
        let heard = hear(self.observer.as_ref(), &excused).await;
        let (unexcused, fair): (Vec<_>, Vec<_>) =
            capped(&excused, &heard).partition(|stretch| too_long(stretch, config.budget));
        found.extend(unexcused);
        let longest = fair.iter().map(|stretch| stretch.split.charged()).max().unwrap_or_default();
        let mut stalls = stalls(&found, hear(self.observer.as_ref(), &found).await, self.journal.began, config.budget);
        stalls.sort_by_key(|stall| stall.at);
        let root = self.journal.state().root.filter(|root| too_long(root, config.budget));
        let root = root.as_slice();
        let root_blocked = root.iter().zip(hear(self.observer.as_ref(), root).await).map(root_blocked).next();
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
            longest: stalls.iter().map(Stall::charged).fold(state.longest.max(longest), Duration::max),
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
async fn hear(observer: Option<&Observer>, found: &[Stretch]) -> Vec<Testimony> {
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
    answer.await.unwrap_or_else(|_| found.iter().map(|_| Testimony::default()).collect())
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
            _ if is_on_a_worker() => Self::Task,
            _ => Self::Root,
        }
    }
}

/// Whether this thread is a worker right now. One of the blocking pool is not, though what it polls with
/// `Handle::block_on` has the number of a task; nor is one in `block_in_place`.
///
/// What yields on a worker is woken when the driver has been turned, and anywhere else at once.
fn is_on_a_worker() -> bool {
    let woken = Arc::new(Woken::default());
    let _ = pin!(tokio::task::yield_now()).poll(&mut Context::from_waker(&Waker::from(Arc::clone(&woken))));
    !woken.0.load(Ordering::SeqCst)
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
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
    use crate::heartbeat::reading::Reading;
    use crate::heartbeat::testing::slept;
    use crate::heartbeat::verdict::Verdict;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn each_stretch_has_a_testimony_though_nobody_is_there_to_give_it() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        for asked in 0..3 {
            let found = vec![slept(Instant::now(), 120); asked];
            let testimonies = runtime.block_on(hear(None, &found));
            assert_eq!(testimonies.len(), asked);
            assert!(testimonies.iter().all(|testimony| testimony.circumstances.is_none()));
        }
    }

    #[test]
    fn how_often_a_thread_is_looked_at_and_read_follows_from_the_beat_and_the_budget() {
        let heartbeat = Heartbeat::new().interval(MS * 10).budget(MS * 80);
        assert_eq!(heartbeat.patience(), MS * 20, "a beat, and an eighth of the budget");
        assert_eq!(heartbeat.round(), MS * 40, "half of the budget");
        assert_eq!(heartbeat.fresh(), MS, "a tenth of a beat");
        assert_eq!(heartbeat.reusable(), MS * 32, "two fifths of the budget");
    }

    #[test]
    fn a_wake_of_the_watched_future_is_remembered_and_wakes_its_task() {
        #[derive(Default)]
        struct Told(AtomicBool);
        impl Wake for Told {
            fn wake(self: Arc<Self>) {
                self.0.store(true, Ordering::SeqCst);
            }
        }
        let ways: [fn(Waker); 2] = [Waker::wake, |waker| waker.wake_by_ref()];
        for wake in ways {
            let (journal, told) = (Journal::new(Heartbeat::new(), false, None), Arc::new(Told::default()));
            journal.task().set(&Waker::from(Arc::clone(&told)));
            let own = Arc::new(OwnWaker { woken: AtomicBool::new(false), journal });
            wake(Waker::from(Arc::clone(&own)));
            assert!(own.woken.load(Ordering::SeqCst) && told.0.load(Ordering::SeqCst));
        }
    }

    /// Nothing is awaited in it, so no timer fires and nobody but the clock itself can tell.
    #[tokio::test]
    async fn a_clock_that_is_paused_at_the_end_proves_nothing() {
        let watched = Heartbeat::new().watch(async { tokio::time::pause() }).await;
        assert_eq!(watched.pulse.verdict(), Verdict::Inconclusive { why: Why::PausedClock });
        tokio::time::resume();
        let long = Heartbeat::new().budget(Duration::from_secs(3600));
        assert_eq!(long.watch(async {}).await.pulse.verdict(), Verdict::Steady);
    }

    /// With a beat so often.
    fn started(interval: Duration) -> Watch {
        let hour = Duration::from_secs(3600);
        Watch::start(Journal::new(Heartbeat::new().interval(interval).budget(hour), false, None))
    }

    #[tokio::test]
    async fn a_watch_that_is_dropped_leaves_nobody_to_be_looked_at() {
        let watch = started(Duration::from_secs(3600));
        let journal = Arc::clone(&watch.journal);
        let is_busy = || journal.beacon().overdue(Instant::now() + Duration::from_secs(36_000)).is_some();
        assert!(is_busy());
        drop(watch);
        assert!(!is_busy());
    }

    #[tokio::test]
    async fn a_last_beat_is_waited_for_only_if_one_is_overdue_and_there_is_somebody_to_end_the_wait() {
        let driven = |end: End| end.driven;
        let poll = |watch: &Watch| pin!(watch.last_beat()).poll(&mut Context::from_waker(Waker::noop())).map(driven);
        let mut punctual = started(Duration::from_secs(3600));
        assert_eq!(poll(&punctual), Poll::Ready(true));
        punctual.observer = None;
        assert_eq!(poll(&punctual), Poll::Ready(true));
        let mut overdue = started(MS);
        // The driver is not turned.
        std::thread::park_timeout(MS * 10);
        let observer = overdue.observer.take();
        assert_eq!(poll(&overdue), Poll::Ready(false));
        overdue.observer = observer;
        assert_eq!(poll(&overdue), Poll::Pending);
        assert!(overdue.last_beat().await.driven, "it comes");
    }

    /// What was waited for a CPU after the end, or at it, is no part of the watch.
    #[tokio::test]
    async fn a_short_watch_is_steady_however_late_its_end_is_weighed() {
        let watch = Watch::start(Journal::new(Heartbeat::new(), false, None));
        let end = watch.last_beat().await;
        std::thread::park_timeout(MS * 120);
        let pulse = watch.pulse(end).await;
        assert_eq!((pulse.verdict(), pulse.watched < MS * 50), (Verdict::Steady, true), "\n{pulse}");
    }

    /// Nor is one that had its CPU taken between its last poll and its end told to turn a driver that it does turn.
    #[tokio::test]
    async fn a_watch_longer_than_the_budget_waits_for_its_first_beat() {
        let heartbeat = Heartbeat::new().interval(MS * 50).budget(MS * 50);
        for _ in 0..5 {
            let watch = Watch::start(Journal::new(heartbeat, false, None));
            // In time for no beat that is overdue.
            std::thread::park_timeout(MS * 50);
            let pulse = { watch.last_beat().await };
            assert!(pulse.driven && watch.journal.state().beats > 0);
        }
    }

    #[test]
    fn a_thread_is_a_worker_while_it_polls_a_task_or_the_root_of_a_current_thread_runtime() {
        let (one, several) = (
            tokio::runtime::Builder::new_current_thread().build().unwrap(),
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap(),
        );
        let is = || async { is_on_a_worker() };
        assert!(one.block_on(is()) && !several.block_on(is()));
        let task = several.spawn(async { (is_on_a_worker(), tokio::task::block_in_place(is_on_a_worker)) });
        assert_eq!(several.block_on(task).unwrap(), (true, false));
        let handle = several.handle().clone();
        let pool = several.spawn_blocking(move || handle.block_on(async { is_on_a_worker() }));
        assert!(!several.block_on(pool).unwrap());
    }

    /// Looks at this thread while it is blocked, and takes it for what the kernel sometimes makes of that.
    #[tokio::test]
    #[cfg(all(target_os = "linux", not(deadbeat_portable)))]
    async fn a_sleep_that_is_booked_as_a_wait_for_a_cpu_is_found_if_it_was_seen() {
        let unseen = blocked_and_booked_as_a_wait(false).await;
        assert!(unseen.stalls.is_empty(), "nobody looked\n{unseen}");
        for _ in 0..20 {
            let seen = blocked_and_booked_as_a_wait(true).await;
            if seen.worst().is_some_and(|stall| stall.charged() > seen.budget) {
                return;
            }
        }
        panic!("it was never found");
    }

    #[cfg(all(target_os = "linux", not(deadbeat_portable)))]
    async fn blocked_and_booked_as_a_wait(seen: bool) -> Pulse {
        let watch = Watch::start(Journal::new(Heartbeat::new(), false, None));
        let before = Reading::here();
        if !seen {
            watch.journal.beacon().idle();
        }
        std::thread::park_timeout(MS * 120);
        let after = Reading::here();
        let run_queue = before.run_queue.map(|wait| wait + (after.at - before.at));
        let stretch = Stretch::between(&before, &Reading { run_queue, ..after }, before.at).unwrap();
        watch.journal.state().judge(stretch, watch.journal.config.budget);
        watch.pulse(End { at: Instant::now(), driven: true }).await
    }
}
