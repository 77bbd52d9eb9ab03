use nix::libc;

use super::super::super::inside::inside;
use super::super::super::testing::{OPEN, Pair, Started, before_6_9, failing};
use super::super::two_walks::look;
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
fn the_held_member_is_the_leader_and_then_another_that_is_known_to_live() {
    let mut pair = Pair::start();
    let pgid = pair.leader.pid();
    let mut watch = ProcWatch::new(pgid);
    assert_eq!((watch.held_pid(), watch.held_lives(), watch.held_fd().is_some()), (None, false, false));
    watch.known.insert(0, pair.member);
    assert!(watch.holds_a_live_member());
    assert!(matches!(watch.held.last(), Some(HeldMember::Leader)), "it is held anyway: {watch:?}");
    assert_eq!((watch.held_pid(), watch.held_lives(), watch.held_fd().is_some()), (Some(pgid), true, true));
    pair.leader.kill();
    assert!(!watch.held_lives(), "a zombie");
    assert!(watch.holds_a_live_member());
    assert!(matches!(watch.held.last(), Some(HeldMember::Member(..))), "{watch:?}");
    let member = Some(pair.member);
    assert_eq!((watch.held_pid(), watch.held_lives(), watch.held_fd().is_some()), (member, true, true));
    pair.kill_member();
    assert!(!watch.holds_a_live_member());
    assert_eq!((watch.held_pid(), watch.known), (None, vec![]));
}

#[test]
fn a_process_of_another_group_is_not_held() {
    let (ours, other) = (Started::leader(), Started::leader());
    let members = [(ours.pid(), ours.pid()), (other.pid(), ours.pid()), (i32::MAX, i32::MAX)];
    assert_eq!(members.map(|(pid, pgid)| is_member(pid, pgid)), [true, false, false]);
    let mut watch = ProcWatch::new(ours.pid());
    watch.known = vec![other.pid()];
    assert!(!watch.holds_a_live_member());
    watch.held = vec![HeldMember::Member(other.pid(), pidfd::open(other.pid()).unwrap())];
    assert!(!watch.held_lives());
}

#[test]
fn without_a_descriptor_a_member_is_one_that_is_in_the_group_and_runs() {
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
        let (shown, mut new) = (watch.take_up_walk(&[pid]), NewPids::in_groups([pid]));
        assert_eq!(watch.after_walk(UNKNOWN, shown, &mut new, &mut 0), Some(seen_now), "{watch:?}");
    }
    let (mut watch, reaped) = (leaderless(), of_a_reaped_leader(i32::MAX));
    stranger.reap();
    assert!(!watch.is_a_strangers() && !reaped.is_a_strangers(), "no process has the number");
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
    assert!(matches!(watch.held.last(), Some(HeldMember::Unheld(pid, _)) if *pid == pair.member), "{watch:?}");
    assert_eq!(watch.signal(0), Ok(()));
    // Any other member that was seen is as good as the held one; the leader's own number is a stranger's by now.
    watch.held.clear();
    watch.known = vec![pair.leader.pid()];
    assert_eq!(watch.signal(0), Err(Errno::ESRCH));
    watch.known.push(pair.member);
    assert_eq!(watch.signal(0), Ok(()));
    watch.held = vec![HeldMember::Unheld(pair.member, Duration::ZERO)];
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
fn a_group_is_signalled_through_its_leader_that_was_reaped() {
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
    assert_eq!(watch.without_walk(), None, "and shows no life");
    leader.reap();
    assert_eq!(watch.is_empty(), reach(&watch));
    assert_eq!(watch.without_walk(), reach(&watch).then_some(Seen::Gone));
    assert!(!ProcWatch::over(leader.pid(), Err(Errno::ESRCH)).is_empty(), "there is no leader to ask by");
    assert_eq!(watch.signal(0), Err(Errno::ESRCH));
}

