//! What a look at a group tells: alive, gone, about to be, or unclear.

/// What a look at a group tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Some member can run.
    Alive,
    /// It could not be told: neither a living member was seen, nor that there is none.
    Unclear,
    /// No member is known to live; those that are dead are about to be reaped, and then the kernel tells.
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "nothing tells there that a group is empty"))]
    Emptying,
    /// No member can run again.
    Gone,
}
