//! Which of two back-ends tells whether a group is gone: `/proc` and pidfds, or POSIX alone.

use super::os;

/// How this process tells whether a group is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum Backend {
    /// Linux, with a `/proc` that shows all processes: members and their exits are seen.
    Proc,
    /// `killpg(pgid, 0)` alone: zombies cannot be told from the living, so an un-reaped leader takes the whole grace.
    Probe,
}

/// The back-end in use here, probed once. `--cfg deadbeat_portable` forces [`Backend::Probe`].
pub fn backend() -> Backend {
    if !cfg!(deadbeat_portable) && os::available() { Backend::Proc } else { Backend::Probe }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_back_end_is_what_this_proc_and_the_build_allow() {
        assert_eq!(backend() == Backend::Proc, os::available() && !cfg!(deadbeat_portable));
    }
}
