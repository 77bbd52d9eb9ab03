//! What `--help`, the manual page and the completions say. The arguments themselves are read by `grammar.rs`.

use std::ffi::OsString;

use clap::{Args, ValueHint};

/// Run a command for a limited time, as timeout(1) does, and leave nothing of it behind.
#[derive(Debug, Args)]
#[command(
    long_about = "\
Run a command for a limited time, as timeout(1) does, and leave nothing of it behind.

When the time is over the command is sent SIGNAL, and SIGKILL if it has not ended GRACE later. Nothing survives: not \
its children when it has ended by itself, not those that ignore SIGNAL, left its process group or became daemons, and \
not when deadbeat itself is killed.

The first SIGTERM, SIGINT or SIGHUP to deadbeat is passed on and ends the command as the timeout does; a second one \
kills at once. SIGALRM is the timeout. SIGQUIT, SIGUSR1 and SIGUSR2 are passed on. On a terminal the command is lent \
the foreground when it is stopped for reading the terminal or setting it. Until then Ctrl-C, Ctrl-\\ and Ctrl-Z are \
passed on to it, and Ctrl-C asks nothing of deadbeat. What stops deadbeat stops the command.

A command that has ended by itself is waited for until its children are dead, GRACE at most.",
    after_help = "\
DURATION and GRACE are numbers, such as 5, .5, 1e3 or 0x1p3, or inf, with an
optional unit: s seconds (the default), m minutes, h hours, d days. A DURATION
of 0 is no timeout.

Exit status:
  124      the time was over, without --preserve-status
  125      deadbeat itself failed
  126      the command was found and cannot be run
  127      the command was not found
  137      the command had to be killed, or was
  128 + n  the command died of signal n; deadbeat dies of it too
  else     the command's own"
)]
pub(in crate::cli) struct TimeoutArgs {
    /// Run the command in deadbeat's own process group; its children are neither timed out nor killed
    #[arg(short, long)]
    foreground: bool,
    /// How long after SIGNAL to kill what is left; 0 never kills, and waits for the command alone
    #[arg(short, long, value_name = "GRACE", default_value = "5s")]
    kill_after: String,
    /// Exit with the command's own status, even when its time was over
    #[arg(short, long)]
    preserve_status: bool,
    /// What to send when the time is over, by name or number; 0 sends nothing
    #[arg(short, long, value_name = "SIGNAL", default_value = "TERM")]
    signal: String,
    /// Say on stderr which signals are sent, and which other processes needed some
    #[arg(short, long)]
    verbose: bool,
    /// How long the command may run
    duration: String,
    /// The command and its arguments; options after it are its own
    #[arg(required = true, num_args = 1.., trailing_var_arg = true, allow_hyphen_values = true)]
    #[arg(value_name = "COMMAND", value_hint = ValueHint::CommandWithArguments)]
    command: Vec<OsString>,
}
