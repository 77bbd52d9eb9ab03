//! A cell in a process of its own: whatever the subject does to it, it is reported and ended, and nothing of it is
//! left.
//!
//! The program starts itself again for each cell, with a socket in place of stdin. The child writes its report there
//! and exits; when the socket ends on its side, because the parent was interrupted or is dead, it kills its fixture and
//! exits. The parent gives it a deadline beyond its own, and at the end kills whatever still carries the cell's mark:
//! nothing of a cell outlives its report.
//!
//! ```text
//!   parent   spawn ──────────────── read the report ── kill group and mark ── reap
//!               │ socket, mark            ▲
//!   cell        └─ start fixture ─ watch ─┴─ exit        the socket ends: kill the fixture, exit
//! ```

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags};

use super::builder::Suite;
use super::cell::Cell;
use super::stderr_tail::StderrTail;
use crate::fixture;
use crate::fixture::cleanup::{DEAD_WITHIN, kill_until_gone};
use crate::fixture::listed::RunningGroups;
use crate::group::mark::Mark;
use crate::group::{ProcessGroup, begins_with_default_signals, pause, wait_readable};
use crate::heartbeat::what_its_threads_do;
use crate::report::{CellReport, CellVerdict};
use crate::retry::while_inconclusive;

/// The variable that marks a cell's process and all that it starts.
const CELL_MARK: &str = "DEADBEAT_CELL";

/// How long a cell that is told to end may take to kill its fixture.
const CLEANUP_WITHIN: Duration = Duration::from_secs(2);

/// The cells that run, each with the suite's end of its socket.
static CELLS: RunningGroups<UnixStream> = RunningGroups::none();

/// Runs the cell in a process that `command` starts, which has to call [`report_to_parent`] with the same cell.
pub(crate) fn run(suite: &Suite, cell: &Cell, command: impl Fn() -> Command) -> CellReport {
    while_inconclusive(|| measure(suite, cell, command()), CellReport::proves_nothing)
}

fn measure(suite: &Suite, cell: &Cell, command: Command) -> CellReport {
    let report = match CellProcess::start(command) {
        Ok(running) => running.listen(suite.cell_within()),
        Err(error) => Err(format!("the cell's process could not be started: {error}")),
    };
    report.unwrap_or_else(|why| cell.unjudged().failed(why))
}

/// Ends every cell and all that it started. No other cell starts or reports after that: the caller was interrupted, and
/// exits.
pub(crate) fn kill_all() {
    let cells = CELLS.close();
    for cell in cells.iter() {
        let _ = cell.with.shutdown(Shutdown::Both);
    }
    let deadline = Instant::now() + CLEANUP_WITHIN;
    while cells.iter().any(|cell| !cell.group.leader_has_exited()) && Instant::now() < deadline {
        pause(Duration::from_millis(1));
    }
    for cell in cells.iter() {
        let _ = kill_until_gone(Some(cell.group), &cell.mark, deadline + DEAD_WITHIN);
    }
    // Held until the process ends: a thread that runs a cell waits here, and cannot report it as failed.
    std::mem::forget(cells);
}

struct CellProcess {
    child: Child,
    group: ProcessGroup,
    mark: Mark,
    socket: UnixStream,
    stderr: StderrTail,
}

impl CellProcess {
    fn start(mut command: Command) -> io::Result<CellProcess> {
        let mark = Mark::fresh(CELL_MARK);
        let (name, value) = mark.variable();
        let (socket, theirs) = UnixStream::pair()?;
        let (ear, mouth) = UnixStream::pair()?;
        command.env(name, value).process_group(0).stdin(OwnedFd::from(theirs));
        command.stdout(OwnedFd::from(mouth.try_clone()?)).stderr(OwnedFd::from(mouth));
        let listed = socket.try_clone()?;
        begins_with_default_signals(&mut command);
        let (child, group) = CELLS.spawn(&mut command, &mark, listed)?;
        // Closes this process's copies of the other ends.
        drop(command);
        Ok(CellProcess { child, group, mark, socket, stderr: StderrTail::of(ear) })
    }

