//! The parent has gone: the ladder for every group left, and for every process that carries a ward's mark elsewhere.
//!
//! Whoever has a mark and is in no group under the ladder is a stray: it called `setsid`, or was born after the fork and
//! before the group was told of. Strays are looked for again and again until two looks in a row, with a pause between,
//! found none: one look is not atomic.
//!
//! That our parent's end is seen says more than that it is dead. A child between fork and exec has a copy of its
//! descriptors; so when we see the end, each child is past closing them in its exec, and all that can still hide its mark
//! is the rest of that, which a look can tell.

use std::collections::{BTreeMap, HashSet};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use crate::group::pause;
use crate::kill::climb::Climb;
use crate::kill::many::Many;
use crate::kill::{KillError, KillPolicy, KillReport, Outcome};
#[cfg(target_os = "linux")]
use crate::signal::Signal;

/// What is known of a ward.
#[derive(Debug)]
pub(super) struct Ward {
    pub(super) policy: KillPolicy,
    /// Pinned when the guardian was told of it.
    pub(super) group: Option<Climb>,
}

/// Between two looks that must both find nobody.
const PAUSE: Duration = Duration::from_millis(20);

/// Between two looks while others are given their grace.
const INTERVAL: Duration = Duration::from_millis(100);

/// Whoever has no environment to be seen so long after the parent's end is not in the middle of an exec.
const EXEC: Duration = Duration::from_secs(5);

/// Whoever is still there so long after SIGKILL does not die of it.
const CONFIRM: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Prey {
    Group(i32),
    Stray(i32),
}

/// Looks often and long enough, whatever the parent thought enough for itself.
pub(super) fn patient(policy: KillPolicy) -> KillPolicy {
    let (poll, confirm) = (policy.poll_interval.min(INTERVAL), policy.confirm.max(CONFIRM));
    policy.poll_interval(poll).confirm(confirm)
}

pub(super) fn hunt(mark: &str, mut wards: BTreeMap<u64, Ward>) {
    if wards.is_empty() {
        return;
    }
    let began = Instant::now();
    let mut chase = Chase::new();
    for ward in wards.values_mut() {
        if let Some(climb) = ward.group.take() {
            chase.begin(Prey::Group(climb.pgid()), climb);
        }
    }
    let last_grace = wards.values().map(|ward| ward.policy.grace).max().unwrap_or_default();
    let (mut next_look, mut quiet_looks) = (began, 0);
    loop {
        if Instant::now() >= next_look {
            let look = Instant::now();
            let (found, some_in_exec) = chase.begin_strays(mark, &wards, began.elapsed());
            let some_may_show = some_in_exec && began.elapsed() < EXEC;
            quiet_looks = if found || some_may_show || !chase.is_over() { 0 } else { quiet_looks + 1 };
            next_look = Instant::now()
                + match began.elapsed() < last_grace {
                    // A look takes longer the more processes there are: a tenth of the time is ours at most.
                    true => INTERVAL.max(look.elapsed() * 10),
                    // Those who fork faster than that are chased without a pause once nobody has any grace left.
                    false if found => Duration::ZERO,
                    false => PAUSE,
                };
        }
        chase.step();
        match chase.is_over() {
            true if quiet_looks >= 2 => return,
            true => {
                pause(PAUSE);
                next_look = Instant::now();
            }
            false => chase.kills.sleep(None),
        }
    }
}

/// The ladders under way.
struct Chase {
    kills: Many,
    chased: HashSet<Prey>,
    sender: Sender<(Prey, bool)>,
    ended: Receiver<(Prey, bool)>,
}

impl Chase {
    fn new() -> Chase {
        let (sender, ended) = channel();
        Chase { kills: Many::default(), chased: HashSet::new(), sender, ended }
    }

    fn is_over(&self) -> bool {
        self.kills.is_empty()
    }

    fn begin(&mut self, prey: Prey, climb: Climb) {
        self.chased.insert(prey);
        let sender = self.sender.clone();
        let then = move |result: Result<KillReport, KillError>| {
            let gone = result.is_ok_and(|report| report.outcome != Outcome::Survived);
            // The receiver lives as long as the kills.
            let _ = sender.send((prey, gone));
        };
        self.kills.add(climb, Box::new(then));
    }

    /// Tells whether there were any that are not chased yet, and whether some process could not be told.
    #[cfg(target_os = "linux")]
    fn begin_strays(&mut self, mark: &str, wards: &BTreeMap<u64, Ward>, elapsed: Duration) -> (bool, bool) {
        use crate::group::{Vigil, mark};
        let mut found = false;
        let carriers = mark::carriers(mark);
        for carrier in carriers.found {
            let (pid, prey) = (carrier.pid, Prey::Stray(carrier.pid));
            let ward = carrier.value.parse().ok().and_then(|ward: u64| wards.get(&ward));
            let Some(ward) = ward.filter(|_| !self.chased.contains(&prey)) else { continue };
            if self.chased.contains(&Prey::Group(carrier.pgid)) {
                continue;
            }
            let its_mark = mark::Mark::new(mark, &carrier.value);
            let Some(vigil) = Vigil::of_process(pid, move |pid| its_mark.is_on(pid)) else { continue };
            // One grace for all, counted from the parent's end: whoever is born later has less of it.
            let left = ward.policy.grace.saturating_sub(elapsed);
            let policy = ward.policy.clone().grace(left);
            let policy = if left.is_zero() { policy.signal(Signal::KILL) } else { policy };
            self.begin(prey, Climb::over(vigil, &policy));
            found = true;
        }
        (found, carriers.some_in_exec)
    }

    #[cfg(not(target_os = "linux"))]
    fn begin_strays(&mut self, _mark: &str, _wards: &BTreeMap<u64, Ward>, _elapsed: Duration) -> (bool, bool) {
        (false, false)
    }

    fn step(&mut self) {
        self.kills.step();
        for (prey, gone) in self.ended.try_iter() {
            // One that SIGKILL does not end is not tried again. Of a group that is gone, some may have left in time.
            if gone || matches!(prey, Prey::Group(_)) {
                self.chased.remove(&prey);
            }
        }
    }
}
