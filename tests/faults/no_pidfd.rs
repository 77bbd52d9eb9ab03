//! No pidfds, as before Linux 5.3 or under a seccomp filter: exits wake no thread and signals go by number. The members
//! are still seen, so a zombie leader holds no grace.

use std::time::Duration;

use deadbeat::group::{Backend, backend};
use deadbeat::kill::KillThread;
use deadbeat::{KillPolicy, Outcome};
use nix::libc::{ENOSYS, SYS_pidfd_open, SYS_pidfd_send_signal};
use seccompiler::{SeccompAction, SeccompFilter, apply_filter_all_threads};

use crate::support::{Group, Held, LONG, OBEDIENT, SOON, STUBBORN, deadbeat, eventually, inside};

/// From here on, for this process and all that it starts, the two calls do not exist.
fn forget_pidfds() {
    let rules = [SYS_pidfd_open, SYS_pidfd_send_signal].map(|call| (call, Vec::new()));
    let arch = std::env::consts::ARCH.try_into().unwrap();
    let missing = SeccompAction::Errno(ENOSYS as u32);
    let filter = SeccompFilter::new(rules.into_iter().collect(), SeccompAction::Allow, missing, arch).unwrap();
    let program: seccompiler::BpfProgram = filter.try_into().unwrap();
    apply_filter_all_threads(&program).unwrap();
    let control = rustix::process::pidfd_open(rustix::process::getpid(), rustix::process::PidfdFlags::empty());
    assert_eq!(control.unwrap_err(), rustix::io::Errno::NOSYS);
}

/// What has its pidfds from before.
fn groups_held(script: &str, count: usize) -> Vec<(Group, [Held; 2])> {
    let with_members = |mut group: Group| {
        let held = group.members();
        (group, held)
    };
    (0..count).map(|_| with_members(Group::of(script))).collect()
}

fn all_dead(groups: &[(Group, [Held; 2])]) -> bool {
    groups.iter().flat_map(|(_, held)| held).all(Held::has_ended)
}

#[test]
fn a_zombie_leader_holds_no_grace_and_the_stubborn_are_killed_after_it() {
    if !inside(a_zombie_leader_holds_no_grace_and_the_stubborn_are_killed_after_it, &[]) {
        return;
    }
    let (obedient, stubborn) = (groups_held(OBEDIENT, 2), groups_held(STUBBORN, 2));
    forget_pidfds();
    assert_eq!(backend(), Backend::Proc);
    let policy = KillPolicy::default().confirm(SOON);
    let report = policy.clone().grace(LONG).kill_blocking(obedient[0].0.pgid()).unwrap();
    assert_eq!(report.outcome, Outcome::Terminated, "{report:?}");
    let grace = Duration::from_millis(200);
    let report = policy.clone().grace(grace).kill_blocking(stubborn[0].0.pgid()).unwrap();
    assert_eq!(report.outcome, Outcome::Killed, "{report:?}");
    assert!(report.signals.last().unwrap().at >= grace, "{report:?}");
    // Many at once have nothing to be woken by either. The stubborn takes the grace, the obedient has as much.
    let kill_thread = KillThread::new(policy.grace(Duration::from_secs(4))).unwrap();
    let pending = [&obedient[1], &stubborn[1]].map(|(group, _)| kill_thread.kill(group.pgid()));
    let outcomes = pending.map(|pending| pending.wait_blocking().unwrap().outcome);
    assert_eq!(outcomes, [Outcome::Terminated, Outcome::Killed]);
    assert!(all_dead(&obedient) && all_dead(&stubborn));
}

#[test]
fn of_a_command_nothing_survives_that_has_left_its_group_either() {
    if !inside(of_a_command_nothing_survives_that_has_left_its_group_either, &[]) {
        return;
    }
    forget_pidfds();
    let escapes = "setsid sh -c 'echo $$; exec sleep 60' & wait";
    let mut timed_out = Group::start(deadbeat("timeout -k 60 60 sh -c").arg(escapes));
    let escaped: i32 = timed_out.line().parse().unwrap();
    timed_out.signal_leader(rustix::process::Signal::ALARM);
    assert_eq!(timed_out.reap().code(), Some(124));
    assert!(is_dead(escaped), "it has outlived the timeout");
    // And if deadbeat itself is killed, its guardian does it.
    let mut killed = Group::start(deadbeat("timeout 60 sh -c").arg(escapes));
    let escaped: i32 = killed.line().parse().unwrap();
    assert!(!is_dead(escaped));
    killed.signal_leader(rustix::process::Signal::KILL);
    killed.reap();
    eventually("the guardian has killed it", || is_dead(escaped));
}

fn is_dead(pid: i32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with('Z'))
}
