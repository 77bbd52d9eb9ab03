use super::super::child_entry::INTERVAL;
use super::*;
use crate::kill::KillReport;
use crate::kill::testing::kill_of_no_group;

const MS: Duration = Duration::from_millis(1);
const FAR: Duration = Duration::from_secs(3600);

/// A cleanup whose mark no process carries.
fn cleanup() -> Cleanup {
    Cleanup::new(format!("DEADBEAT_TEST_CLEANUP_{}", std::process::id()))
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
        // It stays in the batch, which is not stepped.
        cleanup.kills.add(Target::Escaped(7), 1, kill_of_no_group());
        let before = Instant::now();
        cleanup.look();
        assert!(cleanup.next_look >= before + pause, "{grace:?}");
    }
}

#[test]
fn two_quiet_looks_in_a_row_end_it_and_not_one() {
    let mut cleanup = cleanup();
    cleanup.announce(1, KillPolicy::default());
    cleanup.survivors.insert(Target::Escaped(7), 1);
    cleanup.survivors.insert(Target::Escaped(8), 2);
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
    assert!(cleanup.survivors.is_empty(), "the number of one that survived may be another's some day");
}

#[test]
fn an_escaped_process_that_survived_is_not_tried_again_and_a_group_is_forgotten_whatever_became_of_it() {
    let mut cleanup = cleanup();
    for target in [Target::Group(5), Target::Group(6), Target::Escaped(7), Target::Escaped(8)] {
        let gone = matches!(target, Target::Group(5) | Target::Escaped(7));
        let report = KillReport {
            pgid: 5,
            outcome: if gone { Outcome::Killed } else { Outcome::Survived },
            signals: Vec::new(),
            elapsed: Duration::ZERO,
            survivors: Vec::new(),
        };
        cleanup.kills.add_ended(target, 1, Ok(report));
    }
    cleanup.step_kills();
    assert_eq!(cleanup.survivors, HashMap::from([(Target::Escaped(8), 1)]));
    assert!(cleanup.kills.notes().next().is_none());
}

#[test]
fn when_the_last_kill_has_ended_the_next_look_is_soon_but_not_at_once() {
    let mut cleanup = cleanup();
    let start = Instant::now();
    for (before, after) in [(start + FAR, start + QUIET_PAUSE), (start, start)] {
        cleanup.next_look = before;
        cleanup.kills.add(Target::Group(7), 1, kill_of_no_group());
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
            let targets = [Target::Group(self.pid()), Target::Escaped(self.pid())];
            loop {
                cleanup.step();
                let is_killed = targets.iter().any(|target| cleanup.kills.has(*target));
                if let Some(signal) = self.ended_by().filter(|_| !is_killed) {
                    return signal;
                }
                assert!(start.elapsed() < Duration::from_secs(40), "{} lives on", self.pid());
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
        let killed = |cleanup: &Cleanup, targets: [Target; 5]| targets.map(|target| cleanup.kills.has(target));
        let targets = [
            Target::Group(member.pid()),
            Target::Escaped(member.pid()),
            Target::Escaped(escaped.pid()),
            Target::Escaped(other.pid()),
            Target::Escaped(unknown.pid()),
        ];
        assert_eq!(killed(&cleanup, targets), [false, false, true, false, false]);
        assert!(!kill_found(&mut cleanup), "it is being killed already");
        assert_eq!(escaped.dies(&mut cleanup), Signal::TERM.as_raw());
        assert_eq!([&mut member, &mut other, &mut unknown].map(Marked::ended_by), [None; 3]);

        cleanup.parent_died();
        assert!(kill_found(&mut cleanup));
        let expected = [true, false, false, true, false];
        assert_eq!(killed(&cleanup, targets), expected, "a member of a group that is killed has not escaped");
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
        let mut kills = TargetBatch::new();
        // This signal does not end it.
        let policy = KillPolicy::default().signal(Signal::CONT).grace(FAR);
        kills.add(Target::Group(child.pid()), 1, Kill::new(ProcessGroup::new(child.pid()).unwrap(), &policy));
        assert!(kills.step().is_empty() && !kills.is_empty());
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
