//! A clock for polls: never later than now, and so cheap that a future polled a million times a second pays little for
//! it.

use std::time::{Duration, Instant};

/// The wall clock as of the kernel's last tick, where that comes often enough.
#[derive(Debug, Clone, Copy)]
pub(crate) struct PollClock {
    /// How long ago `now` can be; zero for the exact clock.
    pub(crate) lag: Duration,
    /// One moment on both clocks.
    anchor: (Instant, Duration),
}

impl PollClock {
    /// With a lag of a quarter of `budget` at most.
    pub(crate) fn new(budget: Duration) -> Self {
        let lag = tick().filter(|tick| *tick <= budget / 4).unwrap_or(Duration::ZERO);
        Self { lag, anchor: (Instant::now(), exact()) }
    }

    pub(crate) fn now(&self) -> Instant {
        if self.lag.is_zero() {
            return Instant::now();
        }
        let (anchor, zero) = self.anchor;
        // Right after the anchor was set, the last tick was before it.
        anchor + coarse().saturating_sub(zero)
    }
}

#[cfg(target_os = "linux")]
use nix::time::{ClockId, clock_getres, clock_gettime};

#[cfg(target_os = "linux")]
fn tick() -> Option<Duration> {
    clock_getres(ClockId::CLOCK_MONOTONIC_COARSE).ok().map(Duration::from)
}

#[cfg(target_os = "linux")]
fn coarse() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).map_or(Duration::ZERO, Duration::from)
}

#[cfg(target_os = "linux")]
fn exact() -> Duration {
    clock_gettime(ClockId::CLOCK_MONOTONIC).map_or(Duration::ZERO, Duration::from)
}

#[cfg(not(target_os = "linux"))]
fn tick() -> Option<Duration> {
    None
}

#[cfg(not(target_os = "linux"))]
fn coarse() -> Duration {
    Duration::ZERO
}

#[cfg(not(target_os = "linux"))]
fn exact() -> Duration {
    Duration::ZERO
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(target_os = "linux")]
    fn it_is_as_cheap_as_the_kernels_tick_allows_and_exact_where_that_comes_too_rarely() {
        let tick = Duration::from(clock_getres(ClockId::CLOCK_MONOTONIC_COARSE).unwrap());
        assert_eq!(PollClock::new(tick * 4).lag, tick);
        assert_eq!(PollClock::new(tick * 4 - Duration::from_nanos(4)).lag, Duration::ZERO);
    }

    #[test]
    fn it_is_never_ahead_and_hardly_ever_further_behind_than_it_says() {
        for budget in [Duration::from_millis(50), Duration::from_micros(10)] {
            let clock = PollClock::new(budget);
            assert!(clock.lag <= budget / 4);
            let (begun, mut reads, mut behind) = (Instant::now(), 0, 0);
            while reads < 1000 || begun.elapsed() < Duration::from_millis(40) {
                let before = Instant::now();
                let now = clock.now();
                assert!(now <= Instant::now(), "ahead");
                reads += 1;
                // A busy host delays the tick itself.
                behind += u32::from(now + clock.lag * 2 < before);
            }
            assert!(behind < reads / 2, "{behind} of {reads} too far behind");
        }
    }
}
