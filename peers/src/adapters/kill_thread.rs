//! deadbeat's KillThread, one thread for all kills: README.md, "Which call?".

use std::io;
use std::sync::OnceLock;
use std::time::Duration;

use deadbeat::KillPolicy;
use deadbeat::kill::KillThread;
use tokio::process::Command;

use crate::started::Started;

pub(crate) fn start(mut command: Command, grace: Duration) -> io::Result<Started> {
    static KILL_THREAD: OnceLock<KillThread> = OnceLock::new();
    let kill_thread =
        KILL_THREAD.get_or_init(|| KillThread::new(KillPolicy::default().grace(grace)).expect("a thread"));
    let mut child = command.process_group(0).spawn()?;
    let pgid = child.id().unwrap_or_default() as i32;
    Started::new(child.id(), async move {
        kill_thread.kill(pgid).await?;
        child.wait().await?;
        Ok(())
    })
}
