//! Processes whose environment cannot be read: they die with their run if it can be told that they are of it, and are
//! named if it cannot.

use std::io::{BufRead, BufReader};
use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};

use deadbeat::KillPolicy;
use deadbeat::agent::{AgentOptions, run_subprocess_agent};
use deadbeat::guardian::Guardian;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, pidfd_send_signal};
use tracing::Event;
use tracing::field::{Field, Visit};

use super::ends::GRACE;
use super::support::{Parent, eventually};
use super::warnings::Warnings;

/// What the programs of `parent.rs` run.
const HIDES: &str = "DEADBEAT_TEST_HIDES";

/// As an `ssh-agent`: to all users but root its environment is unreadable.
fn undumpable() -> String {
    let prctl = nix::libc::SYS_prctl;
    format!("$| = 1; syscall({prctl}, 4, 0, 0, 0, 0) == 0 or die; print qq(escaped $$\\n); sleep 120")
}

/// As an `nginx`: where its environment was there are zeros, after the end of a title.
fn retitled() -> String {
    "$| = 1; open F, q(/proc/self/stat); $_ = <F>; s/.*\\) //; my ($from, $to) = (split)[47, 48];
    open M, q(+<), q(/proc/self/mem) or die; sysseek M, $from, 0; $t = q(ter process);
    syswrite(M, $t . qq(\\0) x ($to - $from - length $t)) > 0 or die; print qq(escaped $$\\n); sleep 120"
        .to_owned()
}

/// Held by its pidfd, since there is no mark to know it by. Dropping it kills it.
struct Hidden(OwnedFd);

impl Hidden {
    fn hold(pid: i32) -> Hidden {
        let hidden = Hidden(pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap());
        assert!(hidden.lives(), "{pid} has ended by itself");
        hidden
    }

    fn lives(&self) -> bool {
        poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO).unwrap() == 0
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        let _ = pidfd_send_signal(&self.0, Signal::KILL);
    }
}

/// The user that the runner is started as. Only root can become another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum User {
    Ours,
    Another,
}

/// A runner in whose guarded run this hides itself; `None` where it cannot be had.
fn runner(user: User, hides: &str, line: &str) -> Option<Parent> {
    let works = |command: &mut Command| command.stderr(Stdio::null()).status().is_ok_and(|status| status.success());
    let setpriv = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    if !works(Command::new("perl").args(["-e", "1"])) {
        eprintln!("skipped: it takes perl");
        return None;
    }
    let this = std::env::current_exe().unwrap();
    let mut command = Command::new("env");
    if user == User::Another {
        let is_another =
            |command: &mut Command| works(command.args(setpriv).arg(&this).arg("--list").stdout(Stdio::null()));
        if !is_another(&mut Command::new("setpriv")) {
            eprintln!("skipped: it takes root, and a program that others may run");
            return None;
        }
        command = Command::new("setpriv");
        command.args(setpriv).arg("env");
    }
    command.arg(format!("{HIDES}={hides}")).arg(this);
    let mut runner = Parent::start_by(command, super::runner::ROLE);
    runner.tell(line);
    Some(runner)
}

/// What is hidden, and as which user.
fn cases() -> [(User, String); 4] {
    [(User::Another, undumpable()), (User::Another, retitled()), (User::Ours, undumpable()), (User::Ours, retitled())]
}

pub(crate) fn who_cannot_be_read_dies_with_the_parent_and_with_the_run() {
    let grace = GRACE.as_millis();
    for (user, hides) in cases() {
        for end in ["Killed", "Term"] {
            let Some(mut runner) = runner(user, &hides, &format!("guarded {end} 60000000 {grace} hidden")) else {
                return;
            };
            let guardian = runner.hear("guardian").parse().unwrap();
            runner.hear("ready");
            let pid = runner.hear("escaped").parse().unwrap();
            let hidden = Hidden::hold(pid);
            looks_around(guardian);
            if end == "Killed" {
                runner.kill();
            } else {
                kill_process(Pid::from_raw(runner.pid()).unwrap(), Signal::TERM).unwrap();
                runner.hear("ended");
            }
            eventually(&format!("{user:?}, {end}: {pid} is dead"), || !hidden.lives());
        }
        // The control: without a guardian it lives on.
        let Some(mut runner) = runner(user, &hides, &format!("alone Killed 60000000 {grace} hidden")) else { return };
        runner.hear("ready");
        let hidden = Hidden::hold(runner.hear("escaped").parse().unwrap());
        runner.kill();
        assert!(hidden.lives());
    }
}

/// How often it has waited for something, by `proc_pid_status(5)`.
fn waits(pid: i32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
    line.unwrap().trim().parse().unwrap()
}

