//! Which groups of this process are live, so that all of them can be killed before it ends.
//!
//! A group is registered when its leader was started and unregistered when its leader is reaped, under one lock: no
//! reaped pgid is ever in here, and none is ever signalled from here. Each entry holds the leader's pidfd from the
//! start, or where none can be opened the time at which the leader was started, and every kill of the group goes by
//! that. A caller that kills a group which another caller kills already joins in: the first signal is sent once, and
//! there is one grace.
//!
//! [`kill_all_children`] is the safety net. It is synchronous, needs no runtime, and works in a panic, after the
//! runtime was shut down, and when no thread can be started.

use std::collections::BTreeMap;
use std::sync::mpsc::channel;
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use crate::error::KillError;
use crate::group::{GroupWatch, ProcessGroup};
use crate::kill::Batch;
use crate::kill::Kill;
use crate::kill::{KillPolicy, KillReport, KillThread};
use crate::signal::Signal;

/// The time between two looks for groups that were registered meanwhile.
const NEWCOMERS: Duration = Duration::from_millis(50);

/// A list of live groups and how to kill them. The free functions of this module use [`Registry::global`].
#[derive(Debug)]
pub struct Registry {
    policy: KillPolicy,
    groups: Mutex<Groups>,
    /// The thread that holds the lock over a call of the caller's code.
    holder: Mutex<Option<ThreadId>>,
    swept: Condvar,
}

#[derive(Debug, Default)]
struct Groups {
    live: BTreeMap<i32, Registered>,
    phase: Phase,
    /// Whether a group that is registered from here on is killed on the spot, without a wait for its end.
    late: bool,
}

/// A group, from the start of its leader until it is reaped.
#[derive(Debug)]
struct Registered {
    watch: GroupWatch,
    policy: KillPolicy,
    /// Since when it is being killed.
    killed_since: Option<Instant>,
    /// Whether `kill_all` kills it, alone or with another caller.
    swept: bool,
}

impl Registered {
    /// A kill of this group from its beginning, or the rest of a kill that is in progress.
    fn kill(&self, policy: &KillPolicy) -> Kill {
        match self.killed_since {
            Some(since) => Kill::over(self.watch.again(), &policy.rest(since)),
            None => Kill::over(self.watch.again(), policy),
        }
    }

    fn sweep(&mut self) -> Kill {
        let kill = self.kill(&self.policy);
        self.killed_since.get_or_insert_with(Instant::now);
        self.swept = true;
        kill
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Open,
    /// This thread is killing all; it also takes what is entered meanwhile.
    Sweeping(ThreadId),
    /// All were killed.
    Closed,
}

impl Registry {
    /// An empty registry; groups that are registered by hand will be killed by this policy.
    pub fn new(policy: KillPolicy) -> Registry {
        Registry { policy, groups: Mutex::default(), holder: Mutex::default(), swept: Condvar::new() }
    }

    /// The one of this process, with the default policy.
    pub fn global() -> &'static Arc<Registry> {
        static GLOBAL: LazyLock<Arc<Registry>> = LazyLock::new(|| Arc::new(Registry::new(KillPolicy::default())));
        &GLOBAL
    }

    /// Registers the group that this un-reaped child leads. Twice is as good as once.
    ///
    /// After [`kill_all`](Registry::kill_all) no group lives on: one that is registered then is killed, without a wait
    /// here.
    ///
    /// # Errors
    ///
    /// [`InvalidGroup`](crate::kill::KillErrorKind::InvalidGroup) for a pgid that must not be signalled.
    pub fn register(&self, pgid: i32) -> Result<(), KillError> {
        self.enter(ProcessGroup::new(pgid)?, &self.policy);
        Ok(())
    }

    /// Registers a group with a policy of its own.
    pub(crate) fn enter(&self, group: ProcessGroup, policy: &KillPolicy) {
        let mut groups = self.groups();
        let mut entry =
            Registered { watch: GroupWatch::new(group), policy: policy.clone(), killed_since: None, swept: false };
        if groups.late {
            kill_late(entry.sweep());
        }
        // In place of an older entry, whose watch may be on a former group of the same number.
        groups.live.insert(group.pgid(), entry);
    }

