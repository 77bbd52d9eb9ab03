//! Runs one command in a process group of its own, and ends the whole group with the run.
//!
//! However a run ends (by itself, at its timeout, at a shutdown request, dropped half-way, with its runtime), the order
//! is the same: the whole group is killed while the leader is un-reaped and pins its number; then the leader is reaped
//! and its group taken off the registry, in one step.

mod cleanup;
mod end;
mod exit;
mod options;
mod run;
mod start;

use tokio::process::Command;

pub use end::{AgentError, AgentExit};
#[cfg(feature = "cli")]
pub(crate) use options::Escaped;
pub use options::{AgentOptions, Leftovers, Stdin};
use run::{AgentEnd, AgentRun};
#[cfg(feature = "cli")]
pub(crate) use start::Preparation;
pub use start::{StartError, StartStep};

/// Runs `command` in a process group of its own, until it ends, its time is over or the shutdown is requested; returns
/// when its whole group is dead and its leader reaped.
///
/// The run sees a shutdown request itself: await it to its end, and do not drop it at the request. Dropping the future,
/// at any moment, kills the group all the same: the first signal is sent at once, and the rest goes on in a thread of
/// its own, in which the group is unregistered too. That thread ends with the process: before `main` returns it has to
/// call [`kill_all_children`](crate::registry::kill_all_children), which waits, unless the run has a
/// [guardian](AgentOptions::guardian).
///
/// ```no_run
/// use deadbeat::agent::{AgentError, AgentOptions, run_subprocess_agent};
///
/// fn main() -> std::io::Result<()> {
///     deadbeat::shutdown::install_signal_handlers()?;
///     let make = tokio::process::Command::new("make");
///     let options = AgentOptions::default();
///     let runtime = tokio::runtime::Runtime::new()?;
///     match runtime.block_on(run_subprocess_agent(make, &options)) {
///         Err(AgentError::ShutdownRequested { .. }) => println!("asked to end"),
///         ended => println!("{ended:?}"),
///     }
///     deadbeat::registry::kill_all_children(); // waits for dropped runs, too
///     Ok(())
/// }
/// ```
///
/// Nothing in here blocks the worker but the start of the command itself, which is a `fork` and an `exec`. This process
/// may have been started with SIGCHLD ignored or blocked: the end of the leader is known by its pidfd, and where none
/// can be opened, by a look at least once a [poll interval](crate::kill::KillPolicy::poll_interval).
///
/// ```no_run
/// # use std::time::Duration;
/// # use deadbeat::agent::{AgentError, AgentOptions, run_subprocess_agent};
/// # async fn example() -> Result<(), AgentError> {
/// let mut make = tokio::process::Command::new("make");
/// make.arg("test");
/// let options = AgentOptions::default().timeout(Duration::from_secs(600));
/// let exit = run_subprocess_agent(make, &options).await?;
/// println!("{} {:?}", exit.status, exit.leftovers);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`AgentError`]: the command could not be started ([`StartError`] says which step failed), ran out of time, or was
/// ended by a shutdown request or with all others.
///
/// # Panics
///
/// Outside a tokio runtime with its I/O and time drivers enabled.
pub async fn run_subprocess_agent(command: Command, options: &AgentOptions) -> Result<AgentExit, AgentError> {
    let mut run = AgentRun::start(command, options).await?;
    match run.until_it_ends().await {
        AgentEnd::Exited => run.finish().await,
        AgentEnd::TimedOut(timeout) => {
            let (kill, status) = run.kill().await;
            Err(AgentError::TimedOut { timeout, kill, status })
        }
        AgentEnd::ShutdownRequested => {
            run.use_signal(options.shutdown.signal());
            let (kill, status) = run.kill().await;
            Err(AgentError::ShutdownRequested { kill: Some(kill), status })
        }
    }
}
