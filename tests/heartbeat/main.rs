//! The stall detector, against blocks of every kind, honest code and a machine that misbehaves.

mod beyond_the_workers;
#[cfg(all(target_os = "linux", not(deadbeat_portable)))]
mod close;
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
mod paused_clock;
mod places;
mod polls;
mod pool_thread;
mod punctual;
mod report;
mod support;
mod teeth;
#[cfg(all(target_os = "linux", not(deadbeat_portable)))]
mod traced_thread;
mod verdicts;
#[cfg(all(target_os = "linux", not(deadbeat_portable)))]
mod yields;
