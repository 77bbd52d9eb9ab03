//! A fault that a slow machine brings about too, weighed against what the machine was seen to do.

use std::time::Duration;

use super::delays::{OF_A_FUNCTION, OF_A_PROGRAM};
use super::judgement::Seen;

/// How often a right kill function's thread is given a CPU at most, between its group's end and its return.
const TURNS: u32 = 16;

/// What is too late, and by how much.
pub(super) struct Late {
    pub(super) fault: String,
    /// It was the group that went late; else the subject came back late from a group that had gone.
    pub(super) of_the_group: bool,
    /// By how much, compared with a kill on an idle machine.
    pub(super) by: Duration,
    /// How much of that has to be left unexplained, for the fault to be the subject's.
    pub(super) least: Duration,
}

/// What of the machine's doing can have kept the subject, or its group, from being in time.
struct Explained {
    passes: Duration,
    run_queue: Duration,
    members: Duration,
}

impl Explained {
    fn all(&self) -> Duration {
        // Two measures of the same waits.
        self.passes.max(self.run_queue) + self.members
    }

    fn in_words(&self) -> String {
        let Explained { passes, run_queue, members } = self;
        let parts = [
            (passes, format!("the machine kept the suite waiting too, for {passes:.1?}")),
            (run_queue, format!("a thread of the subject's process waited {run_queue:.1?} for a CPU")),
            (members, format!("a member of the group waited {members:.1?} for a CPU or a disk")),
        ];
        let seen: Vec<_> = parts.into_iter().filter(|(time, _)| !time.is_zero()).map(|(_, words)| words).collect();
        if seen.is_empty() { "so little may be a slow machine's doing".to_owned() } else { seen.join(", ") }
    }
}

impl Late {
    /// What the machine did that can have brought it about, if it did enough: half of it, for what cannot be seen.
    pub(super) fn excuse(&self, seen: &Seen, by_program: bool) -> Option<String> {
        let explained = Explained {
            passes: seen.delays.of(if by_program { OF_A_PROGRAM } else { OF_A_FUNCTION }),
            // A program's processes are not this one's threads.
            run_queue: if by_program { Duration::ZERO } else { seen.meanwhile.run_queue_of(TURNS) },
            // A group that has gone keeps none from coming back.
            members: if self.of_the_group { seen.members_held } else { Duration::ZERO },
        };
        let is_unexplained = explained.all() < self.by / 2 && self.by.saturating_sub(explained.all()) >= self.least;
        (!is_unexplained).then(|| explained.in_words())
    }
}
