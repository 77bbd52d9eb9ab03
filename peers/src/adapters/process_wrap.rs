//! process-wrap: <https://docs.rs/process-wrap/latest/process_wrap/tokio/trait.ChildWrapper.html>
//!
//! It has `signal`, `wait` and `kill`; the escalation is put together from them.

use std::io;
use std::time::Duration;

use process_wrap::tokio::{CommandWrap, ProcessGroup};
use tokio::process::Command;
use tokio::time::timeout;

use crate::started::Started;

pub(crate) fn start(command: Command, grace: Duration) -> io::Result<Started> {
    let mut child = CommandWrap::from(command).wrap(ProcessGroup::leader()).spawn()?;
    Started::new(child.id(), async move {
        child.signal(nix::libc::SIGTERM)?;
        if timeout(grace, child.wait()).await.is_err() {
            Box::into_pin(child.kill()).await?;
        }
        Ok(())
    })
}
