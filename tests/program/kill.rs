//! `deadbeat kill`: every group named is killed and told of in order, or nothing at all is signalled.

use deadbeat::fixture::{self, Running};
use predicates::prelude::*;
use rstest::rstest;
use serde_json::Value;

use crate::support::{deadbeat, until};

fn start(name: &str) -> Running {
    fixture::named(name).unwrap().start().unwrap()
}

/// Beyond any pid_max, so that no process can carry it.
const NO_GROUP: i32 = i32::MAX;

#[rstest]
#[case("", "<PGID>")]
#[case("0", "the caller's own group")]
#[case("1", "every process")]
#[case("-7", "is negative")]
#[case("abc", "not a process group")]
#[case("99999999999", "not a process group")]
fn a_refused_pgid_signals_nobody_not_even_the_good_one_beside_it(#[case] bad: &str, #[case] why: &str) {
    let bystander = start("fast-exit");
    let mut command = deadbeat("kill");
    if !bad.is_empty() {
        command.args([&bystander.pgid().to_string(), bad]);
    }
    command.assert().code(2).stdout("").stderr(predicate::str::contains(why));
    assert!(!bystander.has_ended(), "the good one was signalled");
    // The control: alone it is killed.
    deadbeat("kill --grace 1s").arg(bystander.pgid().to_string()).assert().code(predicate::in_iter([0, 1]));
    until("the good one is dead", || bystander.has_ended());
}

#[test]
fn each_is_told_of_on_a_line_in_the_order_given() {
    let (slow, quick) = (start("ignore-term"), start("fast-exit"));
    let pgids = [slow.pgid(), NO_GROUP, quick.pgid(), slow.pgid()];
    let output =
        deadbeat("kill --grace 700ms --format json").args(pgids.map(|pgid| pgid.to_string())).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.iter().map(|line| line["pgid"].as_i64().unwrap()).collect::<Vec<_>>(), pgids.map(i64::from));
    assert_eq!(lines[1]["outcome"], "already_gone");
    // Named twice, killed once: the very same report.
    assert_eq!(lines[0], lines[3]);
    assert_eq!(lines[0]["signals"][0]["signal"], "SIGTERM");
    if deadbeat::group::backend() == deadbeat::group::Backend::Proc {
        assert_eq!(output.status.code(), Some(0));
        assert_eq!(lines[0]["outcome"], "killed");
        // One that a busy machine left no time to obey in its grace was killed, and then it was over.
        let quick = &lines[2];
        let kill = quick["signals"].as_array().unwrap().iter().find(|sent| sent["signal"] == "SIGKILL");
        let is_told = match kill.map(|kill| kill["at_ms"].as_f64().unwrap()) {
            None => quick["outcome"] == "terminated",
            Some(at) => at >= 700.0,
        };
        assert!(is_told, "{quick}");
    }
    until("both are dead", || slow.has_ended() && quick.has_ended());
}

#[test]
fn a_group_that_does_not_exist_is_gone_already() {
    deadbeat("kill").arg(NO_GROUP.to_string()).assert().success().stdout(format!("{NO_GROUP} was gone already\n"));
}

#[test]
fn the_pid_of_a_member_names_no_group_and_the_right_one_is_told() {
    let running = start("forking");
    let member = *running.pids().iter().find(|pid| **pid != running.pgid()).unwrap();
    let told = format!("process {member} leads no group, it is in group {}: name that one", running.pgid());
    let stderr = format!("deadbeat: {told}\n");
    deadbeat("kill").arg(member.to_string()).assert().code(1).stdout("").stderr(stderr.clone());
    let output =
        deadbeat("kill --format json").arg(member.to_string()).assert().code(1).stderr(stderr).get_output().clone();
    let line: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(line, serde_json::json!({ "pgid": member, "error": "not_leader", "message": told }));
    assert!(!running.has_ended());
    // The group of this very test is that of the program: there is nothing to be named.
    let mut ours = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let refused = predicate::str::contains("the caller's own group").and(predicate::str::contains("name that").not());
    deadbeat("kill").arg(ours.id().to_string()).assert().code(1).stderr(refused);
    assert!(ours.try_wait().unwrap().is_none(), "it was killed");
    ours.kill().unwrap();
    // A zombie runs no more, and the group it was in is not meant.
    if deadbeat::group::backend() == deadbeat::group::Backend::Proc {
        until("it is a zombie", || {
            let stat = std::fs::read_to_string(format!("/proc/{}/stat", ours.id())).unwrap();
            stat.contains(") Z ")
        });
        let gone = format!("{} was gone already\n", ours.id());
        deadbeat("kill").arg(ours.id().to_string()).assert().success().stdout(gone).stderr("");
    }
    ours.wait().unwrap();
}

