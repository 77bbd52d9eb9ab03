//! `deadbeat timeout` from outside, beside coreutils' as the control where that one leaks.
#![cfg(all(feature = "cli", target_os = "linux"))]

mod bad_input;
mod by_name;
mod chains;
mod default_grace;
mod inherited;
#[path = "../common/inside.rs"]
mod inside;
mod namespace;
mod places;
mod random_ends;
mod reborn;
mod scarce;
mod signals;
mod start;
mod statuses;
mod strangers;
mod support;
mod survivors;
mod terminal;
mod traced;
