use std::sync::Arc;
use std::sync::mpsc::TryRecvError;
use std::task::Wake;

use super::*;
use crate::heartbeat::stretch::{Origin, Split, Stretch};

const MS: Duration = Duration::from_millis(1);
/// What must come, comes well within this; it bounds a broken test, not a slow machine.
const SOON: Duration = Duration::from_secs(40);

#[test]
fn as_many_looks_are_remembered_as_the_documentation_promises() {
    let promised = crate::promised::words(crate::promised::GOTCHAS, "The last {} looks are remembered");
    assert_eq!(promised, SAMPLES_KEPT.to_string());
}

/// Says when it is woken.
struct Bell(Sender<()>);

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        let _ = self.0.send(());
    }
}

fn bell() -> (Waker, Receiver<()>) {
    let (rings, rung) = channel();
    (Waker::from(Arc::new(Bell(rings))), rung)
}

fn post(away: &Arc<AwaySince>, next: Instant) -> WatchedThread {
    let (away, newborn) = (Arc::downgrade(away), Vec::new());
    let (clocks, status, call, others) = (None, None, None, None);
    WatchedThread { away, stretch: None, looks: 0, copied: false, next, clocks, status, call, newborn, others }
}

/// Of a thread that was looked at in these ms after `start`.
fn samples(start: Instant, thread: u32, ats: &[u32]) -> Vec<Sample> {
    ats.iter().map(|at| Sample::running(ThreadId(thread), start + MS * *at)).collect()
}

#[test]
fn a_stretch_was_a_wait_if_more_of_it_was_blocked_than_computed() {
    let from = Instant::now();
    for (on_cpu, run_queue, waited) in
        [(60, Some(0), Some(false)), (59, Some(0), Some(true)), (61, Some(0), Some(false)), (10, None, None)]
    {
        let split = Split { wall: MS * 120, on_cpu: MS * on_cpu, run_queue: run_queue.map(|ms: u32| MS * ms) };
        let (thread, to, on_cpu_then) = (ThreadId(7), from + MS * 120, Duration::ZERO);
        let question =
            Query::from(&Stretch { thread, from, to, split, on_cpu_then, since: None, origin: Origin::DriverTurns });
        assert_eq!((question.thread, question.from, question.to, question.waited), (thread, from, to, waited));
    }
}

#[test]
fn an_observer_answers_each_question_and_rings_in_time_whoever_it_looks_at() {
    let observer = Observer::get().expect("a thread can be started");
    let away = Arc::new(AwaySince::new(MS, MS));
    let (this, from) = (this_thread(), Instant::now());
    away.busy_since(this, from);
    observer.watch(Arc::downgrade(&away));
    let ask = |times| {
        let (tell, told) = channel();
        let question = Query { thread: this, from, to: Instant::now(), waited: None, since: None, until: None };
        observer.ask(vec![question; times], move |seen| tell.send(seen).unwrap());
        told.recv_timeout(SOON).expect("an answer")
    };
    assert_eq!((ask(0).len(), ask(3).len()), (0, 3));
    if cfg!(all(target_os = "linux", not(deadbeat_portable))) {
        let seen = (0..10_000).any(|_| {
            std::thread::park_timeout(MS);
            ask(1)[0].machine.as_ref().is_some_and(|seen| seen.looks.all > 1)
        });
        assert!(seen, "it never looked twice");
    }
    let (waker, rung) = bell();
    let at = Instant::now() + MS * 5;
    observer.alarm(at, waker);
    rung.recv_timeout(SOON).expect("it rings");
    assert!(Instant::now() >= at, "too early");
}

#[test]
fn an_alarm_rings_when_it_is_due_and_once() {
    let now = Instant::now();
    let (mut rounds, bells) = (ObserverLoop::default(), [now - MS, now, now + MS].map(|at| (at, bell())));
    rounds.alarms.extend(bells.iter().map(|(at, (waker, _))| (*at, waker.clone())));
    let mut rung = |now| {
        rounds.ring(now);
        bells.each_ref().map(|(_, (_, rung))| rung.try_iter().count())
    };
    assert_eq!(rung(now), [1, 1, 0]);
    assert_eq!(rung(now + MS), [0, 0, 1]);
    assert_eq!(rung(now + MS), [0, 0, 0]);
}

