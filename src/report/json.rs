//! The report as one JSON object, of the schema in `schema/suite.schema.json`; written and read.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{CellReport, Host, Partition, Report, Summary, Whole};

/// The version of the schema; it changes when a reader of the last one could misread this one.
pub const SCHEMA: u32 = 1;

impl Serialize for Report {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Object<'a> {
            schema: u32,
            host: &'a Host,
            partition: Option<Partition>,
            whole: Option<&'a Whole>,
            cells: &'a [CellReport],
            summary: Summary,
        }
        let Report { host, partition, whole, cells, summary } = self;
        let (partition, whole) = (*partition, whole.as_ref());
        Object { schema: SCHEMA, host, partition, whole, cells, summary: *summary }.serialize(serializer)
    }
}

/// The report as text, ending in a newline.
///
/// # Errors
///
/// None in practice: everything in a report has a JSON form.
pub fn to_string(report: &Report) -> serde_json::Result<String> {
    Ok(serde_json::to_string_pretty(report)? + "\n")
}

/// Why a text is no report that can be read here.
#[derive(Debug)]
pub struct ReadError(Kind);

#[derive(Debug)]
enum Kind {
    Schema(serde_json::Value),
    Json(serde_json::Error),
}

impl fmt::Display for ReadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Schema(schema) => {
                write!(
                    f,
                    "a report of schema {schema}; this deadbeat reads schema {SCHEMA}: write it anew with this one"
                )
            }
            Kind::Json(error) => write!(f, "no report of deadbeat suite --format json: {error}"),
        }
    }
}

impl std::error::Error for ReadError {}

/// Reads what [`to_string`] wrote. The cells are counted anew.
///
/// # Errors
///
/// The text is no report, or one of another schema, whatever else is in it.
pub fn from_str(text: &str) -> Result<Report, ReadError> {
    #[derive(Deserialize)]
    struct Probe {
        schema: serde_json::Value,
    }
    #[derive(Deserialize)]
    struct Object {
        host: Host,
        partition: Option<Partition>,
        whole: Option<Whole>,
        cells: Vec<CellReport>,
    }
    let json = |error| ReadError(Kind::Json(error));
    let Probe { schema } = serde_json::from_str(text).map_err(json)?;
    if schema != SCHEMA {
        return Err(ReadError(Kind::Schema(schema)));
    }
    let Object { host, partition, whole, cells } = serde_json::from_str(text).map_err(json)?;
    Ok(Report { partition, whole, ..Report::of(host, cells) })
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
}
