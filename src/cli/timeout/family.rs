//! The command's descendants outside its group: the orphans among them are reaped, and all of them die with it.
//!
//! They are found by descent: this process is a subreaper, so they cannot leave the family. Where children from before our
//! start exist, descent is not enough, and `kin` tells whose each is. Orphans are reaped one by one, by number: to wait
//! for just any would take the exits of the command and of the guardian too.

use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::JoinHandle;
use std::time::Instant;

use nix::unistd::{Pid, getpgid};
use tokio::sync::oneshot;

use super::kin::{Kin, Seen};
use crate::group::GroupWatch;
#[cfg(target_os = "linux")]
use crate::group::descendants::is_descendant;
use crate::group::descendants::{
    adopt_orphans, child_has_ended, children, command_of, is_leaving, no_child_runs, reap, running,
};
use crate::guardian::Guardian;
use crate::kill::{KillError, KillPolicy, KillReport, Outcome};
use crate::signal::Signal;

/// One that had left the command's group, and what became of it.
pub(super) struct Outsider {
    pub(super) pid: i32,
    pub(super) command: String,
    pub(super) kill: Result<KillReport, KillError>,
}

/// What became of all of them.
#[derive(Default)]
pub(super) struct Fate {
    pub(super) outsiders: Vec<Outsider>,
    /// Number and command of those that run on, since they may be a stranger's.
    pub(super) left_alone: Vec<(i32, String)>,
    /// Strangers came and went so fast that it could not be seen whether the command's have died out.
    pub(super) is_unsure: bool,
}

pub(super) struct Family {
    guardian: Option<Guardian>,
    pub(super) policy: KillPolicy,
    kin: Arc<Kin>,
    /// The command, while it is another's to kill and to reap; else 0.
    leader: AtomicI32,
    /// When the end began, and by which signal: one grace for all.
    pub(super) end: OnceLock<(Instant, Signal)>,
    /// No process has any grace left.
    pub(super) at_once: AtomicBool,
    hunt: Mutex<Option<JoinHandle<()>>>,
    pub(super) ended: Mutex<Vec<Outsider>>,
    pub(super) is_unsure: AtomicBool,
}

impl Family {
    pub(super) fn new(guardian: Option<Guardian>, policy: KillPolicy) -> Arc<Family> {
        // Where there is no such thing the guardian still finds them by their mark when we end.
        let _ = adopt_orphans();
        // Before the command is started.
        let mut strangers = children();
        strangers.retain(|pid| Some(*pid) != guardian.as_ref().and_then(Guardian::pid));
        let family = Family {
            kin: Arc::new(Kin::new(strangers, guardian.as_ref().map(|guardian| guardian.mark().to_owned()))),
            guardian,
            policy,
            leader: AtomicI32::new(0),
            end: OnceLock::new(),
            at_once: AtomicBool::new(false),
            hunt: Mutex::default(),
            ended: Mutex::default(),
            is_unsure: AtomicBool::new(false),
        };
        family.look();
        Arc::new(family)
    }

    pub(super) fn guardian(&self) -> Option<i32> {
        self.guardian.as_ref().and_then(Guardian::pid)
    }

    pub(super) fn has_leader(&self, pid: i32) {
        self.leader.store(pid, Ordering::SeqCst);
    }

    /// Whether there are children from before our start.
    pub(super) fn has_strangers(&self) -> bool {
        !self.kin.strangers().is_empty()
    }

    /// Those that are no prey, nor what descends from them. To be asked for when others have been found: a guardian that is
    /// among those has a number by then.
    fn spared(&self) -> Vec<i32> {
        let guardian = self.guardian.as_ref().and_then(Guardian::pid);
        self.kin.strangers().iter().copied().chain(guardian).collect()
    }

    /// Takes note of whose each process is, while parents can be seen; of no use where all are the command's.
    pub(super) fn look(&self) -> Option<Seen> {
        self.has_strangers().then(|| self.look_at(&children()))
    }

    fn look_at(&self, children: &[i32]) -> Seen {
        let guardian = self.guardian.as_ref().and_then(Guardian::pid);
        let children: Vec<_> = children.iter().copied().filter(|pid| Some(*pid) != guardian).collect();
        self.kin.look(&children, self.leader.load(Ordering::SeqCst), self.end.get().is_some())
    }

    /// Reaps the orphans that have ended.
    pub(super) fn reap(&self) {
        let (leader, spared) = (self.leader.load(Ordering::SeqCst), OnceLock::new());
        reap(|pid| pid == leader || spared.get_or_init(|| self.spared()).contains(&pid));
    }

    /// The command ends or is being ended: so are those that left its group, from now on and by the same signal.
    pub(super) fn begin_end(self: &Arc<Family>, signal: Signal) {
        self.end.get_or_init(|| (Instant::now(), signal));
        self.pursue();
    }

