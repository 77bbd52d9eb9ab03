//! The members of a group as the cell's observer sees them: which there were, from when, until when.
//!
//! A walk through the process table is expensive, so there are few: one every 200 ms, and one at once after an exit
//! that has woken the observer.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use crate::fixture::Running;
use crate::group::{Member, is_dying};
use crate::report::Life;

/// How long a new member may go unseen.
const FULL_LOOK_EVERY: Duration = Duration::from_millis(200);
/// The least time between two looks, also after an exit.
const AFTER_A_DEATH: Duration = Duration::from_millis(2);
/// How many members the report has; a fork storm has thousands.
const MEMBERS_TOLD: usize = 12;
/// How many characters of a command line the report has.
const COMMAND_LENGTH: usize = 48;

pub(super) struct MemberTimes<'a> {
    running: &'a Running,
    seen: Vec<SeenMember>,
    /// The pids of members beyond the first.
    beyond: HashSet<i32>,
    looked: Option<Instant>,
}

struct SeenMember {
    pid: i32,
    command: String,
    from: Instant,
    until: Option<Instant>,
}

impl<'a> MemberTimes<'a> {
    pub(super) fn of(running: &'a Running) -> MemberTimes<'a> {
        MemberTimes { running, seen: Vec::new(), beyond: HashSet::new(), looked: None }
    }

    /// Looks at the members if it is time to. `woken`: a member has just ended.
    pub(super) fn look(&mut self, woken: bool) {
        let pause = if woken { AFTER_A_DEATH } else { FULL_LOOK_EVERY };
        if self.looked.is_some_and(|looked| looked.elapsed() < pause) {
            return;
        }
        let now = Instant::now();
        self.looked = Some(now);
        // Without a process table no member can be seen.
        let Ok(members) = self.running.leftover() else { return };
        let is_there = |pid| members.iter().any(|member| member.pid == pid);
        self.seen.iter_mut().filter(|seen| !is_there(seen.pid)).for_each(|seen| seen.ends(now));
        for member in &members {
            if !self.seen.iter().any(|seen| seen.pid == member.pid && seen.until.is_none()) {
                self.appeared(member, now);
            }
        }
    }

    fn appeared(&mut self, member: &Member, now: Instant) {
        if self.seen.len() == MEMBERS_TOLD {
            self.beyond.insert(member.pid);
            return;
        }
        self.seen.push(SeenMember { pid: member.pid, command: beginning(&member.command), from: now, until: None });
    }

    /// The pids of the members that were alive at the last look.
    pub(super) fn living(&self) -> impl Iterator<Item = i32> {
        self.seen.iter().filter(|seen| seen.until.is_none()).map(|seen| seen.pid)
    }

    /// Whether SIGKILL is on its way to all members that are left.
    pub(super) fn are_dying(&self) -> bool {
        self.running.leftover().is_ok_and(|members| members.iter().all(is_dying))
    }

    /// Records that the group is gone, with all its members.
    pub(super) fn all_gone(&mut self, at: Instant) {
        self.seen.iter_mut().for_each(|seen| seen.ends(at));
    }

    /// The members' lives on an axis that begins at `zero`, and the number of members beyond those.
    pub(super) fn lives(&self, zero: Instant) -> (Vec<Life>, usize) {
        let leader = self.running.pgid();
        let ended_by = self.running.leader_ended_by();
        let lives = self.seen.iter().map(|seen| Life {
            pid: seen.pid,
            role: self.running.role(seen.pid).map(str::to_owned),
            command: seen.command.clone(),
            from: seen.from.saturating_duration_since(zero),
            until: seen.until.map(|until| until.saturating_duration_since(zero)),
            ended_by: ended_by.filter(|_| seen.pid == leader && seen.until.is_some()),
        });
        (lives.collect(), self.beyond.len())
    }
}

impl SeenMember {
    fn ends(&mut self, at: Instant) {
        self.until.get_or_insert(at);
    }
}

/// The beginning of a command line. That of a fixture is its whole text.
pub(super) fn beginning(command: &str) -> String {
    let mut line = String::new();
    for word in command.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
        if let Some((end, _)) = line.char_indices().nth(COMMAND_LENGTH) {
            line.truncate(end);
            line.push('…');
            break;
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_that_is_a_whole_script_is_told_by_its_beginning() {
        assert_eq!(beginning("sleep 120"), "sleep 120");
        assert_eq!(beginning("sh -c \n  sleep 0.05 &\n"), "sh -c sleep 0.05 &");
        let long = beginning(&format!("sh -c # {} fixture", "é".repeat(100)));
        assert_eq!(long.chars().count(), COMMAND_LENGTH + 1, "{long}");
        assert!(long.ends_with("é…"), "{long}");
    }
}