    /// A kill of this group by its owner, which has yet to reap its leader. If it is being killed already, this joins
    /// in.
    pub(crate) fn join_kill(&self, group: ProcessGroup, policy: &KillPolicy) -> Kill {
        let groups = self.groups();
        groups.live.get(&group.pgid()).map_or_else(|| Kill::new(group, policy), |entry| entry.kill(policy))
    }

    /// Begins a kill of this group by its owner: the first signals are sent, and a kill that comes later joins in.
    pub(crate) fn begin_kill(&self, group: ProcessGroup, policy: &KillPolicy) -> Kill {
        let mut groups = self.groups();
        let Some(entry) = groups.live.get_mut(&group.pgid()) else {
            return Kill::new(group, policy).send_first_signals();
        };
        let kill = entry.kill(policy);
        entry.policy = policy.clone();
        entry.killed_since.get_or_insert_with(Instant::now);
        kill.send_first_signals()
    }

    /// Whether [`kill_all`](Registry::kill_all) kills this group, or has; without one, whether it has been called.
    pub(crate) fn has_swept(&self, group: Option<ProcessGroup>) -> bool {
        let groups = self.groups();
        match group {
            Some(group) => groups.live.get(&group.pgid()).is_some_and(|entry| entry.swept),
            None => groups.phase != Phase::Open,
        }
    }

    /// Unregisters the group: the caller has reaped its leader, or is about to, and answers for its members.
    pub fn unregister(&self, pgid: i32) {
        self.groups().live.remove(&pgid);
    }

    /// Reaps the leader and unregisters its group, as one step for all other threads. `reap` must not block; `None`
    /// from it means that there was nothing to reap yet, and the group stays. It is called under the lock, and must not
    /// use this registry.
    pub fn reap<T, E>(&self, pgid: i32, reap: impl FnOnce() -> Result<Option<T>, E>) -> Result<Option<T>, E> {
        let mut groups = self.groups();
        let _held = HeldOver::over(self);
        let reaped = reap()?;
        if reaped.is_some() {
            groups.live.remove(&pgid);
        }
        Ok(reaped)
    }

    /// The groups registered now, in ascending order.
    pub fn list(&self) -> Vec<i32> {
        self.groups().live.keys().copied().collect()
    }

    /// Kills every registered group, all together: any number of them take one grace. Blocks this thread, and needs
    /// neither a runtime nor another thread. Each is killed by its run's [policy](crate::agent::AgentOptions::policy),
    /// one that was [registered](Registry::register) by hand by the registry's. One that is being killed already,
    /// because its run was dropped, say, is not sent the first signal again, and has what is left of its grace.
    ///
    /// To be called before `main` returns or the process exits, if no [guardian](crate::guardian) does it: kills under
    /// way end with the process, and a group that ignores the first signal lives on.
    ///
    /// What is registered meanwhile is killed and waited for too, until the longest grace of the first groups is over;
    /// what is registered after that is killed all the same. A second call does nothing but wait for the first. Groups
    /// stay registered until their leaders are reaped. A group that could not be killed (`EPERM`) is logged, and has no
    /// report.
    pub fn kill_all(&self) -> Vec<KillReport> {
        let me = std::thread::current().id();
        if *self.holder() == Some(me) {
            // A panic under the lock, whose hook kills all: the list cannot be read from here.
            tracing::warn!("kill_all_children called by a thread that is busy with the registry: nothing was killed");
            return Vec::new();
        }
        let mut groups = self.groups();
        match groups.phase {
            Phase::Open => groups.phase = Phase::Sweeping(me),
            // A panic hook, say, on the thread that is in `kill_all` itself.
            Phase::Sweeping(thread) if thread == me => return Vec::new(),
            Phase::Sweeping(_) | Phase::Closed => {
                while matches!(groups.phase, Phase::Sweeping(_)) {
                    groups = self.swept.wait(groups).unwrap_or_else(PoisonError::into_inner);
                }
                return Vec::new();
            }
        }
        // However this ends, a second call that waits for it must not wait for ever.
        let _sweep = Sweep(self);
        let (start, longest) = (Instant::now(), groups.live.values().map(|entry| entry.policy.grace).max());
        let (sender, results) = channel();
        let mut kills = Batch::default();
        loop {
            for entry in groups.live.values_mut().filter(|entry| !entry.swept) {
                let sender = sender.clone();
                // The receiver lives as long as the kills.
                kills.add(entry.sweep(), Box::new(move |result| drop(sender.send(result))));
            }
            // Under the same lock: what is registered later is not waited for here.
            groups.late = is_full(kills.is_empty(), start.elapsed(), longest);
            drop(groups);
            if kills.is_empty() {
                break;
            }
            kills.step();
            kills.sleep(None, NEWCOMERS);
            groups = self.groups();
        }
        drop(sender);
        let tell = |error: KillError| tracing::warn!(pgid = error.pgid(), "kill_all_children: {error}");
        results.iter().filter_map(|result| result.map_err(tell).ok()).collect()
    }

