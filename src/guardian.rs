//! A watcher process: when its parent dies, however it dies, it kills every group that the parent had it guard.
//!
//! Handlers, destructors and panic hooks do not run on SIGKILL, on abort or when memory is out, and `PR_SET_PDEATHSIG`
//! fires when the *thread* that spawned ends. A guardian is a process of its own, in a session of its own, with one
//! descriptor: its end of a socket whose other end only the parent has. While the parent lives, the guardian reads what
//! it is to guard. When the parent is dead the socket ends, and the guardian kills each group by its policy: the first
//! signal, SIGCONT, the grace, SIGKILL.
//!
//! ```text
//!   parent   announce(policy) ── spawn ── guard(pgid) ── .. ── release() ── reap
//!                │                            │                   │
//!   guardian ────┴────────────────────────────┴───────────────────┴──── end of the socket: kill what is left
//!                 the mark is looked for       the leader is held by a pidfd
//! ```
//!
//! The group of a [guarded run](crate::agent::AgentOptions::guardian) is killed by the parent itself when the run ends;
//! the guardian kills the processes that have escaped from it.
//!
//! Guarding the group is not enough. A member that calls `setsid` leaves it, and the parent can die after the fork and
//! before the guardian is told of the group. So each guarded child has a [mark](GuardedChild::mark), a variable for its
//! environment, and a process that carries the mark of a child that was not released is killed as well, held by its
//! pidfd. The variable has another name in each run, so that a run within a run keeps both marks. A process whose mark
//! cannot be read is known by its descent.
//!
//! The guardian is the program itself, started again: [`Guardian::of_this_program`] wants `main` to begin with
//! [`main_if_requested`]; a library gives the path of a program that does to [`Guardian::start`].
//!
//! ```no_run
//! use std::os::unix::process::CommandExt;
//! use deadbeat::{KillPolicy, guardian::{self, Guardian}};
//!
//! fn main() -> std::io::Result<()> {
//!     guardian::main_if_requested();
//!     let guardian = Guardian::of_this_program()?;
//!     let mut guarded = guardian.announce(&KillPolicy::default())?;
//!     let (name, value) = guarded.mark();
//!     let mut child = std::process::Command::new("make").env(name, value).process_group(0).spawn()?;
//!     guarded.guard(child.id() as i32)?;
//!     // .. here the child's end is awaited without reaping it, or its group is killed ..
//!     guarded.release();
//!     child.wait()?;
//!     Ok(())
//! }
//! ```
//!
//! # Limits
//!
//! - A process that left the group *and* shows no mark is found by descent alone: while its parent lives, or by a
//!   session that one of the run's processes opened, and only if a look sees that. Looks come ten times a second, and
//!   more often at the beginning. The mark cannot be read if the environment was cleared, overwritten (a process title:
//!   `nginx`, `postgres`) or is protected (`ssh-agent`, `prctl(PR_SET_DUMPABLE, 0)`, a program that changed its user).
//!   A process that is left, young and unreadable, may belong to the run or not: it is not signalled but named, by a
//!   warning of the parent's (`tracing`) when the run is over. A process that cleared its environment and set other
//!   variables is not even named; and a dead parent logs nothing.
//! - Without `/proc` only groups are killed.
//! - What kills parent and guardian in one go leaves the command alive: a signal to both pids, a kill of everything
//!   that runs the parent's executable (`killall /path/to/program`). `pkill` and `killall` by name reach the parent
//!   alone: a guardian is called `proc-guardian`, whatever program it is, and its arguments do not name that program
//!   unless its path was given to [`Guardian::start`]. If the guardian alone is killed, the next use notices that and
//!   starts another.
//! - A guardian started by [`Guardian::start`] or [`Guardian::of_this_program`] has the descriptors that every child
//!   inherits while it starts, and has closed them when these functions return.
//! - A process that the parent forked and that never calls `exec` has the socket too: the guardian waits for its end.
//! - A parent that replaces itself by `exec` has ended as far as the guardian can see.

mod child_entry;
mod cleanup;
mod client;
mod connection;
mod daemonize;
#[cfg(target_os = "linux")]
mod descent;
mod guarded_child;
mod identity;
mod message;
mod parent_stops;
mod server;
#[cfg(test)]
mod testing;
#[cfg(target_os = "linux")]
mod unattributed;

#[cfg(fuzzing)]
pub(crate) mod fuzzing {
    pub use super::message::message;
}

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::kill::KillPolicy;
use client::{Blocking, Client, StartWait};
use connection::GuardianProgram;
pub use guarded_child::GuardedChild;
pub(crate) use guarded_child::on_new_thread_or_here;
use identity::GUARDIAN_REQUEST;
#[cfg(feature = "cli")]
pub(crate) use identity::{NAME, marked_by, remove_marks};

/// Whether this program can be its own guardian.
static PREPARED: AtomicBool = AtomicBool::new(false);