    /// Returns the report, or why there is none. Nothing of the cell is left after this.
    fn listen(mut self, within: Duration) -> Result<CellReport, String> {
        let said = self.read(Instant::now() + within);
        // Asked while the process is still stuck.
        let stuck = said.is_err().then(|| what_its_threads_do(self.group.pgid()));
        let (status, leak) = self.end();
        let words = self.stderr.text();
        let report = match (said, stuck) {
            (Ok(json), _) => serde_json::from_slice(&json).map_err(|_| match status {
                Ok(status) => format!("the cell's process ended without a report: {status}"),
                Err(error) => format!("the cell's process ended without a report: {error}"),
            }),
            (Err(_), stuck) => {
                let threads = stuck.unwrap_or_default();
                let threads = if threads.is_empty() { String::new() } else { format!(": {}", threads.join("; ")) };
                Err(format!("the cell's process did not come back within {within:?} and was killed{threads}"))
            }
        };
        let why = |why: String| if words.is_empty() { why } else { format!("{why}; it said: {words}") };
        let mut report: CellReport = report.map_err(|error| {
            let leak = leak.as_ref().map(|leak| format!("; {leak}")).unwrap_or_default();
            why(error) + &leak
        })?;
        if report.verdict == CellVerdict::Fail {
            report.why = why(report.why);
        }
        Ok(match leak {
            Some(leak) => report.failed_too(leak),
            None => report,
        })
    }

    /// Reads what the process writes until it ends; `Err` at the deadline.
    fn read(&mut self, deadline: Instant) -> Result<Vec<u8>, ()> {
        let (mut said, mut chunk) = (Vec::new(), [0; 16 * 1024]);
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(());
            }
            if wait_readable(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)], left) {
                match self.socket.read(&mut chunk) {
                    Ok(0) => return Ok(said),
                    Ok(length) => said.extend_from_slice(&chunk[..length]),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    // It was killed before it had read all that this process wrote.
                    Err(_) => return Ok(said),
                }
            }
        }
    }

    /// Ends the process and all that it started: its status, and what outlived SIGKILL, if anything did.
    ///
    /// The lock is held for the reaping alone. Until then the un-reaped leader pins the number, and an interruption
    /// need not wait for processes to die.
    fn end(&mut self) -> (io::Result<ExitStatus>, Option<String>) {
        // A process that has reported exits by itself, and this SIGKILL may give it another status.
        let deadline = Instant::now() + DEAD_WITHIN;
        let left = kill_until_gone(Some(self.group), &self.mark, deadline).err().unwrap_or_default();
        let names: Vec<_> = left.iter().map(ToString::to_string).collect();
        let leak = (!left.is_empty()).then(|| format!("left after SIGKILL: {}", names.join("; ")));
        loop {
            if self.group.leader_has_exited() {
                return (CELLS.reap(&mut self.child, self.group), leak);
            }
            if Instant::now() >= deadline {
                // The leader stays listed and un-reaped, so the number stays its own.
                return (Err(io::Error::from(io::ErrorKind::TimedOut)), leak);
            }
            pause(Duration::from_millis(1));
        }
    }
}

/// Runs the cell in this process, which a suite has started, reports and exits.
pub(crate) fn report_to_parent(suite: &Suite, cell: &Cell) -> ! {
    let socket = match take_stdin() {
        Ok(socket) => socket,
        Err(error) => {
            eprintln!("deadbeat: a cell has to be started by its suite: {error}");
            std::process::exit(2);
        }
    };
    let report = suite.run_cell(cell);
    // A process that was forked without an exec holds the socket too, so a close would not end the report.
    let written = serde_json::to_vec(&report)
        .map_err(io::Error::other)
        .and_then(|json| (&socket).write_all(&json))
        .and_then(|()| socket.shutdown(Shutdown::Write));
    // Not by a return: a subject that hangs must not hold the process.
    std::process::exit(if written.is_ok() { 0 } else { 1 });
}