    /// Sends SIGKILL to every registered group, at once and without waiting: for the second Ctrl-C of an impatient
    /// user.
    pub fn kill_all_now(&self) {
        self.signal_all(Signal::KILL);
    }

    /// Sends `signal` to every registered group, and nothing else: to pass on what this process was sent itself.
    pub fn signal_all(&self, signal: Signal) {
        for entry in self.groups().live.values() {
            // A group that is gone already needs no signal.
            let _ = entry.watch.signal(signal);
        }
    }

    fn holder(&self) -> MutexGuard<'_, Option<ThreadId>> {
        self.holder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A thread that panics while it holds the lock leaves the list whole: every change is one call.
    fn groups(&self) -> MutexGuard<'_, Groups> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether `kill_all` takes no group in any more: it has ended, or has been going on for the longest grace of the first
/// groups. There may be no end of newcomers.
fn is_full(has_ended: bool, elapsed: Duration, longest: Option<Duration>) -> bool {
    has_ended || elapsed >= longest.unwrap_or_default()
}

fn kill_late(kill: Kill) {
    match KillThread::global() {
        Ok(kill_thread) => kill_thread.begin(kill.send_first_signals(), |result| {
            if let Err(error) = result {
                tracing::warn!(pgid = error.pgid(), "registered after kill_all_children, and not killed: {error}");
            }
        }),
        // Without a thread there is no grace either.
        Err(_) => drop(kill.kill_at_once()),
    }
}

/// HeldOver while this thread holds the lock over a call of the caller's code.
struct HeldOver<'a>(&'a Registry);

impl HeldOver<'_> {
    fn over(registry: &Registry) -> HeldOver<'_> {
        *registry.holder() = Some(std::thread::current().id());
        HeldOver(registry)
    }
}

impl Drop for HeldOver<'_> {
    fn drop(&mut self) {
        *self.0.holder() = None;
    }
}

/// A `kill_all` in progress: closes the registry when it ends, by a panic too.
struct Sweep<'a>(&'a Registry);

impl Drop for Sweep<'_> {
    fn drop(&mut self) {
        let mut groups = self.0.groups();
        (groups.phase, groups.late) = (Phase::Closed, true);
        drop(groups);
        self.0.swept.notify_all();
    }
}

/// Registers a group in the global registry; see [`Registry::register`].
///
/// # Errors
///
/// As there.
pub fn register_child(pgid: i32) -> Result<(), KillError> {
    Registry::global().register(pgid)
}

/// Unregisters a group of the global registry; see [`Registry::unregister`].
pub fn unregister_child(pgid: i32) {
    Registry::global().unregister(pgid);
}

