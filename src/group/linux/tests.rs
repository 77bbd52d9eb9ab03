use nix::libc;

use super::super::inside::inside;
use super::super::testing::{OPEN, Pair, Started, before_6_9, failing};
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
fn a_process_of_another_group_is_not_held() {
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
        let (seen, new) = ([Found { pid, runs: true }], NewPids::since(None));
        assert_eq!(watch.after_walk(&seen, &new, &mut Walks::default()), Some(seen_now), "{watch:?}");
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
    assert!(matches!(watch.held, Some(HeldMember::Unheld(pid, _)) if pid == pair.member), "{watch:?}");
    assert_eq!(watch.signal(0), Ok(()));
    // Any other member that was seen is as good as the held one; the leader's own number is a stranger's by now.
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

/// What a group in the process table is taken for, after walks that saw this of it.
fn after_walks(walks: &[(&[bool], bool, bool)]) -> Vec<Option<Seen>> {
    let mut leader = Started::leader();
    leader.kill();
    let pgid = leader.pid();
    let (mut watch, mut seen) = (ProcWatch::new(pgid), Walks::default());
    let sight_after = |(members, is_new, vanished): &(&[bool], bool, bool)| {
        let members: Vec<_> = members.iter().map(|runs| Found { pid: pgid, runs: *runs }).collect();
        let groups = if *is_new { vec![pgid] } else { vec![i32::MAX] };
        watch.after_walk(&members, &NewPids::Known { groups, vanished: *vanished }, &mut seen)
    };
    walks.iter().map(sight_after).collect()
}

#[test]
fn a_group_is_gone_after_two_walks_in_a_row_that_saw_its_dead_and_no_new_pid() {
    let (dead, none): (&[bool], &[bool]) = (&[false, false], &[]);
    let (quiet, born, vanished, unseen) =
        ((dead, false, false), (dead, true, false), (dead, false, true), (none, false, false));
    // Taken for alive by the walk, and yet no live member can be found.
    let runs: (&[bool], bool, bool) = (&[false, true], false, false);
    for (walks, gone_after) in [
        (vec![quiet; 2], Some(2)),
        (vec![quiet, vanished, quiet, quiet], Some(4)),
        (vec![quiet, born, quiet, quiet], Some(4)),
        (vec![quiet, unseen, quiet, quiet], Some(4)),
        (vec![quiet, runs, quiet, quiet], Some(4)),
        // Six without a living member decide too, if no new pid was seen in the group.
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
    assert_eq!(after_walks(&[born_unseen, born_unseen, born_unseen, unseen]), [None, None, None, Some(Seen::Alive)]);
    assert_eq!(after_walks(&[unseen, quiet, unseen, unseen]), [None, None, None, Some(Seen::Alive)]);
}

#[test]
fn a_member_that_runs_is_held_next_and_a_group_without_any_is_gone_if_the_kernel_says_so() {
    let (mut leader, none) = (Started::leader(), NewPids::since(None));
    let (mut watch, mut walks) = (ProcWatch::new(leader.pid()), Walks { dead: 1, unseen: 1, quiet: 1 });
    watch.known.clear();
    let seen = [Found { pid: leader.pid(), runs: true }];
    assert_eq!(watch.after_walk(&seen, &none, &mut walks), Some(Seen::Alive));
    assert_eq!((watch.held_pid(), walks.dead, walks.unseen), (Some(leader.pid()), 0, 0));
    leader.reap();
    assert_eq!(watch.after_walk(&[], &none, &mut walks), Some(Seen::Gone));
    assert!(!watch.blind);
}

#[test]
fn new_pids_are_counted_from_the_beginning_of_a_series() {
    let series = |dead: &[usize]| dead.iter().map(|dead| Walks { dead: *dead, ..Walks::default() }).collect::<Vec<_>>();
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
