//! What the environment says of all tests of a run.

use std::ffi::OsString;
use std::path::PathBuf;

/// Set to `fail`, `report` or `off`.
const MODE: &str = "DEADBEAT";
/// Set to `pass` or `fail`.
const INCONCLUSIVE: &str = "DEADBEAT_INCONCLUSIVE";
/// Set to a file.
const REPORT_FILE: &str = "DEADBEAT_REPORT";

/// What comes of a stall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// Its test fails.
    Fail,
    /// It is said, and its test passes.
    Report,
    /// Tests run in a plain runtime of tokio's.
    Off,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Settings {
    pub(super) mode: Mode,
    /// What proves nothing is said, and its test passes.
    pub(super) inconclusive_passes: bool,
    /// Where a line is appended for every stall.
    pub(super) report: Option<PathBuf>,
}

impl Settings {
    /// # Errors
    ///
    /// What is not understood: a misspelt word would pass as the default, and nothing would be as it was meant.
    pub(super) fn of_environment() -> Result<Self, String> {
        Self::parse(|name| std::env::var_os(name))
    }

    fn parse(variable: impl Fn(&str) -> Option<OsString>) -> Result<Self, String> {
        // An empty one is as good as none: a job in CI that leaves one out often sets it so.
        let variable = |name| variable(name).filter(|value| !value.is_empty());
        let word = |name, words: &[&str]| {
            let Some(value) = variable(name) else { return Ok(0) };
            let place = words.iter().position(|word| value == *word);
            place.ok_or_else(|| format!("{name} is {value:?}, and must be one of: {}", words.join(", ")))
        };
        Ok(Self {
            mode: [Mode::Fail, Mode::Report, Mode::Off][word(MODE, &["fail", "report", "off"])?],
            inconclusive_passes: word(INCONCLUSIVE, &["fail", "pass"])? == 1,
            report: variable(REPORT_FILE).map(PathBuf::from),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(variables: &[(&str, &str)]) -> Result<Settings, String> {
        let find = |name: &str| variables.iter().find(|(other, _)| *other == name);
        Settings::parse(|name| find(name).map(|(_, value)| value.into()))
    }

    #[test]
    fn a_stall_fails_its_test_unless_the_environment_says_otherwise() {
        let default = Settings { mode: Mode::Fail, inconclusive_passes: false, report: None };
        assert_eq!(parse(&[]), Ok(default.clone()));
        assert_eq!(
            parse(&[(MODE, ""), (INCONCLUSIVE, ""), (REPORT_FILE, "")]),
            Ok(default.clone()),
            "empty is as good as none"
        );
        assert_eq!(parse(&[(MODE, "fail"), (INCONCLUSIVE, "fail")]), Ok(default.clone()));
        assert_eq!(parse(&[(MODE, "off")]).unwrap().mode, Mode::Off);
        let report = Settings { mode: Mode::Report, inconclusive_passes: true, report: Some("stalls.jsonl".into()) };
        assert_eq!(parse(&[(MODE, "report"), (INCONCLUSIVE, "pass"), (REPORT_FILE, "stalls.jsonl")]), Ok(report));
    }

    #[test]
    fn a_word_that_is_not_understood_is_an_error_that_says_which_are() {
        assert_eq!(
            parse(&[(MODE, "Report")]).unwrap_err(),
            "DEADBEAT is \"Report\", and must be one of: fail, report, off"
        );
        let said = parse(&[(INCONCLUSIVE, "1")]).unwrap_err();
        assert_eq!(said, "DEADBEAT_INCONCLUSIVE is \"1\", and must be one of: fail, pass");
    }
}
