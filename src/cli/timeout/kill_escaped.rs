//! Kills the processes that have escaped from the command's group, until they have died out.
//!
//! While they have any grace left, the orphans among them are asked to end. After it all of them are killed, each held
//! by its pidfd, and then the groups of the orphans, ended ones among them. In a chain in which each process forks the
//! next and ends, the living one is found too late by its number, and in time by its group.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use super::escape_finder::EscapeFinder;
use crate::group::descendants::{command_of, kill_children};
use crate::group::pause;
use crate::kill::target_batch::{EndedKill, TargetBatch, in_shared_grace};
use crate::kill::{Kill, KillError, KillPolicy, KillReport, Outcome};
use crate::signal::Signal;

/// Between two looks while processes have their grace.
const GRACE_LOOK: Duration = Duration::from_millis(100);

/// Between two looks of which the first found none to kill and could not tell whether there is one.
const UNDECIDED_LOOK: Duration = Duration::from_millis(1);

/// So long without any to kill is enough where strangers come and go all the time.
const QUIET: Duration = Duration::from_secs(1);

/// After so many that do not die the loop gives up: processes that may not be signalled can fork on for ever.
const MOST_HOPELESS: usize = 100;

/// A process that had left the command's group, and its kill.
pub(super) struct EscapedProcess {
    pub(super) pid: i32,
    pub(super) command: String,
    pub(super) kill: Result<KillReport, KillError>,
}

impl EscapedProcess {
    /// Whether it lives on: SIGKILL did not end it, or it may not be signalled.
    fn is_alive(&self) -> bool {
        !self.kill.as_ref().is_ok_and(|report| report.outcome != Outcome::Survived)
    }
}

/// The kills of escaped processes: what they share, and what became of each.
pub(super) struct EscapedKills {
    policy: KillPolicy,
    /// When the end began, and by which signal: all have one grace.
    end: OnceLock<(Instant, Signal)>,
    /// No process has any grace left, whatever the time.
    at_once: AtomicBool,
    ended: Mutex<Vec<EscapedProcess>>,
    is_unsure: AtomicBool,
}

impl EscapedKills {
    pub(super) fn new(policy: KillPolicy) -> EscapedKills {
        EscapedKills {
            policy,
            end: OnceLock::new(),
            at_once: AtomicBool::new(false),
            ended: Mutex::default(),
            is_unsure: AtomicBool::new(false),
        }
    }

    /// Begins the grace, unless it has begun; returns when it began, and the signal that is sent at first.
    pub(super) fn begin(&self, signal: Signal) -> (Instant, Signal) {
        *self.end.get_or_init(|| (Instant::now(), signal))
    }

    pub(super) fn have_begun(&self) -> bool {
        self.end.get().is_some()
    }

    /// Sends SIGKILL to all escaped processes; those that are found later have no grace.
    pub(super) fn kill_at_once(&self, finder: &EscapeFinder) {
        self.at_once.store(true, Ordering::SeqCst);
        for process in finder.escaped().into_iter().filter_map(|pid| finder.hold(pid)) {
            // A process that is gone already is as good.
            let _ = process.signal(Signal::KILL);
        }
    }

    /// Whether the kill of this process has failed: it is not tried again.
    pub(super) fn is_hopeless(&self, pid: i32) -> bool {
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.iter().any(|process| process.pid == pid && process.is_alive())
    }

    /// What became of each process so far.
    pub(super) fn take_ended(&self) -> Vec<EscapedProcess> {
        std::mem::take(&mut self.ended.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether strangers came and went so fast that it could not be seen whether the command's processes have died out.
    pub(super) fn are_unsure(&self) -> bool {
        self.is_unsure.load(Ordering::SeqCst)
    }

    /// Kills until no escaped process is left, or none that can be killed. Blocks.
    pub(super) fn run(&self, finder: &EscapeFinder) {
        let (since, signal) = self.begin(self.policy.signal);
        finder.begin_end();
        let (mut kills, mut quiet_since) = (TargetBatch::new(), Instant::now());
        loop {
            let policy = self.policy_now(since, signal);
            let is_last = policy.signal == Signal::KILL;
            finder.reap();
            let mut found = if is_last { finder.escaped() } else { finder.orphans() };
            found.retain(|pid| !kills.has(*pid) && !self.is_hopeless(*pid));
            for pid in &found {
                let Some(process) = finder.hold(*pid) else { continue };
                // It is held, so this is the name of no other process. When its kill has ended it may have none any
                // more.
                kills.add(*pid, command_of(*pid), Kill::over(process, &policy));
            }
            let ended = kills.step();
            if is_last {
                kill_children(|children| finder.orphans_among(children));
            }
            if self.note(ended) >= MOST_HOPELESS {
                return;
            }
            if !kills.is_empty() || !found.is_empty() {
                quiet_since = Instant::now();
            }
            if !kills.is_empty() {
                kills.sleep(None, GRACE_LOOK);
            } else if found.is_empty() {
                if finder.has_died_out(|pid| self.is_hopeless(pid)) {
                    return;
                }
                if finder.has_strangers() && quiet_since.elapsed() >= QUIET {
                    return self.is_unsure.store(true, Ordering::SeqCst);
                }
                pause(UNDECIDED_LOOK);
            }
            // Processes that fork faster than this are killed without a pause.
        }
    }

    /// Notes what became of some processes; returns how many live on in all.
    fn note(&self, ended: Vec<EndedKill<i32, String>>) -> usize {
        let mut all = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let processes = ended.into_iter();
        all.extend(processes.map(|EndedKill { target: pid, note: command, result: kill }| EscapedProcess {
            pid,
            command,
            kill,
        }));
        all.iter().filter(|process| process.is_alive()).count()
    }

    /// The policy for processes that are found now.
    fn policy_now(&self, since: Instant, signal: Signal) -> KillPolicy {
        match self.at_once.load(Ordering::SeqCst) {
            true => self.policy.clone().signal(Signal::KILL),
            false => in_shared_grace(&self.policy.clone().signal(signal), since),
        }
    }
}
