//! The signals of timeout(1): how they are written on the command line and in messages.

use crate::signal::Signal;

/// Parses a signal as `-s` takes it: a name in any case, with or without `SIG`, or a number. `Ok(None)` is signal 0.
///
/// A number from 129 on is an exit status that names a signal, as `kill -l` reads it; ksh adds 256 in place of 128.
pub(super) fn parse(text: &str) -> Result<Option<Signal>, ()> {
    if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
        return match text.parse().map_err(drop)? {
            0 | 128 | 256 => Ok(None),
            status @ (129..=255 | 257..=383) => Signal::from_raw(status & 0x7f).map(Some).ok_or(()),
            number => Signal::from_raw(number).map(Some).ok_or(()),
        };
    }
    let upper = text.to_ascii_uppercase();
    let name = match upper.strip_prefix("SIG").unwrap_or(&upper) {
        "EXIT" => return Ok(None),
        "CLD" => "CHLD",
        "IOT" => "ABRT",
        "POLL" => "IO",
        // Parsing the rest would strip `SIG` once more.
        name if name.starts_with("SIG") => return Err(()),
        name => name,
    };
    name.parse().map(Some).map_err(drop)
}

/// The name of a signal in messages: `TERM`, `RTMAX-1`, `0`.
pub(super) fn name(signal: Option<Signal>) -> String {
    match signal {
        None => "0".to_owned(),
        Some(signal) => {
            if let (Ok(min), Ok(max)) = ("RTMIN".parse::<Signal>(), "RTMAX".parse::<Signal>()) {
                let [from_min, from_max] = [signal.as_raw() - min.as_raw(), max.as_raw() - signal.as_raw()];
                // The upper half is named from its end, as the C library does.
                if (0..from_min).contains(&from_max) {
                    return if from_max == 0 { "RTMAX".to_owned() } else { format!("RTMAX-{from_max}") };
                }
            }
            let name = signal.to_string();
            name.strip_prefix("SIG").unwrap_or(&name).to_owned()
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("TERM", 15)]
    #[case("sigkill", 9)]
    #[case("cOnT", 18)]
    #[case("3", 3)]
    #[case("137", 9)]
    #[case("271", 15)]
    #[case("IOT", 6)]
    #[cfg(target_os = "linux")]
    fn a_signal_goes_by_name_or_number(#[case] text: &str, #[case] number: i32) {
        assert_eq!(parse(text), Ok(Signal::from_raw(number)));
    }

    #[rstest]
    fn no_signal_is_0_or_exit(#[values("0", "EXIT", "exit", "SIGEXIT")] text: &str) {
        assert_eq!(parse(text), Ok(None));
    }

    #[rstest]
    fn a_signal_is_named_as_it_can_be_written(
        #[values("TERM", "KILL", "CONT", "0", "RTMIN", "RTMIN+1", "RTMAX-1", "RTMAX")] text: &str,
    ) {
        assert_eq!(name(parse(text).unwrap()), text);
    }

    #[rstest]
    fn what_is_no_signal_is_refused(
        #[values("", "MONKEY", "SIG", "SIGsigTERM", "-1", "+9", "9 ", "65", "200", "399", "99999999999")] text: &str,
    ) {
        assert_eq!(parse(text), Err(()));
    }
}