    /// Hunts those that became orphans since the end began.
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
            if let Some(watch) = self.hold(pid) {
                // One that is gone already is as good.
                let _ = watch.signal(Signal::KILL);
            }
        }
    }

    /// The command was reaped and its group is dead: what is left is hunted down. Tells what became of those that had left
    /// the group. Goes on, on a thread of its own, if it is dropped.
    pub(super) fn end(self: &Arc<Family>) -> impl Future<Output = Fate> + use<> {
        self.has_leader(0);
        let earlier = self.hunt.lock().unwrap_or_else(PoisonError::into_inner).take();
        let family = Arc::clone(self);
        async move {
            if earlier.is_none() && family.has_died_out() {
                return family.fate();
            }
            let (over, is_over) = oneshot::channel();
            let theirs = Arc::clone(&family);
            let rest = move || {
                // If it has panicked, so much the more is left to do.
                let _ = earlier.map(JoinHandle::join);
                if !theirs.has_died_out() {
                    theirs.hunt();
                }
                // The one that waited may have gone.
                let _ = over.send(());
            };
            match std::thread::Builder::new().name("deadbeat-family".into()).spawn(rest) {
                // An error means that it has panicked, and is over too.
                Ok(_) => drop(is_over.await),
                // Without a thread, and deaf meanwhile.
                Err(_) => family.hunt(),
            }
            family.fate()
        }
    }

    /// Whether all that can be told to be the command's, outside its group, had ended at one instant; but for those that
    /// cannot be killed. The head of `group/family.rs` says why.
    pub(super) fn has_died_out(&self) -> bool {
        no_child_runs(|children| {
            let mut spared = self.spared();
            if self.has_strangers() {
                // Of one that was about to end, before that was looked at, it could not be told whose it is any more: it
                // counts, and a new one is one more look.
                spared.extend(
                    self.look_at(children).others.into_iter().filter(|pid| !child_has_ended(*pid) && !is_leaving(*pid)),
                );
            }
            spared.extend(children.iter().filter(|pid| self.is_in_group(**pid) || self.was_in_vain(**pid)));
            spared
        })
    }

    /// One that does not end, or may not be signalled, is tried once.
    pub(super) fn was_in_vain(&self, pid: i32) -> bool {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.iter().any(|outsider| outsider.pid == pid && outsider.is_alive())
    }

    fn fate(&self) -> Fate {
        // All have ended. Those that nothing has reaped yet would be left to a first process that may never wait.
        self.reap();
        let unknown = self.look().map_or_else(Vec::new, |seen| seen.unknown);
        Fate {
            outsiders: std::mem::take(&mut self.ended.lock().unwrap_or_else(PoisonError::into_inner)),
            left_alone: unknown.into_iter().map(|pid| (pid, command_of(pid))).collect(),
            is_unsure: self.is_unsure.load(Ordering::SeqCst),
        }
    }

    /// Those that the kill of the command's group does not reach.
    pub(super) fn outsiders(&self) -> Vec<i32> {
        let mut found = self.look().map_or_else(|| running(&self.spared()), |seen| seen.commands);
        found.retain(|pid| !self.is_in_group(*pid));
        found
    }

    /// Of those, the ones that nothing but us answers for. One that has a parent in the family is that parent's to end, as
    /// long as it has any grace left: another `deadbeat timeout`, say, or a shell with jobs.
    pub(super) fn orphans(&self) -> Vec<i32> {
        let mut found = self.prey(&children());
        found.retain(|pid| !child_has_ended(*pid));
        found
    }

    /// Of our children the orphans outside the command's group, those that have ended among them.
    pub(super) fn prey(&self, children: &[i32]) -> Vec<i32> {
        let mut spared = self.spared();
        if self.has_strangers() {
            spared.extend(self.look_at(children).others);
        }
        let is_prey = |pid: &i32| !spared.contains(pid) && !self.is_in_group(*pid);
        children.iter().copied().filter(is_prey).collect()
    }

    fn is_in_group(&self, pid: i32) -> bool {
        let leader = self.leader.load(Ordering::SeqCst);
        leader > 0 && (pid == leader || getpgid(Some(Pid::from_raw(pid))) == Ok(Pid::from_raw(leader)))
    }

    #[cfg(target_os = "linux")]
    pub(super) fn hold(&self, pid: i32) -> Option<GroupWatch> {
        let spared = self.spared();
        let kin = Some(Arc::clone(&self.kin)).filter(|_| self.has_strangers());
        GroupWatch::of_process(pid, move |pid| match &kin {
            Some(kin) => kin.is_commands(pid),
            None => is_descendant(pid, &spared),
        })
    }

    #[cfg(not(target_os = "linux"))]
    pub(super) fn hold(&self, _pid: i32) -> Option<GroupWatch> {
        None
    }
}

impl Outsider {
    pub(super) fn is_alive(&self) -> bool {
        !self.kill.as_ref().is_ok_and(|report| report.outcome != Outcome::Survived)
    }
}
