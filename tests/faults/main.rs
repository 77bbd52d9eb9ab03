//! What the system can take away, and what is promised all the same: one room a kind of fault.
//!
//! Each test is run again in a process of its own, in a place where something is missing, and says first that it is. A
//! place that this machine cannot make is said on stderr, past the test runner's capture: what was skipped was not
//! shown.
//!
//! Some faults live with the tests of what they hit: no descriptor left and a member that SIGKILL does not end in
//! `tests/kill/hard_cases.rs`, no thread at all in `tests/kill/cancelled.rs`, no descriptors or processes for a command
//! in `tests/timeout/scarce.rs`, a reader that has left in `tests/program/output.rs`, the guardian itself killed in
//! `tests/guardian/restart.rs`.

#![cfg(target_os = "linux")]

mod clocks;
mod full_disk;
mod full_table;
mod hidden;
mod lazy_init;
mod no_pidfd;
mod no_proc;
mod no_process;
mod panic_abort;
mod stopped;
mod support;
