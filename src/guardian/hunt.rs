//! Whoever is to die: the groups of a parent that has gone, and every process that carries the mark of a ward that is
//! being ended, or descends from its command, and is in no group that another process ends.
//!
//! Such a process is a *stray*: it called `setsid`, or was born after the fork and before the group was told of. While
//! the parent lives it ends its groups itself, and we its strays; when it has gone, all of them are ours. Strays are
//! looked for again and again until two looks in a row, with a pause between, found none: one look is not atomic. While a
//! ward is guarded its descendants are noted down, see `descent.rs`; who is left and cannot be told is named, see
//! `doubt.rs`.
//!
//! That our parent's end is seen says more than that it is dead. A child between fork and exec has a copy of its
//! descriptors; so when we see the end, each child is past closing them in its exec, and all that can still hide its mark
//! is the rest of that, which a look can tell.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::BorrowedFd;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal as Named;

#[cfg(target_os = "linux")]
use super::descent::{Descent, Marked};
#[cfg(target_os = "linux")]
use super::doubt::Observer;
use super::follow::{Do, Follow};
#[cfg(target_os = "linux")]
use crate::group::{GroupWatch, kin, mark};
use crate::group::{ProcessGroup, since_boot, was_started_after};
use crate::kill::Batch;
use crate::kill::Kill;
use crate::kill::{KillError, KillPolicy, KillReport, Outcome};
use crate::signal::Signal;

/// Between two looks that must both find nobody.
const PAUSE: Duration = Duration::from_millis(20);

/// Between two looks while others are given their grace.
const INTERVAL: Duration = Duration::from_millis(100);

/// A command that had ended when its group was told of was not started longer than this before, as a rule.
#[cfg(target_os = "linux")]
const START: Duration = Duration::from_secs(2);

/// Whoever has no environment to be seen so long after the last of its ward was chased is not in the middle of an exec.
const EXEC: Duration = Duration::from_secs(5);

/// Whoever is still there so long after SIGKILL does not die of it.
const CONFIRM: Duration = Duration::from_secs(1);

/// What is known of a ward.
#[derive(Debug)]
struct Ward {
    policy: KillPolicy,
    /// Pinned when we were told of it.
    group: Option<Kill>,
    /// Since when its strays are being ended.
    ending: Option<Instant>,
    /// At which look somebody was chased last, who can have had children until then.
    last_chased: Option<Instant>,
    /// Nobody else has anything to do with it.
    released: bool,
    /// How many in a row showed none of its strays, after that.
    quiet_looks: u32,
    /// Since when there have been processes of it, in clock ticks since the system was started. 0: not known.
    #[cfg(target_os = "linux")]
    since: u64,
}

impl Ward {
    fn new(policy: KillPolicy) -> Ward {
        Ward {
            policy,
            group: None,
            ending: None,
            last_chased: None,
            released: false,
            quiet_looks: 0,
            #[cfg(target_os = "linux")]
            since: 0,
        }
    }

    /// Of the one grace for all of its strays, counted from the beginning: whoever is born later has less of it.
    fn grace_left(&self) -> Duration {
        self.policy.grace.saturating_sub(self.ending.map_or(Duration::ZERO, |since| since.elapsed()))
    }

    /// After a look at this time. It may have missed some, if somebody is `in_exec`.
    fn was_looked_for(&mut self, now: Instant, some_are_chased: bool, some_in_exec: bool) {
        if some_are_chased {
            self.last_chased = Some(now);
        }
        let since = self.last_chased.max(self.ending);
        let some_may_show = some_in_exec && since.is_some_and(|since| now - since < EXEC);
        let quiet = self.released && !some_are_chased && !some_may_show;
        self.quiet_looks = if quiet { self.quiet_looks + 1 } else { 0 };
    }
}

/// What one look showed, of all wards together whose strays are being ended.
#[derive(Clone, Copy, Debug)]
struct Look {
    took: Duration,
    /// It came upon some that had not been chased.
    found_some: bool,
    all_are_released: bool,
    some_have_grace: bool,
    chase_is_over: bool,
}

