//! A parent that is stopped (SIGSTOP cannot be caught) has its groups stopped with it, and they keep their time.
//!
//! The parent's state is looked at, since no signal tells of it here: at one process, and only while a group is guarded.

use std::time::{Duration, Instant};

use crate::group::stop::stopped_by;

/// Between two looks at the parent.
const LOOK: Duration = Duration::from_millis(200);

/// What is to be done for the groups now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Do {
    Nothing,
    Stop,
    Continue,
    /// Their time is over while the parent cannot see it.
    End,
}

#[derive(Debug)]
pub(super) struct Follow {
    deadline: Option<Instant>,
    next: Instant,
    /// The groups were stopped, and not continued since.
    holds: bool,
    has_ended: bool,
}

impl Follow {
    /// `left` of the time; `None` is no limit.
    pub(super) fn new(left: Option<Duration>) -> Follow {
        let now = Instant::now();
        // A limit beyond what a clock can tell is none.
        Follow {
            deadline: left.and_then(|left| now.checked_add(left)),
            next: now + LOOK,
            holds: false,
            has_ended: false,
        }
    }

    /// When the next look is due.
    pub(super) fn next(&self) -> Instant {
        self.next
    }

    pub(super) fn look(&mut self, parent: i32, now: Instant) -> Do {
        self.next = now + LOOK;
        self.decide(stopped_by(parent).is_some(), now)
    }

    fn decide(&mut self, is_stopped: bool, now: Instant) -> Do {
        if self.has_ended {
            return Do::Nothing;
        }
        match (is_stopped, self.holds) {
            (true, _) if self.deadline.is_some_and(|deadline| now >= deadline) => {
                self.has_ended = true;
                Do::End
            }
            (true, false) => {
                self.holds = true;
                Do::Stop
            }
            (false, true) => {
                self.holds = false;
                Do::Continue
            }
            _ => Do::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_stopped_is_continued_once_and_ended_when_the_time_is_over_meanwhile() {
        let now = Instant::now();
        let hour = Duration::from_secs(3600);
        let mut follow = Follow::new(Some(hour));
        let steps =
            [(false, Do::Nothing), (true, Do::Stop), (true, Do::Nothing), (false, Do::Continue), (false, Do::Nothing)];
        for (is_stopped, expected) in steps {
            assert_eq!(follow.decide(is_stopped, now), expected);
        }
        assert_eq!(follow.decide(false, now + hour * 2), Do::Nothing, "it can see to that itself");
        assert_eq!(follow.decide(true, now + hour * 2), Do::End);
        assert_eq!(follow.decide(true, now + hour * 3), Do::Nothing, "once");
        assert_eq!(follow.decide(false, now + hour * 3), Do::Nothing);
        let mut endless = Follow::new(None);
        assert_eq!(endless.decide(true, now + hour), Do::Stop);
    }
}
