//! The hunt for those that have left the command's group: each is taken up the ladder, until they have died out.
//!
//! While they have any grace left, the orphans are asked. After it all of them are killed, each held by its pidfd, and then
//! the groups of the orphans, ended ones among them: in a chain in which each forks the next and ends, the living one is
//! found too late by its number and in time by its group.

use std::collections::HashSet;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use super::family::{Family, Outsider};
use crate::group::descendants::{command_of, kill_children};
use crate::group::pause;
use crate::kill::Batch;
use crate::kill::Kill;
use crate::kill::KillPolicy;
use crate::signal::Signal;

/// Between two looks while others are given their grace.
const INTERVAL: Duration = Duration::from_millis(100);

/// Between two looks of which the first found none to kill and could not tell whether there is one.
const PAUSE: Duration = Duration::from_millis(1);

/// So long without any to kill is enough where strangers come and go all the time.
const QUIET: Duration = Duration::from_secs(1);

/// So many that do not die are enough: those that may not be signalled can fork on for ever.
const IN_VAIN: usize = 100;

impl Family {
    pub(super) fn hunt(&self) {
        let (sender, ended) = channel();
        let (mut kills, mut hunted, mut quiet_since) = (Batch::default(), HashSet::new(), Instant::now());
        loop {
            let policy = self.policy_now();
            let is_last = policy.signal == Signal::KILL;
            self.reap();
            let mut found = if is_last { self.outsiders() } else { self.orphans() };
            found.retain(|pid| !hunted.contains(pid) && !self.was_in_vain(*pid));
            for pid in &found {
                let Some(watch) = self.hold(*pid) else { continue };
                let kill = Kill::over(watch, &policy);
                hunted.insert(*pid);
                // Held, so the name is its own; later there may be none left.
                let (sender, pid, command) = (sender.clone(), *pid, command_of(*pid));
                let tell = move |kill| drop(sender.send(Outsider { pid, command, kill }));
                // The receiver lives as long as the kills.
                kills.add(kill, Box::new(tell));
            }
            kills.step();
            if is_last {
                kill_children(|children| self.prey(children));
            }
            let mut all = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
            for outsider in ended.try_iter() {
                // A number may come again.
                hunted.remove(&outsider.pid);
                all.push(outsider);
            }
            let in_vain = all.iter().filter(|outsider| outsider.is_alive()).count();
            drop(all);
            if in_vain >= IN_VAIN {
                return;
            }
            if !kills.is_empty() || !found.is_empty() {
                quiet_since = Instant::now();
            }
            if !kills.is_empty() {
                kills.sleep(None, INTERVAL);
            } else if found.is_empty() {
                if self.has_died_out() {
                    return;
                }
                if self.has_strangers() && quiet_since.elapsed() >= QUIET {
                    return self.is_unsure.store(true, Ordering::SeqCst);
                }
                pause(PAUSE);
            }
            // Those that fork faster than that are chased without a pause.
        }
    }

    /// The policy for those that are found now.
    fn policy_now(&self) -> KillPolicy {
        let (since, signal) = *self.end.get_or_init(|| (Instant::now(), self.policy.signal));
        let left = self.policy.grace.saturating_sub(since.elapsed());
        if left.is_zero() || self.at_once.load(Ordering::SeqCst) {
            return self.policy.clone().signal(Signal::KILL);
        }
        // Looked at often: what is born meanwhile gets less of the grace.
        self.policy.clone().signal(signal).grace(left)
    }
}
