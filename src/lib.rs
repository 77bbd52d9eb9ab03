//! deadbeat kills process groups dead, and proves that the tokio runtime never missed a beat.
//!
//! # The trap
//!
//! Killing a subprocess from async code is three steps: SIGTERM to its group, wait, SIGKILL what is left. Written by
//! hand, the wait is a loop of `std::thread::sleep` and `killpg(pgid, 0)`, and it is wrong twice. The sleep blocks a
//! tokio worker for up to the whole grace. And the check is never true: the leader, for which nobody has waited yet, is
//! a zombie that keeps the group in the process table, so a group that died at once takes the whole grace all the same.
//!
//! # Why a naive test passes
//!
//! A ticker beside the kill runs on another worker of a multi-thread runtime and sees nothing. With a clock on the wall
//! it fails on a busy machine, is given more time, and then cannot fail at all. And a test that was never seen to fail
//! on the bug guards nothing.
//!
//! # What is here
//!
//! - [`kill`]: [`kill_process_group`], [`KillPolicy`] and the [`Undertaker`](kill::Undertaker). The exit of the last
//!   member ends the wait. Zombies do not count.
//! - [`agent`], [`registry`], [`shutdown`], [`guardian`]: the callers. Whatever way a run ends, nothing of it survives.
//! - [`heartbeat`]: whether a future ever kept a worker from its scheduler, for how long, and in which system call.
//! - [`fixture`], [`suite`], [`report`]: small programs that misbehave, and a suite that holds kill functions against
//!   them, the known-bad ones included: those are expected to be caught.
//!
//! # What is proved, and what is not
//!
//! A cell of the suite proves that this kill of this program came to the right end, in the right time, left nobody in the
//! group and kept no worker from its scheduler for longer than the budget. It does not reach members that left the group
//! (`setsid`), and where there is no `/proc` it cannot tell zombies from the living.

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
#[cfg(feature = "serde")]
mod millis;
pub mod registry;
pub mod report;
pub mod shutdown;
mod signal;
pub mod suite;

pub use group::ProcessGroup;
pub use kill::{KillError, KillErrorKind, KillPolicy, KillReport, Outcome, kill_process_group};
pub use signal::{Signal, UnknownSignal};
