//! What the machine did to the whole process: stolen time, suspension, a debugger. Asked only when in doubt.

use std::time::Duration;

/// Time the hypervisor gave to somebody else since boot, of each CPU, in steps of 10 ms.
#[cfg(target_os = "linux")]
pub(crate) fn stolen() -> Vec<Duration> {
    steal_fields(&std::fs::read_to_string("/proc/stat").unwrap_or_default())
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn stolen() -> Vec<Duration> {
    Vec::new()
}

/// Time the machine has spent suspended since boot: what `CLOCK_BOOTTIME` counts and `CLOCK_MONOTONIC` does not.
#[cfg(target_os = "linux")]
pub(crate) fn suspended() -> Duration {
    use nix::time::{ClockId, clock_gettime};

    let read = |clock| clock_gettime(clock).map_or(Duration::ZERO, Duration::from);
    let (mut closest, mut suspended) = (Duration::MAX, Duration::ZERO);
    // A thread that loses its CPU between two readings would see the machine sleep meanwhile.
    for _ in 0..8 {
        let before = read(ClockId::CLOCK_MONOTONIC);
        let since_boot = read(ClockId::CLOCK_BOOTTIME);
        let after = read(ClockId::CLOCK_MONOTONIC);
        if after - before < closest {
            (closest, suspended) = (after - before, since_boot.saturating_sub(after));
        }
        if closest < Duration::from_micros(50) {
            break;
        }
    }
    suspended
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn suspended() -> Duration {
    Duration::ZERO
}

/// The process that traces this one: a debugger, strace.
#[cfg(target_os = "linux")]
pub(crate) fn tracer() -> Option<u32> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("TracerPid:"))?;
    line.trim().parse().ok().filter(|pid| *pid != 0)
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn tracer() -> Option<u32> {
    None
}

#[cfg(target_os = "linux")]
fn steal_fields(stat: &str) -> Vec<Duration> {
    // The first line is the sum.
    let cpus = stat.lines().skip(1).take_while(|line| line.starts_with("cpu"));
    let ticks = cpus.map(|line| line.split_ascii_whitespace().nth(8)?.parse::<u64>().ok());
    // USER_HZ is 100 on every architecture tokio runs on.
    ticks.map(|ticks| Duration::from_millis(ticks.unwrap_or(0) * 10)).collect()
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn steal_is_the_eighth_number_of_each_cpu() {
        let stat = "cpu  1 2 3 4 5 6 7 20 9 10\ncpu0 1 2 3 4 5 6 7 8 9 10\ncpu1 1 2 3 4 5 6 7 12 9 10\nintr 1 2 3\n";
        assert_eq!(steal_fields(stat), [Duration::from_millis(80), Duration::from_millis(120)]);
        assert_eq!(steal_fields(""), []);
    }
}
