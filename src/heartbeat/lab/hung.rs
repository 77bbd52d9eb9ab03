//! A thread that does not come back, described from outside.

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use super::bench::Bench;
use crate::heartbeat::culprit::Sample;
use crate::heartbeat::observer::{Observer, Question};
use crate::heartbeat::pulse::Pulse;
use crate::heartbeat::reading::ThreadId;
use crate::heartbeat::reading::thread::Clocks;
use crate::heartbeat::stall::Stall;
use crate::heartbeat::verdict::Why;

/// How long the observer may take to answer; it has nothing else to do.
const ANSWER: Duration = Duration::from_millis(300);

/// What can be said now. Without a stuck thread there is no stall: the future waits for something that never comes.
pub(super) fn describe(bench: &Bench, begun: Instant) -> Pulse {
    let heartbeat = bench.heartbeat();
    let mut pulse = match bench.journal() {
        Some(journal) => journal.so_far(),
        None => Pulse::empty(heartbeat, begun),
    };
    let now = Instant::now();
    let root = bench.journal().and_then(|journal| journal.beacon().overdue(now));
    let workers = bench.fleet().map(|fleet| fleet.overdue(now)).unwrap_or_default();
    let stuck = root.into_iter().chain(workers).filter(|(_, since)| now - *since > heartbeat.budget);
    for (thread, since) in stuck {
        pulse.stalls.push(open_stall(thread, since, now, begun));
    }
    pulse.longest = pulse.stalls.iter().map(Stall::charged).fold(pulse.longest, Duration::max);
    if pulse.uncovered == Some(Why::MultiThread) {
        pulse.uncovered = None;
    }
    pulse
}

/// The kernel's account of another thread has no beginning of this stretch, so what cannot be told apart is told by
/// what the thread is doing: one that runs has run, one that waits has waited.
fn open_stall(thread: ThreadId, since: Instant, now: Instant, begun: Instant) -> Stall {
    let wall = now - since;
    let culprit = culprit(Question { thread, from: since, to: now }, thread);
    let running = culprit.as_ref().is_some_and(super::super::culprit::Culprit::is_running);
    let account = Clocks::of(thread).and_then(|clocks| clocks.account());
    let total = account.map_or(wall, |account| account.on_cpu).min(wall);
    let run_queue = account.map(|account| account.run_queue.min(wall));
    let on_cpu = if running { wall - run_queue.unwrap_or_default() } else { total };
    let queue = run_queue.map(|queue| queue.min(wall - on_cpu));
    Stall {
        at: since.saturating_duration_since(begun),
        wall,
        on_cpu,
        run_queue: queue,
        blocked: Some(wall - on_cpu - queue.unwrap_or_default()),
        culprit,
        doubt: None,
    }
}

fn culprit(question: Question, thread: ThreadId) -> Option<crate::heartbeat::culprit::Culprit> {
    let (sender, answer) = channel();
    Observer::get()?.ask(vec![question], move |testimonies| drop(sender.send(testimonies)));
    let seen = answer.recv_timeout(ANSWER).ok().and_then(|mut testimonies| testimonies.pop()?.culprit);
    seen.or_else(|| crate::heartbeat::culprit::majority(Sample::of(thread, true).iter()))
}
