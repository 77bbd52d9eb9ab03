//! A kill that somebody has to begin, and that only one can: whoever takes it from its seat first.

use std::sync::PoisonError;

use super::blocking::climb_here;
use super::climb::Climb;
use super::many::Then;
use crate::sync::{Arc, Mutex};

/// Shared by all who may begin the kill.
#[derive(Clone)]
pub(super) struct Seat(Arc<Mutex<Option<(Climb, Then)>>>);

impl Seat {
    pub(super) fn new(climb: Climb, then: Then) -> Seat {
        Seat(Arc::new(Mutex::new(Some((climb, then)))))
    }

    /// The kill, for the first who asks.
    pub(super) fn take(&self) -> Option<(Climb, Then)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Does it on this thread, unless somebody else has begun.
    pub(super) fn climb_here(&self) {
        if let Some((climb, then)) = self.take() {
            then(climb_here(climb));
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
            let climb = Climb::new(ProcessGroup::new(i32::MAX).unwrap(), &KillPolicy::default());
            let seat = Seat::new(climb, Box::new(drop));
            let others = [seat.clone(), seat.clone()].map(|seat| loom::thread::spawn(move || seat.take().is_some()));
            let began = u32::from(seat.take().is_some());
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
    use crate::kill::tests::climb_of_nobody;

    #[test]
    fn whoever_is_first_has_the_kill_and_nobody_else() {
        let (told, ends) = channel();
        let seat = Seat::new(climb_of_nobody(), Box::new(move |result| told.send(result).unwrap()));
        let other = seat.clone();
        other.climb_here();
        assert_eq!(ends.try_recv().expect("not told").unwrap().outcome, Outcome::AlreadyGone);
        assert!(seat.take().is_none() && other.take().is_none());
        seat.climb_here();
        assert!(ends.try_recv().is_err(), "told twice");

        let seat = Seat::new(climb_of_nobody(), Box::new(drop));
        let (climb, _) = seat.take().expect("nobody was first");
        assert_eq!(climb.pgid(), i32::MAX);
    }
}
