//! `deadbeat timeout`: timeout(1), of which nothing survives.
//!
//! ```text
//!   grammar ── duration, signals              what is asked for
//!      │
//!   inherited, events, signal_origin          what deadbeat was started with, and what comes to it
//!   job, terminal, terminal_helpers           the stops of the command and of deadbeat, the terminal's foreground
//!      │
//!   requests                                  what follows from a signal, and from the time's end
//!      │
//!      ├─► guarded ── agent, guardian         the command, its group, and what escapes from it: all of it dies
//!      │      └─ subreaper ── kill_escaped, escape_finder ── ownership
//!      └─► plain                              the command alone, with -f and -k 0
//!      │
//!     end, say                                the status, and what is said on stderr
//! ```

mod duration;
mod end;
mod escape_finder;
mod events;
mod grammar;
mod guarded;
pub(super) mod help;
mod helper_main;
mod inherited;
mod job;
mod kill_escaped;
mod ownership;
mod plain;
mod requests;
mod say;
mod signal_origin;
mod signals;
mod subreaper;
mod terminal;
mod terminal_helpers;

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::process::ExitCode;

use nix::errno::Errno;
use signal_hook::consts::SIGPIPE;
use tokio::runtime::Runtime;

use super::output;
use super::startup::Pipe;
use crate::group::descendants::{hides_processes, sees_beyond_children};
use crate::guardian::Guardian;
use crate::signal::Signal;
use end::{FAILED, RunFailure, TimeoutEnd};
use events::Events;
use grammar::{TimeoutCall, TimeoutRequest};
pub(super) use helper_main::main_if_requested;
use inherited::Inherited;
use say::say;
use terminal::Terminal;

/// Runs what the arguments after `timeout` ask for. `help` prints the help of this command.
pub(super) fn main(args: impl IntoIterator<Item = OsString>, pipe: Pipe, help: impl FnOnce() -> ExitCode) -> ExitCode {
    let call = match grammar::parse(args) {
        Ok(TimeoutRequest::Run(call)) => call,
        Ok(TimeoutRequest::Help) => return printed(help()),
        Ok(TimeoutRequest::Version) => {
            let version = format!("deadbeat timeout {}\n", env!("CARGO_PKG_VERSION"));
            return printed(output::print(&version, ExitCode::SUCCESS));
        }
        Err(problem) => {
            say(&problem);
            output::tell(&"Try 'deadbeat timeout --help' for more information.");
            return ExitCode::from(FAILED as u8);
        }
    };
    match run(&call, pipe) {
        Ok(end) => end.exit(call.preserve_status),
        Err(failure) => {
            say(&failure.message);
            std::process::exit(failure.status)
        }
    }
}

/// The status after printing: what cannot be written is a failure of deadbeat's own, with the status of timeout(1) for
/// that.
fn printed(status: ExitCode) -> ExitCode {
    if status == ExitCode::SUCCESS { status } else { ExitCode::from(FAILED as u8) }
}

fn run(call: &TimeoutCall, pipe: Pipe) -> Result<TimeoutEnd, RunFailure> {
    let failed = |what: &str, error: io::Error| RunFailure::of_preparation(what, &error);
    // Without a group of its own the command is in the terminal's foreground whenever this process is.
    let terminal = if call.foreground { None } else { Terminal::find() };
    let awaited = events::awaited(call.signal, !call.foreground, terminal.is_some());
    // The signal that has to end the command must not be ignored by it.
    let pipe = if call.signal.map(Signal::as_raw) == Some(SIGPIPE) { Pipe::Default } else { pipe };
    let mut inherited =
        Inherited::change(pipe, &awaited).map_err(|error| failed("change the signal mask", error.into()))?;
    let is_guarded = !call.foreground && !call.kill_after.is_zero();
    let guardian = match is_guarded.then(Guardian::fork_of_this_program) {
        None => None,
        Some(Ok(guardian)) => Some(guardian),
        // Without `/proc` this program cannot be started again.
        Some(Err(_)) if cfg!(target_os = "linux") && !Path::new("/proc/self/exe").exists() => None,
        Some(Err(error)) => return Err(failed("start the guardian", error)),
    };
    if is_guarded && cfg!(target_os = "linux") && !sees_beyond_children() {
        say(&what_is_not_promised(guardian.is_some()));
    }
    let runtime = runtime().map_err(|error| failed("set up the runtime", error))?;
    let end = runtime.block_on(async {
        let mut events =
            Events::listen(&awaited, !call.foreground).map_err(|error| failed("listen to signals", error))?;
        loop {
            let end = match &guardian {
                guardian if is_guarded => guarded::run(call, guardian.clone(), &inherited, terminal, &mut events).await,
                _ => plain::run(call, &inherited, terminal, &mut events).await,
            };
            match end {
                Err(failure) if failure.is_no_program && inherited.start_by_exec() => {}
                end => return end,
            }
        }
    });
    // They end with the process. To shut them down first would take longer than a short command runs.
    std::mem::forget((runtime, guardian));
    end
}

/// The warning where processes cannot be seen in `/proc`: the run ends them all the same, but the guardian cannot.
fn what_is_not_promised(is_guarded: bool) -> String {
    let (what, lives_on, remedy) = match is_guarded {
        true if hides_processes() => (
            "/proc hides processes (hidepid)",
            "processes that have left the command's group live on",
            "run it as root, or with /proc mounted without hidepid",
        ),
        true => (
            "/proc does not show this pid namespace",
            "processes that have left the command's group live on",
            "mount the /proc of this pid namespace",
        ),
        false => (
            "there is no /proc of this pid namespace",
            "what the command has started lives on",
            "mount the /proc of this pid namespace",
        ),
    };
    format!("{what}: should deadbeat be killed by SIGKILL, {lives_on}; to have them ended then too, {remedy}")
}

fn runtime() -> io::Result<Runtime> {
    // tokio panics where it finds no descriptor for its signals. And a kill without one cannot read /proc, where a
    // group of which only the leader's zombie is left looks different from a living one: it takes all of its grace.
    const NEEDED: usize = 20;
    let probes = (0..NEEDED).map(|_| io::stderr().as_fd().try_clone_to_owned()).collect::<io::Result<Vec<_>>>();
    match probes {
        Err(error) if error.raw_os_error() == Some(Errno::EMFILE as i32) => {
            let words = format!(
                "fewer than {NEEDED} descriptors are free (close some, or raise ulimit -n): Too many open files"
            );
            return Err(io::Error::other(words));
        }
        // Standard error may be closed.
        probes => drop(probes),
    }
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

#[cfg(fuzzing)]
pub(super) mod fuzzing {
    use std::ffi::OsString;
    use std::time::Duration;

    use super::{TimeoutCall, TimeoutRequest, duration, grammar, signals};

    /// The time that timeout(1) would wait.
    pub fn time(text: &str) -> Option<Duration> {
        duration::parse(text)
    }

    /// The name of a signal in messages; `None` if the text is no signal.
    pub fn signal(text: &str) -> Option<String> {
        signals::parse(text).ok().map(signals::name)
    }

    /// The command with its arguments, if the call runs one.
    pub fn arguments(args: Vec<OsString>) -> Option<Vec<OsString>> {
        match grammar::parse(args) {
            Ok(TimeoutRequest::Run(TimeoutCall { command, args, .. })) => {
                Some(std::iter::once(command).chain(args).collect())
            }
            _ => None,
        }
    }
}
