//! The watch that is kept on a group while it is killed: whether it is gone, and a wait until that may have changed.
//!
//! On Linux it holds the leader's pidfd, taken before the first signal, and signals through it where the kernel can
//! (6.9), so that a leader reaped in the middle cannot turn the number into a stranger's.

use std::os::fd::BorrowedFd;
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};

use super::os::{self, ProcWatch, SingleProcess};
use super::portable::ProbeWatch;
use super::process_group::ProcessGroup;
use super::seen::Seen;
use super::wait::{pause, wait_readable};
use crate::signal::Signal;

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

/// A watch on one group, or on a single process.
#[derive(Debug)]
pub(crate) struct GroupWatch {
    group: ProcessGroup,
    kind: WatchKind,
}

#[derive(Debug)]
enum WatchKind {
    Proc(ProcWatch),
    #[cfg_attr(not(target_os = "linux"), expect(dead_code, reason = "nothing holds a single process there"))]
    Single(SingleProcess),
    Probe(ProbeWatch),
}

impl GroupWatch {
    pub(crate) fn new(group: ProcessGroup) -> GroupWatch {
        let kind = match backend() {
            Backend::Proc => WatchKind::Proc(ProcWatch::new(group.pgid())),
            Backend::Probe => WatchKind::Probe(ProbeWatch::new(group.pgid())),
        };
        GroupWatch { group, kind }
    }

    /// The same watch on a single process, for one that has left its group; the number it goes by is its pid.
    ///
    /// The process is held first, and `is_it` is asked then whether it is the one that is meant. `None`: it is not, it
    /// has ended, or it must not be signalled.
    #[cfg(target_os = "linux")]
    pub(crate) fn of_process(pid: i32, is_it: impl Fn(i32) -> bool + Send + 'static) -> Option<GroupWatch> {
        let group = ProcessGroup::new(pid).ok()?;
        let process = SingleProcess::hold(pid, Box::new(is_it))?;
        Some(GroupWatch { group, kind: WatchKind::Single(process) })
    }

    pub(crate) fn group(&self) -> ProcessGroup {
        self.group
    }

    /// Another watch on the same group, not on a stranger that may have its number by now.
    pub(crate) fn again(&self) -> GroupWatch {
        let kind = match &self.kind {
            WatchKind::Proc(watch) => WatchKind::Proc(watch.again()),
            WatchKind::Single(_) => unreachable!("only the watch on a group is asked for another"),
            WatchKind::Probe(_) => WatchKind::Probe(ProbeWatch::new(self.group.pgid())),
        };
        GroupWatch { group: self.group, kind }
    }

    /// Whether, for want of a descriptor, a stranger that gets the number could not be told from the group. With POSIX
    /// alone it never could; that is documented, and no answer to this question.
    pub(crate) fn is_unidentified(&self) -> bool {
        match &self.kind {
            WatchKind::Proc(watch) => watch.is_unidentified(),
            WatchKind::Single(_) | WatchKind::Probe(_) => false,
        }
    }

    /// Whether any member can still run.
    pub(crate) fn look(&mut self) -> Seen {
        look_at_all(&mut [self])[0]
    }

    /// Whether no member can run again. `false` also where that cannot be told.
    pub(crate) fn is_gone(&mut self) -> bool {
        self.look() == Seen::Gone
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<(), Errno> {
        match &self.kind {
            WatchKind::Proc(watch) => watch.signal(signal.as_raw()),
            WatchKind::Single(process) => process.signal(signal.as_raw()),
            WatchKind::Probe(watch) => watch.signal(signal.as_raw()),
        }
    }

    /// Takes note that the leader will be reaped as soon as it exits, if the group can be signalled, and asked whether
    /// it is empty, by a leader that was reaped (Linux 6.9). Whether it can.
    pub(crate) fn expect_leader_reaped(&mut self) -> bool {
        match &mut self.kind {
            WatchKind::Proc(watch) => watch.expect_leader_reaped(),
            WatchKind::Single(_) | WatchKind::Probe(_) => false,
        }
    }

    /// Has the next look go through the process table, as is best while the group may be dying of a signal.
    pub(crate) fn walk_while_it_dies(&mut self) {
        if let WatchKind::Proc(watch) = &mut self.kind {
            watch.walk_while_it_dies();
        }
    }

    /// A descriptor that becomes readable when the answer to [`look`](GroupWatch::look) may have changed. Without one
    /// the only way is to look again.
    pub(crate) fn wake_fd(&self) -> Option<BorrowedFd<'_>> {
        match &self.kind {
            WatchKind::Proc(watch) => watch.held_fd(),
            WatchKind::Single(process) => process.fd(),
            WatchKind::Probe(_) => None,
        }
    }

