//! The verbs of this system, by the same names everywhere: Linux's, or those of a system without its `/proc` and
//! pidfds.

#[cfg(not(target_os = "linux"))]
pub(super) use super::elsewhere::*;
#[cfg(target_os = "linux")]
pub(super) use super::linux::*;
