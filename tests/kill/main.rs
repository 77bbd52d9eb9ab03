//! The kill function on real processes: what it makes of each fixture, and what it may never do.

mod cancelled;
mod child;
#[path = "../common/warnings.rs"]
mod common_warnings;
mod escalation_on_fixtures;
mod forgetful_pool;
mod hard_cases;
mod kill_thread;
mod kill_thread_model;
mod naive;
mod reuse;
mod right_after_sigkill;
mod runtime_keeps_beating;
mod support;
mod trees;
mod waits;
mod warnings;
