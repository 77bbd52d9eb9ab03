//! deadbeat's Undertaker, one thread for all kills: README.md, "Kill a group".

use std::io;
use std::sync::OnceLock;
use std::time::Duration;

use deadbeat::KillPolicy;
use deadbeat::kill::Undertaker;
use tokio::process::Command;

use crate::peer::Started;

pub(crate) fn start(mut command: Command, grace: Duration) -> io::Result<Started> {
    static UNDERTAKER: OnceLock<Undertaker> = OnceLock::new();
    let undertaker = UNDERTAKER.get_or_init(|| Undertaker::new(KillPolicy::default().grace(grace)).expect("a thread"));
    let mut child = command.process_group(0).spawn()?;
    let pgid = child.id().unwrap_or_default() as i32;
    Started::new(child.id(), async move {
        undertaker.kill(pgid).await?;
        child.wait().await?;
        Ok(())
    })
}
