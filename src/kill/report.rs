//! What a kill did: the outcome, the signals sent and when, who is left.

use std::fmt;
use std::process::ExitStatus;
use std::time::Duration;

use crate::error::KillError;
use crate::group::Member;
use crate::signal::Signal;

/// What a kill comes to.
pub(crate) type KillResult = Result<KillReport, KillError>;

/// What became of the group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Outcome {
    /// No member could run before the first signal was sent; none was sent.
    AlreadyGone,
    /// Gone within the grace, without SIGKILL.
    Terminated,
    /// SIGKILL was needed. Seen to be gone, unless the policy's `confirm` is zero.
    Killed,
    /// Members can still run after SIGKILL and the time to confirm it; [`KillReport::survivors`] names them.
    Survived,
}

impl Outcome {
    /// The name used in reports: `already_gone`, `terminated`, `killed`, `survived`.
    pub fn as_str(self) -> &'static str {
        match self {
            Outcome::AlreadyGone => "already_gone",
            Outcome::Terminated => "terminated",
            Outcome::Killed => "killed",
            Outcome::Survived => "survived",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A signal that the group was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct SentSignal {
    /// Which.
    pub signal: Signal,
    /// When, since the kill began.
    #[cfg_attr(feature = "serde", serde(rename = "at_ms", with = "crate::millis"))]
    pub at: Duration,
}

/// What one kill did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct KillReport {
    /// The group.
    pub pgid: i32,
    /// What became of it.
    pub outcome: Outcome,
    /// Every signal that reached the group, in order; each at most once.
    pub signals: Vec<SentSignal>,
    /// How long the kill took, from its first look to the outcome.
    pub elapsed: Duration,
    /// Who can still run; empty unless the outcome is [`Outcome::Survived`], and where members cannot be listed.
    pub survivors: Vec<Member>,
}

/// What [`KillPolicy::kill_child`](super::KillPolicy::kill_child) did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChildKill {
    /// The kill of its group.
    pub report: KillReport,
    /// How the child ended; `None` if it has not.
    pub status: Option<ExitStatus>,
}

/// In the order that people read it: what came of it before how.
#[cfg(feature = "serde")]
mod wire {
    use serde::ser::{Serialize, SerializeStruct, Serializer};

    use super::KillReport;
    use crate::millis::millis;

    impl Serialize for KillReport {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            let mut object = serializer.serialize_struct("KillReport", 5)?;
            object.serialize_field("pgid", &self.pgid)?;
            object.serialize_field("outcome", &self.outcome)?;
            object.serialize_field("elapsed_ms", &millis(self.elapsed))?;
            object.serialize_field("signals", &self.signals)?;
            object.serialize_field("survivors", &self.survivors)?;
            object.end()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_outcome_has_one_name_and_fits_a_column() {
        let all = [Outcome::AlreadyGone, Outcome::Terminated, Outcome::Killed, Outcome::Survived];
        assert_eq!(all.map(Outcome::as_str), ["already_gone", "terminated", "killed", "survived"]);
        assert_eq!(format!("{:10}|", Outcome::Killed), "killed    |");
    }
}
