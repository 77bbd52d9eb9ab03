//! The parsers that are not public, for the targets of `fuzz/`: compiled under `--cfg fuzzing` only.

pub use crate::cli::fuzzing::{arguments, killer, merged, quoted, signal, time};
pub use crate::group::fuzzing::stat_line;
pub use crate::guardian::fuzzing::message;
pub use crate::heartbeat::fuzzing::{schedstat, system_call};
pub use crate::suite::fuzzing::command_line;