/// The guardian looks at who was born, and has done so since this began when it ends.
fn looks_around(guardian: i32) {
    let before = waits(guardian);
    eventually("the guardian has looked", || waits(guardian) > before + 2);
}

pub(crate) fn who_cannot_be_read_and_has_lost_its_parent_dies_with_the_parent() {
    for (user, hides) in cases() {
        let Some(mut runner) = runner(user, &hides, "guarded Killed 60000000 300 hidden-orphan") else { return };
        let guardian: i32 = runner.hear("guardian").parse().unwrap();
        runner.hear("ready");
        let between: i32 = runner.hear("between").parse().unwrap();
        let hidden = Hidden::hold(runner.hear("escaped").parse().unwrap());
        looks_around(guardian);
        runner.tree.kill_wholly(between);
        runner.kill();
        eventually(&format!("{user:?}: it is dead"), || !hidden.lives());
    }
}

/// All that was warned of here.
fn warnings() -> MutexGuard<'static, Vec<String>> {
    static WARNINGS: Mutex<Vec<String>> = Mutex::new(Vec::new());
    WARNINGS.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(crate) fn listen_for_warnings() {
    struct Message(String);
    impl Visit for Message {
        fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
            if field.name() == "message" {
                self.0 = format!("{value:?}");
            }
        }
    }
    let note = |event: &Event<'_>| {
        let mut message = Message(String::new());
        event.record(&mut message);
        warnings().push(message.0);
    };
    tracing::subscriber::set_global_default(Warnings(note)).unwrap();
}

/// A child of ours, which is not waited for while it lives. Dropping this has it go on.
struct Stopped(OwnedFd);

impl Stopped {
    fn stop(pid: i32) -> Stopped {
        let stopped = Stopped(pidfd_open(Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap());
        pidfd_send_signal(&stopped.0, Signal::STOP).unwrap();
        stopped
    }
}

impl Drop for Stopped {
    fn drop(&mut self) {
        let _ = pidfd_send_signal(&self.0, Signal::CONT);
    }
}

pub(crate) fn who_cannot_be_told_is_named_and_left_alone() {
    if !Command::new("perl").args(["-e", "1"]).status().is_ok_and(|status| status.success()) {
        eprintln!("skipped: it takes perl");
        return;
    }
    let guardian = Guardian::of_this_program().unwrap();
    let pid = guardian.pid().unwrap();
    // It sees nothing of the run until that is over.
    let stopped = Stopped::stop(pid);
    let dir = tempfile::tempdir().unwrap();
    let said = dir.path().join("said");
    let mut command = tokio::process::Command::new("sh");
    // The leader ends when the other has hidden itself.
    let script =
        r#"(setsid perl -e "$DEADBEAT_TEST_HIDES" >"$0" &); until grep -q escaped "$0"; do sleep .01; done; exit 0"#;
    command.args(["-c", script]).arg(&said).env(HIDES, retitled());
    let policy = KillPolicy::default().grace(GRACE);
    let options = AgentOptions::default().guardian(guardian.clone()).policy(policy);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(run_subprocess_agent(command, &options)).unwrap();
    let escaped = |said: &str| said.trim().strip_prefix("escaped ").unwrap().parse().unwrap();
    let pid_of_it: i32 = escaped(&std::fs::read_to_string(&said).unwrap());
    let hidden = Hidden::hold(pid_of_it);
    // As hidden, and as young, but with a parent of its own, in a session that is none of the run's.
    let mut shell = Command::new("setsid");
    shell.args(["sh", "-c", "perl -e \"$DEADBEAT_TEST_HIDES\" & wait"]).env(HIDES, retitled()).stdout(Stdio::piped());
    let mut shell = shell.spawn().unwrap();
    let mut line = String::new();
    BufReader::new(shell.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let stranger: i32 = escaped(&line);
    let bystander = Hidden::hold(stranger);
    drop(stopped);
    let named = |pid: i32| {
        let of_it = |warning: &&String| warning.starts_with(&format!("process {pid} (perl"));
        warnings().iter().filter(of_it).cloned().collect::<Vec<_>>()
    };
    eventually("it is named", || !named(pid_of_it).is_empty());
    assert!(named(pid_of_it)[0].contains("its environment cannot be read"), "{:?}", named(pid_of_it));
    assert!(hidden.lives() && bystander.lives(), "it was signalled, and might have been a stranger");
    drop((options, guardian));
    eventually("the guardian has ended", || !std::path::Path::new(&format!("/proc/{pid}")).exists());
    assert!(named(stranger).is_empty(), "{:?}", named(stranger));
    assert!(hidden.lives() && bystander.lives());
    drop(bystander);
    shell.wait().unwrap();
}
