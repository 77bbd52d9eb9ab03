//! A tiny watcher process: when its parent dies, however it dies, every group that the parent had it guard dies too.
//!
//! Handlers, destructors and panic hooks do not run on SIGKILL, on abort or when memory is out, and `PR_SET_PDEATHSIG`
//! fires when the *thread* that spawned ends. A guardian is a process of its own, in a session of its own, with one
//! descriptor: its end of a socket whose other end only the parent has. While the parent lives it reads what it is to
//! guard; when the parent is gone the socket ends, and it takes each group up the ladder by its policy: the polite
//! signal, SIGCONT, the grace, SIGKILL.
//!
//! ```text
//!   parent   expect(ward) ── spawn ── guard(ward, pgid) ── .. ── release(ward) ── reap
//!                │                        │                          │
//!   guardian ────┴────────────────────────┴──────────────────────────┴──── end of the socket: kill what is left
//!                 its mark is looked for    its leader is held by a pidfd
//! ```
//!
//! Of a [run that is guarded](crate::agent::AgentOptions::guardian) the parent kills the group itself when it ends, and the
//! guardian whoever has left it.
//!
//! A group is not all. A member that calls `setsid` leaves it, and the parent can die after the fork and before the
//! guardian is told of the group. So each ward has a [mark](Ward::mark), a variable for the child's environment, and
//! whoever carries the mark of a ward that was not released is killed as well, held by pidfd. The variable has another
//! name in each run, so that runs within runs keep each other's. A process whose mark cannot be read is known by descent.
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
//!     let mut ward = guardian.ward(&KillPolicy::default())?;
//!     let (name, value) = ward.mark();
//!     let mut child = std::process::Command::new("make").env(name, value).process_group(0).spawn()?;
//!     ward.guard(child.id() as i32)?;
//!     // .. here the child's end is awaited without reaping it, or its group is killed ..
//!     ward.release();
//!     child.wait()?;
//!     Ok(())
//! }
//! ```
//!
//! # Limits
//!
//! - A process that left the group *and* has no mark to be read is found by descent alone: while its parent lives, or one of
//!   the run opened its session, as seen by a look that comes ten times a second, and more often at the beginning. The
//!   mark is not to be read if the environment was cleared, overwritten (a process title: `nginx`, `postgres`) or is not for
//!   all (`ssh-agent`, `prctl(PR_SET_DUMPABLE, 0)`, a program that changed its user). Who is left and may be of the
//!   run, young and unreadable, is not signalled but named: the parent logs a warning (`tracing`) when the run is over. Who
//!   cleared the environment but for other variables is not named either; and if the parent is dead there is no log.
//! - Without `/proc` only groups are killed.
//! - What kills parent and guardian in one go leaves the command alive: a signal to both pids, a kill of everything that
//!   runs the parent's executable (`killall /path/to/program`). `pkill` and `killall` by name reach the parent
//!   alone: a guardian is called `proc-guardian`, whatever program it is, and its arguments do not name that program
//!   unless its path was given to [`Guardian::start`]. Its death alone is noticed, and mended, at the next use.
//! - A guardian started by [`Guardian::start`] or [`Guardian::of_this_program`] holds what is inherited by every child
//!   while it starts; it has let go of it when they return.
//! - A process that the parent forked and that never calls `exec` has the socket too: the guardian waits for its end.
//! - A parent that replaces itself by `exec` has ended as far as the guardian can see.

#[cfg(target_os = "linux")]
mod descent;
#[cfg(target_os = "linux")]
mod doubt;
mod follow;
mod hunt;
mod letter;
mod line;
mod parent;
mod post;
mod retreat;
mod ward;

#[cfg(fuzzing)]
pub(crate) mod fuzzing {
    pub use super::letter::letter;
}

use std::ffi::OsStr;
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use crate::kill::KillPolicy;
use line::Program;
use parent::{May, Parent, Start};
pub use ward::Ward;
pub(crate) use ward::elsewhere_or_here;

/// What `ps` calls a guardian, and its first argument where it is the program that it guards: `pkill` by the name of this
/// program, or of that, has to miss it. Up to 15 bytes are shown.
pub(crate) const NAME: &str = "proc-guardian";

/// The first argument of a program that is wanted as a guardian. Without the name of this program, see [`NAME`].
const REQUEST: &str = "__proc-guardian";

/// What a guardian answers when it is asked.
const ANSWER: [u8; 8] = *b"deadbeat";

/// What the name of every run's mark begins with. A guardian is told the rest alone, see [`NAME`].
const MARKS: &str = "DEADBEAT_RUN_";

/// So that a kill of all that carries a mark does not mean this command.
pub(crate) fn remove_marks(command: &mut std::process::Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with(MARKS) {
            command.env_remove(name);
        }
    }
}

