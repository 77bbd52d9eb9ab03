//! The stall detector: a watch proves that a runtime was steady, proves that it was starved, or says why it proves
//! nothing.
//!
//! # What goes wrong without it
//!
//! A test that guards against a blocked worker times a ticker and compares with a clock on the wall. On a multi-thread
//! runtime the ticker runs on another worker and sees nothing. On a slow machine it is late though nothing blocked. A
//! detector that counts CPU time instead is blind to everything that sleeps.
//!
//! # What is done instead
//!
//! A stretch of a worker's time is on-CPU + run-queue wait + blocked. The kernel knows the first two, so the third is
//! known too. Waiting for a CPU is the machine's fault and is never charged; the other two are.
//!
//! ```
//! use deadbeat::heartbeat::Heartbeat;
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! # for left in (0..5).rev() { // a busy machine may leave a doubt
//! let watched = Heartbeat::new().watch(async { tokio::time::sleep(std::time::Duration::from_millis(80)).await
//! }).await;
//! # if left > 0 && matches!(watched.pulse.verdict(), deadbeat::heartbeat::Verdict::Inconclusive { .. }) { continue }
//! watched.pulse.assert_steady();
//! # break } }
//! ```
//!
//! # What is charged, and what is not
//!
//! - A wait for a child, a lock or a channel is charged. Of a wait for another thread of this process (a lock, a
//!   channel, a join, without a time limit) so much may be the machine's doing as any one of them waited for a CPU or
//!   for memory meanwhile: where that decides, the stall is a doubt.
//! - A wait for memory is not charged, since no code can avoid it: a page fault, `mmap`, glibc's own lock in
//!   `malloc`. If it is what makes a stall too long, the stall is a doubt. Pages of mapped files and the C library's
//!   other locks (stdio, `getpwnam`) cannot be told from it, so a stall there is a doubt too, never
//!   [`Verdict::Steady`].
//! - Many polls are not one. In a [`Lab`] each is followed by a turn of the driver, or by news of the worker's busy
//!   time, and is told from the next. In a current_thread runtime of yours
//!   the driver is turned every 61 polls, and what lies between two turns is told apart by the tasks that end in it. If
//!   none ends, and each takes a good part of the budget, they are taken for one: use a [`Lab`].
//! - A task that spins on `tokio::task::yield_now` is back in its scheduler at each turn. It makes others queue, which
//!   is [`Pulse::queue_delay`], and is no stall.
//! - A full blocking pool starves no worker: see [`PoolPulse::is_starved`].
//! - A beat on time vouches for the thread that it came on: its clocks are then not read anew for up to two fifths of
//!   the budget. Some of what it waited for a CPU meanwhile can excuse the stall that follows, at most that much.
//!
//! # Which call?
//!
//! | the code under test | call |
//! | --- | --- |
//! | runs in a current_thread runtime of yours, as in `#[tokio::test]` | [`Heartbeat::watch`] |
//! | needs several workers, or may hang | [`Lab::run`] |
//! | is not [`Send`] | [`Lab::run_root`] |
//! | has a version that is known to block | [`Lab::with_teeth`] |
//! | is watched in another way than by a lab, beside a version that is known to block | [`with_teeth`] |
//!
//! Where a runtime of yours has several workers, [`Heartbeat::watch`] can prove that the watched future blocked, never
//! that nothing did. A test of this kind is worth what it catches, so run it on a version that is known to block too.

mod beats_over_time;
mod config;
mod culprit;
mod evidence;
mod judge;
mod lab;
mod lateness;
mod ledger;
mod lines;
mod ms;
mod observer;
mod pulse;
mod reading;
mod stall;
mod stretch;
mod teeth;
#[cfg(test)]
mod testing;
mod verdict;
mod watch;

#[cfg(fuzzing)]
pub(crate) mod fuzzing {
    pub use super::observer::sample::system_call;
    pub use super::reading::thread::schedstat;
}

pub use beats_over_time::BeatsOverTime;
pub use config::{ConfigError, Flavor, Heartbeat};
pub use culprit::{Culprit, NoLine};
pub use lab::{Lab, LabError, PanicPayload, TestOutput};
pub use lateness::Lateness;
#[cfg(any(feature = "cli", feature = "conformance"))]
pub(crate) use observer::sample::what_its_threads_do;
pub use pulse::{PoolPulse, Pulse, RuntimeShutdown, Watched};
pub(crate) use reading::machine::{Machine, Meanwhile};
pub use stall::Stall;
#[cfg(feature = "macros")]
pub(crate) use teeth::proves_nothing_for_now;
pub use teeth::with_teeth;
pub use verdict::{Verdict, Why};
