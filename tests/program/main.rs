//! The program as its users have it: what it prints and where, what its status means, what it leaves behind.
#![cfg(feature = "cli")]

mod bad_input;
mod cells;
mod colours;
mod docs;
#[cfg(target_os = "linux")]
mod exec;
mod fixtures;
mod formats;
mod help;
mod html;
#[cfg(target_os = "linux")]
#[path = "../common/ignored.rs"]
mod ignored;
#[cfg(target_os = "linux")]
mod inherited;
#[cfg(target_os = "linux")]
mod interrupt;
mod json;
mod kill;
mod merge;
mod output;
mod scale;
mod support;
mod table;
