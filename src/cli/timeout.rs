//! `deadbeat timeout`: timeout(1), of which nothing survives.
//!
//! ```text
//!   grammar ── duration, signals          what is asked for
//!      │
//!   inherited, events, origin             what we were started with, and what comes to us
//!   job, terminal, lending                the command's stops and ours, and the terminal's foreground
//!      │
//!      ├─► whole ── agent, guardian       the command, its group, and its family: all of it dies
//!      └─► leader                         the command alone, with -f and -k 0
//!      │
//!     end                                 the status
//! ```

mod attendant;
mod duration;
mod end;
mod events;
mod family;
mod grammar;
pub(super) mod help;
mod hunt;
mod inherited;
mod job;
mod kin;
mod leader;
mod lending;
mod origin;
mod signals;
mod terminal;
mod whole;

use std::ffi::OsString;
use std::fmt::Display;
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
pub(super) use attendant::main_if_requested;
use end::{End, FAILED, Failure};
use events::Events;
use grammar::{Call, Request};
use inherited::Inherited;
use terminal::Terminal;

/// Runs what these arguments ask for; the program's name and `timeout` are none of them. `help`
/// prints the help of this command.
pub(super) fn main(args: impl IntoIterator<Item = OsString>, pipe: Pipe, help: impl FnOnce() -> ExitCode) -> ExitCode {
    let call = match grammar::parse(args) {
        Ok(Request::Run(call)) => call,
        Ok(Request::Help) => return printed(help()),
        Ok(Request::Version) => {
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

/// What cannot be written is a failure of ours, with the status of timeout(1) for that.
fn printed(status: ExitCode) -> ExitCode {
    if status == ExitCode::SUCCESS { status } else { ExitCode::from(FAILED as u8) }
}

fn run(call: &Call, pipe: Pipe) -> Result<End, Failure> {
    let failed = |what: &str, error: io::Error| Failure::of_preparation(what, &error);
    // Without a group of its own the command is in the terminal's foreground as we are.
    let terminal = if call.foreground { None } else { Terminal::find() };
    let awaited = events::awaited(call.signal, !call.foreground, terminal.is_some());
    // What is to end the command must not be ignored by it.
    let pipe = if call.signal.map(Signal::as_raw) == Some(SIGPIPE) { Pipe::Default } else { pipe };
    let mut inherited =
        Inherited::change(pipe, &awaited).map_err(|error| failed("change the signal mask", error.into()))?;
    let whole = !call.foreground && !call.kill_after.is_zero();
    let guardian = match whole.then(Guardian::fork_of_this_program) {
        None => None,
        Some(Ok(guardian)) => Some(guardian),
        // There is nothing to start it from.
        Some(Err(_)) if cfg!(target_os = "linux") && !Path::new("/proc/self/exe").exists() => None,
        Some(Err(error)) => return Err(failed("start the guardian", error)),
    };
    if whole && cfg!(target_os = "linux") && !sees_beyond_children() {
        say(&what_is_not_promised(guardian.is_some()));
    }
    let runtime = runtime().map_err(|error| failed("set up the runtime", error))?;
    let end = runtime.block_on(async {
        let mut events =
            Events::listen(&awaited, !call.foreground).map_err(|error| failed("listen to signals", error))?;
        loop {
            let end = match &guardian {
                guardian if whole => whole::run(call, guardian.clone(), &inherited, terminal, &mut events).await,
                _ => leader::run(call, &inherited, terminal, &mut events).await,
            };
            match end {
                Err(failure) if failure.is_no_program && inherited.start_by_exec() => {}
                end => return end,
            }
        }
    });
    // The exit takes them along; to take them down first would be a thread's work, and longer than a short command.
    std::mem::forget((runtime, guardian));
    end
}

/// Where processes cannot be seen in `/proc` they are ended all the same, but for what only the guardian could do.
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
    // tokio panics where it finds no descriptor for its signals. And a kill that has none to look into /proc with cannot
    // tell a group of which only the leader's zombie is left from a living one: it takes all of its time.
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

fn command(call: &Call) -> tokio::process::Command {
    let mut command = tokio::process::Command::new(&call.command);
    command.args(&call.args);
    command
}

#[cfg(fuzzing)]
pub(super) mod fuzzing {
    use std::ffi::OsString;
    use std::time::Duration;

    use super::{Call, Request, duration, grammar, signals};

    /// What timeout(1) would wait.
    pub fn time(text: &str) -> Option<Duration> {
        duration::parse(text)
    }

    /// A signal's name as messages have it; `None` is what is no signal.
    pub fn signal(text: &str) -> Option<String> {
        signals::parse(text).ok().map(signals::name)
    }

    /// The command with its arguments, of a call that runs one.
    pub fn arguments(args: Vec<OsString>) -> Option<Vec<OsString>> {
        match grammar::parse(args) {
            Ok(Request::Run(Call { command, args, .. })) => Some(std::iter::once(command).chain(args).collect()),
            _ => None,
        }
    }
}

fn say(message: &dyn Display) {
    output::tell(&format_args!("deadbeat timeout: {message}"));
}
