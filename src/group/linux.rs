//! What Linux can tell of a group: its members from `/proc`, their exits from pidfds.
//!
//! A group is gone when two walks through `/proc` in a row, the second begun after the first had ended, each saw at
//! least one member and none that can run, while no pid was handed out that may have been a member's; or when the kernel
//! says `ESRCH`. A walk is not atomic: a member can fork into the part already walked and die before the walk reaches it.
//! Two walks make that unlikely, and a chain that forks all the time makes it likely again; the pids handed out tell. On
//! a machine that forks all the time there is always one that vanished and may have been anybody's: there, six walks in
//! vain decide too, if in none of them a newborn was seen in the group.
//!
//! Between walks one live member, the *witness*, is held by its pidfd: while it has not exited and is still in the
//! group, the group is not gone, and no walk is needed to know that. When it exits, the next known member takes over;
//! when none is left, the table is walked again. So a kill costs a descriptor or two, however many members there are,
//! and all kills together never take more than half of what this process may open: beyond that they poll.
//!
//! A number is not given out while a member carries it. So where the leader was reaped and a process has the leader's
//! number, the group was gone before that process was born, and it is a stranger. Where there is no pidfd to tell by that
//! the leader was reaped, because descriptors are used up or the kernel has none, the time tells at which the process with
//! that number was started: it is noted at the beginning and compared before each signal. It is counted in clock ticks,
//! of 10 ms as a rule, so a stranger that got the number within the tick in which the leader was started is not told; and
//! between the comparison and the signal there is an instant.

mod new_pids;
mod pidfd;
mod progress;
mod single_process;
mod spare_fd;
mod table;

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::unistd::{Pid, getpgid};

use self::new_pids::NewPids;
pub(super) use self::new_pids::{handed_out_between, last_pid};
pub(super) use self::pidfd::Pidfd;
pub(super) use self::pidfd::open as open_pidfd;
use self::pidfd::{has_exited, is_reaped, reach_groups};
pub(super) use self::progress::progress;
pub(super) use self::single_process::{SingleProcess, kill_if};
pub(crate) use self::table::Kin;
#[cfg(fuzzing)]
pub use self::table::stat_line;
pub(super) use self::table::{
    available, command_of, is_dying, is_leaving, kin, members, members_where, runs, since_boot, started_at, walk,
};
#[cfg(feature = "cli")]
pub(super) use self::table::{hides_processes, parent};
use super::{Seen, raw};

/// The watch kept on one group.
#[derive(Debug)]
pub(super) struct ProcWatch {
    pgid: i32,
    /// The leader's pidfd, if there was a leader to open: it reaches the group even after the leader was reaped.
    leader: Option<Pidfd>,
    /// There was none: it had been reaped before.
    leaderless: bool,
    /// Without a pidfd: when the leader was started.
    started: Option<Duration>,
    /// Found alive by the last walk and not yet seen dead; excludes the witness.
    known: Vec<i32>,
    held: Option<HeldMember>,
    /// This `/proc` does not show the group: only the kernel is asked.
    blind: bool,
}

#[derive(Debug)]
enum HeldMember {
    /// Held by the pidfd that is there anyway.
    Leader,
    Member(i32, Pidfd),
    /// There is no descriptor to hold it by; it is the one that was started then.
    Unheld(i32, Duration),
}

impl ProcWatch {
    pub(super) fn new(pgid: i32) -> ProcWatch {
        spare_fd::keep();
        // While anything carries the number as its pgid, no stranger can carry it as its pid.
        ProcWatch::over(pgid, pidfd::open(pgid))
    }

    /// The same group, though its number may be a stranger's by now.
    pub(super) fn again(&self) -> ProcWatch {
        let Some(leader) = &self.leader else {
            let (leaderless, started) = (self.leaderless, self.started);
            return ProcWatch { leaderless, started, ..ProcWatch::unheld(self.pgid) };
        };
        match leader.again() {
            Ok(pidfd) => ProcWatch::over(self.pgid, Ok(pidfd)),
            Err(errno) => {
                let watch = ProcWatch::over(self.pgid, Err(errno));
                // What has just been noted is the leader's only if it is not reaped after that.
                let leaderless = is_reaped(leader);
                ProcWatch { leaderless, started: watch.started.filter(|_| !leaderless), ..watch }
            }
        }
    }

