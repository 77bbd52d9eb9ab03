//! No stack is copied where no source line can be told from it.

use std::sync::Arc;

use super::Lines;

/// There is none.
#[derive(Debug, Clone)]
pub(in crate::heartbeat) enum Stack {}

/// There is never any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::heartbeat) struct Evidence(());

impl Evidence {
    pub(super) fn of(_: impl Iterator<Item = Arc<Stack>>) -> Self {
        Self(())
    }

    #[cfg(test)]
    pub(super) fn stacks(&self) -> &[Arc<Stack>] {
        &[]
    }

    pub(in crate::heartbeat) fn is_empty(&self) -> bool {
        true
    }
}

/// Drops `answer`, so that its caller does not wait for it in vain.
pub(in crate::heartbeat) fn find_lines(
    _: Vec<Evidence>,
    _: std::time::Instant,
    _: impl FnOnce(Lines) + Send + 'static,
) {
}
