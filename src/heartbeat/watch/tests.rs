use super::*;
#[cfg(all(target_os = "linux", not(deadbeat_portable)))]
use crate::heartbeat::reading::Reading;
#[cfg(all(target_os = "linux", not(deadbeat_portable)))]
use crate::heartbeat::stretch::Stretch;
use crate::heartbeat::testing::slept;
use crate::heartbeat::verdict::Verdict;
use crate::heartbeat::watch::place::is_on_a_worker;

const MS: Duration = Duration::from_millis(1);

#[test]
fn each_stretch_has_a_testimony_though_nobody_is_there_to_give_it() {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    for asked in 0..3 {
        let found = vec![slept(Instant::now(), 120); asked];
        let answers = runtime.block_on(ask(None, &found));
        assert_eq!(answers.len(), asked);
        assert!(answers.iter().all(|observed| observed.machine.is_none()));
    }
}

#[test]
fn how_often_a_thread_is_looked_at_and_read_follows_from_the_beat_and_the_budget() {
    let heartbeat = Heartbeat::new().interval(MS * 10).budget(MS * 80);
    assert_eq!(heartbeat.overdue_after(), MS * 20, "a beat, and an eighth of the budget");
    assert_eq!(heartbeat.check_every(), MS * 40, "half of the budget");
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
        let (state, told) = (WatchState::new(Heartbeat::new(), false, None), Arc::new(Told::default()));
        state.task().set(&Waker::from(Arc::clone(&told)));
        let own = Arc::new(OwnWaker { woken: AtomicBool::new(false), state });
        wake(Waker::from(Arc::clone(&own)));
        assert!(own.woken.load(Ordering::SeqCst) && told.0.load(Ordering::SeqCst));
    }
}

/// Nothing is awaited in it, so no timer fires and only the clock itself can tell.
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
    Watch::start(WatchState::new(Heartbeat::new().interval(interval).budget(hour), false, None))
}

#[tokio::test]
async fn a_watch_that_is_dropped_leaves_nobody_to_be_looked_at() {
    let watch = started(Duration::from_secs(3600));
    let state = Arc::clone(&watch.state);
    let is_busy = || state.away().overdue(Instant::now() + Duration::from_secs(36_000)).is_some();
    assert!(is_busy());
    drop(watch);
    assert!(!is_busy());
}

#[tokio::test]
async fn a_last_beat_is_waited_for_only_if_one_is_overdue_and_there_is_somebody_to_end_the_wait() {
    let driven = |end: WatchEnd| end.driven;
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
    let watch = Watch::start(WatchState::new(Heartbeat::new(), false, None));
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
        let watch = Watch::start(WatchState::new(heartbeat, false, None));
        // In time for no beat that is overdue.
        std::thread::park_timeout(MS * 50);
        let pulse = { watch.last_beat().await };
        assert!(pulse.driven && watch.state.so_far().beats > 0);
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
    assert!(unseen.stalls.is_empty(), "there were no looks\n{unseen}");
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
    let watch = Watch::start(WatchState::new(Heartbeat::new(), false, None));
    let before = Reading::here();
    if !seen {
        watch.state.away().idle();
    }
    std::thread::park_timeout(MS * 120);
    let after = Reading::here();
    let run_queue = before.run_queue.map(|wait| wait + (after.at - before.at));
    let stretch = Stretch::between(&before, &Reading { run_queue, ..after }, before.at).unwrap();
    watch.state.so_far().keep(stretch, watch.state.config.budget);
    watch.pulse(WatchEnd { at: Instant::now(), driven: true }).await
}
