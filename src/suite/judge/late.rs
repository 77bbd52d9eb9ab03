//! What came too late, compared with the delays of the machine: a slow machine makes a right kill late too.

use std::time::Duration;

use crate::suite::machine_delays::{OF_A_FUNCTION, OF_A_PROGRAM};
use crate::suite::observation::Observation;

/// How often a right kill function's thread is given a CPU at most, between its group's end and its return.
const TURNS: u32 = 16;

/// What is too late, and by how much.
pub(super) struct LateFault {
    pub(super) why: String,
    /// Whether the group went late; else the subject returned late from a group that had gone.
    pub(super) of_the_group: bool,
    /// By how much, compared with a kill on an idle machine.
    pub(super) by: Duration,
    /// How much of that has to be left unexplained for the subject to be at fault.
    pub(super) least: Duration,
}

/// How long the machine can have delayed the subject or its group, by three measures.
struct MachineShare {
    passes: Duration,
    run_queue: Duration,
    members: Duration,
}

impl MachineShare {
    fn all(&self) -> Duration {
        // The first two measure the same waits.
        self.passes.max(self.run_queue) + self.members
    }

    fn in_words(&self) -> String {
        let MachineShare { passes, run_queue, members } = self;
        let parts = [
            (passes, format!("the machine kept the suite waiting too, for {passes:.1?}")),
            (run_queue, format!("a thread of the subject's process waited {run_queue:.1?} for a CPU")),
            (members, format!("a member of the group waited {members:.1?} for a CPU or a disk")),
        ];
        let seen: Vec<_> = parts.into_iter().filter(|(time, _)| !time.is_zero()).map(|(_, words)| words).collect();
        if seen.is_empty() { "so little may be a slow machine's doing".to_owned() } else { seen.join(", ") }
    }
}

impl LateFault {
    /// What the machine did that can have caused it, if that explains half of it; the other half is for what cannot be
    /// seen.
    pub(super) fn excuse(&self, seen: &Observation, by_program: bool) -> Option<String> {
        let machine = MachineShare {
            passes: seen.machine_delays.of(if by_program { OF_A_PROGRAM } else { OF_A_FUNCTION }),
            // A program's processes are no threads of this process.
            run_queue: if by_program { Duration::ZERO } else { seen.meanwhile.run_queue_of(TURNS) },
            // Members that have gone cannot keep the subject from returning.
            members: if self.of_the_group { seen.member_wait } else { Duration::ZERO },
        };
        let explained = machine.all();
        let is_unexplained = explained < self.by / 2 && self.by.saturating_sub(explained) >= self.least;
        (!is_unexplained).then(|| machine.in_words())
    }
}
