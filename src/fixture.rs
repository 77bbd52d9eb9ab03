//! The programs of `fixtures/`, embedded: start one in a group of its own, shake hands, and leave nothing behind.
//!
//! Nothing is asserted of a fixture before it has said `ready` and each of its processes has said its pid, so no test
//! has to sleep first. The leader is never waited for while the fixture is held (but for `already-gone`): it pins the
//! pgid, as the `Child` of a caller does that has not waited yet.

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
