//! The program's commands, as clap knows them, from which the help, the manual page and the completions are written.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{ColorChoice, CommandFactory, Parser, Subcommand};

use super::docs::CompletionsArgs;
use super::kill::KillArgs;
use super::output;
use super::suite::args::SuiteArgs;
use super::timeout::help::TimeoutArgs;

/// Kills process groups dead, and proves that the tokio runtime never missed a beat.
#[derive(Debug, Parser)]
#[command(name = "deadbeat", version, max_term_width = 100, color = ColorChoice::Auto)]
pub(super) struct Args {
    /// When to use colours; NO_COLOR is honoured.
    #[arg(long, global = true, value_enum, default_value_t = Color::Auto, value_name = "WHEN")]
    pub(super) color: Color,
    #[command(subcommand)]
    pub(super) command: CliCommand,
}

#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub(super) enum Color {
    Auto,
    Always,
    Never,
}

#[derive(Debug, Subcommand)]
pub(super) enum CliCommand {
    Suite(Box<SuiteArgs>),
    Timeout(TimeoutArgs),
    Kill(KillArgs),
    Fixtures(FixturesArgs),
    /// Print the manual page.
    Man,
    Completions(CompletionsArgs),
}

/// List the fixtures: small shell programs to be killed, each one behaviour.
#[derive(Debug, clap::Args)]
pub(super) struct FixturesArgs {
    /// Write them into this folder, as NAME.sh, instead of listing them.
    #[arg(long, value_name = "DIR")]
    pub(super) export: Option<PathBuf>,
}

/// All commands, from which the help, the manual page and the completions are written.
pub(super) fn all_commands() -> clap::Command {
    let mut all = Args::command();
    all.build();
    // `timeout` has a grammar of its own, without the options that all other commands share.
    all.mut_subcommand("timeout", |timeout| timeout.mut_arg("color", |color| color.hide(true)))
}

/// Prints the help of one command on stdout.
pub(super) fn help(command: &str) -> ExitCode {
    let mut all = all_commands();
    let text = all.find_subcommand_mut(command).map(|command| command.render_long_help().to_string());
    output::print(&text.unwrap_or_default(), ExitCode::SUCCESS)
}
