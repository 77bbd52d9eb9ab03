//! What happened in a cell and when, on one axis whose zero is the start of the watch.

use std::time::Duration;

use crate::signal::Signal;

/// When things happened in a cell, beside its signals and stalls. Without a watch, zero is the call of the subject.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Timeline {
    /// When the subject was called. The times of its signals count from this moment.
    #[cfg_attr(feature = "serde", serde(rename = "called_ms", with = "crate::millis"))]
    pub called: Duration,
    /// The grace that the subject was to give.
    #[cfg_attr(feature = "serde", serde(rename = "grace_ms", with = "crate::millis"))]
    pub grace: Duration,
    /// When the group was first seen to be gone; `None` if it was still there at the last look.
    #[cfg_attr(feature = "serde", serde(rename = "gone_ms", with = "crate::millis::maybe"))]
    pub gone: Option<Duration>,
    /// When the last look was taken.
    #[cfg_attr(feature = "serde", serde(rename = "until_ms", with = "crate::millis"))]
    pub until: Duration,
    /// The members of the group, in the order in which they were seen. A member that began and ended between two looks
    /// was not seen. Empty where members cannot be listed.
    pub lives: Vec<Life>,
    /// The number of members that were seen beyond those.
    pub more_lives: usize,
}

/// One member's life, as far as it was seen.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Life {
    /// The member's process id.
    pub pid: i32,
    /// The fixture's name for the member: `leader`, `child`; `None` if it has none.
    pub role: Option<String>,
    /// The beginning of the member's command line.
    pub command: String,
    /// When the member was first seen.
    #[cfg_attr(feature = "serde", serde(rename = "from_ms", with = "crate::millis"))]
    pub from: Duration,
    /// When the member was first seen to be gone; `None` if it was still there at the last look.
    #[cfg_attr(feature = "serde", serde(rename = "until_ms", with = "crate::millis::maybe"))]
    pub until: Option<Duration>,
    /// The signal that the member died of, which is known of the leader alone.
    pub ended_by: Option<Signal>,
}