impl Look {
    /// Until the next one. A look takes longer the more processes there are, and a tenth of the time is enough; but
    /// nobody is to wait for us for much longer than for their own grace.
    fn pause(self) -> Duration {
        let pause = (self.took * 10).min(INTERVAL * 5);
        match self.all_are_released {
            // Those who fork faster than that are chased without one once nobody has any grace left.
            true if self.found_some && !self.some_have_grace => Duration::ZERO,
            true if self.chase_is_over || !self.some_have_grace => pause.max(PAUSE),
            _ => pause.max(INTERVAL),
        }
    }
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
    #[cfg(target_os = "linux")]
    descent: Descent,
    #[cfg(target_os = "linux")]
    observer: Observer,
    /// The parent, and how its stops are followed, if they are.
    parent: i32,
    follow: Option<Follow>,
    /// Those of ended wards that may be of them, to be told of.
    doubtful: Vec<(u64, i32)>,
    /// Those that were told of, with their starts.
    #[cfg(target_os = "linux")]
    doubted: HashMap<i32, u64>,
}

impl Hunt {
    pub(super) fn new(mark: String) -> Hunt {
        Hunt {
            mark,
            wards: BTreeMap::new(),
            chase: Chase::new(),
            next_look: Instant::now(),
            #[cfg(target_os = "linux")]
            descent: Descent::new(),
            #[cfg(target_os = "linux")]
            observer: Observer::new(),
            parent: nix::unistd::getppid().as_raw(),
            follow: None,
            doubtful: Vec::new(),
            #[cfg(target_os = "linux")]
            doubted: HashMap::new(),
        }
    }

    pub(super) fn expect(&mut self, ward: u64, policy: KillPolicy) {
        let policy = patient(policy);
        self.wards.insert(ward, Ward::new(policy));
        #[cfg(target_os = "linux")]
        self.descent.begin();
    }

    pub(super) fn guard(&mut self, ward: u64, pgid: i32, at: Duration) {
        let number = ward;
        let Some(ward) = self.wards.get_mut(&ward) else { return };
        let Ok(group) = ProcessGroup::new(pgid) else { return };
        // 1. The parent told of the group, and died before we read that.
        // 2. The leader ended, and was reaped by whoever inherited it.
        // 3. Its number was given to a stranger, who was therefore started later than we were told.
        // Held before it is asked, so that nothing can change in between.
        let kill = Kill::new(group, &ward.policy);
        ward.group = (!was_started_after(pgid, at)).then_some(kill);
        #[cfg(target_os = "linux")]
        if ward.group.is_some() {
            // The first of its processes, and the parent of all the others.
            let leader = kin::of(pgid).map(|kin| kin.started);
            ward.since = leader.unwrap_or_else(|| kin::ticks(at.saturating_sub(START)));
            self.descent.has_leader(pgid, number, &Marked(&self.mark));
        }
        #[cfg(not(target_os = "linux"))]
        let _ = number;
    }

    /// `limit` is counted from `at` since boot; zero is none.
    pub(super) fn follow(&mut self, limit: Duration, at: Duration) {
        let left = limit.saturating_sub(since_boot().saturating_sub(at));
        self.follow = Some(Follow::new((!limit.is_zero()).then_some(left)));
    }

    fn follow_parent(&mut self) {
        let (parent, now) = (self.parent, Instant::now());
        let Some(follow) = self.follow.as_mut().filter(|follow| now >= follow.next()) else { return };
        if self.wards.values().all(|ward| ward.group.is_none()) {
            return;
        }
        let send = |wards: &BTreeMap<u64, Ward>, signal| {
            wards.values().filter_map(|ward| ward.group.as_ref()).for_each(|group| group.send_aside(signal));
        };
        match follow.look(parent, now) {
            Do::Nothing => {}
            Do::Stop => {
                send(&self.wards, Signal::STOP);
                // A parent that was continued meanwhile has continued them before they were stopped.
                if follow.look(parent, now) == Do::Continue {
                    send(&self.wards, Signal::CONT);
                }
            }
            Do::Continue => send(&self.wards, Signal::CONT),
            Do::End => {
                // So that it knows when it is continued, before it sees what has become of them.
                let _ = signal_parent(parent, Named::SIGALRM);
                self.descent_before_the_end();
                self.end_all();
            }
        }
    }

