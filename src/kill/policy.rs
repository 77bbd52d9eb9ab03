//! How to kill: which signal first, how long to wait, how often to look.

use std::time::{Duration, Instant};

use crate::signal::Signal;

/// How to kill: which signal, how long to wait, how often to look.
///
/// ```
/// use std::time::Duration;
/// use deadbeat::{KillPolicy, Signal};
///
/// let policy = KillPolicy::default().signal(Signal::INT).grace(Duration::from_secs(30));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KillPolicy {
    pub(crate) signal: Signal,
    pub(crate) continue_stopped: bool,
    pub(crate) grace: Duration,
    pub(crate) poll_interval: Duration,
    pub(crate) confirm: Duration,
}

impl Default for KillPolicy {
    /// SIGTERM then SIGCONT, 5 s of grace, a look at least every 100 ms, 1 s to confirm a SIGKILL.
    fn default() -> KillPolicy {
        KillPolicy {
            signal: Signal::TERM,
            continue_stopped: true,
            grace: Duration::from_secs(5),
            poll_interval: Duration::from_millis(100),
            confirm: Duration::from_secs(1),
        }
    }
}

impl KillPolicy {
    /// The first signal; SIGTERM by default. SIGKILL here means that there is no grace.
    #[must_use]
    pub fn signal(mut self, signal: Signal) -> KillPolicy {
        self.signal = signal;
        self
    }

    /// Whether to follow the first signal with SIGCONT, on by default: a stopped member keeps every other signal
    /// pending until it is continued.
    #[must_use]
    pub fn continue_stopped(mut self, yes: bool) -> KillPolicy {
        self.continue_stopped = yes;
        self
    }

    /// How long the group has from the first signal until SIGKILL; 5 s by default. Zero: SIGKILL follows at once.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> KillPolicy {
        self.grace = grace;
        self
    }

    /// The longest time between two looks at the group; 100 ms by default, at least 1 ms. An upper bound, not a
    /// quantum: where the kernel reports exits, the exit ends the wait.
    #[must_use]
    pub fn poll_interval(mut self, interval: Duration) -> KillPolicy {
        self.poll_interval = interval.max(Duration::from_millis(1));
        self
    }

    /// How long after SIGKILL to look until the members are gone; 1 s by default, and up to 10 s more while the one
    /// seen is dying and only waits for a CPU. Zero: do not look, and report
    /// [`Outcome::Killed`](super::Outcome::Killed) on the strength of the signal alone.
    #[must_use]
    pub fn confirm(mut self, confirm: Duration) -> KillPolicy {
        self.confirm = confirm;
        self
    }

    /// How long a leader may take to become waitable after the kill has ended; longer while it is dying and only waits
    /// for a CPU.
    pub(crate) fn reap_within(&self) -> Duration {
        self.confirm.max(Duration::from_secs(1))
    }

    /// The rest of this policy for a group that was sent the first signal at `since`: what is left of the grace, and no
    /// signal but SIGKILL that a group could take for a request.
    pub(crate) fn rest(&self, since: Instant) -> KillPolicy {
        match self.signal {
            Signal::KILL => self.clone(),
            _ => self.clone().signal(Signal::CONT).grace(self.grace.saturating_sub(since.elapsed())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_setting_changes_itself_and_nothing_else() {
        let (default, time) = (KillPolicy::default, Duration::from_millis(1234));
        let set = [
            (default().signal(Signal::INT), KillPolicy { signal: Signal::INT, ..default() }),
            (default().continue_stopped(false), KillPolicy { continue_stopped: false, ..default() }),
            (default().grace(time), KillPolicy { grace: time, ..default() }),
            (default().poll_interval(time), KillPolicy { poll_interval: time, ..default() }),
            (default().confirm(time), KillPolicy { confirm: time, ..default() }),
        ];
        for (policy, expected) in set {
            assert_eq!(policy, expected);
            assert_ne!(policy, default());
        }
        // There is a pause between any two looks.
        assert_eq!(default().poll_interval(Duration::ZERO).poll_interval, Duration::from_millis(1));
    }

    #[test]
    fn a_leader_may_take_as_long_as_its_death_and_a_second_at_least() {
        for (confirm, within) in [(0, 1000), (999, 1000), (1001, 1001)] {
            let policy = KillPolicy::default().confirm(Duration::from_millis(confirm));
            assert_eq!(policy.reap_within(), Duration::from_millis(within));
        }
    }

    #[test]
    fn what_is_left_of_a_policy_is_what_was_not_waited_yet_and_asks_no_more() {
        let policy = KillPolicy::default().signal(Signal::INT).grace(Duration::from_secs(3600)).continue_stopped(false);
        let begun = Instant::now() - Duration::from_secs(60);
        let rest = policy.rest(begun);
        assert!(rest.grace <= Duration::from_secs(3540) && rest.grace > Duration::from_secs(3000), "{rest:?}");
        assert_eq!(rest, policy.clone().signal(Signal::CONT).grace(rest.grace));
        assert_eq!(policy.grace(Duration::from_secs(1)).rest(begun).grace, Duration::ZERO);
        // With SIGKILL there is no grace that could be used up.
        let at_once = KillPolicy::default().signal(Signal::KILL);
        assert_eq!(at_once.rest(begun), at_once);
    }
}
