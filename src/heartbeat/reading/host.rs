//! What the machine did to the whole process: stolen time, suspension, a debugger. Asked only when in doubt.

use std::time::Duration;

/// Time the hypervisor gave to somebody else since boot, summed over the CPUs, in steps of 10 ms.
#[cfg(target_os = "linux")]
pub(crate) fn stolen() -> Duration {
    use std::io::Read;

    let mut text = [0; 256];
    let read = std::fs::File::open("/proc/stat").and_then(|mut file| file.read(&mut text)).unwrap_or(0);
    steal_field(&text[..read]).unwrap_or_default()
}

#[cfg(not(target_os = "linux"))]
pub(crate) fn stolen() -> Duration {
    Duration::ZERO
}

/// Time the machine has spent suspended since boot: what `CLOCK_BOOTTIME` counts and `CLOCK_MONOTONIC` does not.
#[cfg(target_os = "linux")]
pub(crate) fn suspended() -> Duration {
    use nix::time::{ClockId, clock_gettime};

    let read = |clock| clock_gettime(clock).map_or(Duration::ZERO, Duration::from);
    let awake = read(ClockId::CLOCK_MONOTONIC);
    read(ClockId::CLOCK_BOOTTIME).saturating_sub(awake)
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
fn steal_field(stat: &[u8]) -> Option<Duration> {
    let line = std::str::from_utf8(stat).ok()?.lines().next()?;
    let ticks: u64 = line.strip_prefix("cpu ")?.split_ascii_whitespace().nth(7)?.parse().ok()?;
    // USER_HZ is 100 on every architecture tokio runs on.
    Some(Duration::from_millis(ticks * 10))
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn steal_is_the_eighth_number_of_the_first_line() {
        let stat = b"cpu  20720 0 14308 343741 598 0 65 18 0 0\ncpu0 1 2 3 4 5 6 7 8 9 10\n";
        assert_eq!(steal_field(stat), Some(Duration::from_millis(180)));
        assert_eq!(steal_field(b"intr 1 2 3"), None);
    }
}