    pub(super) fn end_strays(&mut self, ward: u64) {
        if let Some(ward) = self.wards.get_mut(&ward) {
            ward.ending.get_or_insert_with(Instant::now);
            // The parent ends the group: who is born to those that die of it is theirs for a moment only.
            #[cfg(target_os = "linux")]
            self.descent.look(&Marked(&self.mark));
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
        self.follow = None;
        self.descent_before_the_end();
        self.end_all();
        self.wards.values_mut().for_each(|ward| ward.released = true);
    }

    /// Before the first signal: a parent that dies of it can tell of no child any more.
    fn descent_before_the_end(&mut self) {
        #[cfg(target_os = "linux")]
        self.descent.look(&Marked(&self.mark));
    }

    fn end_all(&mut self) {
        for (number, ward) in &mut self.wards {
            if let Some(kill) = ward.group.take() {
                self.chase.begin(Prey::Group(kill.pgid()), *number, kill);
            }
            ward.ending.get_or_insert_with(Instant::now);
        }
        self.next_look = Instant::now();
    }

    /// Nobody is being ended, nor to be guarded.
    pub(super) fn is_over(&self) -> bool {
        self.wards.is_empty() && self.chase.is_over()
    }

    pub(super) fn step(&mut self) {
        self.follow_parent();
        // The groups first: a look at every process there is takes its time.
        self.step_chase();
        if self.is_looking() && Instant::now() >= self.next_look {
            self.look();
        }
        self.step_chase();
        #[cfg(target_os = "linux")]
        self.step_descent();
        self.wards.retain(|_, ward| ward.quiet_looks < 2);
        // Of one that was not to be killed the number may be another's some day.
        self.chase.chased.retain(|_, chased| self.wards.contains_key(&chased.ward));
    }

    /// Those of wards that are over and can be told of now: the ward, and the process.
    pub(super) fn take_doubtful(&mut self) -> Vec<(u64, i32)> {
        std::mem::take(&mut self.doubtful)
    }

    #[cfg(target_os = "linux")]
    fn step_descent(&mut self) {
        let over = self.wards.iter().filter(|(_, ward)| ward.quiet_looks >= 2 && ward.since > 0);
        let since: Vec<_> = over.map(|(number, ward)| (*number, ward.since)).collect();
        for (number, since) in since {
            for (pid, kin) in self.observer.doubtful(since, |pid, kin| self.descent.knows(pid, kin)) {
                // Those of several wards that were guarded at a time are told of once.
                if self.doubted.insert(pid, kin.started) != Some(kin.started) {
                    self.doubtful.push((number, pid));
                }
            }
        }
        if self.wards.values().all(|ward| ward.quiet_looks >= 2) {
            self.descent.rest();
        } else if Instant::now() >= self.descent.next() {
            let guarded = |number| self.wards.contains_key(&number);
            self.descent.retain(guarded);
            self.descent.look(&Marked(&self.mark));
        }
    }

    /// The last of them may have left somebody behind: that is seen soon.
    fn step_chase(&mut self) {
        if self.chase.step() {
            self.next_look = self.next_look.min(Instant::now() + PAUSE);
        }
    }

    /// Until there is something to do, or something to read.
    pub(super) fn sleep(&mut self, line: Option<BorrowedFd<'_>>) {
        let next_look = self.next_look.saturating_duration_since(Instant::now());
        let pause = if self.is_looking() { next_look } else { Duration::MAX };
        #[cfg(target_os = "linux")]
        let pause = match self.wards.is_empty() {
            true => pause,
            false => pause.min(self.descent.next().saturating_duration_since(Instant::now())),
        };
        let pause = match &self.follow {
            Some(follow) if self.wards.values().any(|ward| ward.group.is_some()) => {
                pause.min(follow.next().saturating_duration_since(Instant::now()))
            }
            _ => pause,
        };
        self.chase.kills.sleep(line, pause);
    }

    fn is_looking(&self) -> bool {
        self.wards.values().any(|ward| ward.ending.is_some())
    }

    fn look(&mut self) {
        let start = Instant::now();
        #[cfg(target_os = "linux")]
        let (found_some, some_in_exec) = self.chase.begin_strays(&self.mark, &self.wards, &mut self.descent);
        #[cfg(not(target_os = "linux"))]
        let (found_some, some_in_exec) = (false, false);
        for (number, ward) in &mut self.wards {
            if ward.ending.is_some() {
                ward.was_looked_for(start, self.chase.is_after(*number), some_in_exec);
            }
        }
        let mut ending = self.wards.values().filter(|ward| ward.ending.is_some());
        let look = Look {
            took: start.elapsed(),
            found_some,
            all_are_released: ending.clone().all(|ward| ward.released),
            some_have_grace: ending.any(|ward| !ward.grace_left().is_zero()),
            chase_is_over: self.chase.is_over(),
        };
        self.next_look = Instant::now() + look.pause();
    }
}

/// It is our parent, which has not ended: the line would have.
fn signal_parent(parent: i32, signal: Named) -> nix::Result<()> {
    if nix::unistd::getppid().as_raw() != parent || parent <= 1 {
        return Ok(());
    }

    nix::sys::signal::kill(nix::unistd::Pid::from_raw(parent), signal)
}

struct Chased {
    ward: u64,
    /// SIGKILL did not end it. It is not tried again.
    survived: bool,
}

/// The ladders under way.
struct Chase {
    kills: Batch,
    chased: HashMap<Prey, Chased>,
    sender: Sender<(Prey, bool)>,
    ended: Receiver<(Prey, bool)>,
}

impl Chase {
    fn new() -> Chase {
        let (sender, ended) = channel();
        Chase { kills: Batch::default(), chased: HashMap::new(), sender, ended }
    }

