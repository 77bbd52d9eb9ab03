//! What an adapter gives: a command that its peer has started, and the future that kills it.

use std::error::Error;
use std::future::Future;
use std::io;
use std::pin::Pin;

pub(crate) type Killing = Pin<Box<dyn Future<Output = Result<(), Fault>> + Send>>;
pub(crate) type Fault = Box<dyn Error + Send + Sync>;

/// A command that a peer has started, and what ends it.
pub(crate) struct Started {
    /// The process that the peer started: the command, or a program around it.
    pub(crate) pid: i32,
    pub(crate) kill: Killing,
}

impl Started {
    pub(crate) fn new(
        pid: Option<u32>,
        kill: impl Future<Output = Result<(), Fault>> + Send + 'static,
    ) -> io::Result<Started> {
        let pid = pid.and_then(|pid| i32::try_from(pid).ok()).ok_or_else(|| io::Error::other("it has no pid"))?;
        Ok(Started { pid, kill: Box::pin(kill) })
    }
}
