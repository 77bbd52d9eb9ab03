//! The programs of `fixtures/`, embedded: start one in a group of its own, shake hands, and leave nothing behind.
//!
//! A fixture counts as started when it has printed `ready` and each of its processes has printed its pid, so no test
//! has to sleep first. The leader is not reaped while the fixture is held (but for `already-gone`): it pins the pgid,
//! as it does for a caller that has not waited for its `Child` yet.

mod background;
pub(crate) mod cleanup;
mod handshake;
pub(crate) mod listed;
mod programs;
mod running;
mod setup;

pub use listed::kill_all;
pub use programs::{ALL, Fixture, named};
pub use running::{Leak, Running};
pub use setup::Setup;
pub(crate) use setup::is_polite;
