use std::process::Command;

use nix::libc;

use super::super::super::testing::{OPEN, Started, failing};
use super::*;

#[test]
fn a_stat_line_is_read_past_the_worst_of_names() {
    let line = b"42 (a) S (b) 1 ) Z 1 42 42 0 -1 4228364 0 0 0 0 0 0 0 0 20 0 3 0 99 0 0\n";
    let (name, flags) = ("a) S (b) 1 ".into(), 4_228_364);
    assert_eq!(
        parse_stat(line),
        Some(StatLine { name, state: 'Z', parent: 1, session: 42, flags, threads: 3, started: 99 })
    );
}

#[test]
fn a_proc_that_hides_processes_is_told_by_its_mount() {
    let plain = "22 27 0:21 / /proc rw,relatime - proc proc rw\n";
    let beside = "23 22 0:21 / /proc/other rw,hidepid=2 shared:1 - proc proc rw,hidepid=2\n";
    assert!(!has_hidepid("") && !has_hidepid(plain) && !has_hidepid(&format!("{plain}{beside}")));
    for (value, hides) in [("0", false), ("off", false), ("1", true), ("invisible", true), ("ptraceable", true)] {
        let last = format!("61 22 0:48 / /proc rw,relatime shared:7 - proc none rw,gid=5,hidepid={value}\n");
        assert_eq!(has_hidepid(&format!("{beside}{plain}{last}")), hides, "{value}");
        assert!(!has_hidepid(&format!("{last}{plain}")), "another is mounted over it");
    }
}

#[test]
fn a_proc_that_hides_processes_shows_all_users_to_a_process_that_may_trace_them() {
    let mounted = |option: &str| format!("22 27 0:21 / /proc rw,relatime - proc proc rw{option}\n");
    let (plain, hiding) = (mounted(""), mounted(",hidepid=2"));
    for (mounts, may_trace, shows) in [(&plain, false, true), (&hiding, true, true), (&hiding, false, false)] {
        assert_eq!(shows_all_users(mounts, if may_trace { || true } else { || false }), shows, "{mounts}");
    }
}

#[test]
fn to_trace_all_users_takes_the_capability_for_it() {
    use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
    let status = fs::read_to_string("/proc/thread-self/status").unwrap();
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap().trim();
    let effective = u64::from_str_radix(effective, 16).unwrap();
    assert_eq!(may_trace_all_users(), effective & (1 << 19) != 0, "{effective:x}");
    // On a thread of its own, since nothing else is to lose it.
    let without = || {
        let mut ours = capabilities(None).unwrap();
        ours.effective.remove(CapabilitySet::SYS_PTRACE);
        set_capabilities(None, ours).unwrap();
        may_trace_all_users()
    };
    assert!(!std::thread::scope(|scope| scope.spawn(without).join().unwrap()));
}

#[test]
fn a_pending_sigkill_is_told_from_every_other_signal() {
    let status = |pending, shared, blocked| {
        format!("Name:\tcat\nThreads:\t1\nSigPnd:\t{pending:016x}\nShdPnd:\t{shared:016x}\nSigBlk:\t{blocked:016x}\n")
    };
    let kill = 0x100;
    for (pending, shared, blocked, is_sent) in [
        (kill, 0, 0, true),
        (0, kill, 0, true),
        (u64::MAX, 0, 0, true),
        (0, 0, 0, false),
        (0, 0, kill, false),
        (!kill, !kill, 0, false),
    ] {
        assert_eq!(is_sent_sigkill(&status(pending, shared, blocked)), is_sent, "{pending:x} {shared:x} {blocked:x}");
    }
    assert!(!is_sent_sigkill("") && !is_sent_sigkill("SigPnd:\tmany\n"));
}

fn stat(state: char, threads: u32, flags: u64) -> StatLine {
    StatLine { name: "cat".into(), state, parent: 1, session: 1, flags, threads, started: 99 }
}

#[test]
fn a_process_that_was_sent_sigkill_is_leaving_if_it_only_waits_for_a_cpu() {
    // `PF_RANDOMIZE`, as with every program.
    let flags = 0x40_0000;
    for (state, flags, is_dying, leaves) in [
        ('R', flags, true, true),
        ('R', flags, false, false),
        // SIGKILL has not come to it there.
        ('D', flags, true, false),
        ('T', flags, true, false),
        ('D', flags | EXITING, true, true),
        ('Z', flags | EXITING, false, true),
    ] {
        assert_eq!(stat(state, 1, flags).is_leaving(|| is_dying), leaves, "{state} {flags:x} {is_dying}");
    }
}

#[test]
fn one_that_was_sent_sigkill_is_dying_and_one_that_was_not_is_not() {
    let mut cat = Started::leader();
    let pid = cat.pid();
    assert!(!is_dying(pid) && !is_leaving(pid));
    cat.0.kill().unwrap();
    // At once, on its way out, and as a zombie.
    while !cat.has_ended() {
        assert!(is_dying(pid));
    }
    assert!(is_dying(pid) && is_leaving(pid));
    cat.reap();
    assert!(is_leaving(pid), "it has left");
}

#[test]
fn a_process_that_ends_by_itself_is_dying_too() {
    let mut cat = Started::leader();
    cat.end();
    assert!(is_dying(cat.pid()) && is_leaving(cat.pid()));
}