    fn over(pgid: i32, leader: Result<Pidfd, Errno>) -> ProcWatch {
        match leader {
            Ok(leader) => ProcWatch { leader: Some(leader), ..ProcWatch::unheld(pgid) },
            Err(Errno::ESRCH) => ProcWatch { leaderless: true, ..ProcWatch::unheld(pgid) },
            Err(_) => {
                let started = started_at(pgid);
                ProcWatch { leaderless: started.is_none() && !is_there(pgid), started, ..ProcWatch::unheld(pgid) }
            }
        }
    }

    /// Nothing is known of its leader.
    fn unheld(pgid: i32) -> ProcWatch {
        ProcWatch {
            pgid,
            leader: None,
            leaderless: false,
            started: None,
            // A leader that is alive is a witness as good as any, and saves the first walk.
            known: vec![pgid],
            held: None,
            blind: false,
        }
    }

    /// Whether a stranger that gets the number will not be told from the group: the leader is there, and could be neither
    /// held nor read.
    pub(super) fn is_unidentified(&self) -> bool {
        self.leader.is_none() && !self.leaderless && self.started.is_none()
    }

    pub(super) fn signal(&self, signal: i32) -> Result<(), Errno> {
        match &self.leader {
            Some(leader) if reach_groups(leader) => return raw::pidfd_killpg(leader.as_fd(), signal),
            _ if self.is_a_strangers() => return Err(Errno::ESRCH),
            // By number, which is the group's for as long as its leader is un-reaped or a member is in the table.
            Some(leader) if is_reaped(leader) && !self.has_a_known_member() => return Err(Errno::ESRCH),
            None => self.check_start()?,
            _ => {}
        }
        raw::killpg(self.pgid, signal)
    }

    /// Without a pidfd: whether the number is the group's still.
    fn check_start(&self) -> Result<(), Errno> {
        if self.started.is_none() || started_at(self.pgid) == self.started {
            return Ok(());
        }
        match is_there(self.pgid) {
            // When it was started cannot be read, and is not guessed.
            true => Err(Errno::EMFILE),
            false if self.has_a_known_member() => Ok(()),
            false => Err(Errno::ESRCH),
        }
    }

    /// Whether the number has been given out anew: its leader was reaped, and yet there is a process that has it.
    fn is_a_strangers(&self) -> bool {
        match (&self.leader, self.started) {
            (None, Some(started)) => started_at(self.pgid).is_some_and(|now| now != started),
            (leader, _) => leader.as_ref().map_or(self.leaderless, is_reaped) && is_there(self.pgid),
        }
    }

    /// Whether one that was seen in the group is still in it, dead or not: the number is the group's as long.
    fn has_a_known_member(&self) -> bool {
        let others = self.known.iter().filter(|pid| **pid != self.pgid);
        self.held_lives() || others.into_iter().any(|pid| is_member(*pid, self.pgid))
    }

    pub(super) fn held_fd(&self) -> Option<BorrowedFd<'_>> {
        match self.held.as_ref()? {
            HeldMember::Leader => self.leader.as_ref().map(Pidfd::as_fd),
            HeldMember::Member(_, pidfd) => Some(pidfd.as_fd()),
            HeldMember::Unheld(..) => None,
        }
    }

    /// The kernel's word that the group is empty, by the leader's pidfd, which cannot be mistaken for a stranger's.
    fn is_empty(&self) -> bool {
        let Some(leader) = &self.leader else { return false };
        reach_groups(leader) && raw::pidfd_killpg(leader.as_fd(), 0) == Err(Errno::ESRCH)
    }

    /// Whether the held member is dying and only waits for a CPU.
    pub(super) fn is_leaving(&self) -> bool {
        self.held_pid().is_some_and(is_leaving)
    }

    fn held_pid(&self) -> Option<i32> {
        match self.held.as_ref()? {
            HeldMember::Leader => Some(self.pgid),
            HeldMember::Member(pid, _) | HeldMember::Unheld(pid, _) => Some(*pid),
        }
    }

    /// Whether the witness is alive and still in the group, at the price of two system calls if it is held.
    fn held_lives(&self) -> bool {
        let Some(pid) = self.held_pid() else { return false };
        let lives = match self.held {
            Some(HeldMember::Unheld(_, started)) => runs(pid) && started_at(pid) == Some(started),
            _ => self.held_fd().is_some_and(|fd| !has_exited(fd)),
        };
        lives && is_member(pid, self.pgid)
    }

    /// Whether some member is known to be alive.
    fn holds_a_live_member(&mut self) -> bool {
        loop {
            if self.held_lives() {
                return true;
            }
            self.held = None;
            let Some(pid) = self.known.pop() else { return false };
            if pid == self.pgid && self.leader.is_some() {
                self.held = Some(HeldMember::Leader);
                continue;
            }
            match pidfd::open(pid) {
                // The pidfd came first, so a number that was reused meanwhile is told by its group.
                Ok(pidfd) => self.held = Some(HeldMember::Member(pid, pidfd)),
                Err(Errno::ESRCH) => {}
                // No descriptor to be had. One that cannot be read either is asked again by the next look.
                Err(_) => match started_at(pid) {
                    Some(started) => self.held = Some(HeldMember::Unheld(pid, started)),
                    None if is_member(pid, self.pgid) && runs(pid) => return true,
                    None => {}
                },
            }
        }
    }
}

