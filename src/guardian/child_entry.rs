//! What the guardian knows of one guarded child, and how often it looks for the child's processes.

use std::time::{Duration, Instant};

use crate::kill::{Kill, KillPolicy};

/// Between the two looks that must both find no escaped process.
pub(super) const QUIET_PAUSE: Duration = Duration::from_millis(20);

/// Between two looks while processes have their grace.
pub(super) const INTERVAL: Duration = Duration::from_millis(100);

/// A process whose environment is still empty this long after the last kill of its child is not in the middle of an
/// exec.
const EXEC: Duration = Duration::from_secs(5);

/// How long a SIGKILL may take to show. A process that is still there then does not die of it.
const CONFIRM: Duration = Duration::from_secs(1);

/// What the guardian knows of one child.
#[derive(Debug)]
pub(super) struct ChildEntry {
    pub(super) policy: KillPolicy,
    /// The kill of its group, not begun. Its leader is held from when the guardian was told of the group.
    pub(super) group: Option<Kill>,
    /// The parent has told the guardian of the group, or it was found: it is not looked for.
    pub(super) group_is_known: bool,
    /// Since when its escaped processes are being killed.
    pub(super) killing_since: Option<Instant>,
    /// The last look at which one of them was being killed: it can have had children until then.
    pub(super) last_kill: Option<Instant>,
    /// The parent has no further messages on this child.
    pub(super) released: bool,
    /// How many looks in a row, after the release, found no escaped process and can have missed none.
    pub(super) quiet_looks: u32,
    /// The earliest start of a process of this child, in clock ticks since boot; 0 if it is not known.
    #[cfg(target_os = "linux")]
    pub(super) first_start: u64,
}

impl ChildEntry {
    pub(super) fn new(policy: KillPolicy) -> ChildEntry {
        ChildEntry {
            policy,
            group: None,
            group_is_known: false,
            killing_since: None,
            last_kill: None,
            released: false,
            quiet_looks: 0,
            #[cfg(target_os = "linux")]
            first_start: 0,
        }
    }

    /// Whether its group stops and continues with the parent: the group lives, or is not known yet.
    pub(super) fn follows_stops(&self) -> bool {
        self.group.is_some() || !self.group_is_known
    }

    /// Whether an escaped process that is found now has any grace. All share one, counted from when their kill began.
    pub(super) fn has_grace(&self) -> bool {
        self.killing_since.is_none_or(|since| since.elapsed() < self.policy.grace)
    }

    /// Counts a look made at `now`, which may have missed a process if some process was in an exec.
    pub(super) fn count_look(&mut self, now: Instant, some_are_killed: bool, some_in_exec: bool) {
        if some_are_killed {
            self.last_kill = Some(now);
        }
        let since = self.last_kill.max(self.killing_since);
        let some_may_show = some_in_exec && since.is_some_and(|since| now - since < EXEC);
        let quiet = self.released && !some_are_killed && !some_may_show;
        self.quiet_looks = if quiet { self.quiet_looks + 1 } else { 0 };
    }
}

/// What one look for escaped processes showed, of all children together whose processes are being killed.
#[derive(Clone, Copy, Debug)]
pub(super) struct LookSummary {
    pub(super) took: Duration,
    /// It found processes whose kill had not begun.
    pub(super) found_some: bool,
    pub(super) all_are_released: bool,
    pub(super) some_have_grace: bool,
    pub(super) no_kill_runs: bool,
}

impl LookSummary {
    /// Until the next look. A look takes longer the more processes there are, so it may use a tenth of the time at
    /// most; but the pause is bounded, so that a process waits for the guardian for little longer than its own grace.
    pub(super) fn pause(self) -> Duration {
        let pause = (self.took * 10).min(INTERVAL * 5);
        match self.all_are_released {
            // Once no process has any grace left, those that fork faster than this are killed without a pause.
            true if self.found_some && !self.some_have_grace => Duration::ZERO,
            true if self.no_kill_runs || !self.some_have_grace => pause.max(QUIET_PAUSE),
            _ => pause.max(INTERVAL),
        }
    }
}

/// The parent's policy with the guardian's own poll interval and confirm time where the parent's are too lax or too
/// short.
pub(super) fn adjusted(policy: KillPolicy) -> KillPolicy {
    let (poll, confirm) = (policy.poll_interval.min(INTERVAL), policy.confirm.max(CONFIRM));
    policy.poll_interval(poll).confirm(confirm)
}

#[cfg(test)]
mod tests;
