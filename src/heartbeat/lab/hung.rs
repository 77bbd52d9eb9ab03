//! Code that does not come back, described from outside.

use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use super::bench::Bench;
use super::open;
use crate::heartbeat::culprit::{Sample, Suspect, majority};
use crate::heartbeat::journal::Journal;
use crate::heartbeat::observer::{Observer, Question, Testimony};
use crate::heartbeat::pulse::Pulse;
use crate::heartbeat::stall::Stretch;
use crate::heartbeat::verdict::Why;
use crate::heartbeat::watch::stalls;

/// How long an answer may take; looking for source lines is what takes long.
const ANSWER: Duration = Duration::from_millis(500);

/// What can be said now. Without a stuck thread there is no stall: the future waits for something that never comes.
pub(super) fn describe(bench: &Bench, begun: Instant) -> Pulse {
    let Some(journal) = bench.journal() else {
        return Pulse::empty(bench.heartbeat(), begun);
    };
    let mut pulse = journal.so_far();
    let open = journal.open_spell().and_then(|base| Stretch::between(&base, &open::reading(&base, || false)?, base.at));
    match (bench.fleet(), open) {
        (Some(_), open) => {
            bench.close(&mut pulse);
            let charged = open
                .map(|stretch| stretch.split.charged() + stretch.split.unexplained())
                .filter(|charged| *charged > pulse.budget);
            // The root of a multi-thread runtime is no worker.
            pulse.uncovered = charged.map(|charged| Why::RootBlocked { charged });
        }
        (None, Some(stretch)) => {
            pulse.longest = pulse.longest.max(stretch.split.charged());
            pulse.stalls.extend(stalls(&[stretch], ask(&[stretch]), journal));
        }
        (None, None) => {}
    }
    pulse
}

/// Waits for the observer's answer: for threads that may.
pub(super) fn ask(found: &[Stretch]) -> Vec<Testimony> {
    let (sender, answer) = channel();
    match Observer::get() {
        Some(observer) if !found.is_empty() => {
            let questions = found.iter().map(Question::from).collect();
            observer.ask(questions, move |testimonies| drop(sender.send(testimonies)));
            answer.recv_timeout(ANSWER).unwrap_or_else(|_| found.iter().map(at_a_glance).collect())
        }
        _ => Vec::new(),
    }
}

/// What a thread that is still stuck is in, without its source line.
fn at_a_glance(stretch: &Stretch) -> Testimony {
    let culprit = majority(Sample::of(stretch.thread, false).iter(), None).map(Suspect::name);
    Testimony { culprit, ..Testimony::default() }
}

impl Journal {
    /// Since when the watched thread has been away, if it is.
    fn open_spell(&self) -> Option<crate::heartbeat::reading::Reading> {
        let (thread, _) = self.beacon().overdue(Instant::now())?;
        self.base_of(thread)
    }
}