/// How many walks one look may take before a group whose members change all the time is just called alive.
const WALKS: usize = 6;

/// Looks at many groups at once; only those without a witness cost a walk, and they share it.
pub(super) fn look<K: Copy>(watches: &mut [(K, &mut ProcWatch)]) -> Vec<(K, Seen)> {
    let mut all_seen: Vec<Option<Seen>> = watches.iter_mut().map(|(_, watch)| watch.without_walk()).collect();
    let mut series = vec![Walks::default(); watches.len()];
    let mut born_since = new_pids::last_pid();
    for _ in 0..WALKS {
        let open = watches.iter().zip(&all_seen).filter(|(_, seen_now)| seen_now.is_none());
        let mut seen: HashMap<i32, Vec<Found>> = open.map(|((_, watch), _)| (watch.pgid, Vec::new())).collect();
        if seen.is_empty() {
            break;
        }
        let walked = walk(|pid, pgid| {
            if let Some(members) = seen.get_mut(&pgid) {
                members.push(Found { pid, runs: runs(pid) })
            }
        });
        if walked.is_err() {
            // Out of descriptors or memory, say: it decides nothing, and the next look may do better.
            break;
        }
        let born = NewPids::since(born_since);
        for (((_, watch), seen_now), walks) in watches.iter_mut().zip(&mut all_seen).zip(&mut series) {
            if seen_now.is_none() {
                *seen_now = watch.after_walk(&seen[&watch.pgid], &born, walks);
            }
        }
        if is_between_series(&series) {
            born_since = new_pids::last_pid();
        }
    }
    let mut all = Vec::with_capacity(watches.len());
    for ((key, _), seen_now) in watches.iter().zip(all_seen) {
        all.push((*key, seen_now.unwrap_or(Seen::Unclear)));
    }
    all
}

/// A member that a walk came upon.
struct Found {
    pid: i32,
    runs: bool,
}

/// What the walks of one look have shown of one group so far.
#[derive(Clone, Copy, Default)]
struct Walks {
    /// Walks in a row that saw members and none that can run, with nobody born who may have been one.
    dead: usize,
    /// Walks in a row that saw no member at all.
    unseen: usize,
    /// Walks that saw nobody alive and nobody born in the group, whoever else came and went meanwhile.
    quiet: usize,
}

/// Whether no group is in the middle of its two walks: the next pair starts here.
fn is_between_series(series: &[Walks]) -> bool {
    series.iter().all(|walks| walks.dead != 1)
}

impl ProcWatch {
    /// What can be said without a walk.
    fn without_walk(&mut self) -> Option<Seen> {
        if self.is_a_strangers() {
            return Some(Seen::Gone);
        }
        if self.blind {
            let gone = raw::killpg(self.pgid, 0) == Err(Errno::ESRCH);
            return Some(if gone { Seen::Gone } else { Seen::Alive });
        }
        if self.holds_a_live_member() {
            return Some(Seen::Alive);
        }
        self.is_empty().then_some(Seen::Gone)
    }

