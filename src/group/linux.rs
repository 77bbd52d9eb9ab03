//! What Linux can tell of a group: its members from `/proc`, their exits from pidfds.

mod new_pids;
mod pidfd;
mod proc_watch;
mod progress;
mod single_process;
mod spare_fd;
mod table;
mod two_walks;

#[cfg(feature = "cli")]
pub(super) use self::new_pids::was_handed_out_since;
pub(super) use self::new_pids::{handed_out_between, handed_out_since, last_pid};
pub(super) use self::pidfd::Pidfd;
pub(super) use self::pidfd::open as open_pidfd;
pub(super) use self::proc_watch::ProcWatch;
pub(super) use self::progress::progress;
pub(super) use self::single_process::{SingleProcess, kill_if};
pub(crate) use self::table::Kin;
#[cfg(fuzzing)]
pub use self::table::stat_line;
pub(super) use self::table::{
    available, command_of, is_dying, is_leaving, kin, members, members_where, runs, since_boot, started_at,
    this_thread, walk,
};
#[cfg(feature = "cli")]
pub(super) use self::table::{hides_processes, parent};
pub(super) use self::two_walks::look;
