//! kill_tree: <https://docs.rs/kill_tree/latest/kill_tree/tokio/fn.kill_tree_with_config.html>
//!
//! It sends one signal to a process and all below it; the escalation is put together from two of them.

use std::io;
use std::time::Duration;

use kill_tree::Config;
use kill_tree::tokio::{kill_tree, kill_tree_with_config};
use tokio::process::Command;
use tokio::time::timeout;

use crate::started::Started;

pub(crate) fn start(mut command: Command, grace: Duration) -> io::Result<Started> {
    let mut child = command.process_group(0).spawn()?;
    let pid = child.id().unwrap_or_default();
    Started::new(child.id(), async move {
        kill_tree(pid).await?;
        if timeout(grace, child.wait()).await.is_err() {
            kill_tree_with_config(pid, &Config { signal: "SIGKILL".into(), ..Config::default() }).await?;
            child.wait().await?;
        }
        Ok(())
    })
}
