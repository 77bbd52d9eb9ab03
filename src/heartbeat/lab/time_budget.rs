//! One time budget over waits that follow each other: each may take half of what is left, so none starves the next.

use std::time::{Duration, Instant};

/// Everything is over by then.
#[derive(Debug, Clone, Copy)]
pub(crate) struct TimeBudget(Instant);

impl TimeBudget {
    pub(crate) fn until(end: Instant) -> Self {
        Self(end)
    }

    #[cfg(test)]
    pub(crate) fn of(time: Duration) -> Self {
        Self(Instant::now() + time)
    }

    /// The end, for the last of them.
    pub(crate) fn end(self) -> Instant {
        self.0
    }

    /// For any other.
    pub(crate) fn half(self) -> Instant {
        let now = Instant::now();
        now + self.0.saturating_duration_since(now) / 2
    }
}

/// How long it is until `instant`.
pub(crate) fn left(instant: Instant) -> Duration {
    instant.saturating_duration_since(Instant::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_in_a_row_are_over_at_the_end_however_many_they_are() {
        let begun = Instant::now();
        let time = TimeBudget::of(Duration::from_secs(1));
        let halves = [time.half(), time.half()];
        assert!(begun < halves[0] && halves[0] <= halves[1] && halves[1] < time.end(), "{halves:?}");
        assert!(left(Instant::now() + Duration::from_secs(60)) > Duration::ZERO);
        let over = TimeBudget::until(Instant::now() - Duration::from_millis(1));
        assert_eq!((left(over.half()), left(over.end())), (Duration::ZERO, Duration::ZERO));
    }
}
