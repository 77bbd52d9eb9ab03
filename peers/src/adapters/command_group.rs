//! command-group: <https://docs.rs/command-group/latest/command_group/struct.AsyncGroupChild.html>
//!
//! It has `signal`, `wait` and `kill`; the escalation is put together from them.

use std::io;
use std::time::Duration;

use command_group::{AsyncCommandGroup, Signal, UnixChildExt};
use tokio::process::Command;
use tokio::time::timeout;

use crate::started::Started;

pub(crate) fn start(mut command: Command, grace: Duration) -> io::Result<Started> {
    let mut child = command.group_spawn()?;
    Started::new(child.id(), async move {
        child.signal(Signal::SIGTERM)?;
        if timeout(grace, child.wait()).await.is_err() {
            child.kill().await?;
        }
        Ok(())
    })
}
