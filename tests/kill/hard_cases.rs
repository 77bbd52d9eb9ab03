//! Cases that are rare in life and were wrong once.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use deadbeat::group::{Backend, backend};
use deadbeat::{Outcome, ProcessGroup};

use super::support::{eventually, policy, state};

/// A leader that obeys SIGTERM and stays a zombie, and a chain that ignores it: each link forks the next and exits,
/// some thousand times a second, so that a walk through the table mostly sees the zombie alone.
const FAST_CHAIN: &str = r#"
perl -e '$SIG{TERM} = "IGNORE"; $| = 1; print "up\n"; $end = time + 60; while (time < $end) { exit if fork; }' &
exec sleep 60
"#;

#[test]
fn a_chain_that_forks_faster_than_anybody_looks_is_not_gone() {
    if backend() != Backend::Proc || Command::new("perl").arg("-v").output().is_err() {
        eprintln!("skipped: needs /proc and perl");
        return;
    }
    for _ in 0..4 {
        let mut leader = started(Command::new("sh").args(["-c", FAST_CHAIN]));
        let report = policy().grace(Duration::from_millis(500)).kill_blocking(leader.id() as i32);
        let group = ProcessGroup::new(leader.id() as i32).unwrap();
        // Whatever came of it, nothing may be left: the leader is un-reaped, so the number is still the group's.
        let _ = group.signal(deadbeat::Signal::KILL);
        eventually("the chain is dead", || group.is_gone());
        leader.wait().unwrap();
        assert_eq!(report.unwrap().outcome, Outcome::Killed);
    }
}

/// Ignores SIGTERM in a thread, and ends its main thread: `/proc/PID/stat` says `Z`, and the process runs on.
const HEADLESS: &str = r#"
import ctypes, signal, threading, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
threading.Thread(target=time.sleep, args=(60,)).start()
print("up", flush=True)
ctypes.CDLL(None).pthread_exit(None)
"#;

#[test]
fn a_zombie_whose_other_threads_run_on_is_alive() {
    let python = Command::new("python3").arg("-c").arg("import ctypes").stderr(Stdio::null()).status();
    if backend() != Backend::Proc || !python.is_ok_and(|status| status.success()) {
        eprintln!("skipped: needs /proc and python3");
        return;
    }
    let mut leader = started(Command::new("python3").args(["-c", HEADLESS]));
    let pgid = leader.id() as i32;
    // The control: by the state alone it is dead.
    eventually("its main thread has ended", || state(pgid) == Some('Z'));
    let group = ProcessGroup::new(pgid).unwrap();
    assert_eq!(group.members().unwrap().len(), 1);
    let report = policy().grace(Duration::from_millis(300)).kill_blocking(pgid);
    let _ = group.signal(deadbeat::Signal::KILL);
    leader.wait().unwrap();
    assert_eq!(report.unwrap().outcome, Outcome::Killed);
}

/// A cgroup of version 1 that freezes who is in it; thawed and removed when dropped.
struct Freezer(PathBuf);

impl Freezer {
    fn make() -> Option<Freezer> {
        let path = Path::new("/sys/fs/cgroup/freezer").join(format!("deadbeat-test-{}", std::process::id()));
        std::fs::create_dir(&path).ok()?;
        let freezer = Freezer(path);
        freezer.0.join("freezer.state").exists().then_some(freezer)
    }

    fn freeze(&self, pid: i32) {
        std::fs::write(self.0.join("cgroup.procs"), pid.to_string()).unwrap();
        std::fs::write(self.0.join("freezer.state"), "FROZEN").unwrap();
        eventually("it is frozen", || {
            std::fs::read_to_string(self.0.join("freezer.state")).is_ok_and(|state| state.trim() == "FROZEN")
        });
    }

    fn thaw(&self) {
        std::fs::write(self.0.join("freezer.state"), "THAWED").unwrap();
    }
}

