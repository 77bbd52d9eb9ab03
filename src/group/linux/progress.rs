//! Whether a process makes progress: its state, and its time on the CPUs.

use std::fs;
use std::time::Duration;

use super::table::state;

/// Whether the main thread is ready to run or in uninterruptible sleep, and what it has had of the CPUs. It is all
/// there is of a shell, and enough to tell that a process is kept waiting.
pub(in crate::group) fn progress(pid: i32) -> Option<(bool, Duration)> {
    let account = fs::read_to_string(format!("/proc/{pid}/schedstat")).ok()?;
    let on_cpu = account.split_ascii_whitespace().next()?.parse().ok().map(Duration::from_nanos)?;
    Some((matches!(state(pid)?, 'R' | 'D'), on_cpu))
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_thread_that_runs_gets_on_and_one_that_is_not_there_has_no_progress() {
        let this = nix::unistd::gettid().as_raw();
        let (before, begun) = (progress(this).unwrap(), Instant::now());
        while progress(this).unwrap().1 == before.1 {
            assert!(begun.elapsed() < Duration::from_secs(60), "it got no CPU");
        }
        assert!(before.0, "it runs");
        assert_eq!(progress(i32::MAX), None);
    }
}
