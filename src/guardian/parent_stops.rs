//! A parent that is stopped (SIGSTOP cannot be caught) has its groups stopped with it; their time limit still holds.
//!
//! The parent's state is polled, since a stop sends the guardian no signal. That is one process to look at, and only
//! while a group is guarded.

use std::time::{Duration, Instant};

use crate::group::stop::stopped_by;

/// Between two looks at the parent's state.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// What is to be done with the guarded groups now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum StopAction {
    Nothing,
    Stop,
    Continue,
    /// Kill them: their time is over while the parent is stopped and cannot see to it.
    Kill,
}

#[derive(Debug)]
pub(super) struct ParentStops {
    deadline: Option<Instant>,
    next_poll: Instant,
    /// The groups were stopped, and have not been continued since.
    groups_are_stopped: bool,
    has_killed: bool,
}

impl ParentStops {
    /// `left` is what is left of the groups' time; `None` is no limit.
    pub(super) fn new(left: Option<Duration>) -> ParentStops {
        ParentStops {
            deadline: deadline_in(left),
            next_poll: Instant::now() + POLL_INTERVAL,
            groups_are_stopped: false,
            has_killed: false,
        }
    }

    /// Sets another limit: `left` of it, as for [`new`](ParentStops::new). The groups stay stopped if they are.
    pub(super) fn set_limit(&mut self, left: Option<Duration>) {
        self.deadline = deadline_in(left);
    }

    /// Whether the groups are stopped with the parent, and have time left.
    #[cfg(target_os = "linux")]
    pub(super) fn are_in_force(&self) -> bool {
        self.groups_are_stopped && !self.has_killed
    }

    pub(super) fn next_poll(&self) -> Instant {
        self.next_poll
    }

    pub(super) fn poll(&mut self, parent: i32, now: Instant) -> StopAction {
        self.next_poll = now + POLL_INTERVAL;
        self.decide(stopped_by(parent).is_some(), now)
    }

    fn decide(&mut self, parent_is_stopped: bool, now: Instant) -> StopAction {
        if self.has_killed {
            return StopAction::Nothing;
        }
        match (parent_is_stopped, self.groups_are_stopped) {
            (true, _) if self.deadline.is_some_and(|deadline| now >= deadline) => {
                self.has_killed = true;
                StopAction::Kill
            }
            (true, false) => {
                self.groups_are_stopped = true;
                StopAction::Stop
            }
            (false, true) => {
                self.groups_are_stopped = false;
                StopAction::Continue
            }
            _ => StopAction::Nothing,
        }
    }
}

/// A limit beyond what the clock can represent is none.
fn deadline_in(left: Option<Duration>) -> Option<Instant> {
    left.and_then(|left| Instant::now().checked_add(left))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_is_followed_once_and_a_limit_that_passes_meanwhile_kills() {
        use StopAction::{Continue, Kill, Nothing, Stop};
        let now = Instant::now();
        let hour = Duration::from_secs(3600);
        let mut stops = ParentStops::new(Some(hour));
        for (is_stopped, expected) in
            [(false, Nothing), (true, Stop), (true, Nothing), (false, Continue), (false, Nothing)]
        {
            assert_eq!(stops.decide(is_stopped, now), expected);
        }
        assert_eq!(stops.decide(false, now + hour * 2), Nothing, "a parent that runs keeps the limit itself");
        assert_eq!(stops.decide(true, now + hour * 2), Kill);
        assert_eq!(stops.decide(true, now + hour * 3), Nothing, "once");
        assert_eq!(stops.decide(false, now + hour * 3), Nothing);
        let mut unlimited = ParentStops::new(None);
        assert_eq!(unlimited.decide(true, now + hour), Stop);
    }
}