#[test]
fn an_observer_sleeps_until_the_next_alarm_or_look_but_not_less_than_between_two_looks() {
    let mut rounds = ObserverLoop::default();
    assert_eq!(rounds.next_wait(), None, "there is nothing to do");
    let (hour, idle) = (Duration::from_secs(3600), Arc::new(AwaySince::new(MS, Duration::from_secs(60))));
    rounds.alarms.push((Instant::now() + hour, Waker::noop().clone()));
    assert!(rounds.next_wait().is_some_and(|wait| wait > hour / 2 && wait <= hour));
    rounds.posts.push(post(&idle, Instant::now()));
    assert_eq!(rounds.next_wait(), Some(Duration::from_secs(60)), "it comes by");
    rounds.alarms.push((Instant::now(), Waker::noop().clone()));
    assert_eq!(rounds.next_wait(), Some(FIRST_LOOKS));
}

#[test]
fn a_round_looks_at_whoever_is_overdue_and_forgets_who_is_gone() {
    let (kept, gone) = (Arc::new(AwaySince::new(MS, MS)), Arc::new(AwaySince::new(MS, MS)));
    let now = Instant::now();
    let mut rounds = ObserverLoop { posts: vec![post(&gone, now), post(&kept, now)], ..ObserverLoop::default() };
    kept.busy_since(this_thread(), now);
    drop(gone);
    rounds.look_around(now + MS * 10);
    assert_eq!(rounds.posts.len(), 1);
    let told = cfg!(all(target_os = "linux", not(deadbeat_portable)));
    assert_eq!(rounds.samples.len(), usize::from(told));
    let many = samples(now, 1, &vec![0; SAMPLES_KEPT]);
    rounds.samples.extend(many);
    rounds.look_around(now);
    assert_eq!(rounds.samples.len(), SAMPLES_KEPT, "the oldest are forgotten");
}

#[test]
fn a_testimony_is_of_that_thread_in_that_time() {
    let start = Instant::now();
    let mut rounds = ObserverLoop { can_look: true, ..ObserverLoop::default() };
    let mut both = [samples(start, 7, &[9, 10, 15, 20, 21]), samples(start, 8, &[10, 15, 20])].concat();
    both.sort_by_key(|sample| sample.at);
    rounds.samples.extend(both);
    let observed_of = |rounds: &ObserverLoop, thread, from, to| {
        let (from, to) = (start + MS * from, start + MS * to);
        let observed =
            rounds.observed_of(&Query { thread: ThreadId(thread), from, to, waited: None, since: None, until: None });
        let machine = observed.machine.unwrap();
        let seen = observed.culprit.map_or(0, |culprit| culprit.samples);
        (machine.looks.all, seen, machine.overlooked)
    };
    assert_eq!(observed_of(&rounds, 7, 10, 20), (3, 3, false));
    assert_eq!(observed_of(&rounds, 7, 22, 30), (0, 0, true), "it was over before");
    assert_eq!(observed_of(&rounds, 7, 0, 8), (0, 0, true), "it had not begun");
    rounds.can_look = false;
    assert_eq!(observed_of(&rounds, 9, 10, 20), (0, 0, false), "it could not be looked at");
    assert_eq!(observed_of(&rounds, 8, 10, 20), (3, 3, false));
}

/// Often at first, when it matters which of two calls it is; with its stack every fourth time, from when there is one.
#[test]
fn a_thread_is_looked_at_ever_more_rarely_until_it_has_come_back() {
    let away = Arc::new(AwaySince::new(MS, MS * 7));
    let start = Instant::now();
    let mut post = post(&away, start);
    let mut nth = 0;
    let mut look = |at: Instant| {
        let mut deep = None;
        post.look(&away, at, |thread, its_stack_too| {
            deep = Some(its_stack_too);
            nth += 1;
            // It runs at first, and so it does after it was back.
            Some(if !(4..=100).contains(&nth) { Sample::running(thread, at) } else { Sample::copied(thread, at) })
        });
        (deep, post.next)
    };
    assert_eq!(look(start).0, None, "it is idle");
    away.busy_since(ThreadId(7), start);
    let mut at = start + MS;
    for nth in 1..=100 {
        let (deep, next) = look(at);
        let none_yet = nth <= 4 || cfg!(not(feature = "backtrace"));
        assert_eq!(deep, Some(none_yet || [1, 5, 9, 13, 17].contains(&(nth % 20))), "{nth}");
        let pause = [1, 2, 3, 4][nth / 32];
        assert_eq!(next - at, MS * pause, "{nth}");
        assert_eq!(look(next - MS / 2).0, None, "{nth}: not yet");
        at = next;
    }
    away.busy_since(ThreadId(7), at);
    let again = at + MS;
    assert_eq!(look(again), (Some(true), again + MS), "it was back, and all begins anew");
}

