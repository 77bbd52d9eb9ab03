//! A time as timeout(1) reads it: what `strtod(3)` takes, and one letter for the unit.

use std::time::Duration;

/// Parses a time. `Duration::ZERO` means that there is none: no timeout, or no SIGKILL. `None`: the text is no time.
///
/// Blanks and a sign may come first; the number may be decimal, hexadecimal (`0x1p3`) or `inf`; `s`, `m`, `h` or `d`
/// may follow, and nothing else. What is too long to be told is `Duration::MAX`; what is too short is a nanosecond.
pub(super) fn parse(text: &str) -> Option<Duration> {
    let text = text.trim_start_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c']);
    let (negative, text) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, text),
    };
    let (number, rest) = number(text)?;
    let unit = match rest {
        "" | "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        "d" => 86400.0,
        _ => return None,
    };
    if negative && !number.is_zero {
        return None;
    }
    if number.is_zero {
        return Some(Duration::ZERO);
    }
    let shortest = Duration::from_nanos(1);
    // The only other error is too long a time: neither sign nor NaN comes this far.
    Some(Duration::try_from_secs_f64(number.value * unit).unwrap_or(Duration::MAX).max(shortest))
}

struct Number {
    value: f64,
    /// Really zero, not just too small for a float.
    is_zero: bool,
}

/// The longest number that the text begins with, and what follows it.
fn number(text: &str) -> Option<(Number, &str)> {
    for word in ["infinity", "inf"] {
        if text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word)) {
            return Some((Number { value: f64::INFINITY, is_zero: false }, &text[word.len()..]));
        }
    }
    if text.get(..2).is_some_and(|start| start.eq_ignore_ascii_case("0x")) {
        let digits = mantissa(&text[2..], |b| b.is_ascii_hexdigit());
        if digits.count > 0 {
            let length = 2 + digits.length;
            let (exponent, tail) = exponent(&text[length..], b'p');
            let value = hexadecimal(&text[2..length], exponent);
            return Some((Number { value, is_zero: digits.is_zero }, &text[length + tail..]));
        }
    }
    let digits = mantissa(text, |b| b.is_ascii_digit());
    if digits.count == 0 {
        return None;
    }
    let (_, tail) = exponent(&text[digits.length..], b'e');
    let (number, rest) = text.split_at(digits.length + tail);
    Some((Number { value: number.parse().ok()?, is_zero: digits.is_zero }, rest))
}

struct Mantissa {
    length: usize,
    count: usize,
    is_zero: bool,
}

fn mantissa(text: &str, is_digit: impl Fn(u8) -> bool) -> Mantissa {
    let mut found = Mantissa { length: 0, count: 0, is_zero: true };
    let mut point = false;
    for b in text.bytes() {
        match b {
            b'.' if !point => point = true,
            b if is_digit(b) => {
                found.count += 1;
                found.is_zero &= b == b'0';
            }
            _ => break,
        }
        found.length += 1;
    }
    found
}

/// The exponent that the text begins with and its length, which is 0 if it has none.
fn exponent(text: &str, letter: u8) -> (i32, usize) {
    let bytes = text.as_bytes();
    if bytes.first().map(u8::to_ascii_lowercase) != Some(letter) {
        return (0, 0);
    }
    let sign = usize::from(matches!(bytes.get(1), Some(b'+' | b'-')));
    let digits = bytes[1 + sign..].iter().take_while(|b| b.is_ascii_digit()).count();
    if digits == 0 {
        return (0, 0);
    }
    let length = 1 + sign + digits;
    let far = if bytes[1] == b'-' { i32::MIN } else { i32::MAX };
    (text[1..length].parse().unwrap_or(far), length)
}

fn hexadecimal(digits: &str, exponent: i32) -> f64 {
    let (mut value, mut scale, mut point) = (0.0_f64, i64::from(exponent), false);
    for c in digits.chars() {
        match c.to_digit(16) {
            None => point = true,
            Some(digit) => {
                // Digits beyond the precision of a float only move the point.
                if value < 1e300 {
                    value = value * 16.0 + f64::from(digit);
                    scale -= if point { 4 } else { 0 };
                } else if !point {
                    scale += 4;
                }
            }
        }
    }
    // Beyond this it is infinite, or nothing, whatever the digits.
    for _ in 0..scale.unsigned_abs().min(5000) {
        value *= if scale > 0 { 2.0 } else { 0.5 };
    }
    value
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("10", 10.0)]
    #[case(".001", 0.001)]
    #[case("5.", 5.0)]
    #[case("+2", 2.0)]
    #[case(" \t2", 2.0)]
    #[case("1m", 60.0)]
    #[case("1.5h", 5400.0)]
    #[case("2d", 172_800.0)]
    #[case("1e2", 100.0)]
    #[case("1E-1s", 0.1)]
    #[case("0x10", 16.0)]
    #[case("0x1p3", 8.0)]
    #[case("0X.8P+1", 1.0)]
    // The letter is a digit here.
    #[case("0x0.1d", 29.0 / 256.0)]
    #[case("0x1p3d", 691_200.0)]
    fn a_number_that_strtod_takes_is_that_many_seconds(#[case] text: &str, #[case] seconds: f64) {
        assert_eq!(parse(text), Some(Duration::from_secs_f64(seconds)));
    }

    #[rstest]
    #[case::float("1e400")]
    #[case::days("1e10000d")]
    #[case::clock("9223372036854775808d")]
    #[case::hexadecimal("0x1p99999999999")]
    #[case::infinite("inf")]
    #[case::unit("INFINITYd")]
    fn what_is_too_long_to_be_told_is_the_longest_time(#[case] text: &str) {
        assert_eq!(parse(text), Some(Duration::MAX));
    }

    #[rstest]
    #[case("1e-10000")]
    #[case(".0000000001")]
    #[case("1e-18172487393827593258")]
    #[case("0x1p-99999999999")]
    fn what_is_too_short_to_be_told_is_not_zero(#[case] text: &str) {
        assert_eq!(parse(text), Some(Duration::from_nanos(1)));
    }

    #[rstest]
    #[case("0")]
    #[case("0.00d")]
    #[case("-0")]
    #[case("0x0")]
    #[case("0e5")]
    fn zero_is_zero_however_it_is_written(#[case] text: &str) {
        assert_eq!(parse(text), Some(Duration::ZERO));
    }

    #[rstest]
    fn anything_else_is_no_time(
        #[values(
            "",
            " ",
            "s",
            ".",
            "-",
            "+",
            "-1",
            " -0.1",
            "-1e-10000",
            "-inf",
            "nan",
            "5 ",
            "5 s",
            "5ss",
            "5ms",
            "42D",
            "1e",
            "1e+",
            "1.2.3",
            "0x",
            "0xg",
            "0x1p",
            "--5",
            "infinit",
            "10€",
            "'1",
            "1,5"
        )]
        text: &str,
    ) {
        assert_eq!(parse(text), None);
    }
}
