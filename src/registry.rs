//! Which groups of this process are live, so that the last one out can end them all.
//!
//! A group is entered when its leader was started and taken off when its leader is reaped, under one lock: no reaped
//! pgid is ever in here, and none is ever signalled from here. Each entry holds the leader's pidfd from the start, or
//! where none is to be had the time at which the leader was started, and every kill of the group is by that one. A caller
//! that kills a group which another kills already joins in: the polite signal is sent once, and there is one grace.
//!
//! [`kill_all_children`] is the safety net. It is synchronous, needs no runtime, and works in a panic, after the runtime
//! was shut down, and when no thread can be started.

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

/// Between two looks for those who were entered meanwhile.
const NEWCOMERS: Duration = Duration::from_millis(50);

/// A list of live groups and how to kill them. The free functions of this module use [`Registry::global`].
#[derive(Debug)]
pub struct Registry {
    policy: KillPolicy,
    state: Mutex<State>,
    /// The thread that holds the state over a call of somebody else's code.
    holder: Mutex<Option<ThreadId>>,
    swept: Condvar,
}

#[derive(Debug, Default)]
struct State {
    live: BTreeMap<i32, Entry>,
    phase: Phase,
    /// Whoever is entered from here on is killed on the spot, and nobody waits for that.
    late: bool,
}

/// A group, from the start of its leader until it is reaped.
#[derive(Debug)]
struct Entry {
    pin: GroupWatch,
    policy: KillPolicy,
    /// Since when somebody kills it.
    asked: Option<Instant>,
    /// That was, or has become, the end of all.
    swept: bool,
}

impl Entry {
    /// To be sent its signals from now on, or the rest of a kill that is under way.
    fn kill(&self, policy: &KillPolicy) -> Kill {
        match self.asked {
            Some(since) => Kill::over(self.pin.again(), &policy.rest(since)),
            None => Kill::over(self.pin.again(), policy),
        }
    }

    fn sweep(&mut self) -> Kill {
        let kill = self.kill(&self.policy);
        self.asked.get_or_insert_with(Instant::now);
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
        Registry { policy, state: Mutex::default(), holder: Mutex::default(), swept: Condvar::new() }
    }

