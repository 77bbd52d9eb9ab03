//! The program: its arguments, where its output goes, what its exit status means.
//!
//! Data goes to stdout, progress and diagnostics to stderr. Whatever can be known to be wrong is an error before
//! anything runs, with status 2; `timeout` has the statuses of timeout(1).

mod args;
mod docs;
mod interrupt;
mod kill;
mod output;
#[cfg(test)]
mod promised;
mod suite;
mod timeout;

#[cfg(fuzzing)]
pub(crate) mod fuzzing {
    pub use super::suite::fuzzing::{killer, merged, quoted};
    pub use super::timeout::fuzzing::{arguments, signal, time};
}

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{ColorChoice, CommandFactory, Parser, Subcommand};

/// Kills process groups dead, and proves that the tokio runtime never missed a beat.
#[derive(Debug, Parser)]
#[command(name = "deadbeat", version, max_term_width = 100, color = ColorChoice::Auto)]
struct Args {
    /// When to use colours; NO_COLOR is honoured.
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    color: Color,
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
enum Command {
    Suite(Box<suite::SuiteArgs>),
    Timeout(timeout::TimeoutArgs),
    Kill(kill::KillArgs),
    Fixtures(FixturesArgs),
    /// Print the manual page.
    Man,
    Completions(docs::CompletionsArgs),
}

/// List the fixtures: small shell programs to be killed, each one behaviour.
#[derive(Debug, clap::Args)]
struct FixturesArgs {
    /// Write them into this folder, as NAME.sh, instead of listing them.
    #[arg(long, value_name = "DIR")]
    export: Option<std::path::PathBuf>,
}

/// How the program was started, as far as Rust's runtime has changed it before `main`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the program itself makes it")]
pub struct Start {
    /// What a command is to get as it was.
    pub pipe: Pipe,
    /// Whether stdout was open for writing: if not, it is `/dev/null` by now, or its errors are kept from us.
    pub stdout_writable: bool,
}

/// What SIGPIPE did: Rust ignores it before `main`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "there is no third")]
pub enum Pipe {
    /// It ends whoever writes to a pipe that nobody reads.
    Default,
    /// Such a write fails.
    Ignored,
}

/// Runs the program; the status is what `main` returns.
pub fn main(start: Start) -> ExitCode {
    crate::guardian::main_if_requested();
    timeout::main_if_requested();
    output::stdout_is_writable(start.stdout_writable);
    if let Some(args) = timeout_args(std::env::args_os().skip(1)) {
        return timeout::main(args, start.pipe);
    }
    let args = match Args::try_parse() {
        Ok(args) => args,
        // Help and version are data.
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
        Command::Suite(args) => suite::run(&args),
        Command::Kill(args) => kill::run(&args),
        Command::Fixtures(args) => fixtures(&args),
        Command::Man => docs::man(),
        Command::Completions(args) => docs::completions(&args),
        Command::Timeout(_) => unreachable!("it has a grammar of its own, and was looked for first"),
    }
}

/// What follows `timeout`, if that is the command.
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

/// What the help, the manual page and the completions are written from.
fn all_commands() -> clap::Command {
    let mut all = Args::command();
    all.build();
    // The one command that has a grammar of its own, without the options that all others share.
    all.mut_subcommand("timeout", |timeout| timeout.mut_arg("color", |color| color.hide(true)))
}

/// The help of one command, on stdout.
fn help(command: &str) -> ExitCode {
    let mut all = all_commands();
    let text = all.find_subcommand_mut(command).map(|command| command.render_long_help().to_string());
    output::print(&text.unwrap_or_default(), ExitCode::SUCCESS)
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

/// Says what is wrong with the call; status 2.
fn usage(error: &dyn std::fmt::Display) -> ExitCode {
    output::tell(&format_args!("deadbeat: {error}"));
    ExitCode::from(2)
}