    /// What can be said after a walk that came upon these members.
    fn after_walk(&mut self, members: &[Found], born: &NewPids, walks: &mut Walks) -> Option<Seen> {
        if self.is_a_strangers() {
            return Some(Seen::Gone);
        }
        if members.iter().any(|member| member.runs) {
            (walks.dead, walks.unseen) = (0, 0);
            self.known.extend(members.iter().filter(|member| member.runs).map(|member| member.pid));
            return self.holds_a_live_member().then_some(Seen::Alive);
        }
        if members.is_empty() {
            if raw::killpg(self.pgid, 0) == Err(Errno::ESRCH) {
                return Some(Seen::Gone);
            }
            (walks.dead, walks.unseen) = (0, walks.unseen + 1);
            // The kernel knows of members, and this `/proc` does not show them; or they are born and dead between walks.
            self.blind = walks.unseen >= 2 && !born.may_include(self.pgid);
            return self.blind.then_some(Seen::Alive);
        }
        walks.unseen = 0;
        walks.dead = if born.may_include(self.pgid) { 0 } else { walks.dead + 1 };
        walks.quiet += usize::from(!born.include(self.pgid));
        (walks.dead >= 2 || walks.quiet == WALKS).then_some(Seen::Gone)
    }
}

/// Whether a process has this number, a zombie too.
fn is_there(pid: i32) -> bool {
    getpgid(Some(Pid::from_raw(pid))).is_ok()
}

fn is_member(pid: i32, pgid: i32) -> bool {
    getpgid(Some(Pid::from_raw(pid))) == Ok(Pid::from_raw(pgid))
}

#[cfg(test)]
mod tests {
    use nix::libc;

    use super::super::inside::inside;
    use super::super::tests::{OPEN, Pair, Started, before_6_9, failing};
    use super::*;

    /// A watch on the group of that number, whose leader was another process, and is reaped.
    fn of_a_reaped_leader(pgid: i32) -> ProcWatch {
        let mut leader = Started::leader();
        let held = pidfd::open(leader.pid());
        leader.reap();
        ProcWatch::over(pgid, held)
    }

    fn look_at(watch: &mut ProcWatch) -> Seen {
        look(&mut [((), watch)])[0].1
    }

    fn reach(watch: &ProcWatch) -> bool {
        watch.leader.as_ref().is_some_and(reach_groups)
    }

    #[test]
    fn the_witness_is_the_leader_and_then_another_who_is_known_to_live() {
        let mut pair = Pair::start();
        let pgid = pair.leader.pid();
        let mut watch = ProcWatch::new(pgid);
        assert_eq!((watch.held_pid(), watch.held_lives(), watch.held_fd().is_some()), (None, false, false));
        watch.known.insert(0, pair.member);
        assert!(watch.holds_a_live_member());
        assert!(matches!(watch.held, Some(HeldMember::Leader)), "it is held anyway: {watch:?}");
        assert_eq!((watch.held_pid(), watch.held_lives(), watch.held_fd().is_some()), (Some(pgid), true, true));
        pair.leader.kill();
        assert!(!watch.held_lives(), "a zombie");
        assert!(watch.holds_a_live_member());
        assert!(matches!(watch.held, Some(HeldMember::Member(..))), "{watch:?}");
        let member = Some(pair.member);
        assert_eq!((watch.held_pid(), watch.held_lives(), watch.held_fd().is_some()), (member, true, true));
        pair.kill_member();
        assert!(!watch.holds_a_live_member());
        assert_eq!((watch.held_pid(), watch.known), (None, vec![]));
    }

    #[test]
    fn who_is_in_another_group_is_no_witness() {
        let (ours, other) = (Started::leader(), Started::leader());
        let members = [(ours.pid(), ours.pid()), (other.pid(), ours.pid()), (i32::MAX, i32::MAX)];
        assert_eq!(members.map(|(pid, pgid)| is_member(pid, pgid)), [true, false, false]);
        let mut watch = ProcWatch::new(ours.pid());
        watch.known = vec![other.pid()];
        assert!(!watch.holds_a_live_member());
        watch.held = Some(HeldMember::Member(other.pid(), pidfd::open(other.pid()).unwrap()));
        assert!(!watch.held_lives());
    }

