//! How long the machine kept the members of a group waiting.
//!
//! A member waits while it is ready to run, or in uninterruptible sleep, and is given no CPU.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::group::{Progress, progress};

/// The longest time between two looks at all members. A look costs some 20 µs a member.
const LOOK_AT_MEMBERS: Duration = Duration::from_millis(100);

/// What the looks at the members have shown so far.
#[derive(Debug)]
pub(super) struct MemberWaits {
    every: Duration,
    looked: Option<Instant>,
    members: HashMap<i32, WaitingMember>,
}

/// A member at its last look, and how long it has waited until then.
#[derive(Debug)]
struct WaitingMember {
    at: Instant,
    last: Progress,
    waited: Duration,
}

impl MemberWaits {
    /// Waits that are looked at often enough to see one of a tenth of the grace.
    pub(super) fn within(grace: Duration) -> MemberWaits {
        MemberWaits { every: LOOK_AT_MEMBERS.min(grace / 10), looked: None, members: HashMap::new() }
    }

    /// Looks at the processes with these pids if it is time to.
    pub(super) fn look(&mut self, pids: impl Iterator<Item = i32>) {
        let now = Instant::now();
        if self.looked.is_some_and(|looked| now - looked < self.every) {
            return;
        }
        self.looked = Some(now);
        for pid in pids {
            if let Some(progress) = progress(pid) {
                self.see(pid, Instant::now(), progress);
            }
        }
    }

    fn see(&mut self, pid: i32, at: Instant, now: Progress) {
        let member = self.members.entry(pid).or_insert(WaitingMember { at, last: now, waited: Duration::ZERO });
        if member.last.wants_to_run && now.wants_to_run {
            // In the rest of the time it was given a CPU.
            let got = now.on_cpu.saturating_sub(member.last.on_cpu);
            member.waited += (at - member.at).saturating_sub(got);
        }
        (member.at, member.last) = (at, now);
    }

    /// The longest time that one member was kept waiting.
    pub(super) fn longest(&self) -> Duration {
        self.members.values().map(|member| member.waited).max().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_held_while_it_wants_to_run_at_two_looks_in_a_row_and_gets_less_than_all_of_the_time() {
        let (start, ms) = (Instant::now(), Duration::from_millis(1));
        let waited = |looks: &[(u32, bool, u32)]| {
            let mut waits = MemberWaits::within(LOOK_AT_MEMBERS);
            for (at, wants_to_run, on_cpu) in looks {
                waits.see(7, start + ms * *at, Progress { wants_to_run: *wants_to_run, on_cpu: ms * *on_cpu });
            }
            waits.longest()
        };
        assert_eq!(waited(&[]), Duration::ZERO);
        assert_eq!(waited(&[(0, true, 0), (100, true, 30)]), ms * 70);
        assert_eq!(waited(&[(0, true, 0), (100, true, 0), (200, true, 100), (300, true, 100)]), ms * 200);
        assert_eq!(waited(&[(0, true, 0), (100, false, 0), (200, true, 0)]), Duration::ZERO);
    }

    #[test]
    fn of_several_members_the_one_that_waited_longest_counts() {
        let (start, ms) = (Instant::now(), Duration::from_millis(1));
        let mut waits = MemberWaits::within(LOOK_AT_MEMBERS);
        for (pid, until) in [(1, 30), (2, 90), (3, 60)] {
            let wants = Progress { wants_to_run: true, on_cpu: Duration::ZERO };
            waits.see(pid, start, wants);
            waits.see(pid, start + ms * until, wants);
        }
        assert_eq!(waits.longest(), ms * 90);
    }
}
