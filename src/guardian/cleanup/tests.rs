use super::*;

const MS: Duration = Duration::from_millis(1);
const FAR: Duration = Duration::from_secs(3600);

/// A cleanup whose mark no process carries.
fn cleanup() -> Cleanup {
    Cleanup::new(format!("DEADBEAT_TEST_CLEANUP_{}", std::process::id()))
}

/// A kill of an empty group: no process can have this number.
fn kill_of_nothing() -> Kill {
    Kill::new(ProcessGroup::new(i32::MAX).unwrap(), &KillPolicy::default())
}

#[test]
fn it_looks_often_and_long_enough_and_leaves_grace_and_signal_as_they_are() {
    let asked = KillPolicy::default().grace(MS * 70).continue_stopped(false);
    let hasty = asked.clone().poll_interval(MS * 5).confirm(Duration::ZERO);
    assert_eq!(adjusted(hasty), asked.clone().poll_interval(MS * 5).confirm(CONFIRM));
    let slow = asked.clone().poll_interval(FAR).confirm(CONFIRM * 2);
    assert_eq!(adjusted(slow), asked.poll_interval(INTERVAL).confirm(CONFIRM * 2));
}

#[test]
fn the_next_look_is_as_near_as_what_is_left_needs_and_the_look_costs() {
    let quiet = LookSummary {
        took: Duration::ZERO,
        found_some: false,
        all_are_released: true,
        some_have_grace: false,
        no_kill_runs: true,
    };
    let held = LookSummary { all_are_released: false, ..quiet };
    for (look, pause) in [
        (quiet, QUIET_PAUSE),
        (LookSummary { no_kill_runs: false, ..quiet }, QUIET_PAUSE),
        (LookSummary { some_have_grace: true, ..quiet }, QUIET_PAUSE),
        (LookSummary { some_have_grace: true, no_kill_runs: false, ..quiet }, INTERVAL),
        (LookSummary { found_some: true, no_kill_runs: false, ..quiet }, Duration::ZERO),
        (LookSummary { found_some: true, no_kill_runs: false, some_have_grace: true, ..quiet }, INTERVAL),
        (held, INTERVAL),
        (LookSummary { found_some: true, ..held }, INTERVAL),
        (LookSummary { took: MS * 3, ..quiet }, MS * 30),
        (LookSummary { took: MS * 3, ..held }, INTERVAL),
        (LookSummary { took: MS * 30, ..held }, MS * 300),
        (LookSummary { took: MS * 1000, ..quiet }, MS * 500),
    ] {
        assert_eq!(look.pause(), pause, "{look:?}");
    }
}

#[test]
fn a_look_is_quiet_that_shows_no_escaped_process_of_a_released_child_and_can_have_missed_none() {
    let began = Instant::now();
    let begun = |released| ChildEntry {
        released,
        quiet_looks: 1,
        killing_since: Some(began),
        ..ChildEntry::new(KillPolicy::default())
    };
    let quiet = |released, elapsed, some_are_killed, some_in_exec| {
        let mut child = begun(released);
        child.count_look(began + elapsed, some_are_killed, some_in_exec);
        child.quiet_looks
    };
    assert_eq!(quiet(true, MS, false, false), 2);
    assert_eq!(quiet(false, MS, false, false), 0, "there may be more of them");
    assert_eq!(quiet(true, MS, true, false), 0);
    assert_eq!(quiet(true, MS, false, true), 0, "its mark may show yet");
    assert_eq!(quiet(true, EXEC - MS, false, true), 0);
    assert_eq!(quiet(true, EXEC, false, true), 2, "no exec takes so long");
    assert_eq!(quiet(true, EXEC + MS, false, true), 2);
    // A process that had a whole grace can have had a child just before it died.
    let mut child = begun(true);
    child.count_look(began + EXEC, true, false);
    child.count_look(began + EXEC * 2 - MS, false, true);
    assert_eq!(child.quiet_looks, 0);
    child.count_look(began + EXEC * 2, false, true);
    assert_eq!(child.quiet_looks, 1);
    assert_eq!(quiet(true, EXEC + MS, true, false), 0);
}

#[test]
fn the_grace_is_counted_from_when_the_kill_began() {
    let mut child = ChildEntry::new(KillPolicy::default().grace(FAR));
    assert_eq!(child.grace_left(), FAR);
    child.killing_since = Some(Instant::now());
    let left = child.grace_left();
    assert!(left <= FAR && left > FAR / 2, "{left:?}");
    child.policy.grace = Duration::ZERO;
    assert_eq!(child.grace_left(), Duration::ZERO);
}

