//! tokio-process-tools: <https://docs.rs/tokio-process-tools/latest/tokio_process_tools/struct.ProcessHandle.html#method.terminate>
//!
//! That page says to escalate to `kill` when `terminate` fails.

use std::io;
use std::time::Duration;

use tokio::process::Command;
use tokio_process_tools::{AutoName, GracefulShutdown, Process};

use crate::started::Started;

pub(crate) fn start(command: Command, grace: Duration) -> io::Result<Started> {
    let process = Process::new(command).name(AutoName::program_only());
    let mut process = process.stdout_and_stderr(|stream| stream.discard()).spawn().map_err(io::Error::other)?;
    let escalation = GracefulShutdown::builder().unix_sigterm(grace).windows_ctrl_break(grace).build();
    Started::new(process.id(), async move {
        if process.terminate(escalation).await.is_err() {
            process.kill().await?;
        }
        Ok(())
    })
}
