//! The command's descendants outside its group: the orphans among them are reaped, and all of them die with it.
//!
//! They are found by descent alone: this process is a subreaper, so they cannot leave the family. Orphans are reaped one
//! by one, by number: to wait for just anybody would take the exits of the command and of the guardian too.

use std::collections::HashSet;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::{Pid, getpgid};
use tokio::sync::oneshot;

#[cfg(target_os = "linux")]
use crate::group::family::is_descendant;
use crate::group::family::{adopt_orphans, children, command_of, descendants, runs};
use crate::group::{Vigil, pause};
use crate::guardian::Guardian;
use crate::kill::climb::Climb;
use crate::kill::many::Many;
use crate::kill::{KillError, KillPolicy, KillReport, Outcome};
use crate::signal::Signal;

/// Between two looks while others are given their grace.
const INTERVAL: Duration = Duration::from_millis(100);

/// Between two looks that must both find nobody.
const PAUSE: Duration = Duration::from_millis(5);

/// One that had left the command's group, and what became of it.
pub(super) struct Outsider {
    pub(super) pid: i32,
    pub(super) command: String,
    pub(super) kill: Result<KillReport, KillError>,
}

pub(super) struct Family {
    guardian: Guardian,
    policy: KillPolicy,
    /// Children of whoever became this program: nobody we started. Not reaped, so that their numbers stay theirs.
    strangers: Vec<i32>,
    /// The command, while it is somebody else's to kill and to reap; else 0.
    leader: AtomicI32,
    /// When the end began, and by which signal: one grace for all.
    end: OnceLock<(Instant, Signal)>,
    /// Nobody has any grace left.
    at_once: AtomicBool,
    hunt: Mutex<Option<JoinHandle<()>>>,
    ended: Mutex<Vec<Outsider>>,
}

impl Family {
    pub(super) fn new(guardian: Guardian, policy: KillPolicy) -> Arc<Family> {
        // Where there is no such thing the guardian still finds them by their mark when we end.
        let _ = adopt_orphans();
        // Before the command is started.
        let mut strangers = children();
        strangers.retain(|pid| Some(*pid) != guardian.pid());
        Arc::new(Family {
            guardian,
            policy,
            strangers,
            leader: AtomicI32::new(0),
            end: OnceLock::new(),
            at_once: AtomicBool::new(false),
            hunt: Mutex::default(),
            ended: Mutex::default(),
        })
    }

    pub(super) fn has_leader(&self, pid: i32) {
        self.leader.store(pid, Ordering::SeqCst);
    }

    /// Those who are no prey, nor whoever descends from them. To be asked for when others have been found: whoever is a
    /// guardian among those has a number by then.
    fn spared(&self) -> Vec<i32> {
        self.strangers.iter().copied().chain(self.guardian.pid()).collect()
    }

