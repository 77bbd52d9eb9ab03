//! The stall detector, against blocks of every kind, honest code and a machine that misbehaves.

mod beyond_the_workers;
mod fairness;
mod hung;
mod input;
#[cfg(all(target_os = "linux", not(deadbeat_portable)))]
#[path = "../common/inside.rs"]
mod inside;
mod kinds;
#[cfg(all(target_os = "linux", not(deadbeat_portable), feature = "backtrace"))]
mod lines;
#[cfg(all(target_os = "linux", not(deadbeat_portable)))]
mod lock_holder;
mod manners;
#[cfg(all(target_os = "linux", not(deadbeat_portable)))]
mod meddling;
mod places;
mod report;
mod support;
mod teeth;
mod verdicts;