    #[test]
    fn without_a_descriptor_for_it_a_witness_is_one_that_is_in_the_group_and_runs() {
        let (mut ours, other) = (Started::leader(), Started::leader());
        let pgid = ours.pid();
        let holds_a_live_member = |known| {
            failing(&[libc::SYS_pidfd_open], Errno::EMFILE, || {
                let mut watch = ProcWatch::new(pgid);
                assert!(watch.leader.is_none() && !watch.leaderless);
                watch.known = vec![known];
                (watch.holds_a_live_member(), watch.known)
            })
        };
        assert_eq!(holds_a_live_member(pgid), (true, vec![]));
        assert_eq!(holds_a_live_member(other.pid()), (false, vec![]));
        ours.kill();
        assert_eq!(holds_a_live_member(pgid), (false, vec![]), "a zombie");
    }

    #[test]
    fn a_number_that_another_process_has_is_a_strangers_and_takes_no_signal() {
        let mut stranger = Started::leader();
        let pid = stranger.pid();
        let leaderless = || ProcWatch::over(pid, Err(Errno::ESRCH));
        for (mut watch, is_a_strangers) in [
            (ProcWatch::new(pid), false),
            (ProcWatch::over(pid, Err(Errno::EMFILE)), false),
            (ProcWatch { started: Some(Duration::ZERO), ..ProcWatch::unheld(pid) }, true),
            (leaderless(), true),
            (of_a_reaped_leader(pid), true),
        ] {
            assert_eq!(watch.is_a_strangers(), is_a_strangers, "{watch:?}");
            let (seen_now, signalled) =
                if is_a_strangers { (Seen::Gone, Err(Errno::ESRCH)) } else { (Seen::Alive, Ok(())) };
            assert_eq!((watch.signal(0), watch.without_walk()), (signalled, Some(seen_now)));
            // And it is none of the group's that a walk comes upon.
            let (seen, born) = ([Found { pid, runs: true }], NewPids::since(None));
            assert_eq!(watch.after_walk(&seen, &born, &mut Walks::default()), Some(seen_now), "{watch:?}");
        }
        let (mut watch, reaped) = (leaderless(), of_a_reaped_leader(i32::MAX));
        stranger.reap();
        assert!(!watch.is_a_strangers() && !reaped.is_a_strangers(), "nobody has the number");
        assert_eq!(look_at(&mut watch), Seen::Gone);
    }

    #[test]
    fn without_a_descriptor_a_group_is_known_by_the_start_of_its_leader_and_then_by_a_member() {
        let mut pair = Pair::start();
        let (mut watch, again) = failing(&[libc::SYS_pidfd_open], Errno::EMFILE, || {
            let watch = ProcWatch::new(pair.leader.pid());
            let again = watch.again();
            (watch, again)
        });
        assert!(watch.started.is_some() && again.started == watch.started && !watch.is_unidentified(), "{watch:?}");
        assert_eq!([watch.signal(0), again.signal(0)], [Ok(()); 2]);
        pair.leader.reap();
        assert_eq!(watch.signal(0), Err(Errno::ESRCH), "no member was seen yet");
        assert_eq!(failing(&[libc::SYS_pidfd_open], Errno::EMFILE, || look_at(&mut watch)), Seen::Alive);
        assert!(matches!(watch.held, Some(HeldMember::Unheld(pid, _)) if pid == pair.member), "{watch:?}");
        assert_eq!(watch.signal(0), Ok(()));
        // As good as the witness is any other that was seen; the leader's own number is a stranger's by now.
        watch.held = None;
        watch.known = vec![pair.leader.pid()];
        assert_eq!(watch.signal(0), Err(Errno::ESRCH));
        watch.known.push(pair.member);
        assert_eq!(watch.signal(0), Ok(()));
        watch.held = Some(HeldMember::Unheld(pair.member, Duration::ZERO));
        assert!(!watch.held_lives(), "it is another");
    }

    #[test]
    fn a_start_that_cannot_be_read_is_not_guessed() {
        let leader = Started::leader();
        let pid = leader.pid();
        let calls = [&[libc::SYS_pidfd_open], OPEN].concat();
        let (unidentified, refused) = failing(&calls, Errno::EMFILE, || {
            let watch = ProcWatch { started: Some(Duration::ZERO), ..ProcWatch::unheld(pid) };
            (ProcWatch::new(pid).is_unidentified(), watch.signal(0))
        });
        assert_eq!((unidentified, refused), (true, Err(Errno::EMFILE)));
        for watch in
            [ProcWatch::new(pid), ProcWatch::over(pid, Err(Errno::EMFILE)), ProcWatch::over(pid, Err(Errno::ESRCH))]
        {
            assert!(!watch.is_unidentified(), "{watch:?}");
        }
    }