    /// Reaps the orphans that have ended.
    pub(super) fn reap(&self) {
        let children = children();
        let (spared, leader) = (self.spared(), self.leader.load(Ordering::SeqCst));
        for pid in children.into_iter().filter(|pid| *pid != leader && !spared.contains(pid)) {
            // Alive, or reaped by our other thread.
            let _ = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG));
        }
    }

    /// The command ends or is being ended: so are those who left its group, from now on and by the same signal.
    pub(super) fn begin_end(self: &Arc<Family>, signal: Signal) {
        self.end.get_or_init(|| (Instant::now(), signal));
        self.pursue();
    }

    /// Hunts those who became orphans since the end began.
    pub(super) fn pursue(self: &Arc<Family>) {
        let mut hunt = self.hunt.lock().unwrap_or_else(PoisonError::into_inner);
        let is_on = hunt.as_ref().is_some_and(|hunt| !hunt.is_finished());
        if is_on || self.end.get().is_none() || self.orphans().is_empty() {
            return;
        }
        let family = Arc::clone(self);
        // Without a thread they are hunted when the command is dead.
        *hunt = std::thread::Builder::new().name("deadbeat-family".into()).spawn(move || family.hunt()).ok();
    }

    /// SIGKILL to all of them.
    pub(super) fn kill_at_once(&self) {
        self.at_once.store(true, Ordering::SeqCst);
        for pid in self.outsiders() {
            if let Some(vigil) = self.hold(pid) {
                // One that is gone already is as good.
                let _ = vigil.signal(Signal::KILL);
            }
        }
    }

    /// The command was reaped and its group is dead: whoever is left is hunted down. Tells what became of those who had
    /// left the group. Goes on, on a thread of its own, if it is dropped.
    pub(super) fn end(self: &Arc<Family>) -> impl Future<Output = Vec<Outsider>> + use<> {
        self.has_leader(0);
        let earlier = self.hunt.lock().unwrap_or_else(PoisonError::into_inner).take();
        let family = Arc::clone(self);
        async move {
            // Nobody else reaps our children, so none can be hidden from one look.
            if earlier.is_none() && family.has_died_out() {
                return Vec::new();
            }
            let (over, is_over) = oneshot::channel();
            let theirs = Arc::clone(&family);
            let rest = move || {
                // If it has panicked, so much the more is left to do.
                let _ = earlier.map(JoinHandle::join);
                if !theirs.has_died_out() {
                    theirs.hunt();
                }
                // Whoever waited may have gone.
                let _ = over.send(());
            };
            match std::thread::Builder::new().name("deadbeat-family".into()).spawn(rest) {
                // An error means that it has panicked, and is over too.
                Ok(_) => drop(is_over.await),
                // Without a thread, and deaf meanwhile.
                Err(_) => family.hunt(),
            }
            family.take_ended()
        }
    }

    fn has_died_out(&self) -> bool {
        let children = children();
        let spared = self.spared();
        children.iter().all(|pid| spared.contains(pid))
    }

    /// One that does not end, or may not be signalled, is tried once.
    fn was_in_vain(&self, pid: i32) -> bool {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let is_alive = |kill: &Result<KillReport, KillError>| {
            !kill.as_ref().is_ok_and(|report| report.outcome != Outcome::Survived)
        };
        ended.iter().any(|outsider| outsider.pid == pid && is_alive(&outsider.kill))
    }

    fn take_ended(&self) -> Vec<Outsider> {
        std::mem::take(&mut self.ended.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Those that the kill of the command's group does not reach.
    fn outsiders(&self) -> Vec<i32> {
        let mut found = descendants(&self.spared());
        found.retain(|pid| !self.is_in_group(*pid));
        found
    }

    /// Of those, the ones that nobody but us answers for. Whoever has a parent in the family is that parent's to end, as
    /// long as it has any grace left: another `deadbeat timeout`, say, or a shell with jobs.
    fn orphans(&self) -> Vec<i32> {
        let mut found = children();
        let spared = self.spared();
        found.retain(|pid| !spared.contains(pid) && !self.is_in_group(*pid) && runs(*pid));
        found
    }

    fn is_in_group(&self, pid: i32) -> bool {
        let leader = self.leader.load(Ordering::SeqCst);
        leader > 0 && (pid == leader || getpgid(Some(Pid::from_raw(pid))) == Ok(Pid::from_raw(leader)))
    }

    fn hunt(&self) {
        let (sender, ended) = channel();
        let (mut kills, mut hunted, mut quiet_looks) = (Many::default(), HashSet::new(), 0);
        loop {
            self.reap();
            let policy = self.policy_now();
            let mut found = if policy.signal == Signal::KILL { self.outsiders() } else { self.orphans() };
            found.retain(|pid| !hunted.contains(pid) && !self.was_in_vain(*pid));
            for pid in &found {
                let Some(vigil) = self.hold(*pid) else { continue };
                let climb = Climb::over(vigil, &policy);
                hunted.insert(*pid);
                // Held, so the name is its own; later there may be none left.
                let (sender, pid, command) = (sender.clone(), *pid, command_of(*pid));
                let tell = move |kill| drop(sender.send(Outsider { pid, command, kill }));
                // The receiver lives as long as the kills.
                kills.add(climb, Box::new(tell));
            }
            kills.step();
            for outsider in ended.try_iter() {
                // A number may come again.
                hunted.remove(&outsider.pid);
                self.ended.lock().unwrap_or_else(PoisonError::into_inner).push(outsider);
            }
            if !kills.is_empty() {
                quiet_looks = 0;
                kills.sleep(None, INTERVAL);
            } else if found.is_empty() {
                quiet_looks += 1;
                if quiet_looks == 2 {
                    return;
                }
                pause(PAUSE);
            }
            // Those who fork faster than that are chased without a pause.
        }
    }

    /// The policy for whoever is found now.
    fn policy_now(&self) -> KillPolicy {
        let (since, signal) = *self.end.get_or_init(|| (Instant::now(), self.policy.signal));
        let left = self.policy.grace.saturating_sub(since.elapsed());
        if left.is_zero() || self.at_once.load(Ordering::SeqCst) {
            return self.policy.clone().signal(Signal::KILL);
        }
        // Looked at often: whoever is born meanwhile gets less of the grace.
        self.policy.clone().signal(signal).grace(left)
    }

    #[cfg(target_os = "linux")]
    fn hold(&self, pid: i32) -> Option<Vigil> {
        let spared = self.spared();
        Vigil::of_process(pid, move |pid| is_descendant(pid, &spared))
    }

    #[cfg(not(target_os = "linux"))]
    fn hold(&self, _pid: i32) -> Option<Vigil> {
        None
    }
}
