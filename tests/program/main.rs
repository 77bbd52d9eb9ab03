//! The program as its users have it: what it prints and where, what its status means, what it leaves behind.
#![cfg(feature = "cli")]

mod bad_input;
mod cells;
mod colours;
mod docs;
mod fixtures;
mod help;
#[cfg(target_os = "linux")]
mod interrupt;
mod json;
mod kill;
mod output;
mod support;
mod table;
