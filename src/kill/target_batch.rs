//! Kills of targets that are found one after the other: what is being killed is known by its target, each result comes
//! back with it, and all have one grace.

use std::collections::HashMap;
use std::hash::Hash;
use std::os::fd::BorrowedFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;
#[cfg(any(target_os = "linux", feature = "cli"))]
use std::time::Instant;

use super::batch::Batch;
use super::in_progress::Kill;
#[cfg(any(target_os = "linux", feature = "cli"))]
use super::policy::KillPolicy;
use super::report::KillResult;
#[cfg(any(target_os = "linux", feature = "cli"))]
use crate::signal::Signal;

/// A kill that has ended: of which target, and what the caller noted of it.
pub(crate) struct EndedKill<T, N> {
    pub(crate) target: T,
    pub(crate) note: N,
    pub(crate) result: KillResult,
}

/// A batch of kills, each of a target of its own.
pub(crate) struct TargetBatch<T, N> {
    batch: Batch,
    notes: HashMap<T, N>,
    sender: Sender<(T, KillResult)>,
    results: Receiver<(T, KillResult)>,
}

impl<T: Copy + Eq + Hash + Send + 'static, N> TargetBatch<T, N> {
    pub(crate) fn new() -> TargetBatch<T, N> {
        let (sender, results) = channel();
        TargetBatch { batch: Batch::default(), notes: HashMap::new(), sender, results }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.batch.is_empty()
    }

    /// Whether this target is being killed.
    #[cfg(any(target_os = "linux", feature = "cli"))]
    pub(crate) fn has(&self, target: T) -> bool {
        self.notes.contains_key(&target)
    }

    /// What the caller noted of the targets that are being killed.
    pub(crate) fn notes(&self) -> impl Iterator<Item = &N> {
        self.notes.values()
    }

    pub(crate) fn add(&mut self, target: T, note: N, kill: Kill) {
        self.notes.insert(target, note);
        let sender = self.sender.clone();
        // The receiver lives as long as the batch.
        self.batch.add(kill, Box::new(move |result| drop(sender.send((target, result)))));
    }

    /// Adds a kill that has ended with this result already.
    #[cfg(test)]
    pub(crate) fn add_ended(&mut self, target: T, note: N, result: KillResult) {
        self.notes.insert(target, note);
        self.sender.send((target, result)).unwrap();
    }

    /// Goes on with the kills that are due; returns those that have ended.
    pub(crate) fn step(&mut self) -> Vec<EndedKill<T, N>> {
        self.batch.step();
        let notes = &mut self.notes;
        let ended = self
            .results
            .try_iter()
            .filter_map(|(target, result)| notes.remove(&target).map(|note| EndedKill { target, note, result }));
        ended.collect()
    }

    /// Sleeps until a kill is due, a killed process has exited, `wakeups` is readable, or `at_most` has passed.
    pub(crate) fn sleep(&mut self, wakeups: Option<BorrowedFd<'_>>, at_most: Duration) {
        self.batch.sleep(wakeups, at_most);
    }
}

/// The policy for a target that is found now, when all targets share one grace that began at `since`: with what is left
/// of that grace, or with SIGKILL alone if nothing is.
#[cfg(any(target_os = "linux", feature = "cli"))]
pub(crate) fn in_shared_grace(policy: &KillPolicy, since: Instant) -> KillPolicy {
    let left = policy.grace.saturating_sub(since.elapsed());
    let policy = policy.clone().grace(left);
    if left.is_zero() { policy.signal(Signal::KILL) } else { policy }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kill::Outcome;
    use crate::kill::testing::kill_of_no_group;

    #[test]
    fn a_target_is_in_the_batch_until_its_result_is_handed_back_with_its_note() {
        let mut batch = TargetBatch::new();
        assert!(batch.is_empty() && batch.step().is_empty());
        batch.add(7, "seven", kill_of_no_group());
        assert!(!batch.is_empty() && batch.has(7) && !batch.has(8));
        assert_eq!(batch.notes().collect::<Vec<_>>(), [&"seven"]);
        let ended = batch.step();
        assert_eq!(ended.iter().map(|ended| (ended.target, ended.note)).collect::<Vec<_>>(), [(7, "seven")]);
        assert!(ended[0].result.as_ref().is_ok_and(|report| report.outcome == Outcome::AlreadyGone));
        assert!(batch.is_empty() && !batch.has(7) && batch.step().is_empty());
    }

    #[test]
    fn all_have_one_grace_and_the_last_of_them_none() {
        let hour = Duration::from_secs(3600);
        let policy = KillPolicy::default().signal(Signal::INT).grace(hour);
        let now = in_shared_grace(&policy, Instant::now());
        assert!(now.grace <= hour && now.grace > hour / 2 && now.signal == Signal::INT, "{now:?}");
        let over = in_shared_grace(&policy.clone().grace(Duration::ZERO), Instant::now());
        assert_eq!((over.grace, over.signal), (Duration::ZERO, Signal::KILL));
    }
}
