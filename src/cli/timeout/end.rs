//! How a run ends: the status of timeout(1), and a death by the signal that the command died of.

use std::ffi::OsStr;
use std::fmt::Display;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;

use nix::errno::Errno;
use nix::sys::signal::{Signal as Named, kill};
use nix::unistd::Pid;
use signal_hook::consts::{SIGINT, SIGKILL, SIGQUIT};

use super::inherited::failure_of_hook;
use super::say::say;
use crate::agent::{StartError, StartStep};
use crate::signal::Signal;

const TIMED_OUT: i32 = 124;
pub(super) const FAILED: i32 = 125;
const CANNOT_INVOKE: i32 = 126;
const NOT_FOUND: i32 = 127;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TimeoutEnd {
    /// The command's; `None` if not even SIGKILL ends it.
    pub(super) status: Option<ExitStatus>,
    pub(super) timed_out: bool,
    /// The command died of a signal that the terminal sent it, as far as can be told.
    by_terminal: bool,
}

/// Why a run could not be begun.
#[derive(Debug)]
pub(super) struct RunFailure {
    pub(super) status: i32,
    pub(super) message: String,
    /// The file is no program; it may be a script that does not say for which shell.
    pub(super) is_no_program: bool,
}

impl RunFailure {
    /// A failure of deadbeat's own.
    pub(super) fn of_ours(error: &dyn Display) -> RunFailure {
        RunFailure { status: FAILED, message: error.to_string(), is_no_program: false }
    }

    /// A failure while the run is prepared.
    pub(super) fn of_preparation(what: &str, error: &io::Error) -> RunFailure {
        RunFailure::of_ours(&format_args!("cannot {what}: {}", system_message(error)))
    }

    /// A start that failed, with GNU's statuses: 127 and 126 are for the exec alone, and a failure before it is
    /// deadbeat's.
    pub(super) fn of_start(command: &OsStr, failed: &StartError) -> RunFailure {
        let (command, error) = (command.to_string_lossy(), &failed.error);
        let errno = error.raw_os_error().map(Errno::from_raw);
        let status = match (failed.step, errno) {
            (StartStep::Exec, Some(Errno::ENOENT)) => NOT_FOUND,
            (StartStep::Exec, Some(_)) => CANNOT_INVOKE,
            _ => FAILED,
        };
        let message = match failure_of_hook(error) {
            Some((what, error)) => {
                format!("cannot start command '{command}': failed to {what}: {}", system_message(&error))
            }
            None if status == FAILED => format!("cannot start command '{command}': {}", system_message(error)),
            None => format!("failed to run command '{command}': {}", system_message(error)),
        };
        RunFailure { status, message, is_no_program: errno == Some(Errno::ENOEXEC) }
    }
}

/// The system's message, without the number that Rust puts behind it.
fn system_message(error: &io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error ").map_or(text.as_str(), |(words, _)| words).to_owned()
}

impl TimeoutEnd {
    /// `had_terminal`: the command was in the foreground of a terminal whose keys send signals, to its end. `sent` is
    /// what deadbeat sent it.
    pub(super) fn new(status: Option<ExitStatus>, timed_out: bool, had_terminal: bool, sent: &[Signal]) -> TimeoutEnd {
        let died_of = status.and_then(|status| status.signal());
        let by_terminal = had_terminal
            && died_of.is_some_and(|signal| [SIGINT, SIGQUIT].contains(&signal))
            && !sent.iter().any(|sent| Some(sent.as_raw()) == died_of);
        TimeoutEnd { status, timed_out, by_terminal }
    }

    /// Ends this process.
    pub(super) fn exit(self, preserve_status: bool) -> ! {
        let Some(status) = self.status else { std::process::exit(128 + SIGKILL) };
        if status.core_dumped() {
            say(&"the monitored command dumped core");
        }
        if let (Some(signal), false) = (status.signal(), self.timed_out) {
            die_of(signal, self.by_terminal);
        }
        std::process::exit(self.code(preserve_status));
    }

    fn code(self, preserve_status: bool) -> i32 {
        let was_killed = self.status.and_then(|status| status.signal()) == Some(SIGKILL);
        let status = self.status.and_then(|status| status.code().or(status.signal().map(|signal| 128 + signal)));
        match status {
            Some(status) if preserve_status || !self.timed_out || was_killed => status,
            _ => TIMED_OUT,
        }
    }
}

/// Ends this process by the signal that the command died of, for the caller to see: a shell ends its script if a
/// command died of Ctrl-C. Returns if that signal does not end a process, or not this one, which is the first of a pid
/// namespace.
fn die_of(signal: i32, by_terminal: bool) {
    if signal == SIGKILL || std::process::id() == 1 {
        return;
    }
    // One core is enough, and the command has left it.
    #[cfg(target_os = "linux")]
    let _ = nix::sys::prctl::set_dumpable(false);
    if by_terminal {
        // With the command in this process's group, the key would have signalled all of the job; a shell ends its
        // script only if the script got the signal as well. A signal that did not come from a key is not sent on:
        // coreutils' timeout signals no group but its own either.
        let _ = Named::try_from(signal).and_then(|signal| kill(Pid::from_raw(0), signal));
    }
    let _ = signal_hook::low_level::emulate_default_handler(signal);
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::exited(7 << 8, false, false, 7)]
    #[case::died(15, false, false, 143)]
    #[case::timed_out(15, true, false, 124)]
    #[case::timed_out_and_handled(3 << 8, true, false, 124)]
    #[case::preserved(15, true, true, 143)]
    #[case::preserved_and_handled(3 << 8, true, true, 3)]
    #[case::killed(9, true, false, 137)]
    #[case::exited_like_one_that_was_killed(137 << 8, true, false, 124)]
    fn the_status_is_that_of_timeout(
        #[case] raw: i32,
        #[case] timed_out: bool,
        #[case] preserve: bool,
        #[case] code: i32,
    ) {
        let end = TimeoutEnd::new(Some(ExitStatus::from_raw(raw)), timed_out, false, &[]);
        assert_eq!(end.code(preserve), code);
    }

    #[test]
    fn the_statuses_are_those_of_the_help() {
        use crate::promised::{are_kept, words};
        let status = |template| words(include_str!("help.rs"), template).parse::<i32>().unwrap();
        are_kept(&[
            ("timed out", status("Exit status: {} the time was over"), TIMED_OUT),
            ("failed", status("without --preserve-status {} deadbeat itself failed"), FAILED),
            ("cannot be run", status("deadbeat itself failed {} the command was found"), CANNOT_INVOKE),
            ("not found", status("cannot be run {} the command was not found"), NOT_FOUND),
            ("killed", status("the command was not found {} the command had to be killed"), 128 + SIGKILL),
        ]);
    }

    #[rstest]
    #[case::ctrl_c(2, true, &[], true)]
    #[case::ctrl_backslash(3, true, &[Signal::INT], true)]
    #[case::no_terminal(2, false, &[], false)]
    #[case::sent_by_us(2, true, &[Signal::CONT, Signal::INT], false)]
    #[case::no_key_sends_it(15, true, &[], false)]
    fn only_what_deadbeat_did_not_send_came_from_the_terminal(
        #[case] raw: i32,
        #[case] had_terminal: bool,
        #[case] sent: &[Signal],
        #[case] by_terminal: bool,
    ) {
        assert_eq!(
            TimeoutEnd::new(Some(ExitStatus::from_raw(raw)), false, had_terminal, sent).by_terminal,
            by_terminal
        );
    }
}
