//! Ctrl-C: the status says so, and no fixture is left; beside it a SIGKILL, after which no process can clean up.

use std::fs;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rstest::rstest;

use crate::ignored::is_ignored;
use crate::support::linux::{self, cells_of, fixtures_of, processes_of, signal_all};
use crate::support::until;
use crate::support::{LONG, program};

/// A suite in the middle of its only cell. Dropping it leaves nothing behind.
struct Suite {
    child: Child,
}

impl Suite {
    fn start(fixture: &str, more: &[&str]) -> Suite {
        let child = Command::new(program())
            .args(LONG.replace("ignore-term", fixture).split_ascii_whitespace())
            .args(more)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let suite = Suite { child };
        until("the fixture is there", || !fixtures_of(suite.pid()).is_empty());
        suite
    }

    fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The child is not waited for yet, so its number is still its own.
    fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid() as i32), signal).unwrap();
    }

    fn end(mut self) -> (ExitStatus, String, String) {
        let read = |stream: &mut dyn std::io::Read| std::io::read_to_string(stream).unwrap();
        let out = read(self.child.stdout.as_mut().unwrap());
        let err = read(self.child.stderr.as_mut().unwrap());
        (self.child.wait().unwrap(), out, err)
    }
}

impl Drop for Suite {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        signal_all(&processes_of(self.pid()), self.pid(), linux::Signal::KILL);
    }
}

#[rstest]
#[case::ctrl_c(Signal::SIGINT, 130)]
#[case::terminated(Signal::SIGTERM, 143)]
#[case::hung_up(Signal::SIGHUP, 129)]
fn an_interruption_kills_every_fixture_and_says_which_it_was(
    // A fixture in its group, and one with a process that has left it.
    #[values("ignore-term", "setsid-escape")] fixture: &str,
    #[case] signal: Signal,
    #[case] status: i32,
) {
    if is_ignored(signal) {
        eprintln!("skipped: {signal} was ignored when we were started (nohup, a shell's background), and so it stays");
        return;
    }
    let suite = Suite::start(fixture, &["--subject", "inline"]);
    let pid = suite.pid();
    suite.signal(signal);
    let (ended, out, err) = suite.end();
    assert_eq!(ended.code(), Some(status), "{out}{err}");
    assert_eq!(out, "", "a report of cells that were cut short");
    assert!(err.contains("interrupted, every fixture was killed") && !err.contains("fail "), "{err}");
    // SIGKILL is on its way to all processes; dying takes a moment.
    until("no fixture is left", || fixtures_of(pid).is_empty());
}

#[rstest]
#[case::interrupted(Signal::SIGTERM)]
#[case::killed(Signal::SIGKILL)]
fn a_killer_dies_with_its_suite(#[case] signal: Signal) {
    let suite = Suite::start("ignore-term", &["--exec", "mine=setsid sleep 100 & sleep 100 # {pgid}"]);
    let pid = suite.pid();
    let killers = || {
        let is_one =
            |pid: &i32| fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line == "sleep\x00100\0");
        processes_of(pid).into_iter().filter(is_one).collect::<Vec<_>>()
    };
    until("both of the killer's processes are there", || killers().len() == 2);
    suite.signal(signal);
    suite.end();
    let start = Instant::now();
    until("nothing is left", || processes_of(pid).is_empty());
    assert!(start.elapsed() < Duration::from_secs(45), "they went on to their own end");
}

#[rstest]
fn a_suite_that_is_killed_leaves_nothing(#[values("ignore-term", "setsid-escape")] fixture: &str) {
    let mut suite = Suite::start(fixture, &["--subject", "inline"]);
    let pid = suite.pid();
    suite.signal(Signal::SIGKILL);
    suite.child.wait().unwrap();
    // Each cell sees the suite's end, and kills what it has started without waiting for the grace.
    let start = Instant::now();
    until("nothing is left", || processes_of(pid).is_empty());
    assert!(start.elapsed() < Duration::from_secs(45), "the cell went on to its own end");
}

#[test]
fn the_control_a_cell_that_dies_while_its_suite_stands_still_leaves_its_fixture_and_the_same_look_finds_it() {
    let mut suite = Suite::start("ignore-term", &[]);
    let pid = suite.pid();
    let cells = cells_of(pid);
    suite.signal(Signal::SIGSTOP);
    until("every thread of the suite stands still", || {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().map(|task| task.unwrap().path().join("stat"));
        tasks.map(|stat| fs::read_to_string(stat).unwrap()).all(|stat| stat.contains(") T "))
    });
    signal_all(&cells, pid, linux::Signal::KILL);
    until("the cells are dead", || processes_of(pid) == fixtures_of(pid));
    // A process in the middle of its exec shows no mark.
    until("the control leaves a fixture", || !fixtures_of(pid).is_empty());
    suite.signal(Signal::SIGKILL);
    suite.child.wait().unwrap();
    signal_all(&processes_of(pid), pid, linux::Signal::KILL);
    until("the fixture is gone", || processes_of(pid).is_empty());
}

#[test]
fn a_cell_that_is_killed_fails_and_leaves_nothing() {
    let suite = Suite::start("setsid-escape", &["--subject", "inline"]);
    let pid = suite.pid();
    let cells = cells_of(pid);
    signal_all(&cells, pid, linux::Signal::KILL);
    let (ended, out, err) = suite.end();
    assert_eq!(ended.code(), Some(1), "{out}{err}");
    assert!(out.contains("the cell's process ended without a report: signal: 9 (SIGKILL)"), "{out}");
    // Asked once, without a wait: with the report nothing is left.
    assert_eq!(processes_of(pid), [0; 0]);
}

#[test]
fn an_interrupted_suite_leaves_the_old_report_as_it_was() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("report");
    fs::write(&file, "the old one").unwrap();
    let suite = Suite::start("ignore-term", &["--output", file.to_str().unwrap()]);
    suite.signal(Signal::SIGTERM);
    let (ended, ..) = suite.end();
    assert_eq!(ended.code(), Some(143));
    assert_eq!(fs::read_to_string(&file).unwrap(), "the old one");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "something else was left in the folder");
}
