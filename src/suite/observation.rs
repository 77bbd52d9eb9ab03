//! What was seen of a cell, before it is judged: the subject's own report, the group from outside, the runtime's pulse.

use std::time::Duration;

use super::machine_delays::MachineDelays;
use super::subjects::SelfReport;
use crate::group::{Backend, Member, backend};
use crate::heartbeat::{Meanwhile, Pulse};
use crate::kill::Outcome;
use crate::report::Expected;
use crate::signal::Signal;

/// What was seen of a cell.
pub(super) struct Observation {
    pub(super) self_report: SelfReport,
    /// The time from the call of the subject to its return.
    pub(super) elapsed: Duration,
    /// The group was last seen alive this long after the call.
    pub(super) alive_after: Duration,
    /// The group was first seen gone this long after the call; `None` if it was still there at the last look.
    pub(super) gone_after: Option<Duration>,
    /// Whether the group was gone before the subject was called.
    pub(super) gone_before: bool,
    /// How late the observer's own passes were, from the call to the subject's return.
    pub(super) machine_delays: MachineDelays,
    /// How long the machine kept one member of the group waiting for a CPU, a disk or a page, at most.
    pub(super) member_wait: Duration,
    /// What else the machine did from the call on.
    pub(super) meanwhile: Meanwhile,
    /// Whether the leader ran at the last look that saw the group alive.
    pub(super) leader_stayed: bool,
    /// The signal that ended the leader; `None` if it ended by itself, or lives.
    pub(super) leader_ended_by: Option<Signal>,
    /// Whether the leader has ended and is not reaped.
    pub(super) leader_is_a_zombie: bool,
    /// Whether the fixture has no other member from the start.
    pub(super) is_alone: bool,
    /// Whether the fixture was let finish its cleanup.
    pub(super) cleaned_up: bool,
    /// Live members of the group when all was over.
    pub(super) leftover: Vec<Member>,
    /// Live processes of the fixture that had left the group.
    pub(super) escaped: Vec<Member>,
    /// Why the two lists may lack processes; `None` if they lack none.
    pub(super) unlisted: Option<String>,
    /// The heartbeat of the runtime; `None` of a program.
    pub(super) pulse: Option<Pulse>,
    /// What a program's own end says against it.
    pub(super) program_fault: Option<String>,
}

impl Observation {
    /// The outcome as the subject reports it, else as the fixture's end shows it.
    ///
    /// Killed if the leader died of SIGKILL. Terminated if it died of something else and the group with it, or had no
    /// other member. Where the leader had gone before, killed if the group outlived the grace, or half of it if the
    /// group obeys nothing but SIGKILL.
    pub(super) fn outcome(&self, expected: &Expected, grace: Duration) -> Option<Outcome> {
        match &self.self_report {
            Some(Ok(report)) => return Some(report.outcome),
            Some(Err(_)) => return None,
            None => {}
        }
        if self.gone_before {
            return Some(Outcome::AlreadyGone);
        }
        if backend() == Backend::Probe {
            // An un-reaped leader looks alive to the end.
            return None;
        }
        let stubborn = expected.outcome == Some(Outcome::Killed);
        let obeyed_within = if stubborn { grace / 2 } else { grace };
        let Some(after) = self.gone_after else { return Some(Outcome::Survived) };
        if self.leader_ended_by == Some(Signal::KILL) {
            return Some(Outcome::Killed);
        }
        // A stubborn member may outlive a leader that takes its time to obey by less than can be seen.
        // A group of the leader alone had no member left for a later SIGKILL, however rarely it was looked at.
        let was_all = self.is_alone && self.leader_ended_by.is_some();
        let went_with_it = was_all || self.leader_went_last(grace) && (self.is_alone || !stubborn);
        Some(if after >= obeyed_within && !went_with_it { Outcome::Killed } else { Outcome::Terminated })
    }

    /// Whether no member outlived the leader by more than one look. SIGKILL to the group would have ended the leader
    /// too.
    fn leader_went_last(&self, grace: Duration) -> bool {
        let unseen = self.gone_after.map(|after| after.saturating_sub(self.alive_after));
        self.leader_stayed && unseen.is_some_and(|unseen| unseen < grace / 2)
    }

    /// How long the subject took to return once the group was gone.
    pub(super) fn after_the_group(&self) -> Duration {
        self.elapsed.saturating_sub(self.gone_after.unwrap_or_default())
    }

    /// What became of the leader.
    pub(super) fn leaders_end(&self) -> String {
        match self.leader_ended_by {
            Some(signal) => format!("its leader died of {signal}"),
            None if self.leader_is_a_zombie => "its leader ended by itself".to_owned(),
            None if self.gone_after.is_some() => "its leader was reaped before".to_owned(),
            None => "its leader lives on".to_owned(),
        }
    }

    /// What became of the group, and when.
    pub(super) fn groups_end(&self, grace: Duration) -> String {
        let leader = self.leaders_end();
        match self.gone_after {
            _ if self.gone_before => "the group was gone before the call".to_owned(),
            None if self.leader_is_a_zombie => format!("the group lives on, though {leader}"),
            None => "the group lives on".to_owned(),
            Some(after) if after < grace / 2 => {
                format!(
                    "{leader}, and the group went after {after:.1?}, before half of the {grace:?} of grace was over"
                )
            }
            Some(after) => format!("{leader}, and the group went after {after:.1?}, of {grace:?} of grace"),
        }
    }
}
