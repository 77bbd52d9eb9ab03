//! What a look at a group tells: alive, gone, or unclear.

/// What a look at a group tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Some member can run.
    Alive,
    /// It could not be told: neither a living member was seen, nor that there is none.
    Unclear,
    /// No member can run again.
    Gone,
}
