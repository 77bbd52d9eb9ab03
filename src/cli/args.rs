//! The words of the command line that are no plain strings.

use std::time::Duration;

/// `250ms`, `5s`, `1m 30s`; a bare number is seconds, as in timeout(1).
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let hint = "write a duration such as 250ms, 5s or 1m 30s; a bare number is seconds";
    if text.bytes().all(|b| b.is_ascii_digit() || b == b'.') {
        let seconds = text.parse::<f64>().map_err(|_| hint.to_owned())?;
        return Duration::try_from_secs_f64(seconds).map_err(|error| format!("{error}; {hint}"));
    }
    humantime::parse_duration(text).map_err(|error| format!("{error}; {hint}"))
}

/// A duration that is not zero.
pub(super) fn positive_duration(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        Duration::ZERO => Err("it must be longer than zero".to_owned()),
        time => Ok(time),
    }
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
}