/// Becomes a guardian if this process was started as one, and does not return then.
///
/// It has to be the first statement of `main`: before threads, before arguments are parsed, before anything is printed.
pub fn main_if_requested() {
    let mut args = std::env::args_os().skip(1);
    if args.next().as_deref() == Some(OsStr::new(GUARDIAN_REQUEST)) {
        std::process::exit(server::main(args));
    }
    PREPARED.store(true, Ordering::Relaxed);
}

/// A guardian process, shared by its clones.
///
/// When the last of its clones and of its guarded children is dropped, the guardian acts as at the parent's death: it
/// kills the children that were not released. No function blocks for longer than a write to a socket takes, except in
/// the rare case that it has to start a new guardian.
#[derive(Clone, Debug)]
pub struct Guardian {
    client: Arc<Client>,
}

impl Guardian {
    /// Starts this very program again as a guardian. Its `main` has to begin with [`main_if_requested`].
    ///
    /// Waits until the guardian is up, a millisecond or two: from then on the guardian sees this process end, by
    /// whatever cause.
    ///
    /// # Errors
    ///
    /// `main` did not call [`main_if_requested`], or the process cannot be started.
    pub fn of_this_program() -> io::Result<Guardian> {
        if !PREPARED.load(Ordering::Relaxed) {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "this program cannot be its own guardian: \
                 its main() must begin with deadbeat::guardian::main_if_requested()",
            ));
        }
        Guardian::open(GuardianProgram::This { forked: false })
    }

    /// Starts this program again as a guardian without waiting for it. It copies this process, which should still be
    /// small.
    #[cfg(feature = "cli")]
    pub(crate) fn fork_of_this_program() -> io::Result<Guardian> {
        // The copy is out of reach from its first instruction on: nothing but a SIGKILL of its own can keep it from its
        // task.
        Ok(Guardian { client: Arc::new(Client::open(GuardianProgram::This { forked: true }, StartWait::NotAwaited)?) })
    }

    /// Starts `program` as a guardian. Its `main` has to begin with [`main_if_requested`], of the same version of this
    /// crate.
    ///
    /// # Errors
    ///
    /// The process cannot be started. A program that does not answer as a guardian within 10 s is killed, and so
    /// is what it started in its process group.
    pub fn start(program: impl AsRef<Path>) -> io::Result<Guardian> {
        // A program whose main does not call `main_if_requested` would start itself again and again.
        if std::env::args_os().nth(1).as_deref() == Some(OsStr::new(GUARDIAN_REQUEST)) {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "this process was started as a guardian and is none: \
                 its main() must begin with deadbeat::guardian::main_if_requested()",
            ));
        }
        Guardian::open(GuardianProgram::Named(program.as_ref().to_owned()))
    }

    /// The guardian of this process: this program, started on first use.
    ///
    /// # Errors
    ///
    /// As [`of_this_program`](Guardian::of_this_program); the next use tries again.
    pub fn global() -> io::Result<Guardian> {
        static GLOBAL: Mutex<Option<Guardian>> = Mutex::new(None);
        let mut global = GLOBAL.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(guardian) = &*global {
            return Ok(guardian.clone());
        }
        Ok(global.insert(Guardian::of_this_program()?).clone())
    }

    fn open(program: GuardianProgram) -> io::Result<Guardian> {
        // It answers when it is in a session of its own: before that, a signal to this process's group would end it
        // too.
        Ok(Guardian { client: Arc::new(Client::open(program, StartWait::Awaited)?) })
    }

    /// Announces a child that is about to be started, to be killed by this policy if this process dies.
    ///
    /// # Errors
    ///
    /// The guardian has died and no new one can be started.
    pub fn announce(&self, policy: &KillPolicy) -> io::Result<GuardedChild> {
        GuardedChild::announce(&self.client, policy, Blocking::Allowed)
    }

    /// Announces a child without blocking a worker.
    pub(crate) async fn announce_off_worker(&self, policy: &KillPolicy) -> io::Result<GuardedChild> {
        GuardedChild::announce_off_worker(&self.client, policy).await
    }

    /// The name of the variable that marks the guarded processes.
    #[cfg(feature = "cli")]
    pub(crate) fn mark(&self) -> &str {
        &self.client.mark
    }

    /// Has the guarded groups stopped whenever this process is stopped, which SIGSTOP does without its knowledge, and
    /// killed if `limit`, counted from now, passes meanwhile; zero is no limit. If the guardian cannot be told at once,
    /// stops are not followed.
    #[cfg(feature = "cli")]
    pub(crate) fn follow_stops(&self, limit: std::time::Duration) {
        let sent = self.client.follow_stops(limit, crate::group::since_boot(), Blocking::Forbidden);
        sent.unwrap_or_else(|error| {
            tracing::warn!("the guardian is not told to follow the stops of this process: {error}")
        });
    }

    /// The process id of the guardian; `None` while there is none. It is a child of this process: a program that adopts
    /// orphans must not take it for one. Waits for a guardian that is being started.
    pub fn pid(&self) -> Option<i32> {
        self.client.guardian()
    }
}
