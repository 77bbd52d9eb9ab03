//! A line of `DEADBEAT_REPORT`: one stall as JSON, appended by one write, so that lines of many processes never mix.

use std::fmt::Write as _;
use std::fs::OpenOptions;
use std::io::{self, Write as _};
use std::path::Path;
use std::time::Duration;

use super::test_verdict::{KnownStall, TestVerdict};
use crate::heartbeat::{Pulse, Stall, Verdict};

/// What a line is of.
pub(super) struct ReportEntry<'a> {
    /// The crate of the test.
    pub(super) of_crate: &'a str,
    /// As its harness names it.
    pub(super) test: &'a str,
    pub(super) verdict: TestVerdict,
    pub(super) known: Option<KnownStall>,
    pub(super) pulse: &'a Pulse,
}

impl ReportEntry<'_> {
    /// A line for each stall; one for what has none.
    fn lines(&self) -> Vec<String> {
        let stalls = self.pulse.stalls.iter().filter(|stall| stall.doubt.is_none());
        let lines: Vec<_> = stalls.map(|stall| self.line(Some(stall))).collect();
        if lines.is_empty() { vec![self.line(self.pulse.worst())] } else { lines }
    }

    fn line(&self, stall: Option<&Stall>) -> String {
        let why = match self.pulse.verdict() {
            Verdict::Inconclusive { why } => Some(why.to_string()),
            Verdict::Steady | Verdict::Starved => None,
        };
        let culprit = stall.and_then(|stall| stall.culprit.as_ref()).map(ToString::to_string);
        let mut line = String::from("{");
        for (name, text) in [
            ("test", Some(self.test)),
            ("crate", Some(self.of_crate)),
            ("verdict", Some(self.verdict.name())),
            ("known", self.known.map(|known| known.why)),
            ("until", self.known.and_then(|known| known.until)),
            ("why", why.as_deref()),
            ("culprit", culprit.as_deref()),
        ] {
            let _ = write!(line, "\"{name}\":{},", text.map_or_else(|| "null".to_owned(), quoted));
        }
        for (name, time) in [
            ("at_ms", stall.map(|stall| stall.at)),
            ("charged_ms", stall.map(Stall::charged)),
            ("wall_ms", stall.map(|stall| stall.wall)),
            ("on_cpu_ms", stall.map(|stall| stall.on_cpu)),
            ("blocked_ms", stall.and_then(|stall| stall.blocked)),
            ("run_queue_ms", stall.and_then(|stall| stall.run_queue)),
            ("budget_ms", Some(self.pulse.budget)),
        ] {
            let _ = write!(line, "\"{name}\":{},", time.map_or_else(|| "null".to_owned(), milliseconds));
        }
        line.pop();
        line.push_str("}\n");
        line
    }

    /// # Errors
    ///
    /// What keeps the file from being appended to.
    pub(super) fn append_to(&self, file: &Path) -> io::Result<()> {
        let mut file = OpenOptions::new().create(true).append(true).open(file)?;
        self.lines().iter().try_for_each(|line| file.write_all(line.as_bytes()))
    }
}

/// To the microsecond: finer is noise.
fn milliseconds(time: Duration) -> String {
    let microseconds = time.as_micros();
    format!("{}.{:03}", microseconds / 1000, microseconds % 1000)
}

/// A text of JSON's.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for char in text.chars() {
        match char {
            '"' | '\\' => quoted.extend(['\\', char]),
            control if control < ' ' => {
                let _ = write!(quoted, "\\u{:04x}", u32::from(control));
            }
            char => quoted.push(char),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heartbeat::{Flavor, Lab};

    fn starved() -> Pulse {
        let blocks =
            || Lab::new(Flavor::CurrentThread).run(|| async { crate::group::pause(Duration::from_millis(120)) });
        let pulses = std::iter::repeat_with(|| blocks().unwrap().pulse).take(5);
        pulses.into_iter().find(|pulse| pulse.verdict() == Verdict::Starved).expect("five times in doubt")
    }

    #[test]
    fn each_stall_has_a_line_of_json_that_says_which_test_what_and_how_long() {
        let mut pulse = starved();
        let stall = pulse.stalls[0].clone();
        pulse.stalls.push(stall.clone());
        let why = "a \"lock\",\nissue 12 \\";
        let known = Some(KnownStall { why, until: None });
        let entry =
            ReportEntry { of_crate: "ours", test: "net::connects", verdict: TestVerdict::Known, known, pulse: &pulse };
        let lines = entry.lines();
        assert_eq!(lines.len(), 2);
        for line in lines {
            assert!(line.ends_with("}\n") && line.matches('\n').count() == 1, "{line}");
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            assert_eq!(line["test"], "net::connects");
            assert_eq!([&line["crate"], &line["verdict"]], ["ours", "known"]);
            assert_eq!(line["known"], why);
            assert_eq!([&line["until"], &line["why"]], [&serde_json::Value::Null; 2]);
            assert_eq!(line["culprit"], stall.culprit.as_ref().unwrap().to_string());
            let parts = ["on_cpu_ms", "blocked_ms", "run_queue_ms"].map(|part| line[part].as_f64().unwrap());
            assert!((parts.iter().sum::<f64>() - line["wall_ms"].as_f64().unwrap()).abs() < 0.01, "{line}");
            assert!((line["charged_ms"].as_f64().unwrap() - parts[0] - parts[1]).abs() < 0.01, "{line}");
            assert_eq!(line["budget_ms"], 50.0);
        }
    }

    #[test]
    fn what_has_no_stall_has_a_line_too() {
        let pulse = Lab::new(Flavor::CurrentThread).run(|| async {}).unwrap().pulse;
        let verdict = TestVerdict::NoLongerStalls;
        let known = Some(KnownStall { why: "gone", until: Some("2027-03-01") });
        let entry = ReportEntry { of_crate: "ours", test: "steady", verdict, known, pulse: &pulse };
        let [line] = &entry.lines()[..] else { panic!("one line") };
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        assert_eq!([&line["verdict"], &line["until"]], ["no-longer-stalls", "2027-03-01"]);
        assert!(line["culprit"].is_null() && line["wall_ms"].is_null(), "{line}");
    }

    #[test]
    fn lines_are_appended_to_what_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("stalls.jsonl");
        let pulse = Lab::new(Flavor::CurrentThread).run(|| async {}).unwrap().pulse;
        let entry =
            ReportEntry { of_crate: "ours", test: "one", verdict: TestVerdict::Starved, known: None, pulse: &pulse };
        for _ in 0..3 {
            entry.append_to(&file).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&file).unwrap(), entry.lines()[0].repeat(3));
        assert!(entry.append_to(&dir.path().join("missing/stalls.jsonl")).is_err());
    }

    #[test]
    fn a_time_is_in_milliseconds_to_the_microsecond() {
        assert_eq!(milliseconds(Duration::from_nanos(1_234_567)), "1.234");
        assert_eq!(milliseconds(Duration::from_millis(70)), "70.000");
    }
}