#[test]
fn before_linux_6_9_a_group_is_signalled_by_a_number_that_a_member_still_has() {
    if !inside(before_linux_6_9_a_group_is_signalled_by_a_number_that_a_member_still_has, &[]) {
        return;
    }
    before_6_9(|| {
        let mut pair = Pair::start();
        let mut watch = ProcWatch::new(pair.leader.pid());
        assert!(!reach(&watch) && !watch.is_empty());
        assert_eq!(watch.signal(0), Ok(()), "the leader, which is not reaped");
        pair.leader.reap();
        assert_eq!(watch.signal(0), Err(Errno::ESRCH), "nothing: the number may be a stranger's");
        assert_eq!(look_at(&mut watch), Seen::Alive);
        assert_eq!(watch.signal(0), Ok(()), "the member that was seen");
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

/// A walk on a system that does not say what it hands out.
const UNKNOWN: Covering = Covering { since: None };

/// A walk before which the system says something.
const KNOWN: Covering = Covering { since: Some(300) };

/// What a watch makes of a series of walks that came upon these members, and of these new pids of the group.
struct Series {
    watch: ProcWatch,
    unseen: usize,
}

impl Series {
    fn of(pgid: i32) -> Series {
        let mut watch = ProcWatch::new(pgid);
        // As after a first look at a leader that is dead.
        watch.holds_a_live_member();
        Series { watch, unseen: 0 }
    }

    fn walk(&mut self, members: &[i32], new: Option<&[i32]>) -> Option<Seen> {
        let living = new.map(|new| new.iter().map(|pid| (*pid, self.watch.pgid)).collect());
        let shown = self.watch.take_up_walk(members);
        self.watch.after_walk(KNOWN, shown, &mut NewPids::asked(living), &mut self.unseen)
    }

    fn holds_a_live_member(&mut self) -> bool {
        self.watch.holds_a_live_member()
    }
}

#[test]
fn a_group_of_dead_members_is_gone_after_two_walks_and_too_many_new_pids_cost_another() {
    let mut leader = Started::leader();
    leader.kill();
    let pgid = leader.pid();
    let (quiet, busy, unseen) = ((vec![pgid], Some(&[][..])), (vec![pgid], None), (vec![], Some(&[][..])));
    let walks_of = |walks: &[&(Vec<i32>, Option<&[i32]>)]| {
        let mut series = Series::of(pgid);
        walks.iter().map(|(members, new)| series.walk(members, *new)).collect::<Vec<_>>()
    };
    assert_eq!(walks_of(&[&quiet, &quiet]), [None, Some(Seen::Gone)]);
    assert_eq!(walks_of(&[&quiet, &busy, &busy, &quiet]), [None, None, None, Some(Seen::Gone)]);
    assert_eq!(walks_of(&[&quiet, &unseen, &quiet, &quiet]), [None, None, None, Some(Seen::Gone)]);
    // What the kernel knows of and the walks do not show, twice in a row, unless it forks faster than they come.
    assert_eq!(walks_of(&[&unseen, &quiet, &unseen, &unseen]), [None, None, None, Some(Seen::Alive)]);
    let busy_unseen = (vec![], None);
    let walks = walks_of(&[&busy_unseen, &busy_unseen, &busy_unseen, &unseen]);
    assert_eq!(walks, [None, None, None, Some(Seen::Alive)]);
}

#[test]
fn a_walk_while_the_group_dies_covers_the_one_after_its_death() {
    let mut pair = Pair::start();
    let (pgid, member) = (pair.leader.pid(), pair.member);
    let mut series = Series::of(pgid);
    assert_eq!(series.walk(&[pgid, member], Some(&[])), Some(Seen::Alive));
    pair.leader.kill();
    assert!(series.holds_a_live_member(), "the member lives");
    pair.kill_member();
    assert!(!series.holds_a_live_member());
    assert_eq!(series.walk(&[pgid], Some(&[])), Some(Seen::Gone));
}

#[test]
fn a_walk_that_began_before_the_last_held_member_had_exited_is_not_the_second() {
    let mut pair = Pair::start();
    let (pgid, member) = (pair.leader.pid(), pair.member);
    let mut series = Series::of(pgid);
    assert_eq!(series.walk(&[pgid, member], Some(&[])), Some(Seen::Alive));
    pair.leader.kill();
    pair.kill_member();
    // Nothing has asked since whether those that are held live.
    assert_eq!(series.walk(&[pgid], Some(&[])), None);
    assert_eq!(series.walk(&[pgid], Some(&[])), Some(Seen::Gone));
}

/// 1. The leader has taken a number for its child; the walk begins, and the number is none of those handed out since.
/// 2. The walk has passed the number when the child comes into the table.
/// 3. The leader exits.
#[test]
fn a_child_whose_number_is_older_than_the_walk_that_missed_it_is_found_by_the_second() {
    let mut pair = Pair::start();
    let (pgid, child) = (pair.leader.pid(), pair.member);
    let mut series = Series::of(pgid);
    assert_eq!(series.walk(&[pgid], Some(&[])), Some(Seen::Alive));
    pair.leader.kill();
    assert!(!series.holds_a_live_member(), "no walk has shown the child");
    assert_eq!(series.walk(&[pgid, child], Some(&[])), Some(Seen::Alive));
    assert_eq!(series.watch.held_pid(), Some(child));
}

#[test]
fn a_new_member_behind_the_second_walk_is_found_by_its_number() {
    let mut pair = Pair::start();
    let (pgid, child) = (pair.leader.pid(), pair.member);
    pair.leader.kill();
    let mut series = Series::of(pgid);
    assert_eq!(series.walk(&[pgid], Some(&[])), None);
    assert_eq!(series.walk(&[pgid], Some(&[child])), Some(Seen::Alive));
    pair.kill_member();
    assert!(!series.holds_a_live_member());
    // It lived when it was asked, and does not any more: it may have left a child meanwhile.
    assert_eq!(series.walk(&[pgid], Some(&[child])), None);
    assert_eq!(series.walk(&[pgid], Some(&[])), Some(Seen::Gone));
}

/// The limit of any number of walks: an outsider that joins behind the second one is older than the first.
#[test]
fn a_process_that_joins_by_setpgid_behind_the_second_walk_is_missed() {
    let mut pair = Pair::start();
    pair.leader.kill();
    let pgid = pair.leader.pid();
    let mut series = Series::of(pgid);
    let all_seen = [(); 2].map(|()| series.walk(&[pgid], Some(&[])));
    assert_eq!(all_seen, [None, Some(Seen::Gone)]);
    assert!(is_member(pair.member, pgid), "it is there");
}

#[test]
fn members_that_cannot_be_held_leave_a_walk_without_cover() {
    let mut pair = Pair::start();
    let (pgid, member) = (pair.leader.pid(), pair.member);
    let mut series = Series::of(pgid);
    let walk = || series.walk(&[pgid, member], Some(&[]));
    assert_eq!(failing(&[libc::SYS_pidfd_open], Errno::EMFILE, walk), Some(Seen::Alive));
    assert_eq!((series.watch.covering, &series.watch.known[..]), (None, &[member][..]));
    pair.leader.kill();
    pair.kill_member();
    assert!(!series.holds_a_live_member());
    let all_seen = [(); 2].map(|()| series.walk(&[pgid], Some(&[])));
    assert_eq!(all_seen, [None, Some(Seen::Gone)]);
}

#[test]
fn a_group_without_any_member_is_gone_if_the_kernel_says_so() {
    let mut leader = Started::leader();
    let mut series = Series::of(leader.pid());
    leader.reap();
    assert_eq!(series.walk(&[], Some(&[])), Some(Seen::Gone));
    assert!(!series.watch.blind);
}

#[test]
fn a_look_after_a_signal_walks_although_a_member_is_known_to_live() {
    let pair = Pair::start();
    let mut watch = ProcWatch::new(pair.leader.pid());
    assert_eq!((look_at(&mut watch), watch.held.len(), watch.covering), (Seen::Alive, 1, None));
    watch.walk_while_it_dies();
    assert_eq!((look_at(&mut watch), watch.held.len()), (Seen::Alive, 2));
    assert!(watch.covering.is_some_and(|walk| walk.since.is_some()));
    // One that fails tells nothing new: the member that is held lives.
    watch.walk_while_it_dies();
    assert_eq!(failing(&[libc::SYS_getdents64], Errno::ENOMEM, || look_at(&mut watch)), Seen::Alive);
}

#[test]
fn of_a_leader_that_is_reaped_at_once_no_walk_is_asked_for_at_first() {
    let mut leader = Started::leader();
    let mut watch = ProcWatch::new(leader.pid());
    assert_eq!(watch.expect_leader_reaped(), reach(&watch));
    if !reach(&watch) {
        return;
    }
    watch.walk_while_it_dies();
    assert_eq!((look_at(&mut watch), watch.covering), (Seen::Alive, None), "there was no walk");
    leader.kill();
    let start = Instant::now();
    let mut looks = Vec::new();
    while looks.last() != Some(&None) {
        looks.push(watch.without_walk());
    }
    assert!(start.elapsed() >= REAPED_WITHIN);
    // A machine that stands still that long asks once.
    assert_eq!(looks[0], Some(Seen::Emptying), "{looks:?}");
    assert_eq!(look_at(&mut watch), Seen::Gone, "by walks");
    leader.reap();
    assert_eq!(watch.without_walk(), Some(Seen::Gone));
    assert!(!ProcWatch::over(leader.pid(), Err(Errno::EMFILE)).expect_leader_reaped(), "nothing to ask by");
}

#[test]
fn no_more_members_are_held_than_leave_room_for_other_kills() {
    let pair = Pair::start();
    let mut watch = ProcWatch::new(pair.leader.pid());
    watch.held = (0..MOST_HELD).map(|_| HeldMember::Unheld(i32::MAX, Duration::ZERO)).collect();
    assert!(watch.take_up(&[pair.member]));
    assert_eq!((watch.held.len(), watch.known.last()), (MOST_HELD, Some(&pair.member)));
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
