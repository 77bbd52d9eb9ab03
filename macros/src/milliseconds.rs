//! Times in arguments: a whole number and a unit, `50ms`, `2s` or `3m`.

/// Longer than a day is no time to wait for a beat.
const DAY: u64 = 24 * 60 * 60 * 1000;

/// In milliseconds; `Err` is what is wrong with it, to be said behind the name of the argument.
pub(crate) fn parse(text: &str) -> Result<u64, String> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let unit = match unit {
        "ms" => 1,
        "s" => 1000,
        "m" => 60 * 1000,
        _ => 0,
    };
    if number.is_empty() || unit == 0 {
        return Err("must be a whole number with `ms`, `s` or `m` behind it, as in \"50ms\"".into());
    }
    match number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)) {
        Some(0) => Err("is zero, and it must be a millisecond at least".into()),
        Some(time) if time <= DAY => Ok(time),
        _ => Err("is longer than a day, which is the most".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_whole_number_and_a_unit() {
        for (text, time) in [("1ms", 1), ("50ms", 50), ("2s", 2000), ("3m", 180_000), ("1440m", DAY), ("007s", 7000)] {
            assert_eq!(parse(text), Ok(time), "{text}");
        }
        for (text, wrong) in [
            ("", "whole number"),
            ("50", "whole number"),
            ("ms", "whole number"),
            ("1.5s", "whole number"),
            ("-1s", "whole number"),
            ("5 ms", "whole number"),
            ("5h", "whole number"),
            ("0ms", "zero"),
            ("1441m", "a day"),
            ("99999999999999999999ms", "a day"),
            ("18446744073709551615m", "a day"),
        ] {
            let said = parse(text).unwrap_err();
            assert!(said.contains(wrong), "{text}: {said}");
        }
    }
}
