//! A kill that somebody has to begin, and that only one can: whoever takes it from its seat first.

use std::sync::PoisonError;

use super::batch::OnDone;
use super::in_progress::Kill;
use super::runner::run;
use crate::sync::{Arc, Mutex};

/// Shared by all who may begin the kill.
#[derive(Clone)]
pub(super) struct Claim(Arc<Mutex<Option<(Kill, OnDone)>>>);

impl Claim {
    pub(super) fn new(kill: Kill, then: OnDone) -> Claim {
        Claim(Arc::new(Mutex::new(Some((kill, then)))))
    }

    /// The kill, for the first who asks.
    pub(super) fn take(&self) -> Option<(Kill, OnDone)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Does it on this thread, unless somebody else has begun.
    pub(super) fn run(&self) {
        if let Some((kill, then)) = self.take() {
            then(run(kill));
        }
    }
}

#[cfg(all(test, deadbeat_loom))]
mod loom_tests {
    use super::*;
    use crate::group::ProcessGroup;
    use crate::kill::KillPolicy;

    #[test]
    fn loom_of_all_who_may_begin_one_does() {
        loom::model(|| {
            // Beyond any pid_max: nobody's.
            let kill = Kill::new(ProcessGroup::new(i32::MAX).unwrap(), &KillPolicy::default());
            let claim = Claim::new(kill, Box::new(drop));
            let others =
                [claim.clone(), claim.clone()].map(|claim| loom::thread::spawn(move || claim.take().is_some()));
            let began = u32::from(claim.take().is_some());
            let began = others.map(|other| u32::from(other.join().unwrap())).iter().sum::<u32>() + began;
            assert_eq!(began, 1);
        });
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;
    use crate::kill::Outcome;
    use crate::kill::tests::kill_of_nobody;

    #[test]
    fn whoever_is_first_has_the_kill_and_nobody_else() {
        let (told, ends) = channel();
        let claim = Claim::new(kill_of_nobody(), Box::new(move |result| told.send(result).unwrap()));
        let other = claim.clone();
        other.run();
        assert_eq!(ends.try_recv().expect("not told").unwrap().outcome, Outcome::AlreadyGone);
        assert!(claim.take().is_none() && other.take().is_none());
        claim.run();
        assert!(ends.try_recv().is_err(), "told twice");

        let claim = Claim::new(kill_of_nobody(), Box::new(drop));
        let (kill, _) = claim.take().expect("nobody was first");
        assert_eq!(kill.pgid(), i32::MAX);
    }
}
