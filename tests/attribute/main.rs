//! `#[deadbeat::test]` from outside: a crate of its own, built by path in a temporary folder, whose tests must pass or
//! fail.

mod crates;
mod environments;
mod mistakes;
mod outside;
mod verdicts;
