//! What is written most often: the body of "The trap" in README.md, on the worker.

use std::io;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::Command;

use crate::started::Started;

pub(crate) fn start(mut command: Command, grace: Duration) -> io::Result<Started> {
    let mut child = command.process_group(0).spawn()?;
    let group = Pid::from_raw(child.id().unwrap_or_default() as i32);
    Started::new(child.id(), async move {
        let _ = killpg(group, Signal::SIGTERM);
        let start = Instant::now();
        while start.elapsed() < grace && killpg(group, None) != Err(Errno::ESRCH) {
            #[expect(clippy::disallowed_methods, reason = "this is the bug")]
            std::thread::sleep(Duration::from_millis(100));
        }
        let _ = killpg(group, Signal::SIGKILL);
        child.wait().await?;
        Ok(())
    })
}