    /// The one of this process, with the default policy.
    pub fn global() -> &'static Arc<Registry> {
        static GLOBAL: LazyLock<Arc<Registry>> = LazyLock::new(|| Arc::new(Registry::new(KillPolicy::default())));
        &GLOBAL
    }

    /// Enters the group that this un-reaped child leads. Entering it twice is as good as once.
    ///
    /// After [`kill_all`](Registry::kill_all) nothing lives on unseen: the group is killed, without waiting here.
    ///
    /// # Errors
    ///
    /// [`InvalidGroup`](crate::kill::KillErrorKind::InvalidGroup) for a pgid that must not be signalled.
    pub fn register(&self, pgid: i32) -> Result<(), KillError> {
        self.enter(ProcessGroup::new(pgid)?, &self.policy);
        Ok(())
    }

    /// The same, with a policy of its own.
    pub(crate) fn enter(&self, group: ProcessGroup, policy: &KillPolicy) {
        let mut state = self.state();
        let mut entry = Entry { pin: GroupWatch::new(group), policy: policy.clone(), asked: None, swept: false };
        if state.late {
            kill_late(entry.sweep());
        }
        // In place of an older one, whose pin may be a former owner's of the same number.
        state.live.insert(group.pgid(), entry);
    }

    /// A kill of this group by its owner, who has yet to reap its leader. If somebody kills it already, it joins in.
    pub(crate) fn join_kill(&self, group: ProcessGroup, policy: &KillPolicy) -> Kill {
        let state = self.state();
        state.live.get(&group.pgid()).map_or_else(|| Kill::new(group, policy), |entry| entry.kill(policy))
    }

    /// The same, begun: the first signals are sent, and who kills it from here on joins in.
    pub(crate) fn begin(&self, group: ProcessGroup, policy: &KillPolicy) -> Kill {
        let mut state = self.state();
        let Some(entry) = state.live.get_mut(&group.pgid()) else {
            return Kill::new(group, policy).send_first_signals();
        };
        let kill = entry.kill(policy);
        entry.policy = policy.clone();
        entry.asked.get_or_insert_with(Instant::now);
        kill.send_first_signals()
    }

    /// Whether [`kill_all`](Registry::kill_all) kills this group, or has; without one, whether it has been called.
    pub(crate) fn has_swept(&self, group: Option<ProcessGroup>) -> bool {
        let state = self.state();
        match group {
            Some(group) => state.live.get(&group.pgid()).is_some_and(|entry| entry.swept),
            None => state.phase != Phase::Open,
        }
    }

    /// Takes the group off: its leader was, or is about to be, waited for by the caller, who answers for its members.
    pub fn unregister(&self, pgid: i32) {
        self.state().live.remove(&pgid);
    }

    /// Reaps the leader and takes its group off, as one step to everybody else. `reap` must not block; `None` from it
    /// means that there was nothing to reap yet, and the group stays. It is called under the lock: in it, this registry is
    /// out of reach.
    pub fn reap<T, E>(&self, pgid: i32, reap: impl FnOnce() -> Result<Option<T>, E>) -> Result<Option<T>, E> {
        let mut state = self.state();
        let _held = Held::over(self);
        let reaped = reap()?;
        if reaped.is_some() {
            state.live.remove(&pgid);
        }
        Ok(reaped)
    }

    /// The groups entered now, in ascending order.
    pub fn list(&self) -> Vec<i32> {
        self.state().live.keys().copied().collect()
    }

    /// Kills every group entered, all together: any number of them take one grace. Blocks this thread, and needs neither
    /// a runtime nor another thread. Each is killed by its run's [policy](crate::agent::AgentOptions::policy), one that
    /// was [registered](Registry::register) by hand by the registry's. One that is being killed already, because its run
    /// was dropped, say, is sent no second polite signal, and has what is left of its grace.
    ///
    /// To be called before `main` returns or the process exits, if no [guardian](crate::guardian) does it: kills under
    /// way end with the process, and whoever ignores the polite signal lives on.
    ///
    /// What is entered meanwhile is killed and waited for too, until the longest grace of the first is over; whatever is
    /// entered after that is killed all the same. A second call does nothing but wait for the first. Groups stay entered until their leaders are reaped. One that could not be killed (`EPERM`)
    /// is logged, and has no report.
    pub fn kill_all(&self) -> Vec<KillReport> {
        let me = std::thread::current().id();
        if *self.holder() == Some(me) {
            // A panic under the lock, and a hook that ends everything: there is no way to the list from here.
            tracing::warn!("kill_all_children called by a thread that is busy with the registry: nothing was killed");
            return Vec::new();
        }
        let mut state = self.state();
        match state.phase {
            Phase::Open => state.phase = Phase::Sweeping(me),
            // A panic hook, say, in the very thread that sweeps.
            Phase::Sweeping(thread) if thread == me => return Vec::new(),
            Phase::Sweeping(_) | Phase::Closed => {
                while matches!(state.phase, Phase::Sweeping(_)) {
                    state = self.swept.wait(state).unwrap_or_else(PoisonError::into_inner);
                }
                return Vec::new();
            }
        }
        // However this ends, those who wait for it must not wait for ever.
        let _sweep = Sweep(self);
        let (start, longest) = (Instant::now(), state.live.values().map(|entry| entry.policy.grace).max());
        let (sender, results) = channel();
        let mut kills = Batch::default();
        loop {
            for entry in state.live.values_mut().filter(|entry| !entry.swept) {
                let sender = sender.clone();
                // The receiver lives as long as the kills.
                kills.add(entry.sweep(), Box::new(move |result| drop(sender.send(result))));
            }
            // Under the same lock: who comes later is not for us to wait for.
            state.late = is_full(kills.is_empty(), start.elapsed(), longest);
            drop(state);
            if kills.is_empty() {
                break;
            }
            kills.step();
            kills.sleep(None, NEWCOMERS);
            state = self.state();
        }
        drop(sender);
        let tell = |error: KillError| tracing::warn!(pgid = error.pgid(), "kill_all_children: {error}");
        results.iter().filter_map(|result| result.map_err(tell).ok()).collect()
    }

    /// SIGKILL to every group entered, at once and without waiting: the second signal of an impatient user.
    pub fn kill_all_now(&self) {
        self.signal_all(Signal::KILL);
    }

    /// Sends `signal` to every group entered, and nothing else: to pass on what this process was sent itself.
    pub fn signal_all(&self, signal: Signal) {
        for entry in self.state().live.values() {
            // One that is gone already is as good.
            let _ = entry.pin.signal(signal);
        }
    }

    fn holder(&self) -> MutexGuard<'_, Option<ThreadId>> {
        self.holder.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A panic in whoever held it leaves the list as good as it was: every change is one call.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a sweep takes nobody in any more: it has ended, or has been going on for the longest grace of the first. There
