//! `--merge`: the reports on all parts of a suite become the report on the whole, or an error names the one that is
//! wrong.
//!
//! Reports that are no parts (of one shell each, say) are put together too; parts and wholes are not mixed.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::fixture;
use crate::report::{CellReport, Report, json};
use crate::suite::{RUNTIMES, built_in, partition, runtime_name};

/// Reads the reports, and makes one of them.
pub(super) fn read(files: &[PathBuf]) -> Result<Report, String> {
    let mut reports = Vec::new();
    for file in files {
        let text = std::fs::read_to_string(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
        let report = json::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))?;
        reports.push((file.as_path(), report));
    }
    merged(reports)
}

/// The report on the whole of these parts, or of these suites; the paths are for errors.
pub(super) fn merged(reports: Vec<(&Path, Report)>) -> Result<Report, String> {
    check_parts(&reports)?;
    check_not_empty(&reports)?;
    check_cells(&reports)?;
    check_count(&reports)?;
    let mut reports = reports.into_iter().map(|(_, report)| report);
    // The machine of the first report stands for all.
    let first = reports.next().ok_or("no report to merge")?;
    let mut cells = first.cells;
    reports.for_each(|report| cells.extend(report.cells));
    in_order(&mut cells);
    Ok(Report::of(first.host, cells))
}

/// Checks that either none is a part, or each of 1/N to N/N of one suite is there once.
fn check_parts(reports: &[(&Path, Report)]) -> Result<(), String> {
    let parts: Vec<_> = reports.iter().filter_map(|(file, report)| Some((*file, report.partition?, report))).collect();
    let Some((first, of, whole)) = parts.first().map(|(file, part, report)| (*file, part.of(), &report.whole)) else {
        return Ok(());
    };
    if let Some((whole, _)) = reports.iter().find(|(_, report)| report.partition.is_none()) {
        return Err(format!(
            "{} is no part of a suite, and {} is: merge parts with parts",
            whole.display(),
            first.display()
        ));
    }
    let mut seen = BTreeMap::new();
    for (file, part, report) in parts {
        if part.of() != of {
            return Err(format!(
                "{} is part {part}, and {} is one of {of}: they are of different suites",
                file.display(),
                first.display()
            ));
        }
        if report.whole.is_none() || report.whole != *whole {
            return Err(format!(
                "{} is a part of other cells than {}, or was run with other times: they are of different suites",
                file.display(),
                first.display()
            ));
        }
        if let Some(other) = seen.insert(part.number(), file) {
            return Err(format!("part {part} is there twice: {} and {}", other.display(), file.display()));
        }
    }
    let missing: Vec<_> =
        (1..=of).filter(|number| !seen.contains_key(number)).map(|number| format!("{number}/{of}")).collect();
    if missing.is_empty() { Ok(()) } else { Err(format!("missing: part {}", missing.join(", "))) }
}

/// Checks that there are cells: a report without any proves nothing. Only a part may have none, of a suite with few
/// cells.
fn check_not_empty(reports: &[(&Path, Report)]) -> Result<(), String> {
    let is_empty = |report: &Report| report.cells.is_empty();
    let empty = reports.iter().find(|(_, report)| is_empty(report) && report.partition.is_none());
    let empty = empty.or_else(|| reports.first().filter(|_| reports.iter().all(|(_, report)| is_empty(report))));
    match empty {
        Some((file, _)) => {
            Err(format!("{}: there is no cell in it, which proves nothing: run the suite anew", file.display()))
        }
        None => Ok(()),
    }
}

/// Checks that each cell is there once, and in the part it belongs to.
fn check_cells(reports: &[(&Path, Report)]) -> Result<(), String> {
    let mut seen = BTreeMap::new();
    for (file, report) in reports {
        for cell in &report.cells {
            let name = cell.name();
            if let Some(part) = report.partition.filter(|part| !partition::has(*part, &name)) {
                return Err(format!("{}: the cell {name} does not belong to part {part}", file.display()));
            }
            if let Some(other) = seen.insert(name.clone(), *file) {
                return Err(format!("the cell {name} is there twice: {} and {}", other.display(), file.display()));
            }
        }
    }
    Ok(())
}

/// Checks that the parts together have all the cells of their suite.
fn check_count(reports: &[(&Path, Report)]) -> Result<(), String> {
    let Some(whole) = reports.iter().find_map(|(_, report)| report.whole.as_ref()) else { return Ok(()) };
    let cells: usize = reports.iter().map(|(_, report)| report.cells.len()).sum();
    if cells == whole.cells {
        return Ok(());
    }
    Err(format!("the parts have {cells} cells together, and their suite has {}: run it anew", whole.cells))
}

/// Sorts the cells as a suite that runs as a whole has them. Names that are not built in come last, in their own order.
fn in_order(cells: &mut [CellReport]) {
    let subjects: Vec<_> = built_in().iter().map(|subject| subject.name().to_owned()).collect();
    let runtimes: Vec<_> = RUNTIMES.iter().copied().map(runtime_name).collect();
    let place = |names: &[String], name: &str| names.iter().position(|known| known == name).unwrap_or(names.len());
    cells.sort_by_cached_key(|cell| {
        let fixture = fixture::ALL.iter().position(|fixture| fixture.name == cell.fixture);
        (
            (place(&subjects, &cell.subject), cell.subject.clone()),
            (fixture.unwrap_or(fixture::ALL.len()), cell.fixture.clone()),
            cell.shell.clone(),
            (place(&runtimes, &cell.runtime), cell.runtime.clone()),
            cell.repeat,
        )
    });
}
