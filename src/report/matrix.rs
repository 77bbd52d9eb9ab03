//! The order in which people read a report: a block a subject and shell, a row a fixture, a column a runtime.

use std::time::Duration;

use super::{CellReport, CellVerdict, NO_RUNTIME, PulseVerdict, Report};

/// The cells of one subject under one shell.
pub(super) struct Block<'a> {
    pub(super) subject: &'a str,
    /// The shell, if the report has more than one.
    pub(super) shell: Option<&'a str>,
    pub(super) runtimes: Vec<&'a str>,
    pub(super) rows: Vec<Row<'a>>,
}

/// The cells of one fixture, within a block.
pub(super) struct Row<'a> {
    pub(super) fixture: &'a str,
    pub(super) cells: Vec<&'a CellReport>,
}

pub(super) fn blocks(report: &Report) -> Vec<Block<'_>> {
    let several = report.cells.iter().any(|cell| cell.shell != report.cells[0].shell);
    let mut blocks: Vec<Block<'_>> = Vec::new();
    for cell in &report.cells {
        let shell = several.then_some(&*cell.shell);
        let block = position(&blocks, |block| block.subject == cell.subject && block.shell == shell);
        let block = block.unwrap_or_else(|| {
            blocks.push(Block { subject: &cell.subject, shell, runtimes: Vec::new(), rows: Vec::new() });
            blocks.len() - 1
        });
        let Block { runtimes, rows, .. } = &mut blocks[block];
        if !runtimes.contains(&&*cell.runtime) {
            runtimes.push(&cell.runtime);
        }
        match position(rows, |row| row.fixture == cell.fixture) {
            Some(row) => rows[row].cells.push(cell),
            None => rows.push(Row { fixture: &cell.fixture, cells: vec![cell] }),
        }
    }
    blocks
}

fn position<T>(all: &[T], is_it: impl Fn(&T) -> bool) -> Option<usize> {
    // Cells of one block and row mostly follow each other.
    all.iter().rposition(is_it)
}

impl Block<'_> {
    pub(super) fn cells(&self) -> impl Iterator<Item = &CellReport> {
        self.rows.iter().flat_map(|row| row.cells.iter().copied())
    }

    pub(super) fn known_bad(&self) -> bool {
        self.cells().any(|cell| cell.known_bad)
    }
}

impl Row<'_> {
    pub(super) fn off(&self) -> bool {
        self.cells.iter().any(|cell| cell.verdict != CellVerdict::Pass)
    }

    /// The worst cell on this runtime. There are several where every cell is repeated, and the worst has to be looked
    /// at.
    pub(super) fn worst_on(&self, runtime: &str) -> Option<&CellReport> {
        let badness = |cell: &&CellReport| {
            let verdict = match cell.verdict {
                CellVerdict::Pass => 0,
                CellVerdict::Inconclusive => 1,
                CellVerdict::Fail => 2,
            };
            let pulse = cell.pulse.as_ref();
            (
                verdict,
                pulse.is_some_and(|pulse| pulse.verdict == PulseVerdict::Starved),
                pulse.map(|pulse| pulse.longest),
            )
        };
        self.cells.iter().copied().filter(|cell| cell.runtime == runtime).max_by_key(badness)
    }

    /// The outcome that all cells have, or `mixed`.
    pub(super) fn outcome(&self) -> &'static str {
        let name = |cell: &CellReport| cell.outcome.map_or("?", |outcome| outcome.as_str());
        let first = name(self.cells[0]);
        if self.cells.iter().all(|cell| name(cell) == first) { first } else { "mixed" }
    }

    /// The time of the slowest cell.
    pub(super) fn after(&self) -> String {
        self.cells.iter().filter_map(|cell| cell.elapsed).max().map_or_else(|| "?".into(), short)
    }
}

/// The heading of a runtime's column. A program runs on no runtime, and its column shows the verdict.
pub(super) fn heading(runtime: &str) -> &str {
    if runtime == NO_RUNTIME { "verdict" } else { runtime }
}

/// The time in three digits, which is all a table has room for: `3ms`, `1.02s`.
pub(super) fn short(time: Duration) -> String {
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
