//! Clocks that jump. Nothing is decided by the time of day: clippy.toml lets no code ask for it, and here it jumps by
//! hours, to and fro, under the program itself. A machine's other clocks may have been set, once, before it was
//! started.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::{Group, Held, STUBBORN, deadbeat, inside, report, sent_at, skip};

/// Takes the place of libc's in a process that is started with it: CLOCK_REALTIME jumps twenty times a second, to and
/// fro, each time further.
const JUMPY: &str = r#"
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static long jump(void) {
    struct timespec now;
    syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &now);
    long turn = (now.tv_sec * 20 + now.tv_nsec / 50000000) % 1000;
    return (turn % 2 ? turn : -turn) * 3600;
}
int clock_gettime(clockid_t clock, struct timespec *now) {
    long result = syscall(SYS_clock_gettime, clock, now);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += jump();
    return result;
}
int gettimeofday(struct timeval *now, void *zone) {
    struct timespec exact;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &exact);
    now->tv_sec = exact.tv_sec;
    now->tv_usec = exact.tv_nsec / 1000;
    return 0;
}
time_t time(time_t *now) {
    struct timespec exact;
    clock_gettime(CLOCK_REALTIME, &exact);
    if (now) *now = exact.tv_sec;
    return exact.tv_sec;
}
"#;

struct Jumpy {
    library: PathBuf,
    _dir: tempfile::TempDir,
}

impl Jumpy {
    fn build() -> Option<Jumpy> {
        let dir = tempfile::tempdir().unwrap();
        let (source, library) = (dir.path().join("jumpy.c"), dir.path().join("jumpy.so"));
        std::fs::write(&source, JUMPY).unwrap();
        let cc = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).output();
        if cc.is_ok_and(|output| output.status.success()) {
            return Some(Jumpy { library, _dir: dir });
        }
        skip("clocks that jump: needs a C compiler");
        None
    }

    fn under<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("LD_PRELOAD", &self.library)
    }
}

/// SIGTERM, a second by the time of day, SIGKILL.
fn naive(pgid: i32) -> Command {
    let mut command = Command::new("bash");
    let wait = "end=$((EPOCHSECONDS + 1)); while [ $EPOCHSECONDS -lt $end ]; do sleep .02; done";
    command.args(["-c", &format!("kill -TERM -- -{pgid}; {wait}; kill -KILL -- -{pgid}")]);
    command
}

#[test]
fn a_time_of_day_that_jumps_cuts_no_grace_short_and_draws_none_out() {
    let Some(jumpy) = Jumpy::build() else { return };
    let grace = Duration::from_secs(1);
    // The control: in its second the clock jumps back and forth twenty times.
    // A machine that stands still can make one of them look right.
    let control = || {
        let mut group = Group::of(STUBBORN);
        let (mut killer, begun) = (naive(group.pgid()), Instant::now());
        let ended = jumpy.under(&mut killer).status();
        let took = begun.elapsed();
        group.reap();
        ended.is_ok_and(|status| status.success()).then_some(took)
    };
    let mut took = Vec::new();
    while !took.last().is_some_and(|took| *took < grace || *took > grace * 10) {
        assert!(took.len() < 5, "the control was not caught: {took:?}");
        let Some(time) = control() else { return skip("clocks that jump: needs bash") };
        took.push(time);
    }

    let mut group = Group::of(STUBBORN);
    let held = group.members();
    let output =
        jumpy.under(&mut deadbeat(&format!("kill --format json --grace 1s {}", group.pgid()))).output().unwrap();
    let report = report(&output.stdout);
    assert_eq!(report["outcome"], "killed", "{report}");
    let killed = sent_at(&report, "SIGKILL").unwrap();
    assert!((1000.0..60_000.0).contains(&killed), "{report}");
    assert!(held.iter().all(Held::has_ended));
}

/// Whether a guardian has a pidfd of this process. There is one guardian in this namespace, if any.
fn guardian_holds(pid: i32) -> bool {
    let is_guardian = |process: &std::path::Path| {
        std::fs::read(process.join("cmdline"))
            .is_ok_and(|line| line.split(|b| *b == 0).nth(1) == Some(b"__proc-guardian"))
    };
    let processes = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    let pidfds = processes.filter(|process| is_guardian(process)).flat_map(|it| std::fs::read_dir(it.join("fdinfo")));
    pidfds.flatten().flatten().any(|fd| {
        let info = std::fs::read_to_string(fd.path()).unwrap_or_default();
        info.lines().any(|line| line.strip_prefix("Pid:\t") == Some(&pid.to_string()))
    })
}

#[test]
fn where_the_time_since_boot_is_another_the_guardian_takes_nobody_for_a_stranger() {
    let place = ["unshare", "--time", "--boottime", "100000000", "--pid", "--fork", "--mount-proc", "--kill-child"];
    if !inside(where_the_time_since_boot_is_another_the_guardian_takes_nobody_for_a_stranger, &place) {
        return;
    }
    let uptime = std::fs::read_to_string("/proc/uptime").unwrap();
    assert!(uptime.split('.').next().unwrap().parse::<u64>().unwrap() > 100_000_000, "{uptime}");
    // Without an environment its group is all that it can be found by.
    let mut run = Group::start(deadbeat("timeout -k .2 60 env -i sh -c").arg(STUBBORN));
    let pid = run.line().parse().unwrap();
    let member = Held::of(pid);
    // Before it is told of the group, it cannot know whose it was.
    let group = nix::unistd::getpgid(Some(nix::unistd::Pid::from_raw(pid))).unwrap();
    crate::support::eventually("the guardian holds the group", || guardian_holds(group.as_raw()));
    run.signal_leader(rustix::process::Signal::KILL);
    run.reap();
    crate::support::eventually("the guardian has killed it", || member.has_ended());
}