    #[test]
    fn another_watch_without_a_descriptor_is_kept_on_the_same_leader() {
        let mut leader = Started::leader();
        let watch = ProcWatch::new(leader.pid());
        let again = || failing(&[libc::SYS_fcntl], Errno::EMFILE, || watch.again());
        assert!(again().leader.is_none() && again().started == started_at(leader.pid()) && !again().leaderless);
        leader.reap();
        assert!(again().leaderless && again().started.is_none());
    }

    #[test]
    fn a_group_is_signalled_by_its_leader_who_was_reaped() {
        let mut pair = Pair::start();
        let watch = ProcWatch::new(pair.leader.pid());
        assert_eq!(watch.signal(0), Ok(()));
        pair.leader.reap();
        // By number it is not, before a member was seen.
        assert_eq!(watch.signal(0), if reach(&watch) { Ok(()) } else { Err(Errno::ESRCH) });
        assert!(!watch.is_empty());
    }

    #[test]
    fn only_the_kernel_calls_a_group_empty() {
        let mut leader = Started::leader();
        let mut watch = ProcWatch::new(leader.pid());
        assert!(!watch.is_empty());
        leader.kill();
        assert!(!watch.is_empty(), "a zombie is something");
        assert_eq!(watch.without_walk(), None, "and nobody's life");
        leader.reap();
        assert_eq!(watch.is_empty(), reach(&watch));
        assert_eq!(watch.without_walk(), reach(&watch).then_some(Seen::Gone));
        assert!(!ProcWatch::over(leader.pid(), Err(Errno::ESRCH)).is_empty(), "there is no leader to ask by");
        assert_eq!(watch.signal(0), Err(Errno::ESRCH));
    }

    #[test]
    fn before_linux_6_9_a_group_is_signalled_by_a_number_that_somebody_vouches_for() {
        if !inside(before_linux_6_9_a_group_is_signalled_by_a_number_that_somebody_vouches_for, &[]) {
            return;
        }
        before_6_9(|| {
            let mut pair = Pair::start();
            let mut watch = ProcWatch::new(pair.leader.pid());
            assert!(!reach(&watch) && !watch.is_empty());
            assert_eq!(watch.signal(0), Ok(()), "the leader, who is not reaped");
            pair.leader.reap();
            assert_eq!(watch.signal(0), Err(Errno::ESRCH), "nobody: it may be anybody's");
            assert_eq!(look_at(&mut watch), Seen::Alive);
            assert_eq!(watch.signal(0), Ok(()), "the member who was seen");
            pair.kill_member();
            assert_eq!(watch.signal(0), Err(Errno::ESRCH));
        });
    }

    #[test]
    fn of_a_group_that_proc_does_not_show_only_the_kernel_is_asked() {
        let mut leader = Started::leader();
        let mut watch = ProcWatch { blind: true, ..ProcWatch::over(leader.pid(), Err(Errno::EMFILE)) };
        assert_eq!(watch.without_walk(), Some(Seen::Alive));
        leader.kill();
        assert_eq!(watch.without_walk(), Some(Seen::Alive), "it cannot know");
        leader.reap();
        assert_eq!(watch.without_walk(), Some(Seen::Gone));
    }

    /// What a group in the process table is taken for, after walks that saw this of it.
    fn after_walks(walks: &[(&[bool], bool, bool)]) -> Vec<Option<Seen>> {
        let mut leader = Started::leader();
        leader.kill();
        let pgid = leader.pid();
        let (mut watch, mut seen) = (ProcWatch::new(pgid), Walks::default());
        let sight_after = |(members, is_born, vanished): &(&[bool], bool, bool)| {
            let members: Vec<_> = members.iter().map(|runs| Found { pid: pgid, runs: *runs }).collect();
            let groups = if *is_born { vec![pgid] } else { vec![i32::MAX] };
            watch.after_walk(&members, &NewPids::Known { groups, vanished: *vanished }, &mut seen)
        };
        walks.iter().map(sight_after).collect()
    }

