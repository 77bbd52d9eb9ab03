//! Whoever is to die: the groups of a parent that has gone, and every process that carries the mark of a ward that is
//! being ended and is in no group that somebody else ends.
//!
//! Such a process is a *stray*: it called `setsid`, or was born after the fork and before the group was told of. While
//! the parent lives it ends its groups itself, and we its strays; when it has gone, all of them are ours. Strays are
//! looked for again and again until two looks in a row, with a pause between, found none: one look is not atomic.
//!
//! That our parent's end is seen says more than that it is dead. A child between fork and exec has a copy of its
//! descriptors; so when we see the end, each child is past closing them in its exec, and all that can still hide its mark
//! is the rest of that, which a look can tell.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::fd::BorrowedFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use crate::group::{ProcessGroup, was_started_after};
use crate::kill::climb::Climb;
use crate::kill::many::Many;
use crate::kill::{KillError, KillPolicy, KillReport, Outcome};
#[cfg(target_os = "linux")]
use crate::signal::Signal;

/// Between two looks that must both find nobody.
const PAUSE: Duration = Duration::from_millis(20);

/// Between two looks while others are given their grace.
const INTERVAL: Duration = Duration::from_millis(100);

/// Whoever has no environment to be seen so long after the end began is not in the middle of an exec.
const EXEC: Duration = Duration::from_secs(5);

/// Whoever is still there so long after SIGKILL does not die of it.
const CONFIRM: Duration = Duration::from_secs(1);

/// What is known of a ward.
#[derive(Debug)]
struct Ward {
    policy: KillPolicy,
    /// Pinned when we were told of it.
    group: Option<Climb>,
    /// Since when its strays are being ended.
    ending: Option<Instant>,
    /// Nobody else has anything to do with it.
    released: bool,
    /// How many in a row showed none of its strays, after that.
    quiet_looks: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Prey {
    Group(i32),
    Stray(i32),
}

/// Looks often and long enough, whatever the parent thought enough for itself.
fn patient(policy: KillPolicy) -> KillPolicy {
    let (poll, confirm) = (policy.poll_interval.min(INTERVAL), policy.confirm.max(CONFIRM));
    policy.poll_interval(poll).confirm(confirm)
}

pub(super) struct Hunt {
    mark: String,
    wards: BTreeMap<u64, Ward>,
    chase: Chase,
    next_look: Instant,
}

impl Hunt {
    pub(super) fn new(mark: String) -> Hunt {
        Hunt { mark, wards: BTreeMap::new(), chase: Chase::new(), next_look: Instant::now() }
    }

    pub(super) fn expect(&mut self, ward: u64, policy: KillPolicy) {
        let policy = patient(policy);
        self.wards.insert(ward, Ward { policy, group: None, ending: None, released: false, quiet_looks: 0 });
    }

    pub(super) fn guard(&mut self, ward: u64, pgid: i32, at: Duration) {
        let Some(ward) = self.wards.get_mut(&ward) else { return };
        let Ok(group) = ProcessGroup::new(pgid) else { return };
        // 1. The parent told of the group, and died before we read that.
        // 2. The leader ended, and was reaped by whoever inherited it.
        // 3. Its number was given to a stranger, who was therefore started later than we were told.
        // Held before it is asked, so that nothing can change in between.
        let climb = Climb::new(group, &ward.policy);
        ward.group = (!was_started_after(pgid, at)).then_some(climb);
    }

    pub(super) fn end_strays(&mut self, ward: u64) {
        if let Some(ward) = self.wards.get_mut(&ward) {
            ward.ending.get_or_insert_with(Instant::now);
        }
    }

    pub(super) fn let_go(&mut self, ward: u64) {
        if let Some(ward) = self.wards.get_mut(&ward) {
            ward.group = None;
        }
    }

    pub(super) fn release(&mut self, ward: u64) {
        let Some(released) = self.wards.get_mut(&ward) else { return };
        if released.ending.is_none() {
            self.wards.remove(&ward);
            return;
        }
        released.released = true;
        released.group = None;
    }

    /// Everything that was not released is ours.
    pub(super) fn parent_has_gone(&mut self) {
        for (number, ward) in &mut self.wards {
            if let Some(climb) = ward.group.take() {
                self.chase.begin(Prey::Group(climb.pgid()), *number, climb);
            }
            ward.ending.get_or_insert_with(Instant::now);
            ward.released = true;
        }
        self.next_look = Instant::now();
    }

    /// Nobody is being ended, nor to be guarded.
    pub(super) fn is_over(&self) -> bool {
        self.wards.is_empty() && self.chase.is_over()
    }

    pub(super) fn step(&mut self) {
        // The groups first: a look at every process there is takes its time.
        if self.chase.step() {
            self.next_look = self.next_look.min(Instant::now() + PAUSE);
        }
        if self.is_looking() && Instant::now() >= self.next_look {
            self.look();
        }
        if self.chase.step() {
            self.next_look = self.next_look.min(Instant::now() + PAUSE);
        }
        let (chase, count) = (&mut self.chase, self.wards.len());
        self.wards.retain(|_, ward| ward.quiet_looks < 2);
        if self.wards.len() < count {
            // Of one that was not to be killed the number may be another's some day.
            chase.chased.retain(|_, chased| self.wards.contains_key(&chased.ward));
        }
    }

