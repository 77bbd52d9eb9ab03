//! The program: its arguments, where its output goes, what its exit status means.
//!
//! Data goes to stdout, progress and diagnostics to stderr. What can be known to be wrong is an error before anything
//! runs, with status 2; `timeout` has the statuses of timeout(1).

mod args;
mod commands;
mod docs;
mod interrupt;
mod kill;
mod output;
#[cfg(test)]
mod promised;
mod startup;
mod suite;
mod timeout;

#[cfg(fuzzing)]
pub(crate) mod fuzzing {
    pub use super::suite::fuzzing::{killer, merged, quoted};
    pub use super::timeout::fuzzing::{arguments, signal, time};
}

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use commands::{Args, CliCommand, Color, FixturesArgs, all_commands, help};
use output::usage;
pub use startup::{Pipe, ProgramStart};

/// Runs the program; the status is what `main` returns.
pub fn main(startup: ProgramStart) -> ExitCode {
    crate::guardian::main_if_requested();
    timeout::main_if_requested();
    output::stdout_is_writable(startup.stdout_writable);
    if let Some(args) = timeout_args(std::env::args_os().skip(1)) {
        return timeout::main(args, startup.pipe, || help("timeout"));
    }
    let args = match Args::try_parse() {
        Ok(args) => args,
        // Help and version are data, and go to stdout.
        Err(told) if !told.use_stderr() => return output::print(&told.render().ansi().to_string(), ExitCode::SUCCESS),
        Err(wrong) => match kill::advice(std::env::args_os().skip(1)) {
            Some(advice) if wrong.kind() == ErrorKind::UnknownArgument => return usage(&advice),
            _ => wrong.exit(),
        },
    };
    match args.color {
        Color::Auto => {}
        Color::Always => anstream::ColorChoice::Always.write_global(),
        Color::Never => anstream::ColorChoice::Never.write_global(),
    }
    match args.command {
        CliCommand::Suite(args) => suite::run(&args),
        CliCommand::Kill(args) => kill::run(&args),
        CliCommand::Fixtures(args) => fixtures(&args),
        CliCommand::Man => docs::man(&all_commands()),
        CliCommand::Completions(args) => docs::completions(&args, &mut all_commands()),
        CliCommand::Timeout(_) => unreachable!("it has a grammar of its own, and was looked for first"),
    }
}

/// The arguments behind `timeout`, if that is the command.
fn timeout_args(args: impl Iterator<Item = OsString>) -> Option<impl Iterator<Item = OsString>> {
    let mut args = args;
    loop {
        let arg = args.next()?;
        match arg.to_str()? {
            "timeout" => return Some(args),
            "--color" => drop(args.next()?),
            option if option.starts_with("--color=") => {}
            _ => return None,
        }
    }
}

fn fixtures(args: &FixturesArgs) -> ExitCode {
    let Some(dir) = &args.export else {
        let mut text = String::new();
        for fixture in crate::fixture::ALL {
            text += &format!("{:18} {:13} {}\n", fixture.name, fixture.outcome, fixture.about());
        }
        return output::print(&text, ExitCode::SUCCESS);
    };
    for fixture in crate::fixture::ALL {
        let file = dir.join(fixture.name).with_extension("sh");
        if let Err(error) = output::write_whole(&file, fixture.source.as_bytes()) {
            return usage(&error);
        }
    }
    ExitCode::SUCCESS
}
