//! A killer that is any program: run by `/bin/sh -c`, ended at its deadline, and nothing of it survives.
//!
//! The cell is judged by what becomes of the fixture. The program's own end adds one thing: a status other than 0, or
//! no exit before the deadline, is a fault, reported with the beginning and the end of its stderr.

use std::fmt;
use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use super::member_times::beginning;
use super::stderr_tail::StderrTail;
use crate::fixture::cleanup::{DEAD_WITHIN, kill_until_gone};
use crate::fixture::listed::FIXTURES;
use crate::group::mark::Mark;
use crate::group::{ProcessGroup, begins_with_default_signals, child};

/// The variable that marks the killer's processes, so that processes that left its group are found too.
const KILLER_MARK: &str = "DEADBEAT_KILLER";

/// A command line with a place for the pgid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct KillerProgram {
    template: String,
}

/// A command line without a place for the pgid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemplateError {
    template: String,
}

impl fmt::Display for TemplateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} has no {{pgid}}: write it where the process group's number is to stand", self.template)
    }
}

impl std::error::Error for TemplateError {}

/// How a program ended.
#[derive(Debug)]
pub(super) struct ProgramEnd {
    /// The time from its start to its exit; `None` if there was no start, or it had to be killed at the deadline.
    pub(super) elapsed: Option<Duration>,
    /// What was wrong with its end; `None` if it exited with status 0.
    pub(super) fault: Option<String>,
}

impl KillerProgram {
    pub(super) fn new(template: &str) -> Result<KillerProgram, TemplateError> {
        if !template.contains("{pgid}") {
            return Err(TemplateError { template: template.to_owned() });
        }
        Ok(KillerProgram { template: template.to_owned() })
    }

    fn command_line(&self, pgid: i32, grace: Duration) -> String {
        self.template.replace("{pgid}", &pgid.to_string()).replace("{grace}", &grace.as_secs_f64().to_string())
    }

    /// Runs the program to its end, or to the deadline. What it has left behind lives on until `observed` returns.
    pub(super) fn run<T>(
        &self,
        pgid: i32,
        grace: Duration,
        deadline: Duration,
        observed: impl FnOnce() -> T,
    ) -> (ProgramEnd, T) {
        let start = Instant::now();
        let running = match RunningProgram::start(&self.command_line(pgid, grace)) {
            Ok(running) => running,
            Err(error) => {
                let fault = Some(format!("the command could not be started: {error}"));
                return (ProgramEnd { elapsed: None, fault }, observed());
            }
        };
        let exited = running.exited.recv_timeout(deadline);
        let stuck = exited.is_err().then(|| running.who());
        let seen = observed();
        let (status, words) = running.end();
        let mut fault = match (stuck, status) {
            (Some(who), _) => Some(format!("the command was not over after {deadline:?} and was killed{who}")),
            (None, Ok(status)) if status.success() => None,
            (None, Ok(status)) => Some(format!("the command ended with {status}")),
            (None, Err(error)) => Some(format!("the command's end could not be seen: {error}")),
        };
        if let Some(fault) = fault.as_mut().filter(|_| !words.is_empty()) {
            *fault += &format!("; it said: {words}");
        }
        (ProgramEnd { elapsed: exited.ok().map(|at| at - start), fault }, seen)
    }
}

/// The command line of a killer with this template.
#[cfg(fuzzing)]
pub fn command_line(template: &str, pgid: i32, grace: Duration) -> Option<String> {
    KillerProgram::new(template).ok().map(|program| program.command_line(pgid, grace))
}

/// The command and all that it started.
struct RunningProgram {
    child: Child,
    group: ProcessGroup,
    mark: Mark,
    exited: Receiver<Instant>,
    stderr: Option<StderrTail>,
}

impl RunningProgram {
    fn start(line: &str) -> io::Result<RunningProgram> {
        let mark = Mark::fresh(KILLER_MARK);
        let (name, value) = mark.variable();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", line]).env(name, value).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        begins_with_default_signals(&mut command);
        let (mut child, group) = FIXTURES.spawn(&mut command, &mark, ())?;
        let stderr = child.stderr.take().map(StderrTail::of);
        let (exit, exited) = channel();
        let pid = group.pgid();
        // The wait does not reap: until `end` the number is still the command's own.
        std::thread::spawn(move || {
            child::wait_for_exit(pid);
            let _ = exit.send(Instant::now());
        });
        Ok(RunningProgram { child, group, mark, exited, stderr })
    }

    /// The program's processes, which say what it is stuck in.
    fn who(&self) -> String {
        let members = self.mark.members().unwrap_or_default();
        let names: Vec<_> =
            members.iter().map(|member| format!("{} {}", member.pid, beginning(&member.command))).collect();
        if names.is_empty() { String::new() } else { format!(" ({})", names.join("; ")) }
    }

    /// Kills what is left of the program, and reaps the command.
    fn end(mut self) -> (io::Result<ExitStatus>, String) {
        let _ = kill_until_gone(Some(self.group), &self.mark, Instant::now() + DEAD_WITHIN);
        let status = FIXTURES.reap(&mut self.child, self.group);
        (status, self.stderr.map(StderrTail::text).unwrap_or_default())
    }
}
