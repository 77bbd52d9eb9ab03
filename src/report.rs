//! What the suite and the program print, as data and in each format.

use std::time::Duration;

/// Milliseconds with three decimals: the unit of every time in a report.
pub(crate) fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}
