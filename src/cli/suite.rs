//! `deadbeat suite`.

mod cells;
mod merge;
mod publish;

use std::io::IsTerminal;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use clap::builder::PossibleValuesParser;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::{args, interrupt, output};
use crate::fixture;
use crate::report::{CellVerdict, Partition, Report, words};
use crate::signal::Signal;
use crate::suite::{Cell, JOBS, RUNTIMES, built_in, process, runtime_name};

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
    /// Judge this killer too, or alone where there is no --subject: a command line for /bin/sh -c, in which {pgid} stands
    /// for the process group and {grace} for the grace in seconds; may be repeated
    #[arg(long = "exec", value_name = "NAME='CMD {pgid}'", value_parser = cells::killer)]
    killers: Vec<crate::suite::Subject>,
    /// Only this runtime; may be repeated
    #[arg(long = "runtime", value_name = "NAME", value_parser = PossibleValuesParser::new(runtime_names()))]
    runtimes: Vec<String>,
    /// The shells that the fixtures run under, every cell once under each: dash,bash,busybox; may be repeated; sh unless
    /// said otherwise
    #[arg(long = "shell", value_name = "SHELL", value_delimiter = ',', value_parser = args::shell)]
    shells: Vec<String>,
    /// How many times to run every cell
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeat: u32,
    /// Run only the M-th of N parts, which --merge puts together; a cell's part is told by its name
    #[arg(long, value_name = "M/N")]
    partition: Option<Partition>,
    /// The grace that the subjects are told to give
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = args::grace)]
    grace: Duration,
    /// The signal by which the subjects ask a group to end before they send SIGKILL; the fixtures obey or ignore this one
    #[arg(long, value_name = "SIGNAL", default_value = "TERM", value_parser = args::first_signal)]
    first_signal: Signal,
    /// How long a worker may stand still, 50 ms unless said otherwise; less than half of the grace, or no stall is seen
    #[arg(long, value_name = "DURATION", value_parser = args::budget)]
    budget: Option<Duration>,
    /// How long a kill may take before it is ended and fails; twice the grace and 30 s unless said otherwise
    #[arg(long, value_name = "DURATION", value_parser = args::deadline)]
    deadline: Option<Duration>,
    /// How many cells to run side by side, each in a process of its own
    #[arg(long, value_name = "N", default_value_t = JOBS as u16, value_parser = clap::value_parser!(u16).range(1..=1024))]
    jobs: u16,
    #[command(flatten)]
    publish: publish::Publish,
    /// List the cells and what is expected of each; run nothing. Time `prompt`: back soon after the group is gone; `grace`: takes half of it and more
    #[arg(long)]
    list: bool,
    /// Run nothing: put the JSON reports of all parts together, and report on the whole
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = RUNNING)]
    merge: Vec<PathBuf>,
    /// Run this cell for the suite that started us
    #[arg(long, value_name = "NAME", hide = true)]
    cell: Option<String>,
}

/// What says which cells to run, and how: nothing of it can be meant together with --merge.
const RUNNING: [&str; 14] = [
    "subjects",
    "fixtures",
    "killers",
    "runtimes",
    "shells",
    "repeat",
    "partition",
    "grace",
    "first_signal",
    "budget",
    "deadline",
    "jobs",
    "list",
    "cell",
];

fn subject_names() -> Vec<&'static str> {
    // clap keeps the names for the life of the program.
    built_in().iter().map(|subject| &*Box::leak(subject.name().to_owned().into_boxed_str())).collect()
}

fn runtime_names() -> Vec<&'static str> {
    RUNTIMES.iter().map(|runtime| &*Box::leak(runtime_name(*runtime).into_boxed_str())).collect()
}

