//! Code that does not come back, described from outside.

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use super::bench::Bench;
use super::open;
use super::patience::{Patience, left};
use crate::heartbeat::culprit::{Culprit, Sample};
use crate::heartbeat::journal::Journal;
use crate::heartbeat::judge::{root_blocked, stalls, too_long};
use crate::heartbeat::observer::{Observer, Question, Testimony};
use crate::heartbeat::pulse::Pulse;
use crate::heartbeat::reading::thread::Clocks;
use crate::heartbeat::stall::{Stall, Stretch};

/// What can be said by the end of `patience`. Without a stuck thread there is no stall: the future waits for something
/// that never comes.
pub(super) fn describe(bench: &Bench, journal: &Journal, patience: Patience) -> Pulse {
    let (mut pulse, mut found) = journal.so_far();
    let open = |base| Stretch::between(&base, &open::reading(&base, patience.half(), || false)?, base.at);
    let open = journal.open_spell().and_then(open);
    match (bench.fleet(), open) {
        (Some(_), open) => {
            bench.close(&mut pulse, patience);
            let root = open.filter(|root| too_long(root, pulse.budget));
            let root = root.as_slice();
            pulse.uncovered =
                root.iter().zip(ask(bench.observer(), root, patience)).map(root_blocked).next().or(pulse.uncovered);
        }
        (None, open) => {
            found.extend(open);
            pulse.stalls = stalls(&found, ask(bench.observer(), &found, patience), journal.began, pulse.budget);
            let charged = open.map(|stretch| stretch.split.charged());
            pulse.longest = pulse.stalls.iter().map(Stall::charged).chain(charged).fold(pulse.longest, Duration::max);
        }
    }
    pulse
}

/// Waits for the observer's answer: for threads that may. What is not answered in time is not known.
pub(super) fn hear(observer: Option<&Observer>, found: &[Stretch], patience: Patience) -> Option<Vec<Testimony>> {
    let (sender, answer) = channel();
    let questions = found.iter().map(Question::from).collect();
    observer?.ask(questions, move |testimonies| drop(sender.send(testimonies)));
    answer.recv_timeout(left(patience.half())).ok()
}

/// The same, with what is seen at a glance where there is no answer.
pub(super) fn ask(observer: Option<&Observer>, found: &[Stretch], patience: Patience) -> Vec<Testimony> {
    if found.is_empty() {
        return Vec::new();
    }
    let glance = |stretch| Testimony { culprit: at_a_glance(stretch), ..Testimony::default() };
    let heard = hear(observer, found, patience);
    heard.unwrap_or_else(|| found.iter().map(glance).collect())
}

/// What a thread is in that has not had a CPU since the end of the stretch, so it is in it still.
fn at_a_glance(stretch: &Stretch) -> Option<Culprit> {
    let sample = Sample::of(stretch.thread, true).filter(|sample| !sample.is_running())?;
    let account = Clocks::of(stretch.thread)?.account()?;
    (account.on_cpu == stretch.on_cpu_then).then(|| Culprit::certain(sample))
}

impl Journal {
    /// Since when the watched thread has been away, if it is.
    fn open_spell(&self) -> Option<crate::heartbeat::reading::Reading> {
        let (thread, _) = self.beacon().overdue(Instant::now())?;
        self.base_of(thread)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heartbeat::reading::ThreadId;
    use crate::heartbeat::stall::Split;

    #[test]
    fn there_is_an_answer_to_each_question_whether_or_not_anybody_is_there_to_answer() {
        let (from, wall) = (Instant::now(), Duration::from_millis(120));
        let split = Split { wall, on_cpu: Duration::ZERO, run_queue: None };
        // No thread has this number.
        let (thread, on_cpu_then, one_poll) = (ThreadId(0), Duration::ZERO, false);
        let stretch = Stretch { thread, from, to: from + wall, split, on_cpu_then, since: None, one_poll };
        for asked in 0..3 {
            let found = vec![stretch; asked];
            let nobody = ask(None, &found, Patience::of(Duration::ZERO));
            assert_eq!(nobody.len(), asked);
            assert!(nobody.iter().all(|testimony| testimony.circumstances.is_none() && testimony.culprit.is_none()));
            let observer = Observer::get().unwrap();
            let seen = ask(Some(&observer), &found, Patience::of(Duration::from_secs(60)));
            assert_eq!(seen.len(), asked);
            assert!(seen.iter().all(|testimony| testimony.circumstances.is_some()));
        }
    }
}