#[test]
fn who_hangs_for_ever_is_looked_at_now_and_then() {
    let away = Arc::new(AwaySince::new(MS, MS));
    let start = Instant::now();
    away.busy_since(ThreadId(7), start);
    let mut post = WatchedThread { looks: 1_000_000, ..post(&away, start) };
    post.stretch = away.overdue(start + MS).map(|(_, since)| since);
    post.look(&away, start + MS, |thread, _| Some(Sample::running(thread, start)));
    assert_eq!(post.next, start + MS + FIRST_LOOKS * 100);
}

#[test]
fn a_look_shows_whether_the_thread_was_in_a_call_while_its_tasks_were_counted() {
    if cfg!(not(all(target_os = "linux", not(deadbeat_portable)))) {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let away = Arc::new(AwaySince::new(MS, MS));
    away.belongs_to(runtime.metrics());
    let start = Instant::now();
    let look = |thread| {
        away.busy_since(thread, start);
        let mut post = post(&away, start);
        let sample = post.look(&away, start + MS * 10, Sample::of).unwrap();
        (sample.is_running(), format!("{:?}", sample.tasks.unwrap()).contains("waiting: true"))
    };
    std::thread::scope(|scope| {
        let (_stop, stopped) = channel::<()>();
        let (tell, told) = channel();
        let seen = |busy: bool, stopped: Receiver<()>, tell: Sender<ThreadId>| {
            scope.spawn(move || {
                tell.send(this_thread()).unwrap();
                while busy && stopped.try_recv() == Err(TryRecvError::Empty) {
                    std::hint::spin_loop()
                }
                let _ = stopped.recv();
            });
            let thread = told.recv().unwrap();
            (0..10_000).map(|_| look(thread)).find(|(running, _)| *running == busy)
        };
        assert_eq!(seen(false, stopped, tell.clone()), Some((false, true)));
        let (_stop, stopped) = channel::<()>();
        assert_eq!(seen(true, stopped, tell), Some((true, false)));
    });
}

#[test]
fn a_beacon_is_looked_at_when_it_is_overdue_and_meanwhile_the_observer_comes_by() {
    let away = Arc::new(AwaySince::new(MS, MS * 7));
    let start = Instant::now();
    let mut post = post(&away, start + MS * 40);
    assert_eq!(post.next_look(start), Some(MS * 7), "it is idle");
    away.busy_since(ThreadId(7), start);
    assert_eq!(post.next_look(start), Some(MS * 7), "it is not overdue yet");
    let later = start + MS * 10;
    assert_eq!(post.next_look(later), Some(Duration::ZERO), "it was not looked at in this stretch");
    post.stretch = away.overdue(later).map(|(_, since)| since);
    assert_eq!(post.next_look(later), Some(MS * 30), "it was");
    drop(away);
    assert_eq!(post.next_look(later), None, "it is gone");
}

#[test]
fn who_was_never_seen_to_wait_was_overlooked_however_often_it_was_seen() {
    let (thread, from) = (ThreadId(7), Instant::now());
    let at = |ms| from + Duration::from_millis(ms);
    let overlooked = |can_look, looks: u64| {
        let samples = (0..looks).map(|ms| Sample::running(thread, at(ms))).collect();
        let rounds = ObserverLoop { samples, can_look, ..ObserverLoop::default() };
        let observed_of = |waited| {
            rounds.observed_of(&Query { thread, from, to: at(70), waited: Some(waited), since: None, until: None })
        };
        [true, false].map(|waited| observed_of(waited).machine.unwrap().overlooked)
    };
    assert_eq!(overlooked(true, 0), [true, true], "there were no looks");
    assert_eq!(overlooked(true, 3), [true, false], "it was seen to run, whether it waited or ran");
    assert_eq!(overlooked(false, 0), [false, false], "it cannot be looked at");
}

#[test]
fn a_thread_that_came_back_while_it_was_looked_at_was_not_seen() {
    let away = AwaySince::new(Duration::from_millis(1), Duration::ZERO);
    let begun = Instant::now();
    let later = begun + Duration::from_millis(50);
    let mut post = WatchedThread { away: Weak::new(), ..post(&Arc::new(AwaySince::new(MS, MS)), begun) };
    let mut look = |meanwhile: &dyn Fn(&AwaySince)| {
        away.busy_since(ThreadId(7), begun);
        post.next = begun;
        post.look(&away, later, |thread, _| {
            meanwhile(&away);
            Some(Sample::running(thread, later))
        })
    };
    assert!(look(&|_| ()).is_some());
    assert!(look(&AwaySince::idle).is_none(), "it went idle");
    let again = begun + Duration::from_millis(20);
    assert!(look(&|away| away.busy_since(ThreadId(7), again)).is_none(), "it went idle and came back");
}
