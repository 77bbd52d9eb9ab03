//! GNU timeout: <https://www.gnu.org/software/coreutils/manual/html_node/timeout-invocation.html>
//!
//! SIGALRM is what its own timer sends it when the DURATION is over.

use std::io;
use std::process::Stdio;
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Command;

use crate::started::Started;

pub(crate) fn start(command: Command, grace: Duration) -> io::Result<Started> {
    let inner = command.as_std();
    let mut timeout = Command::new("timeout");
    timeout.arg(format!("--kill-after={}", grace.as_secs_f64())).arg("1h");
    timeout.arg(inner.get_program()).args(inner.get_args());
    timeout.envs(inner.get_envs().filter_map(|(name, value)| Some((name, value?))));
    timeout.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = timeout.process_group(0).spawn()?;
    Started::new(child.id(), async move {
        if let Some(pid) = child.id() {
            kill(Pid::from_raw(pid as i32), Signal::SIGALRM)?;
        }
        child.wait().await?;
        Ok(())
    })
}