#[test]
fn a_child_is_kept_until_it_is_released_and_longer_if_it_has_escaped_processes_to_kill() {
    let mut cleanup = cleanup();
    assert!(cleanup.is_over());
    cleanup.announce(1, KillPolicy::default());
    cleanup.announce(2, KillPolicy::default());
    assert!(!cleanup.is_over() && !cleanup.is_looking());
    cleanup.kill_escaped(2);
    assert!(cleanup.is_looking());
    cleanup.release(1);
    cleanup.release(2);
    // A number that was never announced.
    cleanup.release(3);
    cleanup.kill_escaped(3);
    let left: Vec<_> = cleanup.children.iter().map(|(number, child)| (*number, child.released)).collect();
    assert_eq!(left, [(2, true)]);
    assert!(!cleanup.is_over());
}

#[test]
fn it_looks_when_a_look_is_due_and_a_child_is_being_killed() {
    let looks = |cleanup: &mut Cleanup, at: Instant| {
        cleanup.next_look = at;
        cleanup.step();
        cleanup.next_look != at
    };
    let (mut cleanup, now) = (cleanup(), Instant::now());
    cleanup.announce(1, KillPolicy::default());
    assert!(!looks(&mut cleanup, now), "the parent lives, and has ended no run");
    cleanup.kill_escaped(1);
    assert!(!looks(&mut cleanup, now + FAR), "it is not due");
    assert!(looks(&mut cleanup, now));
    assert!(cleanup.next_look >= now + INTERVAL, "there is a pause after it");
}

#[test]
fn while_an_escaped_process_has_grace_the_next_look_is_not_hurried() {
    for (grace, pause) in [(FAR, INTERVAL), (Duration::ZERO, QUIET_PAUSE)] {
        let mut cleanup = cleanup();
        cleanup.announce(1, KillPolicy::default().grace(grace));
        cleanup.parent_died();
        // It stays tracked, since the kills are not stepped.
        cleanup.kills.start(Target::Escaped(7), 1, kill_of_nothing());
        let before = Instant::now();
        cleanup.look();
        assert!(cleanup.next_look >= before + pause, "{grace:?}");
    }
}

#[test]
fn two_quiet_looks_in_a_row_end_it_and_not_one() {
    let mut cleanup = cleanup();
    cleanup.announce(1, KillPolicy::default());
    cleanup.kills.tracked.insert(Target::Escaped(7), Tracked { id: 1, survived: true });
    cleanup.kills.tracked.insert(Target::Escaped(8), Tracked { id: 2, survived: true });
    cleanup.parent_died();
    assert!(cleanup.children[&1].released && cleanup.is_looking());
    let mut quiet = Vec::new();
    while !cleanup.is_over() {
        cleanup.next_look = Instant::now();
        cleanup.step();
        // A look that meets an exec elsewhere on the machine does not count.
        quiet.extend(cleanup.children.get(&1).map(|child| child.quiet_looks));
    }
    assert!(quiet.contains(&1) && !quiet.contains(&2), "{quiet:?}");
    assert!(cleanup.kills.tracked.is_empty(), "the number of one that survived may be another's some day");
}

#[test]
fn the_end_of_the_kills_is_told_once() {
    let mut kills = Kills::new();
    assert!(kills.are_over() && !kills.step(), "there was none");
    kills.start(Target::Escaped(7), 1, kill_of_nothing());
    assert!(!kills.are_over() && kills.run_for(1) && !kills.run_for(2));
    assert!(kills.step());
    assert!(kills.are_over() && !kills.run_for(1) && !kills.step());
    assert!(kills.tracked.is_empty(), "one that is dead is forgotten: its number may be another's");
}

#[test]
fn what_survived_is_not_tried_again_and_a_group_is_forgotten_whatever_became_of_it() {
    let mut kills = Kills::new();
    for target in [Target::Group(5), Target::Group(6), Target::Escaped(7), Target::Escaped(8)] {
        kills.tracked.insert(target, Tracked { id: 1, survived: false });
        kills.sender.send((target, matches!(target, Target::Group(5) | Target::Escaped(7)))).unwrap();
    }
    assert!(!kills.step());
    let left: Vec<_> = kills.tracked.iter().map(|(target, tracked)| (*target, tracked.survived)).collect();
    assert_eq!(left, [(Target::Escaped(8), true)]);
    assert!(!kills.run_for(1));
}

