//! deadbeat kills process groups dead, and proves that the tokio runtime never missed a beat.
//!
//! ```no_run
//! # async fn example() -> std::io::Result<()> {
//! let mut child = tokio::process::Command::new("make").process_group(0).spawn()?;
//! let pgid = child.id().expect("not waited for yet") as i32;
//! deadbeat::kill_process_group(pgid).await; // SIGTERM, up to 5 s, SIGKILL
//! child.wait().await?; // after the kill: until here the un-reaped leader pins the pgid
//! # Ok(())
//! # }
//! ```
//!
//! # The trap
//!
//! Killing a subprocess from async code is three steps: SIGTERM to its group, wait, SIGKILL what is left. Written by
//! hand, the wait is a loop:
//!
//! ```
//! # use std::time::Duration;
//! # use nix::{errno::Errno, sys::signal::{Signal, killpg}, unistd::Pid};
//! async fn kill_by_hand(pgid: i32) {
//!     let group = Pid::from_raw(pgid);
//!     let _ = killpg(group, Signal::SIGTERM);
//!     for _ in 0..50 {
//!         std::thread::sleep(Duration::from_millis(100)); // 1. blocks the worker
//!         if killpg(group, None) == Err(Errno::ESRCH) {   // 2. never true
//!             return;
//!         }
//!     }
//!     let _ = killpg(group, Signal::SIGKILL);             // 3. after 5 s, always
//! }
//! ```
//!
//! It is wrong twice. The sleep blocks a tokio worker for up to the whole grace. And the check is never true: the
//! leader, for which the parent has not waited yet, is a zombie that keeps the group in the process table, so a group
//! that died at once takes the whole grace all the same. `GOTCHAS.md` has the other traps, one section each: numbers
//! that are reused, members that are stopped, pools that fill up.
//!
//! # Why a naive test passes
//!
//! A ticker beside the kill runs on another worker of a multi-thread runtime and sees nothing. A test of wall time
//! fails on a busy machine, is given more time, and then cannot fail at all. And a test that was never seen to fail on
//! the bug guards nothing.
//!
//! # What is here
//!
//! - [`kill`]: [`kill_process_group`], [`KillPolicy`] and the [`KillThread`](kill::KillThread). The exit of the last
//!   member ends the wait. Zombies do not count.
//! - [`agent`], [`registry`], [`shutdown`], [`guardian`]: the callers. Whatever way a run ends, nothing of it survives.
//! - [`heartbeat`]: whether a future ever kept a worker from its scheduler, for how long, and in which system call.
//!   With the feature `macros` the attribute `#[deadbeat::test]` asks that of every test, in place of
//!   `#[tokio::test]`.
//! - [`fixture`], [`suite`], [`report`]: small programs that misbehave, and a suite that holds kill functions against
//!   them, the known-bad ones included: those are expected to be caught. With the feature `conformance` it is a test
//!   target for a kill function of one's own.
//!
//! # What is proved
//!
//! A cell of the suite is one kill function against one fixture on one runtime. It proves that this kill of this
//! program came to the right end, in the right time, left no process in the group, and kept no worker from its
//! scheduler for longer than the budget: of each worker's time, what was spent on a CPU and what was spent blocked is
//! charged, and what was spent waiting for a CPU is not. A slow machine raises no alarm. Where nothing was proved the
//! verdict says so ([`Inconclusive`](heartbeat::Verdict::Inconclusive)) and is no pass.
//!
//! # How to write a test
//!
//! Of your own future, in a runtime of the test's own, beside a control that must be caught:
//!
//! ```
//! use std::time::Duration;
//! use deadbeat::heartbeat::{Flavor, Lab};
//!
//! async fn my_old_shutdown() {
//!     std::thread::park_timeout(Duration::from_millis(120)); // waits on the worker
//! }
//! async fn my_shutdown() {
//!     tokio::time::sleep(Duration::from_millis(120)).await;
//! }
//!
//! Lab::new(Flavor::MultiThread(2)).with_teeth(my_old_shutdown, my_shutdown);
//! ```
//!
//! A panic of either fails the test, and so does an `Err` that the second returns.
//!
//! Of your own kill function, against the fixtures:
//!
//! ```
//! use std::time::Duration;
//! use deadbeat::suite::{Subject, Suite};
//! use deadbeat::{KillPolicy, fixture, heartbeat::Flavor};
//!
//! const GRACE: Duration = Duration::from_secs(10);
//!
//! let ours = Subject::new("ours", |pgid| async move {
//!     let _ = KillPolicy::default().grace(GRACE).kill(pgid).await;
//! });
//! let report = Suite::new()
//!     .subjects([ours])
//!     .fixtures([fixture::named("fast-exit").unwrap(), fixture::named("zombie").unwrap()])
//!     .runtimes([Flavor::CurrentThread])
//!     .grace(GRACE)
//!     .budget(Duration::from_secs(1))
//!     .run(|cell| println!("{}: {} {}", cell.name(), cell.verdict, cell.why));
//! assert!(report.all_as_expected());
//! ```
//!
//! Of a program that you start: a [`fixture`] shakes hands before anything is asserted of it, and leaves nothing
//! behind.
//!
//! ```
//! let started = deadbeat::fixture::named("stubborn-child").unwrap().start()?;
//! let policy = deadbeat::KillPolicy::default().grace(std::time::Duration::from_millis(300));
//! # let policy = policy.confirm(std::time::Duration::from_secs(60)); // on a busy machine
//! let report = policy.kill_blocking(started.pgid())?;
//! assert_eq!(report.outcome, deadbeat::Outcome::Killed);
//! assert!(report.survivors.is_empty());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Debugging a failure
//!
//! [`assert_steady`](heartbeat::Pulse::assert_steady) panics with what was seen: the verdict, the stall and its parts,
//! the system call that the worker was in and its arguments, and what to do. With the feature `backtrace` and debug
//! info it names the source line, or says why it cannot. Code that never comes back is reported too, by a
//! [`Lab`](heartbeat::Lab), as [`LabError::Hung`](heartbeat::LabError::Hung).
//!
//! A failed cell says what was wrong (`left in the group: ..`, `took 5.0s of the 5s of grace, though the group went at
//! once`), and `deadbeat suite` prints the command that runs just that cell. A fixture is a shell program: `deadbeat
//! fixtures --export DIR` writes them out, to be run and looked at by hand.
//!
//! An inconclusive verdict carries its reason and the remedy: [`Why`](heartbeat::Why).
//!
//! # Limits
//!
//! - A member that left the group (`setsid`) is out of reach of a group kill; a [`guardian`] finds it by its
//!   environment.
//! - A pgid is a number. What keeps it yours is the un-reaped leader or a living member: kill first, then `wait()`.
//! - Without `/proc` zombies cannot be told from the living, and an un-reaped leader costs the whole grace, though
//!   never a worker.
//! - [`Heartbeat::watch`](heartbeat::Heartbeat::watch) inside a runtime with several workers proves that the watched
//!   future blocked, never that nothing did.
//! - A cell proves what was run. It is no proof for programs that misbehave in ways that no fixture does.
//! - Unix only.

