//! The command `deadbeat suite`.

pub(super) mod args;
mod cells;
mod merge;
mod publish;

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::output::usage;
use super::{interrupt, output};
use crate::report::{CellVerdict, Report, escape};
use crate::suite::{Cell, process};
use args::SuiteArgs;

pub(super) fn run(args: &SuiteArgs) -> ExitCode {
    if !args.merge.is_empty() {
        return match args.publish.check().and_then(|()| merge::read(&args.merge)) {
            Ok(report) => args.publish.publish(&report, status(&report)),
            // The error may quote what a file says.
            Err(error) => usage(&escape::plain(&error)),
        };
    }
    let suite = match cells::suite(args) {
        Ok(suite) => suite,
        Err(error) => return usage(&error),
    };
    if let Some(name) = &args.cell {
        return match suite.cells().iter().find(|cell| cell.name() == *name) {
            Some(cell) => process::report_to_parent(&suite, cell),
            None => usage(&format_args!("no cell {name}")),
        };
    }
    if args.list {
        if let Some(option) = args.publish.unlistable() {
            return usage(&format_args!("--list prints a list, and no report: leave {option} out"));
        }
        return output::print(&cells::list(&suite), ExitCode::SUCCESS);
    }
    if let Err(error) = args.publish.check() {
        return usage(&error);
    }
    if let Err(error) = interrupt::kill_cells_on_signal() {
        return usage(&format_args!("cannot watch for signals: {error}"));
    }

    let (cells, mut done) = (suite.cells().len(), 0);
    let progress = progress(cells as u64);
    let run = |cell: &Cell| process::run(&suite, cell, || cells::command(cell));
    // The report says why, if it goes to the same place.
    let tell_why = !args.publish.is_read_with_stderr();
    // On a terminal a bar shows the progress; elsewhere a line for each cell.
    let tell_all = !std::io::stderr().is_terminal();
    let mut report = suite.run_by(run, |cell| {
        done += 1;
        let passed = cell.verdict == CellVerdict::Pass;
        let why = if tell_why && !passed { format!(": {}", escape::plain(&cell.why)) } else { String::new() };
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

    use super::{Report, args, cells, merge};
    use crate::report::json;

    /// The name and the template of a killer.
    pub fn killer(text: &str) -> Option<(String, String)> {
        args::killer(text).ok().map(|subject| (subject.name().to_owned(), subject.about().to_owned()))
    }

    /// One word of a shell command.
    pub fn quoted(word: &str) -> String {
        cells::quoted(word)
    }

    /// The report that `--merge` makes of files with these texts.
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
    // Drawn from the start, before any cell ends: the first ones may take all of their grace.
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
            let status: u8 = words(include_str!("suite/args.rs"), template).parse().expect("a number");
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
