//! Durations in reports are milliseconds, fractions and all.

use std::time::Duration;

use serde::{Serialize, Serializer};

pub(super) fn ms<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
    millis(*duration).serialize(serializer)
}

pub(super) fn maybe_ms<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
    duration.map(millis).serialize(serializer)
}

/// To the microsecond: finer is noise.
fn millis(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1e3
}
