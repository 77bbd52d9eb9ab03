//! A kill that somebody has to begin, and that only one can: whoever takes it from its seat first.

use std::sync::{Arc, Mutex, PoisonError};

use super::blocking::climb_here;
use super::climb::Climb;
use super::many::Then;

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
