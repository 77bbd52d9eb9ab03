//! The `deadbeat` program.
fn main() {}