    fn is_over(&self) -> bool {
        self.kills.is_empty()
    }

    fn is_after(&self, ward: u64) -> bool {
        self.chased.values().any(|chased| chased.ward == ward && !chased.survived)
    }

    fn begin(&mut self, prey: Prey, ward: u64, kill: Kill) {
        self.chased.insert(prey, Chased { ward, survived: false });
        let sender = self.sender.clone();
        let then = move |result: Result<KillReport, KillError>| {
            let gone = result.is_ok_and(|report| report.outcome != Outcome::Survived);
            // The receiver lives as long as the kills.
            let _ = sender.send((prey, gone));
        };
        self.kills.add(kill, Box::new(then));
    }

    /// Tells whether there were any that are not chased yet, and whether some process could not be told.
    #[cfg(target_os = "linux")]
    fn begin_strays(&mut self, mark: &str, wards: &BTreeMap<u64, Ward>, descent: &mut Descent) -> (bool, bool) {
        let carriers = mark::carriers(mark);
        for carrier in carriers.found {
            if let Some(ward) = carrier.value.parse().ok().filter(|ward| wards.contains_key(ward)) {
                descent.has_marked(carrier.pid, ward, &Marked(mark));
            }
        }
        descent.look_at_all(&Marked(mark));
        let mut found_some = false;
        for (pid, known) in descent.known() {
            let Some(ward) = wards.get(&known.ward).filter(|ward| ward.ending.is_some()) else { continue };
            let Some(pgid) = kin::group(pid) else { continue };
            let is_in_its_group = ward.group.as_ref().is_some_and(|group| group.pgid() == pgid);
            let is_chased = |prey| self.chased.contains_key(&prey);
            let is_it = move |pid| kin::of(pid).is_some_and(|kin| kin.started == known.started && kin.runs);
            let prey = Prey::Stray(pid);
            // The guardian of a run within this one sees to what that one leaves.
            let is_ours = is_in_its_group || is_chased(prey) || is_chased(Prey::Group(pgid)) || super::is_guardian(pid);
            if is_ours || !is_it(pid) {
                continue;
            }
            // Held by its pidfd, and only then asked whether it is the one that is known.
            let Some(watch) = GroupWatch::of_process(pid, is_it) else { continue };
            let left = ward.grace_left();
            let policy = ward.policy.clone().grace(left);
            let policy = if left.is_zero() { policy.signal(Signal::KILL) } else { policy };
            self.begin(prey, known.ward, Kill::over(watch, &policy));
            found_some = true;
        }
        (found_some, carriers.some_in_exec)
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

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const FAR: Duration = Duration::from_secs(3600);

    /// Of no test's processes.
    fn hunt() -> Hunt {
        Hunt::new(format!("DEADBEAT_TEST_HUNT_{}", std::process::id()))
    }

    /// A kill that has nobody to kill: no process can have this number.
    fn over_nobody() -> Kill {
        Kill::new(ProcessGroup::new(i32::MAX).unwrap(), &KillPolicy::default())
    }

    #[test]
    fn it_looks_often_and_long_enough_and_leaves_grace_and_signal_as_they_are() {
        let asked = KillPolicy::default().grace(MS * 70).continue_stopped(false);
        let hasty = asked.clone().poll_interval(MS * 5).confirm(Duration::ZERO);
        assert_eq!(patient(hasty), asked.clone().poll_interval(MS * 5).confirm(CONFIRM));
        let slow = asked.clone().poll_interval(FAR).confirm(CONFIRM * 2);
        assert_eq!(patient(slow), asked.poll_interval(INTERVAL).confirm(CONFIRM * 2));
    }

    #[test]
    fn the_next_look_is_as_near_as_whoever_is_left_needs_and_the_look_costs() {
        let quiet = Look {
            took: Duration::ZERO,
            found_some: false,
            all_are_released: true,
            some_have_grace: false,
            chase_is_over: true,
        };
        let held = Look { all_are_released: false, ..quiet };
        for (look, pause) in [
            (quiet, PAUSE),
            (Look { chase_is_over: false, ..quiet }, PAUSE),
            (Look { some_have_grace: true, ..quiet }, PAUSE),
            (Look { some_have_grace: true, chase_is_over: false, ..quiet }, INTERVAL),
            (Look { found_some: true, chase_is_over: false, ..quiet }, Duration::ZERO),
            (Look { found_some: true, chase_is_over: false, some_have_grace: true, ..quiet }, INTERVAL),
            (held, INTERVAL),
            (Look { found_some: true, ..held }, INTERVAL),
            (Look { took: MS * 3, ..quiet }, MS * 30),
            (Look { took: MS * 3, ..held }, INTERVAL),
            (Look { took: MS * 30, ..held }, MS * 300),
            (Look { took: MS * 1000, ..quiet }, MS * 500),
        ] {
            assert_eq!(look.pause(), pause, "{look:?}");
        }
    }

    #[test]
    fn a_look_is_quiet_that_shows_none_of_a_released_wards_strays_and_can_have_missed_none() {
        let began = Instant::now();
        let begun =
            |released| Ward { released, quiet_looks: 1, ending: Some(began), ..Ward::new(KillPolicy::default()) };
        let quiet = |released, elapsed, some_are_chased, some_in_exec| {
            let mut ward = begun(released);
            ward.was_looked_for(began + elapsed, some_are_chased, some_in_exec);
            ward.quiet_looks
        };
        assert_eq!(quiet(true, MS, false, false), 2);
        assert_eq!(quiet(false, MS, false, false), 0, "there may be more of them");
        assert_eq!(quiet(true, MS, true, false), 0);
        assert_eq!(quiet(true, MS, false, true), 0, "its mark may show yet");
        assert_eq!(quiet(true, EXEC - MS, false, true), 0);
        assert_eq!(quiet(true, EXEC, false, true), 2, "no exec takes so long");
        assert_eq!(quiet(true, EXEC + MS, false, true), 2);
        // One that was chased for a whole grace can have had a child just before it died.
        let mut ward = begun(true);
        ward.was_looked_for(began + EXEC, true, false);
        ward.was_looked_for(began + EXEC * 2 - MS, false, true);
        assert_eq!(ward.quiet_looks, 0);
        ward.was_looked_for(began + EXEC * 2, false, true);
        assert_eq!(ward.quiet_looks, 1);
        assert_eq!(quiet(true, EXEC + MS, true, false), 0);
    }

    #[test]
    fn the_grace_is_counted_from_when_the_end_began() {
        let mut ward = Ward::new(KillPolicy::default().grace(FAR));
        assert_eq!(ward.grace_left(), FAR);
        ward.ending = Some(Instant::now());
        let left = ward.grace_left();
        assert!(left <= FAR && left > FAR / 2, "{left:?}");
        ward.policy.grace = Duration::ZERO;
        assert_eq!(ward.grace_left(), Duration::ZERO);
    }

    #[test]
    fn a_ward_is_kept_until_it_is_released_and_longer_if_it_has_strays_to_end() {
        let mut hunt = hunt();
        assert!(hunt.is_over());
        hunt.expect(1, KillPolicy::default());
        hunt.expect(2, KillPolicy::default());
        assert!(!hunt.is_over() && !hunt.is_looking());
        hunt.end_strays(2);
        assert!(hunt.is_looking());
        hunt.release(1);
        hunt.release(2);
        // Told by nobody who knows what it says.
        hunt.release(3);
        hunt.end_strays(3);
        let left: Vec<_> = hunt.wards.iter().map(|(number, ward)| (*number, ward.released)).collect();
        assert_eq!(left, [(2, true)]);
        assert!(!hunt.is_over());
    }

    #[test]
    fn it_looks_when_a_look_is_due_and_somebody_is_being_ended() {
        let looks = |hunt: &mut Hunt, at: Instant| {
            hunt.next_look = at;
            hunt.step();
            hunt.next_look != at
        };
        let (mut hunt, now) = (hunt(), Instant::now());
        hunt.expect(1, KillPolicy::default());
        assert!(!looks(&mut hunt, now), "the parent lives, and ends nobody");
        hunt.end_strays(1);
        assert!(!looks(&mut hunt, now + FAR), "it is not due");
        assert!(looks(&mut hunt, now));
        assert!(hunt.next_look >= now + INTERVAL, "there is a pause after it");
    }

    #[test]
    fn while_a_stray_has_grace_the_next_look_is_not_hurried() {
        for (grace, pause) in [(FAR, INTERVAL), (Duration::ZERO, PAUSE)] {
            let mut hunt = hunt();
            hunt.expect(1, KillPolicy::default().grace(grace));
            hunt.parent_has_gone();
            // It is chased on: nobody steps the chase.
            hunt.chase.begin(Prey::Stray(7), 1, over_nobody());
            let before = Instant::now();
            hunt.look();
            assert!(hunt.next_look >= before + pause, "{grace:?}");
        }
    }

    #[test]
    fn two_quiet_looks_in_a_row_end_it_and_not_one() {
        let mut hunt = hunt();
        hunt.expect(1, KillPolicy::default());
        hunt.chase.chased.insert(Prey::Stray(7), Chased { ward: 1, survived: true });
        hunt.chase.chased.insert(Prey::Stray(8), Chased { ward: 2, survived: true });
        hunt.parent_has_gone();
        assert!(hunt.wards[&1].released && hunt.is_looking());
        let mut quiet = Vec::new();
        while !hunt.is_over() {
            hunt.next_look = Instant::now();
            hunt.step();
            // A look that comes upon an exec elsewhere on the machine is none.
            quiet.extend(hunt.wards.get(&1).map(|ward| ward.quiet_looks));
        }
        assert!(quiet.contains(&1) && !quiet.contains(&2), "{quiet:?}");
        assert!(hunt.chase.chased.is_empty(), "the number of one that survived may be another's some day");
    }

    #[test]
    fn the_chase_tells_of_its_end_once() {
        let mut chase = Chase::new();
        assert!(chase.is_over() && !chase.step(), "there was none");
        chase.begin(Prey::Stray(7), 1, over_nobody());
        assert!(!chase.is_over() && chase.is_after(1) && !chase.is_after(2));
        assert!(chase.step());
        assert!(chase.is_over() && !chase.is_after(1) && !chase.step());
        assert!(chase.chased.is_empty(), "one that is dead is forgotten: its number may be another's");
    }

    #[test]
    fn who_survived_is_not_tried_again_and_a_group_is_forgotten_whatever_became_of_it() {
        let mut chase = Chase::new();
        for prey in [Prey::Group(5), Prey::Group(6), Prey::Stray(7), Prey::Stray(8)] {
            chase.chased.insert(prey, Chased { ward: 1, survived: false });
            chase.sender.send((prey, matches!(prey, Prey::Group(5) | Prey::Stray(7)))).unwrap();
        }
        assert!(!chase.step());
        let left: Vec<_> = chase.chased.iter().map(|(prey, chased)| (*prey, chased.survived)).collect();
        assert_eq!(left, [(Prey::Stray(8), true)]);
        assert!(!chase.is_after(1));
    }

    #[test]
    fn when_the_last_has_died_the_next_look_is_soon_but_not_at_once() {
        let mut hunt = hunt();
        let start = Instant::now();
        for (before, after) in [(start + FAR, start + PAUSE), (start, start)] {
            hunt.next_look = before;
            hunt.chase.begin(Prey::Group(7), 1, over_nobody());
            hunt.step_chase();
            assert!(hunt.next_look >= after && hunt.next_look < start + FAR);
            assert!(hunt.next_look <= before);
        }
        hunt.next_look = start + FAR;
        hunt.step_chase();
        assert_eq!(hunt.next_look, start + FAR, "nobody has died");
    }

    #[test]
    fn it_sleeps_until_the_next_look_or_until_it_is_told_something() {
        use std::io::Write;
        use std::os::fd::AsFd;
        let mut hunt = hunt();
        hunt.expect(1, KillPolicy::default());
        hunt.end_strays(1);
        hunt.next_look = Instant::now() + MS * 20;
        let mut naps = 0;
        while Instant::now() < hunt.next_look {
            hunt.sleep(None);
            #[cfg(target_os = "linux")]
            hunt.step_descent();
            naps += 1;
        }
        // A signal can cut one short.
        assert!(naps < 100, "{naps} naps in 20 ms");
        let (line, mut parent) = std::os::unix::net::UnixStream::pair().unwrap();
        hunt.next_look = Instant::now() + FAR;
        parent.write_all(b"a letter").unwrap();
        hunt.sleep(Some(line.as_fd()));
    }

    #[cfg(target_os = "linux")]
    mod on_processes {
        use std::collections::HashSet;
        use std::os::unix::process::{CommandExt, ExitStatusExt};
        use std::process::{Child, Command};

        use super::*;
        use crate::group::mark::Mark;
        use crate::group::{pause, since_boot};

        /// A group of one, with this value of a mark. Killed and reaped on drop.
        struct Marked(Child);

        impl Marked {
            fn start(name: &str, value: &str) -> Marked {
                let child = Command::new("sleep").arg("120").env(name, value).process_group(0).spawn().unwrap();
                let marked = Marked(child);
                // Its environment shows a moment after it is there.
                while !Mark::new(name, value).is_on(marked.pid()) {
                    pause(MS);
                }
                marked
            }

            fn pid(&self) -> i32 {
                self.0.id() as i32
            }

            /// By which signal it has ended, if it has.
            fn ended_by(&mut self) -> Option<i32> {
                self.0.try_wait().unwrap().map(|status| status.signal().unwrap())
            }

            /// Goes on with the hunt until this one is dead, and no prey any more.
            fn dies(&mut self, hunt: &mut Hunt) -> i32 {
                let start = Instant::now();
                let prey = [Prey::Group(self.pid()), Prey::Stray(self.pid())];
                loop {
                    hunt.step();
                    let is_chased = prey.iter().any(|prey| hunt.chase.chased.contains_key(prey));
                    if let Some(signal) = self.ended_by().filter(|_| !is_chased) {
                        return signal;
                    }
                    assert!(start.elapsed() < Duration::from_secs(40), "it lives on: {:?}", hunt.chase.chased.keys());
                    pause(MS);
                }
            }
        }

        impl Drop for Marked {
            fn drop(&mut self) {
                let _ = self.0.kill();
                let _ = self.0.wait();
            }
        }

        fn hunt(test: &str) -> (Hunt, String) {
            let name = format!("DEADBEAT_TEST_{test}_{}", std::process::id());
            (Hunt::new(name.clone()), name)
        }

        fn chased(hunt: &Hunt) -> HashSet<Prey> {
            hunt.chase.chased.keys().copied().collect()
        }

        #[test]
        fn strays_are_those_with_a_mark_of_a_ward_that_is_being_ended_outside_of_groups_that_somebody_ends() {
            let (mut hunt, name) = hunt("STRAYS");
            let (mut member, mut stray) = (Marked::start(&name, "1"), Marked::start(&name, "1"));
            let (mut other, mut unknown) = (Marked::start(&name, "2"), Marked::start(&name, "3"));
            hunt.expect(1, KillPolicy::default().grace(FAR));
            hunt.expect(2, KillPolicy::default().grace(Duration::ZERO));
            hunt.guard(1, member.pid(), since_boot());
            hunt.end_strays(1);
            let begin = |hunt: &mut Hunt| hunt.chase.begin_strays(&hunt.mark, &hunt.wards, &mut hunt.descent).0;
            assert!(begin(&mut hunt));
            assert_eq!(chased(&hunt), HashSet::from([Prey::Stray(stray.pid())]));
            assert!(!begin(&mut hunt), "it is chased already");
            assert_eq!(stray.dies(&mut hunt), Signal::TERM.as_raw());
            assert_eq!([&mut member, &mut other, &mut unknown].map(Marked::ended_by), [None; 3]);

            hunt.parent_has_gone();
            assert!(begin(&mut hunt));
            let expected = [Prey::Group(member.pid()), Prey::Stray(other.pid())];
            assert_eq!(chased(&hunt), HashSet::from(expected), "a member of a group that is chased is no stray");
            assert_eq!(member.dies(&mut hunt), Signal::TERM.as_raw());
            assert_eq!(other.dies(&mut hunt), Signal::KILL.as_raw(), "it had no grace");
            assert_eq!(unknown.ended_by(), None);
        }

        #[test]
        fn a_guardian_of_an_inner_run_is_not_chased() {
            let (mut hunt, name) = hunt("INNER");
            let dir = tempfile::tempdir().unwrap();
            let fifo = dir.path().join(crate::guardian::REQUEST);
            nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
            // It waits for a writer, and its first argument is a guardian's.
            let mut inner = Command::new("cat");
            inner.arg(crate::guardian::REQUEST).current_dir(dir.path()).env(&name, "1").process_group(0);
            let (mut inner, mut other) = (Marked(inner.spawn().unwrap()), Marked::start(&name, "1"));
            while !Mark::new(&name, "1").is_on(inner.pid()) || !crate::guardian::is_guardian(inner.pid()) {
                pause(MS);
            }
            hunt.expect(1, KillPolicy::default());
            hunt.parent_has_gone();
            assert_eq!(other.dies(&mut hunt), Signal::TERM.as_raw());
            while !hunt.is_over() {
                hunt.next_look = Instant::now();
                hunt.step();
            }
            assert_eq!(inner.ended_by(), None);
        }

        #[test]
        fn the_chase_goes_on_while_somebody_has_grace() {
            let child = Marked::start("DEADBEAT_TEST_GRACE", "1");
            let mut chase = Chase::new();
            // Of that signal it does not die.
            let policy = KillPolicy::default().signal(Signal::CONT).grace(FAR);
            chase.begin(Prey::Group(child.pid()), 1, Kill::new(ProcessGroup::new(child.pid()).unwrap(), &policy));
            assert!(!chase.step() && !chase.is_over() && chase.is_after(1));
        }

        #[test]
        fn a_group_is_guarded_from_when_it_is_told_of_until_it_is_let_go_or_released() {
            let (mut hunt, name) = hunt("GROUPS");
            let child = Marked::start(&name, "nobody's");
            let guarded = |hunt: &Hunt| hunt.wards[&1].group.as_ref().map(Kill::pgid);
            hunt.expect(1, KillPolicy::default());
            hunt.guard(1, child.pid(), since_boot());
            assert_eq!(guarded(&hunt), Some(child.pid()));
            hunt.let_go(1);
            assert_eq!(guarded(&hunt), None);
            // It was told of before this one was born, so another was meant.
            hunt.guard(1, child.pid(), Duration::ZERO);
            assert_eq!(guarded(&hunt), None);
            hunt.guard(1, 1, since_boot());
            assert_eq!(guarded(&hunt), None);
            hunt.guard(1, child.pid(), since_boot());
            hunt.end_strays(1);
            hunt.release(1);
            assert_eq!(guarded(&hunt), None);
            // Of a ward that is not known.
            hunt.guard(2, child.pid(), since_boot());
            hunt.let_go(2);
            assert_eq!(hunt.wards.len(), 1);
        }
    }
}
