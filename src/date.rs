//! Days of the calendar, as `YYYY-MM-DD`: two of them compare as their texts do.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

const DAY: u64 = 24 * 60 * 60;

/// Whether it is a day of the calendar in this form. The attribute has the same rule for what it is told.
#[cfg(feature = "conformance")]
pub(crate) fn is_date(text: &str) -> bool {
    let parts: Vec<_> = text.split('-').collect();
    let is_number = |(part, digits): (&&str, usize)| part.len() == digits && part.bytes().all(|b| b.is_ascii_digit());
    let [year, month, day] = parts[..] else { return false };
    if !parts.iter().zip([4, 2, 2]).all(is_number) {
        return false;
    }
    let (Ok(year), Ok(month), Ok(day)) = (year.parse(), month.parse(), day.parse::<u64>()) else { return false };
    (1..=12).contains(&month) && (1..=days_of(year, month)).contains(&day)
}

/// Whether that day is over, in UTC.
pub(crate) fn is_over(date: &str) -> bool {
    is_over_at(date, since_1970())
}

fn is_over_at(date: &str, since_1970: Duration) -> bool {
    *date < *day_of(since_1970)
}

#[expect(
    clippy::disallowed_methods,
    reason = "what holds until a day of the calendar is decided by the day that it is"
)]
fn since_1970() -> Duration {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The day on which that time is.
fn day_of(since_1970: Duration) -> String {
    let (mut days, mut year, mut month) = (since_1970.as_secs() / DAY, 1970, 1);
    while days >= days_of(year, month) {
        days -= days_of(year, month);
        (year, month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
    }
    format!("{year:04}-{month:02}-{:02}", days + 1)
}

/// How many days a month has, the first of which is 1.
fn days_of(year: u64, month: u64) -> u64 {
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    match month {
        2 => 28 + u64::from(is_leap),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_told_from_the_seconds_since_1970() {
        for (seconds, day) in [
            (0, "1970-01-01"),
            (DAY - 1, "1970-01-01"),
            (DAY, "1970-01-02"),
            (951_782_400, "2000-02-29"),
            (951_868_800, "2000-03-01"),
            (1_709_164_800, "2024-02-29"),
            (1_735_689_599, "2024-12-31"),
            (1_735_689_600, "2025-01-01"),
            (4_107_542_400, "2100-03-01"),
        ] {
            assert_eq!(day_of(Duration::from_secs(seconds)), day);
        }
    }

    #[test]
    fn the_last_day_is_included() {
        let noon = Duration::from_secs(1_709_164_800 + DAY / 2);
        for (date, is_over) in
            [("2024-02-28", true), ("2024-02-29", false), ("2024-03-01", false), ("1999-12-31", true)]
        {
            assert_eq!(is_over_at(date, noon), is_over, "{date}");
        }
        assert!(is_over("2020-01-01") && !is_over("9999-12-31"), "the clock of this machine is off");
    }

    #[cfg(feature = "conformance")]
    #[test]
    fn a_date_is_a_day_of_the_calendar_in_ten_characters() {
        for date in ["2027-03-01", "2028-02-29", "2000-02-29", "0001-01-01", "9999-12-31", "2027-04-30"] {
            assert!(is_date(date), "{date}");
        }
        for none in [
            "",
            "2027",
            "2027-3-1",
            "27-03-01",
            "2027-13-01",
            "2027-00-01",
            "2027-03-00",
            "2027-03-32",
            "2027-02-29",
            "1900-02-29",
            "2027-04-31",
            "2027/03/01",
            "2027-03-01 ",
            "2027-03-01-",
            "+027-03-01",
            "tomorrow",
        ] {
            assert!(!is_date(none), "{none}");
        }
    }
}