    #[test]
    fn a_group_is_gone_after_two_walks_in_a_row_that_saw_its_dead_and_nobody_born() {
        let (dead, none): (&[bool], &[bool]) = (&[false, false], &[]);
        let (quiet, born, vanished, unseen) =
            ((dead, false, false), (dead, true, false), (dead, false, true), (none, false, false));
        // Taken for alive by the walk, and yet nobody who lives can be found.
        let runs: (&[bool], bool, bool) = (&[false, true], false, false);
        for (walks, gone_after) in [
            (vec![quiet; 2], Some(2)),
            (vec![quiet, vanished, quiet, quiet], Some(4)),
            (vec![quiet, born, quiet, quiet], Some(4)),
            (vec![quiet, unseen, quiet, quiet], Some(4)),
            (vec![quiet, runs, quiet, quiet], Some(4)),
            // Six in vain decide too, if nobody was seen to be born into it.
            (vec![vanished; WALKS], Some(WALKS)),
            (vec![vanished, born, vanished, vanished, vanished, vanished, vanished], Some(WALKS + 1)),
            (vec![born; WALKS + 2], None),
        ] {
            let mut expected = vec![None; walks.len()];
            if let Some(last) = gone_after {
                expected[last - 1] = Some(Seen::Gone);
            }
            assert_eq!(after_walks(&walks), expected, "{walks:?}");
        }
        // What the kernel knows of and the walks do not show, twice in a row, unless it forks faster than they come.
        let born_unseen: (&[bool], bool, bool) = (&[], true, false);
        assert_eq!(
            after_walks(&[born_unseen, born_unseen, born_unseen, unseen]),
            [None, None, None, Some(Seen::Alive)]
        );
        assert_eq!(after_walks(&[unseen, quiet, unseen, unseen]), [None, None, None, Some(Seen::Alive)]);
    }

    #[test]
    fn a_member_who_runs_is_the_next_witness_and_a_group_without_any_is_gone_if_the_kernel_says_so() {
        let (mut leader, nobody) = (Started::leader(), NewPids::since(None));
        let (mut watch, mut walks) = (ProcWatch::new(leader.pid()), Walks { dead: 1, unseen: 1, quiet: 1 });
        watch.known.clear();
        let seen = [Found { pid: leader.pid(), runs: true }];
        assert_eq!(watch.after_walk(&seen, &nobody, &mut walks), Some(Seen::Alive));
        assert_eq!((watch.held_pid(), walks.dead, walks.unseen), (Some(leader.pid()), 0, 0));
        leader.reap();
        assert_eq!(watch.after_walk(&[], &nobody, &mut walks), Some(Seen::Gone));
        assert!(!watch.blind);
    }

    #[test]
    fn new_pids_are_counted_from_the_beginning_of_a_series() {
        let series =
            |dead: &[usize]| dead.iter().map(|dead| Walks { dead: *dead, ..Walks::default() }).collect::<Vec<_>>();
        assert!(is_between_series(&[]) && is_between_series(&series(&[0, 2])));
        assert!(!is_between_series(&series(&[1])) && !is_between_series(&series(&[0, 1, 2])));
    }

    #[test]
    fn many_are_looked_at_together_and_each_is_told_by_its_key() {
        let (mut dead, alive) = (Started::leader(), Started::leader());
        dead.kill();
        let [mut first, mut second] = [&dead, &alive].map(|leader| ProcWatch::new(leader.pid()));
        let all_seen = look(&mut [("dead", &mut first), ("alive", &mut second)]);
        assert_eq!(all_seen, [("dead", Seen::Gone), ("alive", Seen::Alive)]);
    }

    #[test]
    fn a_look_that_could_not_tell_is_unclear_and_the_next_may_do_better() {
        let mut leader = Started::leader();
        leader.kill();
        let mut watch = ProcWatch::new(leader.pid());
        let unclear = failing(&[libc::SYS_getdents64], Errno::ENOMEM, || look_at(&mut watch));
        assert_eq!((unclear, watch.is_leaving()), (Seen::Unclear, false), "there is no held member");
        assert_eq!((look_at(&mut watch), watch.is_leaving()), (Seen::Gone, false));
    }

    #[test]
    fn a_held_member_is_leaving_when_it_is_dying() {
        let mut leader = Started::leader();
        let mut watch = ProcWatch::new(leader.pid());
        assert_eq!((look_at(&mut watch), watch.is_leaving()), (Seen::Alive, false));
        leader.kill();
        assert!(watch.is_leaving());
    }
}
