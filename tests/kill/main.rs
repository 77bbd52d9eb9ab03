//! The kill function on real processes: what it makes of each fixture, and what it may never do.

mod cancelled;
mod child;
#[path = "../common/warnings.rs"]
mod common_warnings;
mod forgetful_pool;
mod hard_cases;
mod ladder_on_fixtures;
mod naive;
mod reuse;
mod right_after_sigkill;
mod runtime_keeps_beating;
mod support;
mod trees;
mod undertaker;
mod undertaker_model;
mod waits;
mod warnings;