/// may be no end of newcomers.
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
        // No thread to be had: no grace either.
        Err(_) => drop(kill.kill_at_once()),
    }
}

/// The state is held by this thread over a call of somebody else's code.
struct Held<'a>(&'a Registry);

impl Held<'_> {
    fn over(registry: &Registry) -> Held<'_> {
        *registry.holder() = Some(std::thread::current().id());
        Held(registry)
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        *self.0.holder() = None;
    }
}

/// A sweep under way: closes the registry when it ends, by a panic too.
struct Sweep<'a>(&'a Registry);

impl Drop for Sweep<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        (state.phase, state.late) = (Phase::Closed, true);
        drop(state);
        self.0.swept.notify_all();
    }
}

/// Enters a group into the global registry; see [`Registry::register`].
///
/// # Errors
///
/// As there.
pub fn register_child(pgid: i32) -> Result<(), KillError> {
    Registry::global().register(pgid)
}

/// Takes a group off the global registry; see [`Registry::unregister`].
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
    const NOBODY: i32 = i32::MAX;

    fn registry() -> Arc<Registry> {
        let at_once = KillPolicy::default().grace(Duration::ZERO).confirm(Duration::ZERO);
        Arc::new(Registry::new(at_once))
    }

    #[test]
    fn a_group_is_listed_until_it_is_taken_off_or_reaped() {
        let registry = registry();
        assert_eq!(registry.register(1).unwrap_err().kind(), KillErrorKind::InvalidGroup);
        assert_eq!(registry.list(), [0; 0]);
        registry.register(NOBODY).unwrap();
        registry.register(NOBODY).unwrap();
        assert_eq!(registry.list(), [NOBODY]);
        assert_eq!(registry.reap::<(), ()>(NOBODY, || Ok(None)), Ok(None));
        assert_eq!(registry.reap::<(), u8>(NOBODY, || Err(7)), Err(7));
        assert_eq!(registry.list(), [NOBODY], "it was not reaped");
        assert_eq!(registry.reap::<u8, ()>(NOBODY, || Ok(Some(7))), Ok(Some(7)));
        assert_eq!(registry.list(), [0; 0]);
        registry.register(NOBODY).unwrap();
        registry.unregister(NOBODY);
        assert_eq!(registry.list(), [0; 0]);
    }

    #[test]
    fn a_sweep_takes_each_once_even_after_a_call_under_the_lock() {
        let (registry, group) = (registry(), ProcessGroup::new(NOBODY).unwrap());
        registry.register(NOBODY).unwrap();
        registry.reap::<(), ()>(NOBODY, || Ok(None)).unwrap();
        assert!(!registry.has_swept(None) && !registry.has_swept(Some(group)));
        let outcomes: Vec<Outcome> = registry.kill_all().iter().map(|report| report.outcome).collect();
        assert_eq!(outcomes, [Outcome::AlreadyGone]);
        assert!(registry.has_swept(None) && registry.has_swept(Some(group)));
        assert!(!registry.has_swept(Some(ProcessGroup::new(NOBODY - 1).unwrap())), "it was never in here");
        assert_eq!(registry.kill_all(), []);
    }

    #[test]
    fn whoever_calls_during_a_sweep_waits_for_its_end_unless_it_is_the_sweeper() {
        let registry = registry();
        registry.state().phase = Phase::Sweeping(std::thread::current().id());
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
        assert!(is_full(true, Duration::ZERO, Some(second)), "nobody is there any more to take them");
    }

    #[test]
    fn whoever_comes_after_the_end_of_all_is_killed_without_a_sweep() {
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
        assert_eq!(registry.list().len(), 2, "nobody has reaped them");
    }
}
