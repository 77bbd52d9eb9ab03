//! What `deadbeat timeout` says on stderr.

use std::fmt::Display;

use super::grammar::TimeoutCall;
use super::signals;
use crate::cli::output;
use crate::signal::Signal;

pub(super) fn say(message: &dyn Display) {
    output::tell(&format_args!("deadbeat timeout: {message}"));
}

/// With `--verbose`, says which signal the command is sent; `None` is signal 0.
pub(super) fn say_sending(call: &TimeoutCall, signal: Option<Signal>) {
    if call.verbose {
        let (name, command) = (signals::name(signal), call.command.to_string_lossy());
        say(&format_args!("sending signal {name} to command '{command}'"));
    }
}