pub(super) fn run(args: &SuiteArgs) -> ExitCode {
    if !args.merge.is_empty() {
        return match args.publish.check().and_then(|()| merge::read(&args.merge)) {
            Ok(report) => args.publish.publish(&report, status(&report)),
            // Some of it may be what a file says.
            Err(error) => super::usage(&words::plain(&error)),
        };
    }
    let suite = match cells::suite(args) {
        Ok(suite) => suite,
        Err(error) => return super::usage(&error),
    };
    if let Some(name) = &args.cell {
        return match suite.cells().iter().find(|cell| cell.name() == *name) {
            Some(cell) => process::report_to_parent(&suite, cell),
            None => super::usage(&format_args!("no cell {name}")),
        };
    }
    if args.list {
        if let Some(option) = args.publish.unlistable() {
            return super::usage(&format_args!("--list prints a list, and no report: leave {option} out"));
        }
        return output::print(&cells::list(&suite), ExitCode::SUCCESS);
    }
    if let Err(error) = args.publish.check() {
        return super::usage(&error);
    }
    if let Err(error) = interrupt::kill_cells_on_signal() {
        return super::usage(&format_args!("cannot watch for signals: {error}"));
    }

    let (cells, mut done) = (suite.cells().len(), 0);
    let progress = progress(cells as u64);
    let run = |cell: &Cell| process::run(&suite, cell, || cells::command(cell));
    // Where the report is read too, it says why.
    let tell_why = !args.publish.is_read_with_stderr();
    // On a terminal the bar tells how far it is; elsewhere, a line a cell.
    let tell_all = !std::io::stderr().is_terminal();
    let mut report = suite.run_by(run, |cell| {
        done += 1;
        let passed = cell.verdict == CellVerdict::Pass;
        let why = if tell_why && !passed { format!(": {}", words::plain(&cell.why)) } else { String::new() };
        let count = if tell_all { format!("{done}/{cells} ") } else { String::new() };
        if tell_all || !passed {
            progress.suspend(|| output::tell(&format_args!("{count}{} {}{why}", cell.verdict, cell.name())));
        }
        progress.inc(1);
    });
    progress.finish_and_clear();
    for cell in &mut report.cells {
        cell.again = Some(cells::again(cell, args));
    }
    args.publish.publish(&report, status(&report))
}

fn status(report: &Report) -> ExitCode {
    match report.summary {
        summary if summary.fail > 0 => ExitCode::from(1),
        summary if summary.inconclusive > 0 => ExitCode::from(3),
        _ => ExitCode::SUCCESS,
    }
}

#[cfg(fuzzing)]
pub(super) mod fuzzing {
    use std::path::Path;

    use super::{Report, cells, merge};
    use crate::report::json;

    /// The name and the template of a killer.
    pub fn killer(text: &str) -> Option<(String, String)> {
        cells::killer(text).ok().map(|subject| (subject.name().to_owned(), subject.about().to_owned()))
    }

    /// One word of a shell command.
    pub fn quoted(word: &str) -> String {
        cells::quoted(word)
    }

    /// What `--merge` makes of files with these texts.
    pub fn merged(texts: &[&str]) -> Result<Report, String> {
        let read = |text: &&str| json::from_str(text).map(|report| (Path::new("part.json"), report));
        merge::merged(texts.iter().map(read).collect::<Result<_, _>>().map_err(|error| error.to_string())?)
    }
}

fn progress(cells: u64) -> ProgressBar {
    let target =
        if std::io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let progress = ProgressBar::with_draw_target(Some(cells), target);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} cells, {elapsed}") {
        progress.set_style(style);
    }
    // From the start, and while no cell ends: the first ones may take all of their grace.
    progress.enable_steady_tick(Duration::from_millis(250));
    progress
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promised::{are_kept, words};

    #[test]
    fn the_statuses_are_those_of_the_help() {
        let of = |[fail, inconclusive]: [usize; 2]| {
            let mut report = Report::new(Vec::new());
            report.summary.pass = 1;
            report.summary.fail = fail;
            report.summary.inconclusive = inconclusive;
            format!("{:?}", status(&report))
        };
        let promised = |template| {
            let status: u8 = words(include_str!("suite.rs"), template).parse().expect("a number");
            format!("{:?}", ExitCode::from(status))
        };
        are_kept(&[
            ("as expected", promised("Exit status: {} every cell is as expected"), of([0, 0])),
            ("some is not", promised("every cell is as expected {} some cell is not"), of([1, 0])),
            (
                "some is not, and some are undecided",
                promised("every cell is as expected {} some cell is not"),
                of([1, 1]),
            ),
            ("undecided", promised("cannot be written {} some cell stayed inconclusive"), of([0, 1])),
        ]);
    }
}
