//! One peer against one fixture on one runtime, by the suite's fixtures and these rules.
//!
//! A right kill of the fixture, as the fixture says it:
//!
//! - no member is left 1 s after the peer returned;
//! - a group that obeyed was not waited for when it was gone;
//! - a member that obeys SIGKILL alone died neither before the grace was over nor long after it;
//! - a cleanup was let finish, and no worker stood still.
//!
//! Processes that left the group are no peer's duty: dead or alive, they are no fault.

use std::sync::mpsc::{TryRecvError, channel};
use std::time::{Duration, Instant};

use deadbeat::Outcome;
use deadbeat::fixture::Fixture;
use deadbeat::heartbeat::{Flavor, Heartbeat, Lab, LabError, Verdict};

use serde::{Deserialize, Serialize};

use crate::peer::Peer;
use crate::target::{Target, pause};

/// Members take some milliseconds to die of SIGKILL.
const JUDGED_AFTER: Duration = Duration::from_secs(1);

/// What a slow machine is granted where something is too late.
const LEAST_ROOM: Duration = Duration::from_secs(5);

/// Far above what a dozen other cells do to a worker, and far below the grace.
const BUDGET: Duration = Duration::from_millis(200);

#[derive(Serialize, Deserialize)]
pub(crate) enum CellVerdict {
    Pass,
    Fail(String),
    /// Nothing was proved, or the bench itself failed: held against no peer.
    Undecided(String),
}

/// A cell and its verdict.
pub(crate) struct JudgedCell {
    pub(crate) peer: &'static str,
    pub(crate) fixture: &'static str,
    pub(crate) runtime: String,
    pub(crate) verdict: CellVerdict,
}

/// Until something is proved, three times at most: a machine that has disturbed a cell has said nothing of the peer.
pub(crate) fn run(peer: &Peer, fixture: &Fixture, flavor: Flavor, grace: Duration) -> CellVerdict {
    let mut verdicts = (0..3).map(|_| once(peer, fixture, flavor, grace));
    let mut last = verdicts.next().expect("three");
    while let (CellVerdict::Undecided(_), Some(next)) = (&last, verdicts.next()) {
        last = next;
    }
    last
}

fn once(peer: &Peer, fixture: &Fixture, flavor: Flavor, grace: Duration) -> CellVerdict {
    let (target, started) = match Target::start(peer, fixture, grace) {
        Ok(pair) => pair,
        Err(error) => return CellVerdict::Undecided(format!("the fixture did not start: {error}")),
    };
    let lab = Lab::new(flavor).heartbeat(Heartbeat::new().budget(BUDGET)).deadline(grace * 2 + Duration::from_secs(30));
    let begun = Instant::now();
    let (watched, gone_after) = std::thread::scope(|scope| {
        let (over, ended) = channel::<()>();
        let target = &target;
        let observer = scope.spawn(move || {
            let mut judged_at = None;
            loop {
                if target.is_gone() {
                    return Some(begun.elapsed());
                }
                if judged_at.is_some_and(|at| Instant::now() >= at) {
                    return None;
                }
                if judged_at.is_none() && ended.try_recv() == Err(TryRecvError::Disconnected) {
                    judged_at = Some(Instant::now() + JUDGED_AFTER);
                }
                pause(Duration::from_millis(5));
            }
        });
        let watched = lab.run(move || async move {
            // In a task: a block in the root future of a multi-thread runtime starves no worker.
            let killing = tokio::spawn(async move {
                let begun = Instant::now();
                started.kill.await.map(|()| begun.elapsed())
            });
            killing.await
        });
        drop(over);
        (watched, observer.join().expect("the observer"))
    });
    let watched = match watched {
        Ok(watched) => watched,
        Err(LabError::Hung { .. }) => return CellVerdict::Fail("it did not come back".into()),
        Err(error) => return CellVerdict::Undecided(error.to_string()),
    };

    let mut faults = Vec::new();
    match watched.output {
        Ok(Ok(elapsed)) => {
            // What the group takes to go on a slow machine is its own affair, up to the whole grace.
            let late = elapsed.saturating_sub(gone_after.unwrap_or_default());
            if fixture.outcome != Outcome::Killed && (elapsed >= grace || late >= grace / 2) {
                faults.push(format!("took {elapsed:.1?}, {late:.1?} of it after the group was gone"));
            }
            let room = grace.max(LEAST_ROOM);
            if let Some(gone_after) = gone_after.filter(|_| fixture.outcome == Outcome::Killed) {
                if elapsed.min(gone_after) >= grace + room || late >= room / 2 {
                    faults.push(format!("SIGKILL came late, or it: took {elapsed:.1?}, the group {gone_after:.1?}"));
                }
            }
        }
        Ok(Err(error)) => faults.push(format!("it said: {error}")),
        Err(panic) => faults.push(format!("it panicked: {panic}")),
    }
    if fixture.outcome == Outcome::Killed && gone_after.is_some_and(|after| after < grace) {
        faults.push("dead before the grace was over: of an early SIGKILL, or of a second SIGTERM".into());
    }
    if fixture.marks_cleanup && !target.cleaned_up() {
        faults.push("the cleanup was not let finish".into());
    }
    match target.leftover().len() {
        0 => {}
        left => faults.push(format!("{left} left alive")),
    }
    match (watched.pulse.verdict(), faults.is_empty()) {
        (Verdict::Starved, _) => {
            let culprit = watched.pulse.worst().and_then(|stall| stall.culprit.as_ref());
            let culprit = culprit.map(|culprit| format!(" ({culprit})")).unwrap_or_default();
            faults.push(format!("a worker stood still for {:.1?}{culprit}", watched.pulse.longest));
        }
        (Verdict::Inconclusive { why }, true) => return CellVerdict::Undecided(why.to_string()),
        _ => {}
    }
    if faults.is_empty() { CellVerdict::Pass } else { CellVerdict::Fail(faults.join("; ")) }
}