#[test]
fn when_the_last_kill_has_ended_the_next_look_is_soon_but_not_at_once() {
    let mut cleanup = cleanup();
    let start = Instant::now();
    for (before, after) in [(start + FAR, start + QUIET_PAUSE), (start, start)] {
        cleanup.next_look = before;
        cleanup.kills.start(Target::Group(7), 1, kill_of_nothing());
        cleanup.step_kills();
        assert!(cleanup.next_look >= after && cleanup.next_look < start + FAR);
        assert!(cleanup.next_look <= before);
    }
    cleanup.next_look = start + FAR;
    cleanup.step_kills();
    assert_eq!(cleanup.next_look, start + FAR, "no kill has ended");
}

#[test]
fn it_sleeps_until_the_next_look_or_until_it_is_told_something() {
    use std::io::Write;
    use std::os::fd::AsFd;
    let mut cleanup = cleanup();
    cleanup.announce(1, KillPolicy::default());
    cleanup.kill_escaped(1);
    cleanup.next_look = Instant::now() + MS * 20;
    let mut naps = 0;
    while Instant::now() < cleanup.next_look {
        cleanup.sleep(None);
        #[cfg(target_os = "linux")]
        cleanup.step_descent();
        naps += 1;
    }
    // A signal can cut one short.
    assert!(naps < 100, "{naps} naps in 20 ms");
    let (socket, mut parent) = std::os::unix::net::UnixStream::pair().unwrap();
    cleanup.next_look = Instant::now() + FAR;
    parent.write_all(b"a message").unwrap();
    cleanup.sleep(Some(socket.as_fd()));
}

#[cfg(target_os = "linux")]
mod on_processes {
    use std::collections::HashSet;
    use std::os::unix::process::{CommandExt, ExitStatusExt};
    use std::process::{Child, Command};

    use super::super::super::identity::GUARDIAN_REQUEST;
    use super::*;
    use crate::group::mark::Mark;
    use crate::group::{pause, since_boot};

    /// A group of one process with this mark. Killed and reaped on drop.
    struct Marked(Child);

    impl Marked {
        fn start(name: &str, value: &str) -> Marked {
            let child = Command::new("sleep").arg("120").env(name, value).process_group(0).spawn().unwrap();
            let marked = Marked(child);
            // Its environment shows a moment after it is there.
            while !Mark::new(name, value).is_on(marked.pid()) {
                pause(MS);
            }
            marked
        }

        fn pid(&self) -> i32 {
            self.0.id() as i32
        }

        /// The signal that has ended it, if it has ended.
        fn ended_by(&mut self) -> Option<i32> {
            self.0.try_wait().unwrap().map(|status| status.signal().unwrap())
        }

        /// Goes on with the cleanup until this process is dead and no target any more; returns the signal that has
        /// ended it.
        fn dies(&mut self, cleanup: &mut Cleanup) -> i32 {
            let start = Instant::now();
            let target = [Target::Group(self.pid()), Target::Escaped(self.pid())];
            loop {
                cleanup.step();
                let is_tracked = target.iter().any(|target| cleanup.kills.tracked.contains_key(target));
                if let Some(signal) = self.ended_by().filter(|_| !is_tracked) {
                    return signal;
                }
                assert!(start.elapsed() < Duration::from_secs(40), "it lives on: {:?}", cleanup.kills.tracked.keys());
                pause(MS);
            }
        }
    }

    impl Drop for Marked {
        fn drop(&mut self) {
            let _ = self.0.kill();
            let _ = self.0.wait();
        }
    }

    fn cleanup(test: &str) -> (Cleanup, String) {
        let name = format!("DEADBEAT_TEST_{test}_{}", std::process::id());
        (Cleanup::new(name.clone()), name)
    }

    fn tracked(cleanup: &Cleanup) -> HashSet<Target> {
        cleanup.kills.tracked.keys().copied().collect()
    }

