//! processkit: <https://docs.rs/processkit/latest/processkit/struct.ProcessGroup.html#method.shutdown>
//!
//! That page says to await each child meanwhile: a zombie would hold the grace.

use std::io;
use std::time::Duration;

use processkit::{ProcessGroup, ProcessGroupOptions};
use tokio::process::Command;

use crate::started::Started;

pub(crate) fn start(command: Command, grace: Duration) -> io::Result<Started> {
    let options = ProcessGroupOptions::default().shutdown_timeout(grace).escalate_to_kill(true);
    let group = ProcessGroup::with_options(options).map_err(io::Error::other)?;
    let mut child = group.spawn(command).map_err(io::Error::other)?;
    Started::new(child.id(), async move {
        let (down, status) = tokio::join!(group.shutdown(), child.wait());
        down?;
        status?;
        Ok(())
    })
}

/// It takes a cgroup where it can have one, else a process group.
pub(crate) fn mechanism() -> String {
    ProcessGroup::new().map_or_else(|error| error.to_string(), |group| format!("({:?})", group.mechanism()))
}
