//! The programs of `fixtures/`, embedded: start one in a group of its own, shake hands, and leave nothing behind.
//!
//! Nothing is asserted of a fixture before it has said `ready` and each of its processes has said its pid, so no test
//! has to sleep first. The leader is never waited for while the fixture is held (but for `already-gone`): it pins the
//! pgid, as the `Child` of a caller does that has not waited yet.

mod background;
mod handshake;
mod listed;
mod running;
mod setup;

use std::fmt;
use std::io;

use crate::kill::Outcome;

pub use listed::kill_all;
pub(crate) use listed::{reap_listed, spawn_listed};
pub use running::{Leak, Running};
pub use setup::Setup;
pub(crate) use setup::is_polite;

/// A shell program with one behaviour, to be killed.
#[derive(Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Fixture {
    /// Its name, that of its file without `.sh`.
    pub name: &'static str,
    /// Its text: POSIX shell, run as `sh -c TEXT NAME`.
    pub source: &'static str,
    /// What a right kill makes of it.
    pub outcome: Outcome,
    /// How many of its processes leave the group, out of a group kill's reach.
    pub escapes: usize,
    /// Whether it shows by a file that it was let finish its cleanup.
    pub marks_cleanup: bool,
    settled: Settled,
}

/// What more than the handshake has to be seen before the fixture is what its name says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Settled {
    Ready,
    LeaderExited,
    LeaderReaped,
    LeaderStopped,
    PipeFull,
}

macro_rules! fixtures {
    ($($name:literal: $outcome:ident $(, settled $settled:ident)? $(, escapes $escapes:literal)? $(, marks $marks:literal)?;)*) => {
        /// Every fixture, in the order of `fixtures/`.
        pub const ALL: &[Fixture] = &[$(Fixture {
            name: $name,
            source: include_str!(concat!("../fixtures/", $name, ".sh")),
            outcome: Outcome::$outcome,
            escapes: 0 $(+ $escapes)?,
            marks_cleanup: false $(|| $marks)?,
            settled: fixtures!(@settled $($settled)?),
        }),*];
    };
    (@settled) => { Settled::Ready };
    (@settled $settled:ident) => { Settled::$settled };
}

fixtures! {
    "already-gone": AlreadyGone, settled LeaderReaped;
    "deep-tree": Terminated;
    "double-fork": Killed;
    "fast-exit": Terminated;
    "fork-storm": Killed;
    "forking": Terminated;
    "full-pipe": Terminated, settled PipeFull;
    "ignore-term": Killed;
    "late-fork": Killed;
    "orphan": Terminated, settled LeaderExited;
    "respawn": Killed;
    "second-term": Killed;
    "setsid-escape": Terminated, escapes 1;
    "sigterm-exit-code": Terminated;
    "slow-exit": Terminated, marks true;
    "stopped": Terminated, settled LeaderStopped;
    "stubborn-child": Killed;
    "zombie": AlreadyGone, settled LeaderExited;
}

/// The fixture of this name.
pub fn named(name: &str) -> Option<Fixture> {
    ALL.iter().copied().find(|fixture| fixture.name == name)
}

impl Fixture {
    /// Its behaviour in one sentence: the first line of its text.
    pub fn about(&self) -> &'static str {
        let line = self.source.lines().next().unwrap_or_default();
        line.trim_start_matches("# ").split_once(": ").map_or(line, |(_, about)| about)
    }

    /// Starts it under `sh`, in a process group of its own, and shakes hands.
    ///
    /// Blocks until the fixture is what its name says, so start it before the code under watch.
    ///
    /// # Errors
    ///
    /// The shell cannot be started, or the fixture does not shake hands within 60 s; it is killed then.
    pub fn start(self) -> io::Result<Running> {
        self.setup().start()
    }

    /// To be started otherwise than by default.
    pub fn setup(self) -> Setup {
        Setup::of(self)
    }
}

impl fmt::Debug for Fixture {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fixture({})", self.name)
    }
}
