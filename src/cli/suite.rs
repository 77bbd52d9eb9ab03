//! `deadbeat suite`.

mod publish;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use clap::builder::PossibleValuesParser;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{args, interrupt, output};
use crate::fixture;
use crate::report::{CellReport, CellVerdict, Report};
use crate::suite::{RUNTIMES, Suite, built_in, runtime_name};

/// Run every subject against every fixture on every runtime, and hold each cell to what is expected of it.
///
/// A subject that is known to be bad is expected to be caught: the suite fails if it is not.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit status:
  0  every cell is as expected
  1  some cell is not: each is named, with the command that runs just that cell
  2  the call was wrong, or the output cannot be written
  3  some cell stayed inconclusive, and none failed
  130  interrupted: every fixture was killed")]
pub(super) struct SuiteArgs {
    /// Only this subject; may be repeated
    #[arg(long = "subject", value_name = "NAME", value_parser = PossibleValuesParser::new(subject_names()))]
    subjects: Vec<String>,
    /// Only this fixture; may be repeated
    #[arg(long = "fixture", value_name = "NAME", value_parser = PossibleValuesParser::new(fixture::ALL.iter().map(|f| f.name)))]
    fixtures: Vec<String>,
    /// Only this runtime; may be repeated
    #[arg(long = "runtime", value_name = "NAME", value_parser = PossibleValuesParser::new(runtime_names()))]
    runtimes: Vec<String>,
    /// The shell that the fixtures run under, with its arguments: dash, "busybox sh"
    #[arg(long, value_name = "SHELL", default_value = "sh", value_parser = args::shell)]
    shell: String,
    /// The grace that the subjects are told to give
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = args::grace)]
    grace: Duration,
    /// How long a worker may stand still
    #[arg(long, value_name = "DURATION", default_value = "50ms", value_parser = args::budget)]
    budget: Duration,
    /// How many cells to run side by side
    #[arg(long, value_name = "N", default_value_t = 24, value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: u16,
    #[command(flatten)]
    publish: publish::Publish,
    /// List the cells and what is expected of each; run nothing. Time `prompt`: before half the grace; `grace`: all of it
    #[arg(long)]
    list: bool,
}

fn subject_names() -> Vec<&'static str> {
    // clap keeps the names for the life of the program.
    built_in().iter().map(|subject| &*Box::leak(subject.name().to_owned().into_boxed_str())).collect()
}

fn runtime_names() -> Vec<&'static str> {
    RUNTIMES.iter().map(|runtime| &*Box::leak(runtime_name(*runtime).into_boxed_str())).collect()
}

pub(super) fn run(args: &SuiteArgs) -> ExitCode {
    let suite = suite(args);
    if args.list {
        return output::print(&list(&suite), ExitCode::SUCCESS);
    }
    if let Err(error) = args.publish.check() {
        return super::usage(&error);
    }
    if let Err(error) = interrupt::kill_fixtures_on_signal() {
        return super::usage(&format_args!("cannot watch for signals: {error}"));
    }

    let progress = progress(suite.cells().len() as u64);
    let mut report = suite.run(|cell| {
        // An interruption takes their fixtures from the cells that run; what they say of it is no finding.
        if cell.verdict != CellVerdict::Pass && !interrupt::under_way() {
            progress.suspend(|| output::tell(&format_args!("{} {}: {}", cell.verdict, cell.name(), cell.why)));
        }
        progress.inc(1);
    });
    progress.finish_and_clear();
    for cell in &mut report.cells {
        cell.again = Some(again(cell, args));
    }
    args.publish.publish(&report, status(&report))
}

fn suite(args: &SuiteArgs) -> Suite {
    let chosen = |names: &[String], name: &str| names.is_empty() || names.iter().any(|wanted| wanted == name);
    let subjects: Vec<_> = built_in().into_iter().filter(|s| chosen(&args.subjects, s.name())).collect();
    let fixtures: Vec<_> = fixture::ALL.iter().copied().filter(|f| chosen(&args.fixtures, f.name)).collect();
    let runtimes: Vec<_> = RUNTIMES.iter().copied().filter(|r| chosen(&args.runtimes, &runtime_name(*r))).collect();
    let suite = Suite::new().subjects(subjects).fixtures(fixtures).runtimes(runtimes);
    suite.shell(&args.shell).grace(args.grace).budget(args.budget).jobs(args.jobs.into())
}

fn list(suite: &Suite) -> String {
    let mut text = format!("{:15}{:19}{:16}{:14}{:8}{}\n", "subject", "fixture", "runtime", "outcome", "time", "pulse");
    for cell in suite.cells() {
        let expected = cell.expected();
        let outcome = expected.outcome.map_or("unknown", |outcome| outcome.as_str());
        text += &format!(
            "{:15}{:19}{:16}{outcome:14}{:8}{}\n",
            cell.subject.name(),
            cell.fixture.name,
            runtime_name(cell.runtime),
            expected.timing,
            expected.pulse,
        );
    }
    text
}

/// The command that runs just this cell.
fn again(cell: &CellReport, args: &SuiteArgs) -> String {
    let mut command =
        format!("deadbeat suite --subject {} --fixture {} --runtime {}", cell.subject, cell.fixture, cell.runtime);
    if args.shell != "sh" {
        command += &format!(" --shell {}", quoted(&args.shell));
    }
    if args.grace != Duration::from_secs(5) {
        command += &format!(" --grace {}", quoted(&humantime::format_duration(args.grace).to_string()));
    }
    if args.budget != Duration::from_millis(50) {
        command += &format!(" --budget {}", quoted(&humantime::format_duration(args.budget).to_string()));
    }
    command
}

/// One word of a shell command.
fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

fn status(report: &Report) -> ExitCode {
    match report.summary {
        summary if summary.fail > 0 => ExitCode::from(1),
        summary if summary.inconclusive > 0 => ExitCode::from(3),
        _ => ExitCode::SUCCESS,
    }
}

fn progress(cells: u64) -> ProgressBar {
    let target =
        if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let progress = ProgressBar::with_draw_target(Some(cells), target);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} cells, {elapsed}") {
        progress.set_style(style);
    }
    progress
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_quoted_when_a_shell_would_read_it_otherwise() {
        for (word, text) in [("1s", "1s"), ("/bin/sh", "/bin/sh"), ("busybox sh", "'busybox sh'"), ("", "''")] {
            assert_eq!(quoted(word), text);
        }
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
