//! deadbeat kills process groups dead, and proves that the tokio runtime never missed a beat.

#[cfg(not(unix))]
compile_error!("deadbeat kills POSIX process groups; there are none on this system");

pub mod agent;
#[cfg(feature = "cli")]
pub mod cli;
mod error;
pub mod fixture;
pub mod group;
pub mod guardian;
pub mod heartbeat;
pub mod kill;
pub mod registry;
pub mod report;
pub mod shutdown;
mod signal;
pub mod suite;

pub use group::ProcessGroup;
pub use kill::{KillError, KillErrorKind, KillPolicy, KillReport, Outcome, kill_process_group};
pub use signal::{Signal, UnknownSignal};