#[test]
fn a_process_that_runs_is_not_leaving_for_that() {
    let busy = Started::new(Command::new("sh").args(["-c", "while :; do :; done"]));
    while read_stat(busy.pid()).is_some_and(|stat| stat.state != 'R' || stat.name != "sh") {}
    assert!(!is_leaving(busy.pid()));
}

#[test]
fn a_process_runs_until_it_has_ended_whether_or_not_it_can_be_read() {
    let mut cat = Started::leader();
    let pid = cat.pid();
    let unread = || failing(OPEN, Errno::EACCES, || runs(pid));
    assert!(runs(pid) && unread());
    cat.kill();
    assert!(!runs(pid) && !unread(), "a zombie");
    cat.reap();
    assert!(!runs(pid) && !unread(), "it is gone");
}

#[test]
fn a_main_thread_that_has_ended_is_no_proof_while_others_may_run() {
    let mut zombie = Started::leader();
    zombie.kill();
    let (us, zombie) = (std::process::id() as i32, zombie.pid());
    for (pid, state, threads, lives) in [
        (us, 'S', 1, true),
        (us, 'Z', 2, true),
        (us, 'Z', 1, false),
        (us, 'X', 1, false),
        (zombie, 'Z', 2, false),
        (zombie, 'R', 1, true),
    ] {
        assert_eq!(stat(state, threads, 0).runs(pid), lives, "{state} with {threads} threads");
    }
}

#[test]
fn a_command_is_its_words_or_its_name_in_brackets() {
    let mut sh = Started::new(Command::new("sh").args(["-c", "read line", "", "two words"]));
    assert_eq!(command(sh.pid(), "sh"), "sh -c read line two words");
    sh.kill();
    assert_eq!(command(sh.pid(), "sh"), "[sh]", "a zombie");
}

#[test]
fn a_member_that_may_not_be_signalled_is_listed_as_such() {
    let cat = Started::leader();
    let listed = || members(cat.pid()).unwrap();
    let (all, forbidden) = (listed(), failing(&[libc::SYS_kill], Errno::EPERM, listed));
    let seen = |members: &[Member]| {
        let [cat] = members else { panic!("{members:?}") };
        (cat.pid, cat.command.clone(), cat.signalable)
    };
    let (pid, name) = (cat.pid(), "cat".to_owned());
    assert_eq!((seen(&all), seen(&forbidden)), ((pid, name.clone(), true), (pid, name, false)));
}

#[test]
fn a_start_lies_between_the_times_around_it() {
    let before = since_boot();
    let cat = Started::leader();
    let after = since_boot();
    let started = started_at(cat.pid()).unwrap();
    // Rounded down to a tick, of which there are a hundred in a second or more.
    let tick = Duration::from_millis(10);
    assert!(before <= started + tick && started <= after, "{before:?} {started:?} {after:?}");
    assert!(before > Duration::ZERO);
    assert_eq!(started_at(i32::MAX), None);
}

#[test]
fn what_is_open_of_the_table_is_inherited_by_no_child() {
    walk(|_, _| {}).unwrap();
    let flags = |fd: fs::DirEntry| {
        let is_ours = fs::read_link(fd.path()).is_ok_and(|link| link == Path::new("/proc"));
        let name = fd.file_name().into_string().ok().filter(|_| is_ours)?;
        let info = fs::read_to_string(format!("/proc/self/fdinfo/{name}")).ok()?;
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
        Some(i32::from_str_radix(flags.trim(), 8).unwrap())
    };
    let all: Vec<_> = fs::read_dir("/proc/self/fd").unwrap().flatten().filter_map(flags).collect();
    assert!(!all.is_empty(), "none is kept in spare");
    assert!(all.iter().all(|flags| flags & libc::O_CLOEXEC != 0), "{all:?}");
}

#[test]
fn the_table_is_read_by_the_descriptor_kept_in_reserve() {
    walk(|_, _| {}).unwrap();
    let (us, mut found) = (std::process::id() as i32, 0);
    let seen = failing(OPEN, Errno::EMFILE, || {
        // Twice: the position is put back.
        for _ in 0..2 {
            walk(|pid, _| found += usize::from(pid == us)).unwrap();
        }
        found
    });
    assert_eq!(seen, 2);
}

#[test]
fn a_broken_stat_line_is_nothing_rather_than_dead() {
    for line in [
        &b""[..],
        b"42",
        b"42 (a",
        b"42 a)",
        b")(",
        b"42 (a)",
        b"42 (a) Z 1 2",
        b"42 (a) Z 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 x",
        b"42 (a) Z 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 1 0",
    ] {
        assert_eq!(parse_stat(line), None, "{}", String::from_utf8_lossy(line));
    }
}

#[test]
fn we_are_in_our_own_group_and_run() {
    let pgid = nix::unistd::getpgrp().as_raw();
    let us = i32::try_from(std::process::id()).unwrap();
    let members = members(pgid).unwrap();
    let me = members.iter().find(|member| member.pid == us).expect("not listed");
    assert!(me.signalable && !me.command.is_empty(), "{me}");
    let none = members_where(|_, _| false).unwrap();
    assert_eq!(none, []);
}
