//! The body that is written most often, as the control: what a test cannot catch here, it guards nowhere.

use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;

/// The poll blocks its thread, and an un-reaped leader holds the grace.
pub(crate) fn kill(pgid: i32, grace: Duration) {
    let group = Pid::from_raw(pgid);
    if killpg(group, Signal::SIGTERM) == Err(Errno::ESRCH) {
        return;
    }
    let start = Instant::now();
    while start.elapsed() < grace {
        #[expect(clippy::disallowed_methods, reason = "this is the bug")]
        std::thread::sleep(Duration::from_millis(20));
        if killpg(group, None) == Err(Errno::ESRCH) {
            return;
        }
    }
    let _ = killpg(group, Signal::SIGKILL);
}

/// The same with the sleep made async: dropped half-way, it leaves the group alive.
pub(crate) async fn kill_async(pgid: i32, grace: Duration) {
    let group = Pid::from_raw(pgid);
    let _ = killpg(group, Signal::SIGTERM);
    tokio::time::sleep(grace).await;
    let _ = killpg(group, Signal::SIGKILL);
}