#[rstest]
#[case("-9", "write -s 9")]
#[case("-TERM", "write -s TERM")]
#[case("-SIGINT", "write -s SIGINT")]
fn a_signal_as_kill_takes_it_is_told_how_to_write_and_signals_nothing(#[case] signal: &str, #[case] advice: &str) {
    let bystander = start("fast-exit");
    let pgid = bystander.pgid().to_string();
    for args in [[signal, &pgid], [&pgid, signal]] {
        deadbeat("kill").args(args).assert().code(2).stdout("").stderr(predicate::str::contains(advice));
    }
    assert!(!bystander.has_ended());
}

#[test]
fn a_stderr_and_a_stdout_that_take_nothing_end_no_kill() {
    let running = start("stubborn-child");
    let full = || std::fs::OpenOptions::new().write(true).open("/dev/full");
    let (Ok(stdout), Ok(stderr)) = (full(), full()) else {
        eprintln!("skipped: there is no /dev/full here");
        return;
    };
    let mut command = std::process::Command::new(crate::support::program());
    command.args(["kill", "--grace", "500ms", &NO_GROUP.to_string(), &running.pgid().to_string()]);
    let status = command.stdout(stdout).stderr(stderr).status().unwrap();
    assert!(matches!(status.code(), Some(1 | 2)), "{status:?}");
    until("the group is dead", || running.has_ended());
}

#[test]
fn a_group_of_somebody_else_is_not_permitted_at_once() {
    if !rustix::process::geteuid().is_root() {
        eprintln!("skipped: needs root to become another user");
        return;
    }
    let theirs = start("ignore-term");
    let start = std::time::Instant::now();
    let line = killed_by_nobody(theirs.pgid(), "60s");
    assert_eq!(line["error"], "not_permitted");
    // A slow machine can only make it later; the grace is a minute.
    assert!(start.elapsed() < std::time::Duration::from_secs(30), "it waited out the grace");
    assert!(!theirs.has_ended());
}

#[test]
fn of_a_group_that_is_partly_ours_the_rest_is_named_as_out_of_reach() {
    use std::os::unix::process::CommandExt;
    if !rustix::process::geteuid().is_root() || deadbeat::group::backend() != deadbeat::group::Backend::Proc {
        eprintln!("skipped: needs root to become another user, and /proc to name what is left");
        return;
    }
    let theirs = start("ignore-term");
    let mut ours = std::process::Command::new("sleep");
    let mut ours =
        ours.arg("120").process_group(theirs.pgid()).current_dir("/").uid(NOBODYS_ID).gid(NOBODYS_ID).spawn().unwrap();
    let line = killed_by_nobody(theirs.pgid(), "4s");
    assert_eq!(line["outcome"], "survived", "{line}");
    let survivors = line["survivors"].as_array().unwrap();
    assert!(!survivors.is_empty() && survivors.iter().all(|member| member["signalable"] == false), "{line}");
    assert!(survivors.iter().all(|member| member["pid"] != ours.id()), "the one that could be signalled lives: {line}");
    assert!(!ours.wait().unwrap().success());
    assert!(!theirs.has_ended());
}

const NOBODYS_ID: u32 = 65534;

/// What the program has to say of this group when an ordinary user runs it; it is not all dead then, so the status is
/// 1.
fn killed_by_nobody(pgid: i32, grace: &str) -> Value {
    use std::os::unix::process::CommandExt;
    // Where every user may run it from.
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("deadbeat");
    // By another process: were it written by ours, a child that another test forks meanwhile would keep it busy.
    let copied = std::process::Command::new("cp").arg(crate::support::program()).arg(&program).status().unwrap();
    assert!(copied.success());
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(dir.path(), open).unwrap();
    let output = std::process::Command::new(&program)
        .args(["kill", "--format", "json", "--grace", grace, &pgid.to_string()])
        .current_dir("/")
        .uid(NOBODYS_ID)
        .gid(NOBODYS_ID)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}
