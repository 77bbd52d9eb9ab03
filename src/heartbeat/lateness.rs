//! How late beats were, as an HdrHistogram would have it: every value within 1/32, nothing omitted.
//!
//! *Coordinated omission*: a beat that comes 200 ms late also kept the 39 beats behind it from being measured. Counting
//! it once would make one long stall look rarer than many short ones. So each late beat also stands for the beats it
//! displaced, each one interval less late than the one before (Gil Tene's correction).

use std::fmt;
use std::time::Duration;

use crate::heartbeat::ms::InMs;

const SUB_BITS: u32 = 5;
const SUB: u64 = 1 << SUB_BITS;
/// In microseconds, over an hour; later than that counts as that.
const LATEST: u64 = u32::MAX as u64;

/// A histogram of beat lateness in microseconds, corrected for coordinated omission.
#[derive(Clone, Default)]
pub struct Lateness {
    counts: Vec<u64>,
    total: u64,
    max: Duration,
}

impl Lateness {
    /// How many beats it stands for, displaced ones included.
    pub fn len(&self) -> u64 {
        self.total
    }

    /// Whether no beat was recorded.
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    /// The latest of all.
    pub fn max(&self) -> Duration {
        self.max
    }

    /// The lateness that the share `quantile` (0 to 1) of all beats did not exceed; zero if there were none.
    pub fn quantile(&self, quantile: f64) -> Duration {
        let rank = ((quantile.clamp(0.0, 1.0) * self.total as f64).ceil() as u64).max(1);
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Duration::from_micros(highest_in(bucket)).min(self.max);
            }
        }
        self.max
    }

    /// One beat, which should have come every `interval`.
    pub(super) fn record(&mut self, late: Duration, interval: Duration) {
        self.max = self.max.max(late);
        self.count(late);
        let mut displaced = late.saturating_sub(interval);
        while displaced >= interval && !interval.is_zero() {
            self.count(displaced);
            displaced -= interval;
        }
    }

    fn count(&mut self, late: Duration) {
        let bucket = bucket_of(late.as_micros().try_into().unwrap_or(u64::MAX));
        if self.counts.len() <= bucket {
            self.counts.resize(bucket + 1, 0);
        }
        self.counts[bucket] += 1;
        self.total += 1;
    }
}

/// Values below 32 have a bucket each; above, 32 buckets to each power of two.
fn bucket_of(micros: u64) -> usize {
    let micros = micros.min(LATEST);
    let shift = (u64::BITS - micros.leading_zeros()).saturating_sub(SUB_BITS + 1);
    (u64::from(shift) * SUB + (micros >> shift)) as usize
}

fn highest_in(bucket: usize) -> u64 {
    let bucket = bucket as u64;
    let shift = (bucket / SUB).saturating_sub(1);
    let position = bucket - shift * SUB;
    ((position + 1) << shift) - 1
}

/// `p50 0.1 ms, p99 1.2 ms, max 3.4 ms of 200 beats due`.
impl fmt::Display for Lateness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (p50, p99, max) = (InMs(self.quantile(0.5)), InMs(self.quantile(0.99)), InMs(self.max));
        write!(f, "p50 {p50}, p99 {p99}, max {max} of {} beats due", self.total)
    }
}

impl fmt::Debug for Lateness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |quantile| self.quantile(quantile);
        f.debug_struct("Lateness")
            .field("len", &self.total)
            .field("p50", &at(0.5))
            .field("p99", &at(0.99))
            .field("max", &self.max)
            .finish()
    }
}

/// `{"len","p50_ms","p90_ms","p99_ms","p999_ms","max_ms"}`.
#[cfg(feature = "serde")]
impl serde::Serialize for Lateness {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;

