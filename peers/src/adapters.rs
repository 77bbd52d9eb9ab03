//! One file a peer: how its documentation says to end a command, and nothing else.

pub(crate) mod command_group;
pub(crate) mod deadbeat;
pub(crate) mod gnu_timeout;
pub(crate) mod kill_thread;
pub(crate) mod kill_tree;
pub(crate) mod naive;
pub(crate) mod process_wrap;
pub(crate) mod processkit;
pub(crate) mod tokio_child;
pub(crate) mod tokio_process_tools;
