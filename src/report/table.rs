//! The report as a table that fits 80 columns: a row a fixture, a column a runtime, a block a subject.

use std::fmt::{self, Write};
use std::time::Duration;

use anstyle::{AnsiColor, Style};

use super::{CellReport, CellVerdict, PulseVerdict, Report};

// `sigterm-exit-code`, `already_gone 5.01s` and `STARVED 5.01s`, each with a blank between, and two for the mark.
const FIXTURE: usize = 18;
const OUTCOME: usize = 18;
const PULSE: usize = 14;

/// Writes the table. Its colours are ANSI sequences: strip them for anything but a terminal.
///
/// # Errors
///
/// Those of the writer.
pub fn write(out: &mut impl Write, report: &Report) -> fmt::Result {
    let mut subjects: Vec<&str> = Vec::new();
    let mut runtimes: Vec<&str> = Vec::new();
    for cell in &report.cells {
        if !subjects.contains(&&*cell.subject) {
            subjects.push(&cell.subject);
        }
        if !runtimes.contains(&&*cell.runtime) {
            runtimes.push(&cell.runtime);
        }
    }
    for subject in subjects {
        let cells: Vec<_> = report.cells.iter().filter(|cell| cell.subject == subject).collect();
        let known_bad = cells.iter().any(|cell| cell.known_bad);
        let bold = Style::new().bold();
        write!(out, "{bold}{subject}{bold:#}")?;
        writeln!(
            out,
            "{}",
            if known_bad { " (known to be bad: expected to be caught, by its pulse or its time)" } else { "" }
        )?;
        write!(out, "  {:FIXTURE$}{:>OUTCOME$}", "fixture", "outcome after")?;
        for runtime in &runtimes {
            // `current`, `multi-2`: the whole names are too wide, and the thread is understood.
            write!(out, "{:>PULSE$}", runtime.replace("-thread", ""))?;
        }
        writeln!(out)?;
        let mut rows: Vec<(&str, &str)> = Vec::new();
        for cell in &cells {
            if !rows.contains(&(&cell.fixture, &cell.shell)) {
                rows.push((&cell.fixture, &cell.shell));
            }
        }
        for row in rows {
            let row: Vec<_> = cells.iter().filter(|cell| (&*cell.fixture, &*cell.shell) == row).copied().collect();
            write_row(out, &row, &runtimes)?;
        }
        writeln!(out)?;
    }
    write_unexpected(out, report)?;
    let summary = report.summary;
    let total = report.cells.len();
    let style = if report.all_as_expected() { AnsiColor::Green.on_default() } else { AnsiColor::Red.on_default() };
    writeln!(
        out,
        "{total} cell{}: {style}{} as expected, {} not, {} inconclusive{style:#}",
        if total == 1 { "" } else { "s" },
        summary.pass,
        summary.fail,
        summary.inconclusive
    )
}

fn write_row(out: &mut impl Write, row: &[&CellReport], runtimes: &[&str]) -> fmt::Result {
    let first = row[0];
    let name = |cell: &CellReport| cell.outcome.map_or("?", |outcome| outcome.as_str());
    let outcome = if row.iter().all(|cell| name(cell) == name(first)) { name(first) } else { "mixed" };
    let slowest = row.iter().filter_map(|cell| cell.elapsed).max();
    let outcome = format!("{outcome} {}", slowest.map_or_else(|| "?".into(), short));
    let off = row.iter().any(|cell| cell.verdict != CellVerdict::Pass);
    write!(out, "{} {:FIXTURE$}{outcome:>OUTCOME$}", if off { '!' } else { ' ' }, first.fixture)?;
    for runtime in runtimes {
        let cell = row.iter().find(|cell| cell.runtime == *runtime);
        let (text, style) = cell.map_or((String::new(), Style::new()), |cell| pulse(cell));
        let pad = " ".repeat(PULSE.saturating_sub(text.chars().count()));
        write!(out, "{pad}{style}{text}{style:#}")?;
    }
    writeln!(out)
}

fn pulse(cell: &CellReport) -> (String, Style) {
    let Some(pulse) = &cell.pulse else { return ("none".into(), Style::new()) };
    match pulse.verdict {
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
        writeln!(out, "{} {}: {}", cell.verdict, cell.name(), cell.why)?;
        if let Some(again) = &cell.again {
            writeln!(out, "  again: {again}")?;
        }
    }
    if unexpected.is_empty() { Ok(()) } else { writeln!(out) }
}

/// `3ms`, `1.02s`: three digits are all that a table has room for.
fn short(time: Duration) -> String {
    let seconds = time.as_secs_f64();
    match seconds {
        s if s < 0.0995 => format!("{:.0}ms", s * 1e3),
        s if s < 9.995 => format!("{s:.2}s"),
        s => format!("{s:.1}s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_takes_five_columns_at_most() {
        let shown = |ms| short(Duration::from_micros((ms * 1e3) as u64));
        for (ms, text) in
            [(0.2, "0ms"), (99.4, "99ms"), (99.6, "0.10s"), (5003.0, "5.00s"), (9996.0, "10.0s"), (35000.0, "35.0s")]
        {
            assert_eq!(shown(ms), text);
        }
    }
}
