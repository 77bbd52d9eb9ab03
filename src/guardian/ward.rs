//! One child under guard.

use std::io;
use std::sync::Arc;

use super::parent::Parent;
use crate::group::ProcessGroup;

/// A child under guard, from before it is started until it is released.
///
/// Dropping a ward does not release it: what is forgotten in a panic dies with the parent.
#[derive(Debug)]
#[must_use = "a ward that is not released is killed when this process ends, even if it ends well"]
pub struct Ward {
    parent: Arc<Parent>,
    ward: u64,
    value: String,
}

impl Ward {
    pub(super) fn new(parent: Arc<Parent>, ward: u64) -> Ward {
        Ward { parent, ward, value: ward.to_string() }
    }

    /// Name and value of the variable to put into the child's environment, and of no other child.
    pub fn mark(&self) -> (&str, &str) {
        (&self.parent.mark, &self.value)
    }

    /// Has the group guarded that this child leads. To be called while the leader is un-reaped.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`] for a pgid that must not be signalled. Otherwise the guardian has died and no new
    /// one can be started now; the group will be guarded if that succeeds at a later use.
    pub fn guard(&mut self, pgid: i32) -> io::Result<()> {
        ProcessGroup::new(pgid).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        self.parent.guard(self.ward, pgid)
    }

    /// Takes the guard off: off the group, and off whoever carries this ward's mark.
    ///
    /// To be called before the leader is reaped, because from then on its number may be a stranger's. Also to be called
    /// when the child could not be started.
    pub fn release(self) {
        if let Err(error) = self.parent.release(self.ward) {
            tracing::warn!("the guardian has died and no new one can be started: {error}");
        }
    }
}
