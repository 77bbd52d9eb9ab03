//! The report as one JSON object, of the schema in `schema/suite.schema.json`; written and read.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{CellReport, Host, Partition, Report, SuiteId, Summary, escape};

/// The version of the schema. It changes when a reader of the version before could misread this one.
pub const SCHEMA: u32 = 1;

impl Serialize for Report {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct WrittenReport<'a> {
            schema: u32,
            host: &'a Host,
            partition: Option<Partition>,
            whole: Option<&'a SuiteId>,
            cells: &'a [CellReport],
            summary: Summary,
        }
        let Report { host, partition, whole, cells, summary } = self;
        let (partition, whole) = (*partition, whole.as_ref());
        WrittenReport { schema: SCHEMA, host, partition, whole, cells, summary: *summary }.serialize(serializer)
    }
}

/// The report as text, ending in a newline.
///
/// # Errors
///
/// None in practice: everything in a report has a JSON form.
pub fn to_string(report: &Report) -> serde_json::Result<String> {
    Ok(escape::json(&serde_json::to_string_pretty(report)?) + "\n")
}

/// Why a text cannot be read as a report.
#[derive(Debug)]
pub struct ReadError(ReadErrorKind);

#[derive(Debug)]
enum ReadErrorKind {
    Schema(serde_json::Value),
    Json(serde_json::Error),
    Summary { said: Summary, counted: Summary },
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            ReadErrorKind::Schema(schema) => {
                write!(
                    f,
                    "a report of schema {schema}; this deadbeat reads schema {SCHEMA}: write it anew with this one"
                )
            }
            ReadErrorKind::Json(error) => write!(f, "no report of deadbeat suite --format json: {error}"),
            ReadErrorKind::Summary { said, counted } => write!(
                f,
                "its summary says {said}, and it has {counted}: cells were taken out, put in or changed; run the suite \
                 anew"
            ),
        }
    }
}

impl std::error::Error for ReadError {}

/// Reads a report that [`to_string`] wrote.
///
/// # Errors
///
/// The text is no report, or one of another schema, whatever else is in it; or its summary is not that of its cells.
pub fn from_str(text: &str) -> Result<Report, ReadError> {
    #[derive(Deserialize)]
    struct ReadSchema {
        schema: serde_json::Value,
    }
    #[derive(Deserialize)]
    struct ReadReport {
        host: Host,
        partition: Option<Partition>,
        whole: Option<SuiteId>,
        cells: Vec<CellReport>,
        summary: Summary,
    }
    let json = |error| ReadError(ReadErrorKind::Json(error));
    let ReadSchema { schema } = serde_json::from_str(text).map_err(json)?;
    if schema != SCHEMA {
        return Err(ReadError(ReadErrorKind::Schema(schema)));
    }
    let ReadReport { host, partition, whole, cells, summary: said } = serde_json::from_str(text).map_err(json)?;
    let report = Report { partition, whole, ..Report::of(host, cells) };
    match report.summary {
        counted if counted == said => Ok(report),
        counted => Err(ReadError(ReadErrorKind::Summary { said, counted })),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::SAMPLE;

    #[test]
    fn what_is_read_is_what_was_written() {
        let value = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
        let report = from_str(SAMPLE).unwrap();
        assert_eq!(value(&to_string(&report).unwrap()), value(SAMPLE));
        assert_eq!((report.summary.pass, report.summary.fail, report.summary.inconclusive), (3, 1, 1));
    }

    #[test]
    fn a_report_of_another_schema_is_refused_by_that_name_whatever_else_is_in_it() {
        for text in [r#"{"cells": 7, "schema": 2}"#, &SAMPLE.replacen("\"schema\": 1", "\"schema\": 2", 1)] {
            let error = from_str(text).unwrap_err().to_string();
            assert_eq!(error, "a report of schema 2; this deadbeat reads schema 1: write it anew with this one");
        }
    }

    #[test]
    fn what_is_no_report_is_refused_with_the_place() {
        for text in ["", "{}", "[]", "null", &SAMPLE[..SAMPLE.len() / 2], &SAMPLE.replace("\"pass\"", "\"passed\"")] {
            let error = from_str(text).unwrap_err().to_string();
            assert!(error.starts_with("no report of ") && error.contains(" at line "), "{error}");
        }
    }

    #[test]
    fn a_report_whose_summary_is_not_that_of_its_cells_is_refused_with_both() {
        let mut report: serde_json::Value = serde_json::from_str(SAMPLE).unwrap();
        report["cells"] = serde_json::json!([]);
        let error = from_str(&report.to_string()).unwrap_err().to_string();
        assert!(error.starts_with("its summary says 5 cells: 3 as expected, 1 failed, 1 inconclusive, "), "{error}");
        assert!(error.contains("and it has 0 cells"), "{error}");
        // A verdict that was changed by hand is found too.
        let changed = SAMPLE.replacen("\"verdict\": \"fail\"", "\"verdict\": \"pass\"", 1);
        assert_ne!(changed, SAMPLE);
        assert!(from_str(&changed).unwrap_err().to_string().contains("4 as expected"));
    }

    #[test]
    fn no_word_of_it_commands_a_terminal_or_reorders_its_line() {
        let mut report = from_str(SAMPLE).unwrap();
        let evil = "\u{1b}[31m\u{7f}\u{9b}31m\u{202e}\u{2028}\u{fffe}";
        report.cells[3].why = evil.to_owned();
        let text = to_string(&report).unwrap();
        assert!(!text.contains(|c: char| evil.contains(c) && !c.is_ascii_graphic()), "{text:?}");
        assert_eq!(from_str(&text).unwrap().cells[3].why, evil);
    }
}
