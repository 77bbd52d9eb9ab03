//! Parsers for the arguments that are no plain strings.

use std::ops::RangeInclusive;
use std::path::Path;
use std::time::Duration;

use crate::fixture;
use crate::signal::Signal;
use crate::suite::{DEADLINES, GRACES};

/// A duration such as `250ms`, `5s` or `1m 30s`; a bare number is seconds, as in timeout(1).
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let hint = "write a duration such as 250ms, 5s or 1m 30s; a bare number is seconds";
    if text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        let seconds = text.parse::<f64>().map_err(|_| hint.to_owned())?;
        return Duration::try_from_secs_f64(seconds).map_err(|_| format!("it is longer than any clock runs; {hint}"));
    }
    humantime::parse_duration(text).map_err(|_| hint.to_owned())
}

/// A duration that is not zero.
pub(super) fn positive_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("it must be longer than zero".to_owned()),
        time => Ok(time),
    }
}

/// A shell that can be found, with its arguments; `busybox` is short for `busybox sh`.
pub(super) fn shell(text: &str) -> Result<String, String> {
    let Some(program) = text.split_ascii_whitespace().next() else {
        return Err("name a shell, such as dash".to_owned());
    };
    let paths = search_path();
    let found = program.contains('/') && Path::new(program).is_file()
        || !program.contains('/') && std::env::split_paths(&paths).any(|dir| dir.join(program).is_file());
    if !found {
        return Err(format!("{program} is not installed"));
    }
    Ok(if text.trim() == "busybox" { "busybox sh".to_owned() } else { text.trim().to_owned() })
}

/// The folders in which `exec` looks for programs; it has defaults for the case that there is no `PATH`.
pub(super) fn search_path() -> std::ffi::OsString {
    std::env::var_os("PATH").unwrap_or_else(|| "/bin:/usr/bin".into())
}

/// A signal that asks a program to end, and that the program can ignore.
pub(super) fn first_signal(text: &str) -> Result<Signal, String> {
    fixture::is_polite(text.parse::<Signal>().map_err(|error| error.to_string())?)
}

/// The grace that a suite's subjects are told to give.
pub(super) fn grace(text: &str) -> Result<Duration, String> {
    within(duration(text)?, &GRACES)
}

/// How long a worker may stand still, up to a day.
pub(super) fn budget(text: &str) -> Result<Duration, String> {
    within(duration(text)?, &(Duration::from_millis(1)..=Duration::from_secs(24 * 60 * 60)))
}

/// How long a kill may take before the suite ends it.
pub(super) fn deadline(text: &str) -> Result<Duration, String> {
    within(duration(text)?, &DEADLINES)
}

fn within(time: Duration, bounds: &RangeInclusive<Duration>) -> Result<Duration, String> {
    if bounds.contains(&time) {
        return Ok(time);
    }
    let [shortest, longest] = [*bounds.start(), *bounds.end()].map(humantime::format_duration);
    Err(format!("it must be from {shortest} to {longest}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_number_is_seconds() {
        assert_eq!(duration("5"), Ok(Duration::from_secs(5)));
        assert_eq!(duration("0.25"), Ok(Duration::from_millis(250)));
        assert_eq!(duration("250ms"), duration(".25"));
        assert_eq!(duration("1m 30s"), duration("90"));
    }

    #[test]
    fn what_is_no_duration_is_refused_with_the_way_to_write_one() {
        for text in ["", ".", "1.2.3", "-1", "5 parsecs", "s", "1e400", "99999999999999999999999", "inf"] {
            let error = duration(text).expect_err(text);
            assert!(error.contains("write a duration"), "{text}: {error}");
        }
    }

    #[test]
    fn what_no_suite_can_keep_is_refused_with_the_bounds() {
        for text in ["0", "1ns", "99ms", "61s", "10000000000000000000"] {
            assert_eq!(grace(text), Err("it must be from 100ms to 1m".to_owned()), "{text}");
        }
        assert_eq!(grace("1m"), Ok(Duration::from_secs(60)));
        assert_eq!(budget("2d"), Err("it must be from 1ms to 1day".to_owned()));
        assert_eq!(deadline("61m"), Err("it must be from 1ms to 1h".to_owned()));
        assert_eq!(budget("1h"), Ok(Duration::from_secs(3600)));
    }
}
