//! Asking the observer what it saw of some stretches: on a runtime, or on a thread that may wait until a deadline.

use std::sync::mpsc::channel;
use std::time::Instant;

use tokio::sync::oneshot;

use crate::heartbeat::culprit::Culprit;
use crate::heartbeat::evidence::{Observed, Query};
use crate::heartbeat::observer::Observer;
use crate::heartbeat::observer::sample::Sample;
use crate::heartbeat::reading::thread::Clocks;
use crate::heartbeat::stretch::Stretch;

/// Sends a query for each stretch. Without an observer, or without stretches, `answer` is dropped.
fn send(observer: Option<&Observer>, found: &[Stretch], answer: impl FnOnce(Vec<Observed>) + Send + 'static) {
    if let Some(observer) = observer.filter(|_| !found.is_empty()) {
        observer.ask(found.iter().map(Query::from).collect(), answer);
    }
}

/// Waits on a runtime for what the observer saw of each stretch. Where it cannot answer, nothing was observed.
pub(crate) async fn ask(observer: Option<&Observer>, found: &[Stretch]) -> Vec<Observed> {
    let (sender, answer) = oneshot::channel();
    // The watch may have been dropped by the time the answer comes.
    send(observer, found, |observed| drop(sender.send(observed)));
    answer.await.unwrap_or_else(|_| found.iter().map(|_| Observed::default()).collect())
}

/// Blocks the calling thread until the observer has answered; `None` if it has not by `until`.
pub(crate) fn ask_until(observer: Option<&Observer>, found: &[Stretch], until: Instant) -> Option<Vec<Observed>> {
    let (sender, answer) = channel();
    send(observer, found, move |observed| drop(sender.send(observed)));
    answer.recv_timeout(until.saturating_duration_since(Instant::now())).ok()
}

/// Blocks the calling thread until the observer has answered. If it has not by `until`, each thread is looked at once.
pub(crate) fn ask_or_look(observer: Option<&Observer>, found: &[Stretch], until: Instant) -> Vec<Observed> {
    let look = |stretch| Observed { culprit: seen_now(stretch), ..Observed::default() };
    ask_until(observer, found, until).unwrap_or_else(|| found.iter().map(look).collect())
}

/// The call that a thread is in now. If it has had no CPU since the end of the stretch, it was in that call then, too.
fn seen_now(stretch: &Stretch) -> Option<Culprit> {
    let sample = Sample::of(stretch.thread, true).filter(|sample| !sample.is_running())?;
    let account = Clocks::of(stretch.thread)?.account()?;
    (account.on_cpu == stretch.on_cpu_then).then(|| sample.culprit())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::heartbeat::reading::thread::ThreadId;
    use crate::heartbeat::testing::slept;

    #[test]
    fn there_is_an_answer_for_each_stretch_whether_or_not_the_observer_answers() {
        let now = Instant::now();
        // No thread has this number.
        let stretch = Stretch { thread: ThreadId(0), ..slept(now, 120) };
        for asked in 0..3 {
            let found = vec![stretch; asked];
            let unanswered = ask_or_look(None, &found, now);
            assert_eq!(unanswered.len(), asked);
            assert!(unanswered.iter().all(|observed| observed.machine.is_none() && observed.culprit.is_none()));
            let observer = Observer::get().unwrap();
            let answered = ask_or_look(Some(&observer), &found, now + Duration::from_secs(60));
            assert_eq!(answered.len(), asked);
            assert!(answered.iter().all(|observed| observed.machine.is_some()));
        }
    }
}