    #[test]
    fn escaped_processes_have_the_mark_of_a_child_that_is_being_killed_and_are_in_no_group_that_is() {
        let (mut cleanup, name) = cleanup("ESCAPED");
        let (mut member, mut escaped) = (Marked::start(&name, "1"), Marked::start(&name, "1"));
        let (mut other, mut unknown) = (Marked::start(&name, "2"), Marked::start(&name, "3"));
        cleanup.announce(1, KillPolicy::default().grace(FAR));
        cleanup.announce(2, KillPolicy::default().grace(Duration::ZERO));
        cleanup.guard(1, member.pid(), since_boot());
        cleanup.kill_escaped(1);
        let kill_found = |cleanup: &mut Cleanup| cleanup.kill_found().0;
        assert!(kill_found(&mut cleanup));
        assert_eq!(tracked(&cleanup), HashSet::from([Target::Escaped(escaped.pid())]));
        assert!(!kill_found(&mut cleanup), "it is tracked already");
        assert_eq!(escaped.dies(&mut cleanup), Signal::TERM.as_raw());
        assert_eq!([&mut member, &mut other, &mut unknown].map(Marked::ended_by), [None; 3]);

        cleanup.parent_died();
        assert!(kill_found(&mut cleanup));
        let expected = [Target::Group(member.pid()), Target::Escaped(other.pid())];
        assert_eq!(tracked(&cleanup), HashSet::from(expected), "a member of a group that is killed has not escaped");
        assert_eq!(member.dies(&mut cleanup), Signal::TERM.as_raw());
        assert_eq!(other.dies(&mut cleanup), Signal::KILL.as_raw(), "it had no grace");
        assert_eq!(unknown.ended_by(), None);
    }

    #[test]
    fn a_guardian_of_an_inner_run_is_not_killed() {
        let (mut cleanup, name) = cleanup("INNER");
        let dir = tempfile::tempdir().unwrap();
        let fifo = dir.path().join(GUARDIAN_REQUEST);
        nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::S_IRWXU).unwrap();
        // It waits for a writer, and its first argument is a guardian's.
        let mut inner = Command::new("cat");
        inner.arg(GUARDIAN_REQUEST).current_dir(dir.path()).env(&name, "1").process_group(0);
        let (mut inner, mut other) = (Marked(inner.spawn().unwrap()), Marked::start(&name, "1"));
        while !Mark::new(&name, "1").is_on(inner.pid()) || !is_guardian(inner.pid()) {
            pause(MS);
        }
        cleanup.announce(1, KillPolicy::default());
        cleanup.parent_died();
        assert_eq!(other.dies(&mut cleanup), Signal::TERM.as_raw());
        while !cleanup.is_over() {
            cleanup.next_look = Instant::now();
            cleanup.step();
        }
        assert_eq!(inner.ended_by(), None);
    }

    #[test]
    fn the_kills_go_on_while_a_process_has_grace() {
        let child = Marked::start("DEADBEAT_TEST_GRACE", "1");
        let mut kills = Kills::new();
        // This signal does not end it.
        let policy = KillPolicy::default().signal(Signal::CONT).grace(FAR);
        kills.start(Target::Group(child.pid()), 1, Kill::new(ProcessGroup::new(child.pid()).unwrap(), &policy));
        assert!(!kills.step() && !kills.are_over() && kills.run_for(1));
    }

    #[test]
    fn a_group_is_guarded_from_when_it_is_told_of_until_it_is_released() {
        let (mut cleanup, name) = cleanup("GROUPS");
        let child = Marked::start(&name, "of no child");
        let guarded = |cleanup: &Cleanup| cleanup.children[&1].group.as_ref().map(Kill::pgid);
        cleanup.announce(1, KillPolicy::default());
        cleanup.guard(1, child.pid(), since_boot());
        assert_eq!(guarded(&cleanup), Some(child.pid()));
        cleanup.release_group(1);
        assert_eq!(guarded(&cleanup), None);
        // The number was sent before this process was born, so another was meant.
        cleanup.guard(1, child.pid(), Duration::ZERO);
        assert_eq!(guarded(&cleanup), None);
        cleanup.guard(1, 1, since_boot());
        assert_eq!(guarded(&cleanup), None);
        cleanup.guard(1, child.pid(), since_boot());
        cleanup.kill_escaped(1);
        cleanup.release(1);
        assert_eq!(guarded(&cleanup), None);
        // A number that was never announced.
        cleanup.guard(2, child.pid(), since_boot());
        cleanup.release_group(2);
        assert_eq!(cleanup.children.len(), 1);
    }
}
