//! deadbeat, `kill_process_group` with the grace of this run: README.md, "Which call?".

use std::io;
use std::time::Duration;

use deadbeat::KillPolicy;
use tokio::process::Command;

use crate::started::Started;

pub(crate) fn start(mut command: Command, grace: Duration) -> io::Result<Started> {
    let mut child = command.process_group(0).spawn()?;
    let pgid = child.id().unwrap_or_default() as i32;
    Started::new(child.id(), async move {
        KillPolicy::default().grace(grace).kill(pgid).await?;
        child.wait().await?;
        Ok(())
    })
}
