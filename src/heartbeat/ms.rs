//! Milliseconds, as reports have them.

use std::fmt;
use std::time::Duration;

/// Milliseconds, one decimal.
pub(super) struct InMs(pub(super) Duration);

impl fmt::Display for InMs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} ms", self.0.as_secs_f64() * 1e3)
    }
}
