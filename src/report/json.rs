//! The report as one JSON object, of the schema in `schema/suite.schema.json`.

use serde::Serialize;
use serde::ser::{SerializeStruct, Serializer};

use super::{CellReport, Report, millis};
use crate::heartbeat::{Pulse, Verdict};

/// The version of the schema; it changes when a reader of the last one could misread this one.
pub const SCHEMA: u32 = 1;

impl Serialize for CellReport {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("CellReport", 14)?;
        object.serialize_field("subject", &self.subject)?;
        object.serialize_field("fixture", &self.fixture)?;
        object.serialize_field("runtime", &self.runtime)?;
        object.serialize_field("shell", &self.shell)?;
        object.serialize_field("known_bad", &self.known_bad)?;
        object.serialize_field("expected", &self.expected)?;
        object.serialize_field("outcome", &self.outcome)?;
        object.serialize_field("elapsed_ms", &self.elapsed.map(millis))?;
        object.serialize_field("signals", &self.signals)?;
        object.serialize_field("leftover", &self.leftover)?;
        object.serialize_field("escaped", &self.escaped)?;
        object.serialize_field("pulse", &self.pulse.as_ref().map(PulseView::of))?;
        object.serialize_field("verdict", &self.verdict)?;
        object.serialize_field("why", &self.why)?;
        object.end()
    }
}

/// A pulse, with what it proves.
#[derive(Serialize)]
struct PulseView<'a> {
    verdict: &'static str,
    why: Option<String>,
    #[serde(flatten)]
    pulse: &'a Pulse,
}

impl<'a> PulseView<'a> {
    fn of(pulse: &'a Pulse) -> PulseView<'a> {
        let (verdict, why) = match pulse.verdict() {
            Verdict::Steady => ("steady", None),
            Verdict::Starved => ("starved", None),
            Verdict::Inconclusive { why } => ("inconclusive", Some(why.to_string())),
        };
        PulseView { verdict, why, pulse }
    }
}

impl Serialize for Report {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut object = serializer.serialize_struct("Report", 4)?;
        object.serialize_field("schema", &SCHEMA)?;
        object.serialize_field("host", &self.host)?;
        object.serialize_field("cells", &self.cells)?;
        object.serialize_field("summary", &self.summary)?;
        object.end()
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
