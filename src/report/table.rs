//! The report as a table that fits 80 columns: a row a fixture, a column a runtime, a block a subject.
//!
//! A program runs on no runtime, and its column shows the verdict.

use std::fmt::{self, Write};

use anstyle::{AnsiColor, Style};

use super::escape::{plain, plain_lines};
use super::matrix::{self, Block, Row, short};
use super::{CellReport, CellVerdict, PulseVerdict, Report, Timing, about_fixture};
use crate::kill::Outcome;

// 80 columns hold a `!`, `sigterm-exit-code terminated 5.01s`, and three times `multi-thread-2`, each behind a blank.
const NAMED: usize = 34;
const COLUMN: usize = 15;

/// Writes the table. Its colours are ANSI sequences: strip them for anything but a terminal.
///
/// # Errors
///
/// The errors of the writer.
pub fn write(out: &mut impl Write, report: &Report) -> fmt::Result {
    for block in matrix::blocks(report) {
        let bold = Style::new().bold();
        write!(out, "{bold}{}{bold:#}", plain(block.subject))?;
        if let Some(shell) = block.shell {
            write!(out, " under {}", plain(shell))?;
        }
        writeln!(
            out,
            "{}",
            if block.known_bad() { " (known to be bad: expected to be caught, by its pulse or its time)" } else { "" }
        )?;
        write!(out, " {}", justified("fixture", "outcome after"))?;
        for runtime in &block.runtimes {
            write!(out, "{:>COLUMN$}", plain(matrix::heading(runtime)))?;
        }
        writeln!(out)?;
        for row in &block.rows {
            write_row(out, row, &block)?;
        }
        writeln!(out)?;
    }
    write_unexpected(out, report)?;
    let style = if report.all_as_expected() { AnsiColor::Green.on_default() } else { AnsiColor::Red.on_default() };
    let summary = report.summary.to_string();
    let (cells, counts) = summary.split_once(": ").unwrap_or(("", &summary));
    writeln!(out, "{cells}: {style}{counts}{style:#}")
}

/// One text at the left and one at the right, with a blank at least between them.
fn justified(left: &str, right: &str) -> String {
    let room = NAMED.saturating_sub(left.chars().count() + 1);
    format!("{left} {right:>room$}")
}

fn write_row(out: &mut impl Write, row: &Row<'_>, block: &Block<'_>) -> fmt::Result {
    let outcome = format!("{} {}", row.outcome(), row.after());
    write!(out, "{}{}", if row.off() { '!' } else { ' ' }, justified(&plain(row.fixture), &outcome))?;
    for runtime in &block.runtimes {
        let (text, style) = row.worst_on(runtime).map_or((String::new(), Style::new()), seen);
        let pad = " ".repeat(COLUMN.saturating_sub(text.chars().count()));
        write!(out, "{pad}{style}{text}{style:#}")?;
    }
    writeln!(out)
}

/// The pulse of a cell, or the verdict on a program's.
fn seen(cell: &CellReport) -> (String, Style) {
    match cell.runtime() {
        Some(_) => pulse(cell),
        None => {
            let color = match cell.verdict {
                CellVerdict::Pass => AnsiColor::Green,
                CellVerdict::Fail => AnsiColor::Red,
                CellVerdict::Inconclusive => AnsiColor::Cyan,
            };
            (cell.verdict.to_string(), color.on_default())
        }
    }
}

fn is_late(cell: &CellReport) -> bool {
    let caught = cell.known_bad && cell.verdict == CellVerdict::Pass && cell.expected.timing == Timing::Grace;
    caught && cell.expected.outcome != Some(Outcome::Killed)
}

fn pulse(cell: &CellReport) -> (String, Style) {
    let Some(pulse) = &cell.pulse else { return ("none".into(), Style::new()) };
    match pulse.verdict {
        // Caught by its time: only a known-bad subject takes all of the grace for a group that obeys.
        PulseVerdict::Steady if is_late(cell) => ("steady, late".into(), AnsiColor::Yellow.on_default()),
        PulseVerdict::Steady => ("steady".into(), AnsiColor::Green.on_default()),
        PulseVerdict::Starved => {
            let color = if cell.known_bad { AnsiColor::Yellow } else { AnsiColor::Red };
            (format!("STARVED {}", short(pulse.longest)), color.on_default().bold())
        }
        PulseVerdict::Inconclusive => ("inconclusive".into(), AnsiColor::Cyan.on_default()),
    }
}

fn write_unexpected(out: &mut impl Write, report: &Report) -> fmt::Result {
    let unexpected: Vec<_> = report.cells.iter().filter(|cell| cell.verdict != CellVerdict::Pass).collect();
    for cell in &unexpected {
        writeln!(out, "{} {}: {}", cell.verdict, plain(&cell.name()), plain(&cell.why))?;
        if let Some(about) = about_fixture(cell) {
            writeln!(out, "  {}", plain(&about))?;
        }
        if let Some(again) = &cell.again {
            // A command may have several lines.
            writeln!(out, "  again: {}", plain_lines(again))?;
        }
    }
    if unexpected.is_empty() { Ok(()) } else { writeln!(out) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{SAMPLE, json};

    #[test]
    fn no_word_of_a_report_commands_a_terminal() {
        let mut report = json::from_str(SAMPLE).unwrap();
        let evil = "\u{1b}]0;\u{7}\u{9b}2J\u{202e}";
        for cell in &mut report.cells {
            let words = [&mut cell.subject, &mut cell.fixture, &mut cell.runtime, &mut cell.shell, &mut cell.why];
            words.into_iter().for_each(|word| word.push_str(evil));
            cell.again = Some(evil.to_owned());
        }
        report.cells[0].shell.push('2');
        let mut text = String::new();
        write(&mut text, &report).unwrap();
        let text = anstream::adapter::strip_str(&text).to_string();
        assert!(text.contains(" ]0;  2J\u{fffd}2"), "{text}");
        // The table's own colours are CSI sequences, which are stripped here.
        let mut coloured = String::new();
        write(&mut coloured, &report).unwrap();
        assert!(!coloured.contains("\u{1b}]") && !coloured.contains(['\u{7}', '\u{9b}', '\u{202e}']), "{coloured:?}");
    }

    #[test]
    fn what_a_program_said_stays_on_its_line_and_commands_no_terminal() {
        let mut report = json::from_str(SAMPLE).unwrap();
        report.cells[3].why = "exited with 1: \u{1b}[2J\r\nagain: rm -rf /".to_owned();
        let mut text = String::new();
        write(&mut text, &report).unwrap();
        assert!(text.contains("exited with 1:  [2J  again: rm -rf /\n"), "{text}");
    }
}
