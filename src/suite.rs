//! The suite: each subject against each fixture on each runtime, every cell held to what is expected of it.
//!
//! A subject that is known to be bad is *expected* to be caught. A suite that lets it pass cannot tell good from bad,
//! and fails.

mod builder;
mod cell;
#[cfg(feature = "conformance")]
mod conformance;
#[cfg(feature = "conformance")]
mod declared;
mod judge;
mod machine_delays;
mod member_times;
mod member_waits;
mod observation;
mod observe;
pub(crate) mod partition;
#[cfg(any(feature = "cli", feature = "conformance"))]
pub(crate) mod process;
mod program;
mod run_cell;
mod stderr_tail;
mod subjects;

#[cfg(fuzzing)]
pub(crate) mod fuzzing {
    pub use super::program::command_line;
}

#[cfg(feature = "cli")]
pub(crate) use builder::JOBS;
#[cfg(feature = "cli")]
pub(crate) use builder::{DEADLINES, GRACES};

pub use builder::Suite;
pub use cell::{Cell, RUNTIMES, runtime_name};
#[cfg(feature = "conformance")]
pub use conformance::Conformance;
pub use program::TemplateError;
pub use subjects::{Subject, built_in};