    /// Until there is something to do, or something to read.
    pub(super) fn sleep(&mut self, line: Option<BorrowedFd<'_>>) {
        let next_look = self.next_look.saturating_duration_since(Instant::now());
        self.chase.kills.sleep(line, if self.is_looking() { next_look } else { Duration::MAX });
    }

    fn is_looking(&self) -> bool {
        self.wards.values().any(|ward| ward.ending.is_some())
    }

    fn look(&mut self) {
        let look = Instant::now();
        let (found, some_in_exec) = self.chase.begin_strays(&self.mark, &self.wards);
        let (mut all_are_released, mut some_have_grace) = (true, false);
        for (number, ward) in &mut self.wards {
            let Some(elapsed) = ward.ending.map(|since| since.elapsed()) else { continue };
            let some_may_show = some_in_exec && elapsed < EXEC;
            let quiet = ward.released && !found.contains(number) && !some_may_show && !self.chase.is_after(*number);
            ward.quiet_looks = if quiet { ward.quiet_looks + 1 } else { 0 };
            all_are_released &= ward.released;
            some_have_grace |= elapsed < ward.policy.grace;
        }
        // A look takes longer the more processes there are, and a tenth of the time is enough; but nobody is to wait for us
        // for much longer than for their own grace.
        let pause = (look.elapsed() * 10).min(INTERVAL * 5);
        let pause = match all_are_released {
            // Those who fork faster than that are chased without one once nobody has any grace left.
            true if !found.is_empty() && !some_have_grace => Duration::ZERO,
            true if self.chase.is_over() || !some_have_grace => pause.max(PAUSE),
            _ => pause.max(INTERVAL),
        };
        self.next_look = Instant::now() + pause;
    }
}

struct Chased {
    ward: u64,
    /// SIGKILL did not end it. It is not tried again.
    survived: bool,
}

/// The ladders under way.
struct Chase {
    kills: Many,
    chased: HashMap<Prey, Chased>,
    sender: Sender<(Prey, bool)>,
    ended: Receiver<(Prey, bool)>,
}

impl Chase {
    fn new() -> Chase {
        let (sender, ended) = channel();
        Chase { kills: Many::default(), chased: HashMap::new(), sender, ended }
    }

    fn is_over(&self) -> bool {
        self.kills.is_empty()
    }

    fn is_after(&self, ward: u64) -> bool {
        self.chased.values().any(|chased| chased.ward == ward && !chased.survived)
    }

    fn begin(&mut self, prey: Prey, ward: u64, climb: Climb) {
        self.chased.insert(prey, Chased { ward, survived: false });
        let sender = self.sender.clone();
        let then = move |result: Result<KillReport, KillError>| {
            let gone = result.is_ok_and(|report| report.outcome != Outcome::Survived);
            // The receiver lives as long as the kills.
            let _ = sender.send((prey, gone));
        };
        self.kills.add(climb, Box::new(then));
    }

    /// Tells for which wards there were any that are not chased yet, and whether some process could not be told.
    #[cfg(target_os = "linux")]
    fn begin_strays(&mut self, mark: &str, wards: &BTreeMap<u64, Ward>) -> (HashSet<u64>, bool) {
        use crate::group::{Vigil, mark};
        let mut found = HashSet::new();
        let carriers = mark::carriers(mark);
        for carrier in carriers.found {
            let (pid, prey) = (carrier.pid, Prey::Stray(carrier.pid));
            let Some((number, ward)) = carrier.value.parse().ok().and_then(|ward: u64| wards.get_key_value(&ward))
            else {
                continue;
            };
            let Some(since) = ward.ending else { continue };
            let is_in_its_group = ward.group.as_ref().is_some_and(|group| group.pgid() == carrier.pgid);
            let is_chased = |prey| self.chased.contains_key(&prey);
            if is_in_its_group || is_chased(prey) || is_chased(Prey::Group(carrier.pgid)) {
                continue;
            }
            let its_mark = mark::Mark::new(mark, &carrier.value);
            let Some(vigil) = Vigil::of_process(pid, move |pid| its_mark.is_on(pid)) else { continue };
            // One grace for all, counted from the beginning: whoever is born later has less of it.
            let left = ward.policy.grace.saturating_sub(since.elapsed());
            let policy = ward.policy.clone().grace(left);
            let policy = if left.is_zero() { policy.signal(Signal::KILL) } else { policy };
            self.begin(prey, *number, Climb::over(vigil, &policy));
            found.insert(*number);
        }
        (found, carriers.some_in_exec)
    }

    #[cfg(not(target_os = "linux"))]
    fn begin_strays(&mut self, _mark: &str, _wards: &BTreeMap<u64, Ward>) -> (HashSet<u64>, bool) {
        (HashSet::new(), false)
    }

    /// Tells whether the last of them has just ended.
    fn step(&mut self) -> bool {
        let was_over = self.is_over();
        self.kills.step();
        for (prey, gone) in self.ended.try_iter() {
            // Of a group that is gone, some may have left in time.
            if gone || matches!(prey, Prey::Group(_)) {
                self.chased.remove(&prey);
            } else if let Some(chased) = self.chased.get_mut(&prey) {
                chased.survived = true;
            }
        }
        self.is_over() && !was_over
    }
}
