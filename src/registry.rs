//! Which groups of this process are live, so that the last one out can end them all.
//!
//! A group is entered when its leader was started and taken off when its leader is reaped, under one lock: no reaped
//! pgid is ever in here, and none is ever signalled from here. Each entry holds the leader's pidfd from the start.
//!
//! [`kill_all_children`] is the safety net. It is synchronous, needs no runtime, and works in a panic, after the runtime
//! was shut down, and when no thread can be started.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;

use crate::error::KillError;
use crate::group::{ProcessGroup, Vigil};
use crate::kill::blocking::climb_all_here;
use crate::kill::climb::Climb;
use crate::kill::{KillPolicy, KillReport, Undertaker};
use crate::signal::Signal;

/// A list of live groups and how to kill them. The free functions of this module use [`Registry::global`].
#[derive(Debug)]
pub struct Registry {
    policy: KillPolicy,
    state: Mutex<State>,
    swept: Condvar,
}

#[derive(Debug, Default)]
struct State {
    live: BTreeMap<i32, Entry>,
    phase: Phase,
}

/// A group, from the start of its leader until it is reaped.
#[derive(Debug)]
struct Entry {
    pin: Vigil,
    /// Somebody kills it already.
    swept: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Phase {
    #[default]
    Open,
    /// This thread is killing all; it also takes what is entered meanwhile.
    Sweeping(ThreadId),
    /// All were killed. What is entered now is killed on the spot.
    Closed,
}

impl Registry {
    /// An empty registry; its groups will be killed by this policy.
    pub fn new(policy: KillPolicy) -> Registry {
        Registry { policy, state: Mutex::default(), swept: Condvar::new() }
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
        let group = ProcessGroup::new(pgid)?;
        let mut state = self.state();
        let swept = state.phase == Phase::Closed;
        if swept {
            self.kill_late(group);
        }
        // In place of an older entry, whose pin may be a former owner's of the same number.
        state.live.insert(pgid, Entry { pin: Vigil::new(group), swept });
        Ok(())
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
        HOLDS.set(std::ptr::from_ref(self).addr());
        let _held = Held;
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
    /// a runtime nor another thread.
    ///
    /// What is entered meanwhile is killed too, and so is what is entered afterwards. A second call does nothing but
    /// wait for the first. Groups stay entered until their leaders are reaped. One that could not be killed (`EPERM`)
    /// is logged, and has no report.
    pub fn kill_all(&self) -> Vec<KillReport> {
        let me = std::thread::current().id();
        if HOLDS.get() == std::ptr::from_ref(self).addr() {
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
        let mut reports = Vec::new();
        loop {
            let mut climbs = Vec::new();
            for entry in state.live.values_mut().filter(|entry| !entry.swept) {
                entry.swept = true;
                // Pinned anew, under the lock that keeps its leader un-reaped.
                climbs.push(Climb::new(entry.pin.group(), &self.policy));
            }
            if climbs.is_empty() {
                // Under the same lock: whoever enters a group from here on finds the registry closed.
                state.phase = Phase::Closed;
                drop(state);
                return reports;
            }
            drop(state);
            for result in climb_all_here(climbs) {
                match result {
                    Ok(report) => reports.push(report),
                    Err(error) => tracing::warn!(pgid = error.pgid(), "kill_all_children: {error}"),
                }
            }
            state = self.state();
        }
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

    fn kill_late(&self, group: ProcessGroup) {
        match Undertaker::global() {
            Ok(undertaker) => undertaker.begin(Climb::new(group, &self.policy), |result| {
                if let Err(error) = result {
                    tracing::warn!(pgid = error.pgid(), "registered after kill_all_children, and not killed: {error}");
                }
            }),
            // No thread to be had: no grace either.
            Err(_) => drop(group.signal(Signal::KILL)),
        }
    }

    /// A panic in whoever held it leaves the list as good as it was: every change is one call.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

thread_local! {
    /// The registry whose lock this thread holds over a call of somebody else's code, by address.
    static HOLDS: Cell<usize> = const { Cell::new(0) };
}

struct Held;

impl Drop for Held {
    fn drop(&mut self) {
        HOLDS.set(0);
    }
}

/// A sweep under way: closes the registry when it ends, by a panic too.
struct Sweep<'a>(&'a Registry);

impl Drop for Sweep<'_> {
    fn drop(&mut self) {
        self.0.state().phase = Phase::Closed;
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
