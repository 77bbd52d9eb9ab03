//! When beats came, in a few dozen numbers however long the watch: how many in each slice of time.
//!
//! When the slices run out, each takes in its neighbour and all are twice as long.

use std::time::Duration;

/// A watch has at most this many.
const SLICES: usize = 64;

/// How many beats came in each slice of a watch.
#[derive(Clone, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct BeatsOverTime {
    /// How long a slice is.
    #[cfg_attr(feature = "serde", serde(rename = "slice_ms", with = "crate::millis"))]
    pub slice: Duration,
    /// The beats of each, from the start of the watch; nothing after the last beat.
    pub beats: Vec<u32>,
}

impl BeatsOverTime {
    pub(super) fn new(slice: Duration) -> BeatsOverTime {
        BeatsOverTime { slice, beats: Vec::new() }
    }

    /// A beat came, so long after the start of the watch.
    pub(super) fn record(&mut self, at: Duration) {
        let slice = |length: Duration| at.as_nanos() / length.as_nanos().max(1);
        while slice(self.slice) >= SLICES as u128 {
            self.slice *= 2;
            self.beats = self.beats.chunks(2).map(|pair| pair.iter().sum()).collect();
        }
        let slice = slice(self.slice) as usize;
        if self.beats.len() <= slice {
            self.beats.resize(slice + 1, 0);
        }
        self.beats[slice] += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn a_silence_is_seen_where_it_was() {
        let mut rhythm = BeatsOverTime::new(MS * 5);
        (1..=200).chain(1200..=1400).for_each(|beat| rhythm.record(MS * 5 * beat));
        assert_eq!(rhythm.beats.iter().sum::<u32>(), 401, "none is lost");
        assert!(rhythm.beats.len() <= SLICES && rhythm.slice == MS * 160, "{rhythm:?}");
        let silent: Vec<_> = (0..rhythm.beats.len()).filter(|slice| rhythm.beats[*slice] == 0).collect();
        assert_eq!(silent, (7..37).collect::<Vec<_>>(), "from 1.0 s to 6.0 s");
    }

    #[test]
    fn an_hour_takes_no_more_room_than_a_second() {
        let mut rhythm = BeatsOverTime::new(MS * 5);
        rhythm.record(Duration::ZERO);
        rhythm.record(Duration::from_secs(3600));
        assert!(rhythm.beats.len() <= SLICES && rhythm.beats.iter().sum::<u32>() == 2, "{rhythm:?}");
    }
}
