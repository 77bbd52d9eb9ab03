//! What threads share their data by: the standard library's, or loom's stand-ins where every order is tried.
//!
//! `scripts/ci loom` runs the tests whose names begin with `loom_`, in a build for nothing else.

#[cfg(all(test, deadbeat_loom))]
pub(crate) use loom::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicU64, Ordering, fence},
};
#[cfg(not(all(test, deadbeat_loom)))]
pub(crate) use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicU64, Ordering, fence},
};
