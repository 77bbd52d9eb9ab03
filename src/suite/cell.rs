//! A cell, one subject against one fixture on one runtime, and what it has to show.
//!
//! It has to show what a right kill of its fixture shows, changed by the faults that its subject is known for.

use std::time::Duration;

use super::subjects::Subject;
use crate::fixture::Fixture;
use crate::group::{Backend, backend};
use crate::heartbeat::Flavor;
use crate::kill::{KillPolicy, Outcome};
use crate::report::{CellReport, Expected, ExpectedPulse, NO_RUNTIME, Timing, cell_name};

/// The runtimes of the suite.
pub const RUNTIMES: &[Flavor] = &[Flavor::CurrentThread, Flavor::MultiThread(1), Flavor::MultiThread(2)];

/// The name that `--runtime` takes: `current-thread`, `multi-thread-2`.
pub fn runtime_name(flavor: Flavor) -> String {
    match flavor {
        Flavor::CurrentThread => "current-thread".into(),
        Flavor::MultiThread(workers) => format!("multi-thread-{workers}"),
    }
}

/// One subject against one fixture on one runtime.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Cell {
    /// The kill implementation under test.
    pub subject: Subject,
    /// The program to kill.
    pub fixture: Fixture,
    /// The runtime that the subject runs on; `None` for a program, which needs none.
    pub runtime: Option<Flavor>,
    /// The shell that the fixture runs under.
    pub shell: String,
    /// The number of this run, from 1, where every cell is run several times.
    pub repeat: Option<u32>,
}

impl Cell {
    /// The cell's name: `subject/fixture/runtime`, or `subject/fixture` of a program, then the shell unless it is `sh`,
    /// and the number of the repeat if there is one.
    ///
    /// It is unique in a suite, and alone decides the cell's [partition](super::Suite::partition).
    pub fn name(&self) -> String {
        cell_name(self.subject.name(), self.fixture.name, &self.runtime_name(), &self.shell, self.repeat)
    }

    /// The runtime's name as [`runtime_name`] has it; `none` for a program.
    pub fn runtime_name(&self) -> String {
        self.runtime.map_or_else(|| NO_RUNTIME.into(), runtime_name)
    }

    /// What this cell has to show.
    pub fn expected(&self) -> Expected {
        let (fixture, faults) = (&self.fixture, self.subject.known_faults);
        // The leader of all fixtures but one stays un-reaped, and so in the process table to the end.
        let zombie_leader = fixture.outcome != Outcome::AlreadyGone || fixture.name == "zombie";
        let blind = backend() == Backend::Probe && zombie_leader;

        let mut outcome = Some(fixture.outcome);
        if faults.leaves_stopped && fixture.name == "stopped" {
            outcome = Some(Outcome::Killed);
        }
        if blind {
            // A subject can only report what it did; one without a report cannot be observed either.
            outcome = self.subject.reports_itself.then_some(Outcome::Killed);
        }
        let holds = (faults.holds_the_grace || backend() == Backend::Probe) && zombie_leader;
        let timing = if holds || outcome == Some(Outcome::Killed) { Timing::Grace } else { Timing::Prompt };
        let pulse = match self.runtime {
            None => ExpectedPulse::None,
            Some(_) if faults.starves && timing == Timing::Grace => ExpectedPulse::Starved,
            Some(_) => ExpectedPulse::Steady,
        };
        Expected { outcome, timing, leftover: 0, escaped: fixture.escapes, pulse }
    }

    /// The report on this cell while nothing has been seen of it.
    pub(super) fn unjudged(&self) -> CellReport {
        let (subject, known_bad) = (self.subject.name(), self.subject.is_known_bad());
        let (runtime, expected) = (self.runtime_name(), self.expected());
        let report = CellReport::new(subject, self.fixture.name, &runtime, &self.shell, known_bad, expected);
        CellReport { repeat: self.repeat, ..report }
    }
}

/// What every cell of a suite is run with.
#[derive(Clone, Debug)]
pub(super) struct CellSettings {
    pub(super) policy: KillPolicy,
    /// How long a worker may stand still.
    pub(super) budget: Duration,
    /// How long a kill may take.
    pub(super) deadline: Duration,
}

impl CellSettings {
    /// How long the fixture that has a cleanup takes for it.
    pub(super) fn cleanup(&self) -> Duration {
        self.policy.grace / 5
    }
}