        let ms = |late: Duration| late.as_secs_f64() * 1e3;
        let mut object = serializer.serialize_struct("Lateness", 6)?;
        object.serialize_field("len", &self.total)?;
        object.serialize_field("p50_ms", &ms(self.quantile(0.5)))?;
        object.serialize_field("p90_ms", &ms(self.quantile(0.9)))?;
        object.serialize_field("p99_ms", &ms(self.quantile(0.99)))?;
        object.serialize_field("p999_ms", &ms(self.quantile(0.999)))?;
        object.serialize_field("max_ms", &ms(self.max))?;
        object.end()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_late_beat_stands_for_the_beats_it_displaced() {
        let mut late = Lateness::default();
        late.record(MS * 20, MS * 5);
        assert_eq!(late.len(), 4, "20, 15, 10 and 5 ms");
        assert_eq!(late.max(), MS * 20);
    }

    #[test]
    fn one_long_stall_among_punctual_beats_shows_in_the_tail() {
        let mut late = Lateness::default();
        for _ in 0..980 {
            late.record(Duration::ZERO, MS * 5);
        }
        late.record(MS * 100, MS * 5);
        assert_eq!(late.quantile(0.5), Duration::ZERO);
        assert!(late.quantile(0.99) > MS * 40, "{late:?}");
    }

    #[test]
    fn an_empty_histogram_has_quantiles_too() {
        let mut late = Lateness::default();
        assert!(late.is_empty());
        assert_eq!(late.quantile(0.5), Duration::ZERO);
        late.record(Duration::ZERO, MS * 5);
        assert!(!late.is_empty(), "a punctual beat is one too");
    }

    #[test]
    fn up_to_63_microseconds_are_exact_and_then_two_and_more_share_a_bucket() {
        assert!((0..64).all(|micros| highest_in(bucket_of(micros)) == micros));
        for (micros, highest) in [(64, 65), (65, 65), (66, 67), (127, 127), (128, 131), (131, 131), (132, 135)] {
            assert_eq!(highest_in(bucket_of(micros)), highest, "{micros}");
        }
    }

    #[test]
    fn later_than_an_hour_and_more_counts_as_that() {
        assert_eq!(bucket_of(u64::MAX), bucket_of(LATEST));
        assert_eq!(highest_in(bucket_of(LATEST)), LATEST);
        let mut late = Lateness::default();
        late.record(Duration::MAX, Duration::MAX);
        assert_eq!(late.quantile(0.5), Duration::from_micros(LATEST));
    }

    /// A hundred beats: most of them 2 ms late, one 3 and one 4.
    fn hundred_beats() -> Lateness {
        let mut late = Lateness::default();
        for ms in std::iter::repeat_n(2, 98).chain([3, 4]) {
            late.record(MS * ms, MS * 5);
        }
        late
    }

    #[test]
    fn people_are_told_the_median_the_tail_and_the_latest() {
        let late = hundred_beats();
        assert_eq!(late.to_string(), "p50 2.0 ms, p99 3.0 ms, max 4.0 ms of 100 beats due");
        assert_eq!(format!("{late:?}"), "Lateness { len: 100, p50: 2.015ms, p99: 3.007ms, max: 4ms }");
    }

    #[test]
    #[cfg(feature = "serde")]
    fn programs_are_told_in_milliseconds() {
        let told = serde_json::to_value(hundred_beats()).unwrap();
        assert_eq!(told["len"], 100);
        for (key, ms) in [("p50_ms", 2.015), ("p90_ms", 2.015), ("p99_ms", 3.007), ("p999_ms", 4.0), ("max_ms", 4.0)] {
            let told = told[key].as_f64().unwrap();
            assert!((told - ms).abs() < 1e-9, "{key}: {told}");
        }
    }

    proptest! {
        #[test]
        fn a_bucket_holds_its_values_within_a_thirty_second(micros in 0u64..(1 << 32)) {
            let highest = highest_in(bucket_of(micros));
            prop_assert!(highest >= micros);
            prop_assert!(highest - micros <= micros / 32);
        }

        #[test]
        fn buckets_are_in_order(micros in 0u64..(1 << 31)) {
            prop_assert!(bucket_of(micros) <= bucket_of(micros + 1));
        }
    }
}
