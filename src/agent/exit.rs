//! The end of a leader, awaited on a worker and without reaping.
//!
//! A pidfd wakes the runtime's driver, whatever this process was started with. SIGCHLD alone does not: if this process
//! was started with it blocked, it never arrives.

use std::io;
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{sleep, timeout};

use crate::group::{ExitFd, ProcessGroup};

pub(super) struct LeaderExit {
    children: Signal,
    /// `None` where none can be opened.
    pidfd: Option<AsyncFd<ExitFd>>,
}

impl LeaderExit {
    /// Listens for SIGCHLD, before the leader is started: from here on it is not ignored.
    pub(super) fn prepare() -> io::Result<LeaderExit> {
        Ok(LeaderExit { children: signal(SignalKind::child())?, pidfd: None })
    }

    /// Opens the leader's pidfd, as soon as the leader is started.
    #[expect(deprecated, reason = "what is to replace it is younger than the oldest tokio that will do")]
    pub(super) fn hold(&mut self, group: ProcessGroup) {
        // A pidfd that the driver does not take is as good as none.
        self.pidfd = ExitFd::of_leader(group).and_then(|fd| AsyncFd::with_interest(fd, Interest::READABLE).ok());
    }

    /// Resolves when the leader can be waited for. `poll_interval` bounds how late it is where no descriptor tells.
    pub(super) async fn of(&mut self, group: ProcessGroup, poll_interval: Duration) {
        if let Some(pidfd) = &self.pidfd {
            // An error is the runtime's end, which the sleep below does not outlive.
            let _ = pidfd.readable().await;
        }
        while !group.leader_has_exited() {
            match self.pidfd {
                // Under ptrace the tracer comes first.
                Some(_) => sleep(Duration::from_millis(1)).await,
                None => drop(timeout(poll_interval, self.children.recv()).await),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::group::{Backend, backend};
    use crate::kill::testing::{SOON, start};
    use crate::signal::Signal;

    #[tokio::test]
    async fn a_leaders_end_is_told_by_a_descriptor_and_not_before_it_has_come() {
        let hour = Duration::from_secs(3600);
        let (leader, mut exit) = (start("ignore-term"), LeaderExit::prepare().unwrap());
        let group = leader.group();
        exit.hold(group);
        // Where SIGCHLD is blocked, nothing else would tell.
        assert_eq!(exit.pidfd.is_some(), backend() == Backend::Proc);
        let early = timeout(Duration::from_millis(20), exit.of(group, hour)).await;
        assert!(early.is_err(), "it lives");
        group.signal(Signal::KILL).unwrap();
        timeout(SOON, exit.of(group, hour)).await.expect("the end was not noticed");
        assert!(group.leader_has_exited());
    }
}