#[cfg(not(unix))]
compile_error!("deadbeat kills POSIX process groups; there are none on this system");

pub mod agent;
#[cfg(feature = "macros")]
mod attribute;
#[cfg(feature = "cli")]
#[doc(hidden)]
pub mod cli;
#[cfg(any(feature = "conformance", feature = "macros"))]
mod date;
mod error;
pub mod fixture;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
pub mod group;
pub mod guardian;
pub mod heartbeat;
pub mod kill;
#[cfg(feature = "serde")]
mod millis;
#[cfg(doctest)]
mod pages;
#[cfg(test)]
mod promised;
pub mod registry;
pub mod report;
mod retry;
pub mod shutdown;
mod signal;
pub mod suite;
mod sync;

/// What `#[deadbeat::test]` expands to; no part of the API.
#[cfg(feature = "macros")]
#[doc(hidden)]
pub mod __test {
    pub use crate::attribute::Test;
}

/// Runs an `async fn` as a test, in place of `#[tokio::test]`, and fails with the report if it starves its runtime.
/// Needs the feature `macros`.
///
/// ```no_run
/// #[deadbeat::test]
/// async fn it_waits_and_blocks_nothing() {
///     tokio::time::sleep(std::time::Duration::from_millis(80)).await;
/// }
///
/// #[deadbeat::test(flavor = "multi_thread", worker_threads = 2, budget = "100ms", deadline = "3m")]
/// async fn neither_of_two_workers_blocks() -> Result<(), std::io::Error> {
///     tokio::spawn(async { /* .. */ }).await?;
///     Ok(())
/// }
///
/// #[deadbeat::test(known = "blocks in getaddrinfo, issue 12", until = "2027-03-01")]
/// async fn it_blocks_for_now() { /* .. */ }
/// ```
///
/// - `flavor` (`"current_thread"` or `"multi_thread"`), `worker_threads` and `crate` (the path of deadbeat) are those
///   of `#[tokio::test]`. `start_paused`, `unhandled_panic`, `name` and the flavor `local` cannot be had here; the
///   error says what to do.
/// - `budget`, `interval` and `deadline` (`"50ms"`, `"2s"`, `"3m"`) are those of a
///   [`Heartbeat`](heartbeat::Heartbeat) and a [`Lab`](heartbeat::Lab).
/// - `known` says that the test stalls and why that stays so; it passes with a note while it does, and fails when it no
///   longer does. `until` is the last day on which it may, in UTC.
///
/// The body is made and run again where the machine keeps the watch from proving something, three times in all. It runs
/// on a thread of its own that has the test's name: on `current_thread` as the root future of the runtime, on
/// `multi_thread` as a task, which must be `Send`.
///
/// `DEADBEAT=report` lets stalls pass and says them on standard error, `DEADBEAT_REPORT=FILE` appends a line of JSON
/// for each, `DEADBEAT=off` is plain tokio. `docs/attribute.md` turns it on in a suite that there is.
#[cfg(feature = "macros")]
pub use deadbeat_macros::test;
pub use group::ProcessGroup;
pub use kill::{KillError, KillErrorKind, KillPolicy, KillReport, Outcome, kill_process_group};
pub use signal::{Signal, UnknownSignal};
