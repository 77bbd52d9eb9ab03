//! What the machine did to the whole process: stolen time, suspension, a debugger. Asked only when in doubt.

use std::time::Duration;

/// Time the hypervisor gave to other machines since boot, of each CPU, in steps of 10 ms.
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
    let clocks = [ClockId::CLOCK_MONOTONIC, ClockId::CLOCK_BOOTTIME, ClockId::CLOCK_MONOTONIC];
    ahead(|| clocks.map(read))
}

/// Two readings so far apart, and a third between them, were taken at one moment.
#[cfg(target_os = "linux")]
const CLOSE: Duration = Duration::from_micros(50);

/// How far the second clock is ahead of the other, which is read before it and after it. A thread that loses its CPU
/// between two readings would see the machine sleep meanwhile, so the closest of a few count.
#[cfg(target_os = "linux")]
fn ahead(mut read: impl FnMut() -> [Duration; 3]) -> Duration {
    let mut closest = (Duration::MAX, Duration::ZERO);
    for _ in 0..8 {
        let [before, other, after] = read();
        closest = closest.min((after - before, other.saturating_sub(after)));
        if closest.0 < CLOSE {
            break;
        }
    }
    closest.1
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

    #[test]
    fn what_was_stolen_is_known_of_each_cpu_there_is() {
        let stat = std::fs::read_to_string("/proc/stat").unwrap();
        let cpus = stat.lines().filter(|line| line.starts_with("cpu") && !line.starts_with("cpu "));
        assert_eq!(stolen().len(), cpus.count());
    }

    #[test]
    fn of_readings_that_are_far_apart_the_closest_count_and_one_that_is_close_is_enough() {
        let us = Duration::from_micros;
        // How far apart the readings of the one clock are, and how far ahead of the second of them the other was.
        let ahead = |readings: &[(u64, u64)]| {
            let mut coming = readings.iter().map(|(apart, ahead)| [us(100), us(100 + apart + ahead), us(100 + apart)]);
            let suspended = ahead(|| coming.next().expect("it was close"));
            (suspended, readings.len() - coming.len())
        };
        assert_eq!(ahead(&[(49, 7), (1, 0)]), (us(7), 1));
        assert_eq!(ahead(&[(50, 7), (1, 9), (1, 0)]), (us(9), 2), "nearly close is not close");
        let far = [(90, 1), (80, 2), (70, 3), (60, 4), (70, 5), (80, 6), (90, 7), (90, 8)];
        assert_eq!(ahead(&far), (us(4), 8), "but one has to be believed");
        assert_eq!(super::ahead(|| [us(100), us(90), us(101)]), Duration::ZERO, "no clock goes backwards");
    }

    /// In a time namespace the machine has been suspended for as long as one likes.
    #[test]
    fn a_machine_that_has_been_suspended_says_for_how_long() {
        const INSIDE: &str = "DEADBEAT_SUSPENDED";
        let suspended_for = Duration::from_secs(1_000_000);
        if std::env::var_os(INSIDE).is_some() {
            assert!(suspended() > suspended_for / 2, "{:?}", suspended());
            return;
        }
        let inside = |program: &std::ffi::OsStr| {
            let mut command = std::process::Command::new("unshare");
            command.args(["--time", "--fork", "--boottime", &suspended_for.as_secs().to_string()]).arg(program);
            command.env(INSIDE, "1");
            command
        };
        // It takes a privilege, a kernel and a program that knows of it.
        if !inside("true".as_ref()).output().is_ok_and(|output| output.status.success()) {
            return;
        }
        let name = "heartbeat::reading::host::tests::a_machine_that_has_been_suspended_says_for_how_long";
        let output = inside(std::env::current_exe().unwrap().as_ref()).args(["--exact", name]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("1 passed"), "{said}");
    }
}