/// Whether we carry the mark of a run of this process's.
#[cfg(feature = "cli")]
pub(crate) fn marked_by(pid: i32) -> bool {
    let prefix = format!("{MARKS}{pid}_");
    std::env::vars_os().any(|(name, _)| name.to_string_lossy().starts_with(&prefix))
}

/// Whether this process was started as a guardian, of whatever run.
#[cfg(target_os = "linux")]
fn is_guardian(pid: i32) -> bool {
    crate::group::kin::is_called_with(pid, &[REQUEST])
}

/// Whether this program can be its own guardian.
static PREPARED: AtomicBool = AtomicBool::new(false);

/// Becomes a guardian if that is what this process was started for, and does not return then.
///
/// To be the first statement of `main`: before threads, before arguments are parsed, before anything is printed.
pub fn main_if_requested() {
    let mut args = std::env::args_os().skip(1);
    if args.next().as_deref() == Some(OsStr::new(REQUEST)) {
        std::process::exit(post::main(args));
    }
    PREPARED.store(true, Ordering::Relaxed);
}

/// A guardian process, shared by its clones.
///
/// When the last of its clones and wards is dropped, that is to the guardian what the parent's end is: wards that were
/// not released are killed. Every function blocks for no longer than a write to a socket takes, but for the rare start
/// of a new process.
#[derive(Clone, Debug)]
pub struct Guardian {
    parent: Arc<Parent>,
}

impl Guardian {
    /// Starts this very program again as a guardian. Its `main` has to begin with [`main_if_requested`].
    ///
    /// Waits until the guardian is up, a millisecond or two: from then on whatever ends this process is seen.
    ///
    /// # Errors
    ///
    /// `main` did not call [`main_if_requested`], or the system's on starting a process.
    pub fn of_this_program() -> io::Result<Guardian> {
        if !PREPARED.load(Ordering::Relaxed) {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "this program cannot be its own guardian: its main() must begin with deadbeat::guardian::main_if_requested()",
            ));
        }
        Guardian::open(Program::This { forked: false })
    }

    /// The same without the wait. It copies this process, which should still be a small one.
    #[cfg(feature = "cli")]
    pub(crate) fn fork_of_this_program() -> io::Result<Guardian> {
        // What becomes of us is seen from here on: nothing but SIGKILL to itself can keep it from its task.
        Ok(Guardian { parent: Arc::new(Parent::open(Program::This { forked: true }, Start::NotAwaited)?) })
    }

    /// Starts `program` as a guardian. Its `main` has to begin with [`main_if_requested`], of the same version of this
    /// crate.
    ///
    /// # Errors
    ///
    /// The system's on starting a process. A program that does not answer as a guardian within 10 s is killed, and so
    /// is what it started in its process group.
    pub fn start(program: impl AsRef<Path>) -> io::Result<Guardian> {
        // A program that is no guardian and starts itself as one would do so without end.
        if std::env::args_os().nth(1).as_deref() == Some(OsStr::new(REQUEST)) {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "this process was started as a guardian and is none: its main() must begin with deadbeat::guardian::main_if_requested()",
            ));
        }
        Guardian::open(Program::Named(program.as_ref().to_owned()))
    }

    /// The one of this process: of this program, started on first use.
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

    fn open(program: Program) -> io::Result<Guardian> {
        // Up means in a session of its own: before, a signal to our group would end it with us.
        Ok(Guardian { parent: Arc::new(Parent::open(program, Start::Awaited)?) })
    }

    /// Announces a child that is about to be started, to be killed by this policy if we die.
    ///
    /// # Errors
    ///
    /// The guardian has died and no new one can be started.
    pub fn ward(&self, policy: &KillPolicy) -> io::Result<Ward> {
        Ward::announce(&self.parent, policy, May::Block)
    }

    /// The same on a worker, which it never blocks.
    pub(crate) async fn ward_off_worker(&self, policy: &KillPolicy) -> io::Result<Ward> {
        Ward::announce_off_worker(&self.parent, policy).await
    }

    /// The name of the variable that marks what is guarded.
    #[cfg(feature = "cli")]
    pub(crate) fn mark(&self) -> &str {
        &self.parent.mark
    }

    /// Has what is guarded follow the stops of this process, which SIGSTOP brings about without its knowledge, and end when
    /// its `limit`, counted from now, is over meanwhile; zero is no limit. Where that is not told now, it is not followed.
    #[cfg(feature = "cli")]
    pub(crate) fn follow_stops(&self, limit: std::time::Duration) {
        let told = self.parent.follow(limit, crate::group::since_boot(), May::NotBlock);
        told.unwrap_or_else(|error| tracing::warn!("the guardian is not told to follow our stops: {error}"));
    }

    /// The process id of the guardian; `None` while there is none. It is a child of this process, and not to be taken
    /// for one of its orphans. Waits for one that is being started.
    pub fn pid(&self) -> Option<i32> {
        self.parent.guardian()
    }
}