/// The socket to the parent, taken from stdin so that nothing the subject starts inherits it. From here on the cell
/// ends with the socket.
fn take_stdin() -> io::Result<UnixStream> {
    let socket = UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
    // Fails where it is no socket.
    socket.peer_addr()?;
    rustix::stdio::dup2_stdin(std::fs::File::open("/dev/null")?)?;
    let mut lifeline = socket.try_clone()?;
    std::thread::Builder::new().name("deadbeat-lifeline".into()).spawn(move || {
        // The parent writes nothing: a read returns at the end of the socket.
        while lifeline.read(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::Interrupted) {}
        fixture::kill_all();
        std::process::exit(1);
    })?;
    Ok(socket)
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use crate::suite::Suite;

    /// The report on a cell whose process runs this script instead of the cell.
    fn report_of(script: &str, within: Duration) -> CellReport {
        let cell = &Suite::new().cells()[0];
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        let report = CellProcess::start(command).unwrap().listen(within);
        report.unwrap_or_else(|why| cell.unjudged().failed(why))
    }

    const LONG: Duration = Duration::from_secs(30);

    /// The report on a process that was found in `what`, with a longer deadline each time: a busy machine may take long
    /// to start a shell.
    fn stuck_in(what: &str, script: &str) -> (Duration, CellReport) {
        let with = |within| (within, report_of(script, within));
        let mut reports = [500, 5_000].into_iter().map(|millis| with(Duration::from_millis(millis)));
        reports.find(|(_, report)| report.why.contains(what)).unwrap_or_else(|| with(LONG))
    }

    #[test]
    fn one_that_does_not_come_back_is_killed_and_said_to_be_stuck_in_what() {
        let what = ": sleep waiting in clock_nanosleep; ";
        let (within, CellReport { verdict, why, .. }) = stuck_in(what, "echo stuck >&2; exec sleep 100");
        assert_eq!(verdict, CellVerdict::Fail);
        assert!(why.contains(&format!("did not come back within {within:?} and was killed: ")), "{why}");
        assert!(why.contains(what) && why.contains("it said: stuck"), "{why}");
    }

    #[test]
    fn one_that_stands_still_is_ended_too() {
        let what = "was killed: sh stopped";
        let (_, report) = stuck_in(what, "kill -STOP $$");
        assert!(report.why.contains(what), "{}", report.why);
    }

    #[test]
    fn one_that_ends_without_a_report_fails_with_its_status_and_its_words() {
        for (script, status) in [("exit 3", "exit status: 3"), ("kill -SEGV $$", "signal: 11"), (":", "exit status: 0")]
        {
            let report = report_of(&format!("echo alas >&2; {script}"), LONG);
            let why = report.why;
            assert!(why.starts_with("the cell's process ended without a report: ") && why.contains(status), "{why}");
            assert!(why.ends_with("; it said: alas"), "{why}");
        }
    }

    #[test]
    fn what_is_no_report_is_none() {
        assert!(report_of("echo '{\"verdict\":\"pass\"}' >&0", LONG).why.contains("without a report"));
    }

    #[test]
    fn nothing_that_it_started_is_left_wherever_it_has_gone() {
        // Both print their pids on stderr, which outlives the shell that started them, and then make a file each.
        let dir = tempfile::tempdir().unwrap();
        let stray = format!("echo $$ >&2; : >{}/$$; exec sleep 100", dir.path().display());
        let both = format!("until [ $(ls {} | wc -l) -eq 2 ]; do sleep 0.05; done", dir.path().display());
        let report = report_of(&format!("setsid sh -c '{stray}' & sh -c '{stray}' & {both}"), LONG);
        let words = report.why.split_once("it said: ").expect("no pids").1;
        let pids: Vec<i32> = words.split(" | ").map(|pid| pid.parse().unwrap()).collect();
        assert_eq!(pids.len(), 2, "{words}");
        for pid in pids {
            let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            assert!(!line.contains("sleep"), "{pid} still runs");
        }
    }
}
