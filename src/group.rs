//! A process group under a checked number: signal it, list its members, ask whether it is gone.
//!
//! *Gone* means that no member can run again. It does not mean `ESRCH`: `killpg(pgid, 0)` succeeds for as long as
//! anything of the group is in the process table, and the leader that its parent has not waited for is such a thing.

// This module and its children are the only ones on the killing side that talk to the system.

pub(crate) mod child;
#[cfg(feature = "cli")]
pub(crate) mod descendants;
mod descriptors;
mod dispositions;
#[cfg(not(target_os = "linux"))]
mod elsewhere;
mod exit_fd;
#[cfg(all(test, target_os = "linux"))]
#[path = "../tests/common/inside.rs"]
mod inside;
#[cfg(target_os = "linux")]
pub(crate) mod kin;
#[cfg(target_os = "linux")]
mod linux;
pub(crate) mod mark;
mod member;
mod os;
mod portable;
mod process;
mod process_group;
mod raw;
mod seen;
#[cfg(feature = "cli")]
pub(crate) mod sender;
pub(crate) mod stop;
#[cfg(test)]
mod testing;
mod wait;
mod watch;

pub(crate) use self::descriptors::hold_nothing;
pub(crate) use self::dispositions::{begins_with_default_signals, keeps_exited_children};
pub(crate) use self::exit_fd::ExitFd;
pub use self::member::Member;
pub(crate) use self::process::{
    Progress, has_thread, ignores, is_dying, outlived_sigkill, progress, since_boot, this_thread, was_started_after,
};
#[cfg(feature = "cli")]
pub(crate) use self::process::{group_of_member, signal_process};
pub use self::process_group::ProcessGroup;
pub(crate) use self::seen::Seen;
pub(crate) use self::wait::{pause, wait_readable};
pub use self::watch::{Backend, backend};
pub(crate) use self::watch::{GroupWatch, look_at_all};

#[cfg(fuzzing)]
pub(crate) mod fuzzing {
    pub use super::linux::stat_line;
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::io;
    use std::time::Duration;

    use super::inside::inside;
    use super::testing::Started;
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn a_proc_of_another_pid_namespace_is_not_believed() {
        let place = ["unshare", "--pid", "--fork", "--kill-child"];
        if !inside(a_proc_of_another_pid_namespace_is_not_believed, &place) {
            return;
        }
        assert_eq!((os::available(), backend()), (false, Backend::Probe));
        let mut leader = Started::leader();
        let (group, mark) = (leader.group(), mark::Mark::new("DEADBEAT_TEST", "none"));
        let refused = [group.members(), mark.members()].map(|members| members.unwrap_err().kind());
        assert_eq!(refused, [io::ErrorKind::Unsupported; 2]);
        assert!(mark::carriers("PATH").found.is_empty());
        assert!(ExitFd::of_leader(group).is_none());
        assert!(!was_started_after(leader.pid(), Duration::ZERO), "it is the start of another process");
        // Its number is known to no group here until it is reaped.
        assert!(!group.is_gone());
        leader.kill();
        assert!(!group.is_gone());
        leader.reap();
        assert!(group.is_gone());
    }
}