/// Kills every group of the global registry; see [`Registry::kill_all`].
pub fn kill_all_children() -> Vec<KillReport> {
    Registry::global().kill_all()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::RecvTimeoutError;

    use super::*;
    use crate::error::KillErrorKind;
    use crate::kill::Outcome;
    use crate::kill::testing::{SOON, eventually, start};

    /// No process can have it.
    const NO_GROUP: i32 = i32::MAX;

    fn registry() -> Arc<Registry> {
        let at_once = KillPolicy::default().grace(Duration::ZERO).confirm(Duration::ZERO);
        Arc::new(Registry::new(at_once))
    }

    #[test]
    fn a_group_is_listed_until_it_is_taken_off_or_reaped() {
        let registry = registry();
        assert_eq!(registry.register(1).unwrap_err().kind(), KillErrorKind::InvalidGroup);
        assert_eq!(registry.list(), [0; 0]);
        registry.register(NO_GROUP).unwrap();
        registry.register(NO_GROUP).unwrap();
        assert_eq!(registry.list(), [NO_GROUP]);
        assert_eq!(registry.reap::<(), ()>(NO_GROUP, || Ok(None)), Ok(None));
        assert_eq!(registry.reap::<(), u8>(NO_GROUP, || Err(7)), Err(7));
        assert_eq!(registry.list(), [NO_GROUP], "it was not reaped");
        assert_eq!(registry.reap::<u8, ()>(NO_GROUP, || Ok(Some(7))), Ok(Some(7)));
        assert_eq!(registry.list(), [0; 0]);
        registry.register(NO_GROUP).unwrap();
        registry.unregister(NO_GROUP);
        assert_eq!(registry.list(), [0; 0]);
    }

    #[test]
    fn a_sweep_takes_each_once_even_after_a_call_under_the_lock() {
        let (registry, group) = (registry(), ProcessGroup::new(NO_GROUP).unwrap());
        registry.register(NO_GROUP).unwrap();
        registry.reap::<(), ()>(NO_GROUP, || Ok(None)).unwrap();
        assert!(!registry.has_swept(None) && !registry.has_swept(Some(group)));
        let outcomes: Vec<Outcome> = registry.kill_all().iter().map(|report| report.outcome).collect();
        assert_eq!(outcomes, [Outcome::AlreadyGone]);
        assert!(registry.has_swept(None) && registry.has_swept(Some(group)));
        assert!(!registry.has_swept(Some(ProcessGroup::new(NO_GROUP - 1).unwrap())), "it was never in here");
        assert_eq!(registry.kill_all(), []);
    }

    #[test]
    fn a_call_during_a_sweep_waits_for_its_end_unless_it_is_the_sweepers_own() {
        let registry = registry();
        registry.groups().phase = Phase::Sweeping(std::thread::current().id());
        let sweep = Sweep(&registry);
        let (told, ends) = channel();
        let other = Arc::clone(&registry);
        std::thread::spawn(move || told.send(other.kill_all()).unwrap());
        assert_eq!(ends.recv_timeout(Duration::from_millis(50)), Err(RecvTimeoutError::Timeout), "it did not wait");
        assert_eq!(registry.kill_all(), []);
        drop(sweep);
        assert_eq!(ends.recv_timeout(SOON), Ok(Vec::new()), "it waits for ever");
    }

    #[test]
    fn a_sweep_takes_newcomers_in_for_the_longest_grace_of_the_first() {
        let (second, nano) = (Duration::from_secs(1), Duration::from_nanos(1));
        assert!(!is_full(false, second - nano, Some(second)));
        assert!(is_full(false, second, Some(second)));
        assert!(is_full(false, Duration::ZERO, None), "there were no first");
        assert!(is_full(true, Duration::ZERO, Some(second)), "it has ended");
    }

    #[test]
    fn a_group_that_comes_after_the_end_of_all_is_killed_without_a_sweep() {
        let (registry, late) = (registry(), start("ignore-term"));
        assert_eq!(registry.kill_all(), []);
        registry.register(late.pgid()).unwrap();
        eventually("the late one is dead", || late.has_ended());
    }

    #[test]
    fn a_signal_to_all_reaches_each_and_the_last_word_is_sigkill() {
        let (registry, obedient, stubborn) = (registry(), start("fast-exit"), start("ignore-term"));
        registry.register(obedient.pgid()).unwrap();
        registry.register(stubborn.pgid()).unwrap();
        registry.signal_all(Signal::TERM);
        eventually("the obedient one is dead", || obedient.has_ended());
        assert_eq!(obedient.leader_ended_by(), Some(Signal::TERM));
        assert!(!stubborn.has_ended());
        registry.kill_all_now();
        eventually("the other is dead too", || stubborn.has_ended());
        assert_eq!(registry.list().len(), 2, "their leaders are not reaped");
    }
}
