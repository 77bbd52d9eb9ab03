//! What a guardian and a guarded process are recognized by: the guardian's name and first argument, and the prefix of
//! every run's mark.

use std::process::Command;

/// The name that `ps` shows for a guardian, and its first argument where it is the program that it guards: `pkill` by
/// that program's name has to miss it. The kernel shows up to 15 bytes.
pub(crate) const NAME: &str = "proc-guardian";

/// The first argument that starts a program as a guardian. It does not contain the program's name, see [`NAME`].
pub(super) const GUARDIAN_REQUEST: &str = "__proc-guardian";

/// The prefix of the name of every run's mark. A guardian's arguments have the rest alone, see [`NAME`].
pub(super) const MARK_PREFIX: &str = "DEADBEAT_RUN_";

/// Removes the marks from the environment of a command, so that a kill of all that carry a mark leaves it alone.
pub(crate) fn remove_marks(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with(MARK_PREFIX) {
            command.env_remove(name);
        }
    }
}

/// Whether this process carries the mark of a run that process `pid` guards.
#[cfg(feature = "cli")]
pub(crate) fn marked_by(pid: i32) -> bool {
    let prefix = format!("{MARK_PREFIX}{pid}_");
    std::env::vars_os().any(|(name, _)| name.to_string_lossy().starts_with(&prefix))
}

/// Whether process `pid` was started as a guardian, of any run.
#[cfg(target_os = "linux")]
pub(super) fn is_guardian(pid: i32) -> bool {
    crate::group::kin::is_called_with(pid, &[GUARDIAN_REQUEST])
}
