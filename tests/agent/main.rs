//! The callers: runs that leave nothing behind however they end, the registry, the shutdown request.

mod global;
mod registry;
mod registry_model;
mod runs;
mod shutdown;
mod start;
mod steady;
mod support;
