//! A `/proc` with `hidepid`: another user's processes are not in it, and what is not seen is not gone.

use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::support::{Group, Held, NAMESPACE, OBEDIENT, deadbeat, eventually, inside, report, skip};

/// No other user's, so that nothing else of this machine is theirs.
const US: u32 = 0x4000_0001;
const THEM: u32 = 0x4000_0002;

/// `deadbeat kill`, as an ordinary user. `None`: they may not run it.
fn killed_by_us(pgid: i32, grace: &str) -> Option<(Option<i32>, serde_json::Value)> {
    let mut command = deadbeat(&format!("kill --format json --grace {grace} {pgid}"));
    match command.uid(US).gid(US).current_dir("/").output() {
        Ok(output) => Some((output.status.code(), report(&output.stdout))),
        Err(error) => {
            skip(&format!("another user may not run the program: {error}"));
            None
        }
    }
}

/// Whether an ordinary user sees the first process here.
fn we_see_the_first() -> bool {
    Command::new("test").args(["-e", "/proc/1"]).uid(US).gid(US).current_dir("/").status().unwrap().success()
}

#[test]
fn where_the_first_process_is_hidden_nobody_is_taken_for_gone() {
    let script = ["sh", "-c", "mount -t proc -o hidepid=2 proc /proc && \"$@\"; exit", "sh"];
    if !inside(where_the_first_process_is_hidden_nobody_is_taken_for_gone, &[&NAMESPACE[..], &script].concat()) {
        return;
    }
    assert!(!we_see_the_first(), "nothing is hidden here");
    let mut group = Group::start(Command::new("sh").args(["-c", OBEDIENT]).uid(US).gid(US).current_dir("/"));
    let (pgid, held) = (group.pgid(), group.members());
    let kill = std::thread::spawn(move || killed_by_us(pgid, "20s"));
    group.reap();
    let Some((status, report)) = kill.join().unwrap() else { return };
    assert_eq!((status, report["outcome"].as_str()), (Some(0), Some("terminated")), "{report}");
    assert!(report["elapsed_ms"].as_f64().unwrap() < 10_000.0, "it took the grace: {report}");
    assert!(held.iter().all(Held::has_ended), "{report}");
}

/// The first process is ours and is seen, so the members are looked for; one of them is hidden.
#[test]
fn a_member_that_is_hidden_and_may_not_be_signalled_is_no_dead_one() {
    // The first process becomes ours, and ends with the test.
    let become_us = format!("exec setpriv --reuid={US} --regid={US} --clear-groups cat /mnt/end");
    let hide = "mount -t tmpfs none /mnt && mkfifo -m 666 /mnt/end && mount -t proc -o hidepid=2 proc /proc || exit";
    let hide = format!("{hide}; (\"$@\"; : >/mnt/end) & {become_us}");
    let script = ["sh", "-c", &hide, "sh"];
    if !inside(a_member_that_is_hidden_and_may_not_be_signalled_is_no_dead_one, &[&NAMESPACE[..], &script].concat()) {
        return;
    }
    eventually("the first process is ours", we_see_the_first);
    let member =
        |user: u32| format!("setpriv --reuid={user} --regid={user} --clear-groups sh -c 'echo $$; exec sleep 60'");
    let mut group = Group::of(&format!("{} & read go; exec {}", member(THEM), member(US)));
    let theirs = Held::of(group.line().parse().unwrap());
    group.go();
    let ours = Held::of(group.line().parse().unwrap());
    let pgid = group.pgid();
    let kill = std::thread::spawn(move || killed_by_us(pgid, "300ms"));
    // So that nothing that can be seen is left of the group.
    group.reap();
    let killed = kill.join().unwrap();
    assert!(ours.has_ended() && !theirs.has_ended(), "the wrong one: {killed:?}");
    // Its leader was reaped, and it holds the number.
    nix::sys::signal::killpg(nix::unistd::Pid::from_raw(pgid), nix::sys::signal::Signal::SIGKILL).unwrap();
    let Some((status, report)) = killed else { return };
    assert_eq!((status, report["outcome"].as_str()), (Some(1), Some("survived")), "{report}");
}