impl Drop for Freezer {
    fn drop(&mut self) {
        self.thaw();
        eventually("the freezer is empty", || std::fs::remove_dir(&self.0).is_ok());
    }
}

#[tokio::test]
async fn a_member_that_sigkill_does_not_end_is_a_survivor_and_nobody_hangs() {
    let Some(freezer) = Freezer::make().filter(|_| backend() == Backend::Proc) else {
        eprintln!("skipped: needs root and a version 1 freezer cgroup");
        return;
    };
    let mut command = tokio::process::Command::new("sleep");
    let mut child = command.arg("60").process_group(0).kill_on_drop(true).spawn().unwrap();
    let pid = child.id().unwrap() as i32;
    freezer.freeze(pid);
    let policy = deadbeat::KillPolicy::default().grace(Duration::from_millis(50)).confirm(Duration::from_millis(100));
    let killed = policy.kill_child(&mut child).await.unwrap();
    let report = killed.report;
    assert_eq!((killed.status, report.outcome), (None, Outcome::Survived), "{report:?}");
    let survivor = report.survivors.iter().find(|member| member.pid == pid).expect("not named");
    assert_eq!((survivor.state, &*survivor.command), ('D', "sleep 60"));
    // SIGKILL has been sent and not arrived: nothing shows that it ever will, so it is not waited for any longer.
    assert!(report.elapsed < Duration::from_secs(8), "{report:?}");
    // The control: thawed, it dies of what it was sent.
    freezer.thaw();
    let status = child.wait().await.unwrap();
    assert!(std::os::unix::process::ExitStatusExt::signal(&status).is_some(), "{status:?}");
}

/// The leader of a group of its own, once it has said that it is up.
fn started(command: &mut Command) -> std::process::Child {
    let mut leader = command.process_group(0).stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
    let mut up = [0; 3];
    std::io::Read::read_exact(leader.stdout.as_mut().unwrap(), &mut up).unwrap();
    leader
}

const EXHAUSTED: &str = "DEADBEAT_DESCRIPTORS_EXHAUSTED";

#[test]
fn with_no_descriptor_left_an_obedient_group_is_still_seen_to_die() {
    if backend() != Backend::Proc {
        return;
    }
    let test = "hard_cases::with_no_descriptor_left_an_obedient_group_is_still_seen_to_die";
    if std::env::var_os(EXHAUSTED).is_none() {
        // In a process of its own: the others need theirs.
        let script =
            format!("ulimit -n 64; exec '{}' --exact {test} --nocapture", std::env::current_exe().unwrap().display());
        let output = Command::new("sh").args(["-c", &script]).env(EXHAUSTED, "1").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        return;
    }
    // Its parent is not us and never waits, so only `/proc` can tell that it is dead.
    let script = "setsid sleep 60 >/dev/null & echo $!; exec sleep 60";
    let mut parent = Command::new("sh").args(["-c", script]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(parent.stdout.take().unwrap()), &mut line).unwrap();
    let pgid: i32 = line.trim().parse().unwrap();
    eventually("it leads a group", || {
        nix::unistd::getpgid(Some(nix::unistd::Pid::from_raw(pgid))).unwrap().as_raw() == pgid
    });
    // Until then it is a shell, which may.
    let comm = format!("/proc/{}/comm", parent.id());
    eventually("its parent never waits", || std::fs::read_to_string(&comm).unwrap() == "sleep\n");
    // What is probed once, and kept in reserve, is so in better days.
    assert!(!ProcessGroup::new(pgid).unwrap().is_gone());
    assert!(ProcessGroup::new(i32::MAX).unwrap().is_gone());
    let mut hoard = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        hoard.push(file);
    }
    let report = policy().grace(super::support::LONG).kill_blocking(pgid).unwrap();
    drop(hoard);
    let is_zombie = state(pgid) == Some('Z');
    parent.kill().unwrap();
    parent.wait().unwrap();
    assert_eq!(report.outcome, Outcome::Terminated, "{report:?}");
    assert!(is_zombie, "it was reaped, so this shows nothing");
}
