//! Dates, as `YYYY-MM-DD`: two of them compare as their texts do.

/// Whether it is a day of the calendar in this form. deadbeat has the same rule for what is said when a program runs.
pub(crate) fn is_date(text: &str) -> bool {
    let parts: Vec<_> = text.split('-').collect();
    let [year, month, day] = parts[..] else { return false };
    let number = |part: &str, digits| {
        let is_number = part.len() == digits && part.bytes().all(|digit| digit.is_ascii_digit());
        is_number.then(|| part.parse::<u32>().ok()).flatten()
    };
    let (Some(year), Some(month), Some(day)) = (number(year, 4), number(month, 2), number(day, 2)) else {
        return false;
    };
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let days = match month {
        2 => 28 + u32::from(leap),
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => 0,
    };
    (1..=days).contains(&day)
}

#[cfg(test)]
mod tests {
    use super::*;

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
