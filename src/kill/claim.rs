//! A kill that several threads may take over, and that exactly one does: the first to ask.

use std::sync::PoisonError;

use super::batch::OnDone;
use super::in_progress::Kill;
use crate::sync::{Arc, Mutex};

/// Shared by all threads that may take the kill over.
#[derive(Clone)]
pub(super) struct Claim(Arc<Mutex<Option<(Kill, OnDone)>>>);

impl Claim {
    pub(super) fn new(kill: Kill, on_done: OnDone) -> Claim {
        Claim(Arc::new(Mutex::new(Some((kill, on_done)))))
    }

    /// The kill, for the first that asks.
    pub(super) fn take(&self) -> Option<(Kill, OnDone)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

#[cfg(all(test, deadbeat_loom))]
mod loom_tests {
    use super::*;
    use crate::group::ProcessGroup;
    use crate::kill::KillPolicy;

    #[test]
    fn loom_of_all_that_may_take_a_kill_over_one_does() {
        loom::model(|| {
            // Beyond any pid_max: no group has it.
            let kill = Kill::new(ProcessGroup::new(i32::MAX).unwrap(), &KillPolicy::default());
            let claim = Claim::new(kill, Box::new(drop));
            let others =
                [claim.clone(), claim.clone()].map(|claim| loom::thread::spawn(move || claim.take().is_some()));
            let took = u32::from(claim.take().is_some());
            let took = others.map(|other| u32::from(other.join().unwrap())).iter().sum::<u32>() + took;
            assert_eq!(took, 1);
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kill::testing::kill_of_no_group;

    #[test]
    fn the_first_that_asks_has_the_kill_and_no_other() {
        let claim = Claim::new(kill_of_no_group(), Box::new(drop));
        let other = claim.clone();
        let (kill, _) = other.take().expect("it was taken before");
        assert_eq!(kill.pgid(), i32::MAX);
        assert!(claim.take().is_none() && other.take().is_none());
    }
}