    /// Whether the member that the last look saw is dying and only waits for a CPU.
    pub(crate) fn is_leaving(&self) -> bool {
        match &self.kind {
            WatchKind::Proc(watch) => watch.is_leaving(),
            WatchKind::Single(_) => os::is_leaving(self.group.pgid()),
            WatchKind::Probe(_) => false,
        }
    }

    /// Sleeps until the answer may have changed, for `at_most` this long.
    pub(crate) fn wait(&self, at_most: Duration) {
        match self.wake_fd() {
            Some(fd) => {
                wait_readable(&mut [PollFd::new(fd, PollFlags::POLLIN)], at_most);
            }
            None => pause(at_most),
        }
    }
}

impl ProcessGroup {
    /// Whether no member can run again.
    ///
    /// Without `/proc` zombies cannot be told from the living, and a group is gone only when nothing of it is left in
    /// the process table.
    pub fn is_gone(self) -> bool {
        GroupWatch::new(self).is_gone()
    }
}

/// Looks at many groups for the price of one walk through the process table.
pub(crate) fn look_at_all(watches: &mut [&mut GroupWatch]) -> Vec<Seen> {
    let mut by_proc = Vec::with_capacity(watches.len());
    let mut all_seen = Vec::with_capacity(watches.len());
    for (i, watch) in watches.iter_mut().enumerate() {
        all_seen.push(match &mut watch.kind {
            WatchKind::Single(process) => process.look(),
            WatchKind::Probe(watch) => watch.look(),
            WatchKind::Proc(watch) => {
                by_proc.push((i, watch));
                Seen::Unclear
            }
        });
    }
    for (i, seen) in os::look(&mut by_proc) {
        all_seen[i] = seen;
    }
    all_seen
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::super::testing::Started;
    use super::*;

    #[test]
    fn the_back_end_is_what_this_proc_and_the_build_allow() {
        assert_eq!(backend() == Backend::Proc, os::available() && !cfg!(deadbeat_portable));
    }

    #[test]
    fn many_looks_at_once_are_answered_in_their_order() {
        let (mut gone, alive) = (Started::leader(), Started::leader());
        let mut watches = [gone.group(), alive.group(), gone.group()].map(GroupWatch::new);
        assert_eq!(look_at_all(&mut watches.each_mut()), [Seen::Alive; 3]);
        gone.reap();
        assert_eq!(look_at_all(&mut watches.each_mut()), [Seen::Gone, Seen::Alive, Seen::Gone]);
        assert!(watches[0].is_gone() && !watches[1].is_gone());
        assert_eq!([0, 1].map(|i| watches[i].signal(Signal::CONT)), [Err(Errno::ESRCH), Ok(())]);
        assert_eq!(watches[1].wake_fd().is_some(), backend() == Backend::Proc, "its exit would end a wait");
        assert!(watches[0].wake_fd().is_none(), "no member is left whose exit could be waited for");
        assert!(!watches[1].is_leaving() && look_at_all(&mut []).is_empty());
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_single_process_is_watched_for_as_long_as_it_is_the_one_that_is_meant() {
        let mut leader = Started::leader();
        let pid = leader.pid();
        assert!(
            GroupWatch::of_process(pid, |_| false).is_none() && GroupWatch::of_process(i32::MAX, |_| true).is_none()
        );
        assert!(GroupWatch::of_process(1, |_| true).is_none(), "init must not be signalled");
        let mut watch = GroupWatch::of_process(pid, move |it| it == pid).unwrap();
        assert_eq!(watch.group().pgid(), pid);
        assert!(!watch.is_gone() && !watch.is_leaving() && watch.wake_fd().is_some());
        watch.signal(Signal::KILL).unwrap();
        assert!(os::is_dying(pid));
        leader.kill();
        assert!(watch.is_gone() && watch.is_leaving());
    }

    #[test]
    fn a_wait_is_no_spin() {
        let (mut gone, alive) = (Started::leader(), Started::leader());
        gone.reap();
        for group in [gone.group(), alive.group()] {
            let mut watch = GroupWatch::new(group);
            watch.look();
            // A signal to this process may end one early, but not all of them.
            let (start, mut waits) = (Instant::now(), 0);
            while start.elapsed() < Duration::from_millis(20) {
                watch.wait(Duration::from_millis(20));
                waits += 1;
            }
            assert!(waits < 100, "{waits} waits of {group}");
        }
    }
}
