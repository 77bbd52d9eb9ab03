//! The suite: each subject against each fixture on each runtime, every cell held to what is expected of it.
//!
//! A subject that is known to be bad is *expected* to be caught: a suite that lets it pass has lost its teeth, and
//! fails.

mod cell;
#[cfg(feature = "conformance")]
mod conformance;
mod delays;
mod held;
mod judgement;
mod late;
mod lives;
#[cfg(any(feature = "cli", feature = "conformance"))]
pub(crate) mod process;
mod program;
mod scenarios;
pub(crate) mod share;
mod subjects;
mod words;

#[cfg(fuzzing)]
pub(crate) mod fuzzing {
    pub use super::program::command_line;
}

use std::collections::VecDeque;
#[cfg(any(feature = "cli", feature = "conformance"))]
use std::ops::RangeInclusive;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use crate::fixture::{self, Fixture};
use crate::heartbeat::lab::Flavor;
use crate::kill::KillPolicy;
use crate::report::{CellReport, NO_RUNTIME, Partition, Report, Whole, cell_name};
use crate::retry::while_inconclusive;
use crate::signal::Signal;

#[cfg(feature = "conformance")]
pub use conformance::Conformance;
pub use program::TemplateError;
pub use scenarios::{RUNTIMES, runtime_name};
pub use subjects::{Subject, built_in};

/// The cells wait, they do not compute; but each starts a few processes.
pub(crate) const JOBS: usize = 40;

/// What the subjects may be told to give: in less nobody can be told from a slow machine.
#[cfg(any(feature = "cli", feature = "conformance"))]
pub(crate) const GRACES: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);

/// Until when a kill may be waited for. The fixture outlives it, and is a shell's program with a shell's numbers.
#[cfg(any(feature = "cli", feature = "conformance"))]
pub(crate) const DEADLINES: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(60 * 60);

/// Which cells to run, and how.
///
/// ```no_run
/// use deadbeat::suite::Suite;
///
/// let report = Suite::new().jobs(8).run(|cell| eprintln!("{}: {}", cell.name(), cell.verdict));
/// assert!(report.all_as_expected());
/// ```
#[derive(Clone, Debug)]
pub struct Suite {
    subjects: Vec<Subject>,
    fixtures: Vec<Fixture>,
    runtimes: Vec<Flavor>,
    shells: Vec<String>,
    repeat: u32,
    partition: Option<Partition>,
    policy: KillPolicy,
    pub(crate) budget: Duration,
    deadline: Option<Duration>,
    jobs: usize,
}

/// One subject against one fixture on one runtime.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Cell {
    /// The kill implementation under test.
    pub subject: Subject,
    /// The program to kill.
    pub fixture: Fixture,
    /// Where the subject runs; `None` for a program, which needs no runtime.
    pub runtime: Option<Flavor>,
    /// The shell that the fixture runs under.
    pub shell: String,
    /// Which time this is, from 1, where every cell is run several times.
    pub repeat: Option<u32>,
}

impl Cell {
    /// `subject/fixture/runtime`, or `subject/fixture` of a program, with the shell behind it unless it is `sh`, and the
    /// number of the repeat if there is one: unique in a suite, and what tells the cell's [partition](Suite::partition).
    pub fn name(&self) -> String {
        cell_name(self.subject.name(), self.fixture.name, &self.runtime_name(), &self.shell, self.repeat)
    }

    /// As [`runtime_name`]; `none` for a program.
    pub fn runtime_name(&self) -> String {
        self.runtime.map_or_else(|| NO_RUNTIME.into(), runtime_name)
    }
}

impl Default for Suite {
    fn default() -> Suite {
        Suite::new()
    }
}

impl Suite {
    /// Every built-in subject, every fixture, every runtime, under `sh`, with the default 5 s of grace.
    pub fn new() -> Suite {
        Suite {
            subjects: built_in(),
            fixtures: fixture::ALL.to_vec(),
            runtimes: RUNTIMES.to_vec(),
            shells: vec!["sh".into()],
            repeat: 1,
            partition: None,
            policy: KillPolicy::default(),
            budget: Duration::from_millis(50),
            deadline: None,
            jobs: JOBS,
        }
    }

    /// The subjects to judge.
    #[must_use]
    pub fn subjects(mut self, subjects: impl Into<Vec<Subject>>) -> Suite {
        self.subjects = subjects.into();
        self
    }

    /// The fixtures to hold them against.
    #[must_use]
    pub fn fixtures(mut self, fixtures: impl Into<Vec<Fixture>>) -> Suite {
        self.fixtures = fixtures.into();
        self
    }

    /// The runtimes to run them on; programs run once, on none.
    #[must_use]
    pub fn runtimes(mut self, runtimes: impl Into<Vec<Flavor>>) -> Suite {
        self.runtimes = runtimes.into();
        self
    }

    /// The shells to run the fixtures under, each with its arguments (`busybox sh`): every cell once under each.
    #[must_use]
    pub fn shells(mut self, shells: impl Into<Vec<String>>) -> Suite {
        self.shells = shells.into();
        self
    }

    /// How many times to run every cell; once by default, and at least.
    #[must_use]
    pub fn repeat(mut self, times: u32) -> Suite {
        self.repeat = times.max(1);
        self
    }

    /// Only the cells of this part. Which those are is told by their [names](Cell::name) alone: FNV-1a, 64 bits, modulo
    /// the number of parts.
    #[must_use]
    pub fn partition(mut self, partition: Partition) -> Suite {
        self.partition = Some(partition);
        self
    }

    /// The grace that subjects are told to give. A short one makes a quick suite and leaves less room for a slow machine.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Suite {
        self.policy = self.policy.grace(grace);
        self
    }

    /// The signal by which the subjects ask a group to end before they send SIGKILL, which the fixtures
    /// [obey, ignore or handle](crate::fixture::Setup::first_signal); SIGTERM by default.
    #[must_use]
    pub fn first_signal(mut self, signal: Signal) -> Suite {
        self.policy = self.policy.signal(signal);
        self
    }

    /// How long a worker may stand still; 50 ms by default, 1 ms at least. A budget of half of the grace and more catches
    /// nobody: the known-bad subjects stand still for the grace.
    #[must_use]
    pub fn budget(mut self, budget: Duration) -> Suite {
        self.budget = budget.max(Duration::from_millis(1));
        self
    }

    /// How long a kill may take before its cell is ended and fails; by default twice the grace and 30 s more, far beyond
    /// what the slowest machine needs for the longest escalation.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Suite {
        self.deadline = Some(deadline);
        self
    }

    /// How many cells to run side by side; 40 by default.
    #[must_use]
    pub fn jobs(mut self, jobs: usize) -> Suite {
        self.jobs = jobs.max(1);
        self
    }

    /// The cells of this suite, in the order of the report.
    pub fn cells(&self) -> Vec<Cell> {
        let repeats: Vec<_> = if self.repeat == 1 { vec![None] } else { (1..=self.repeat).map(Some).collect() };
        let on_runtimes: Vec<_> = self.runtimes.iter().copied().map(Some).collect();
        let mut cells = Vec::new();
        for subject in &self.subjects {
            let runtimes = if subject.is_program() { &[None][..] } else { &on_runtimes };
            for fixture in &self.fixtures {
                for shell in &self.shells {
                    for runtime in runtimes {
                        for repeat in &repeats {
                            cells.push(Cell {
                                subject: subject.clone(),
                                fixture: *fixture,
                                runtime: *runtime,
                                shell: shell.clone(),
                                repeat: *repeat,
                            });
                        }
                    }
                }
            }
        }
        cells.retain(|cell| self.partition.is_none_or(|partition| share::is_in(&cell.name(), partition)));
        cells
    }

    /// Runs every cell in this process, some side by side; `done` is told of each as it ends. One that proves nothing is
    /// run again, three times in all.
    ///
    /// The program runs each in a process of its own instead, and so does `Conformance` (feature `conformance`).
    pub fn run(&self, done: impl FnMut(&CellReport)) -> Report {
        self.run_by(|cell| while_inconclusive(|| self.run_cell(cell), CellReport::proves_nothing), done)
    }

    /// Runs one cell in this process, once.
    pub(crate) fn run_cell(&self, cell: &Cell) -> CellReport {
        cell::run(cell, &self.policy, self.budget, self.kill_within())
    }

    /// As [`run`](Suite::run), with each cell run by `run`.
    pub(crate) fn run_by(&self, run: impl Fn(&Cell) -> CellReport + Sync, mut done: impl FnMut(&CellReport)) -> Report {
        let cells = self.cells();
        let mut reports: Vec<Option<CellReport>> = cells.iter().map(|_| None).collect();
        // The long ones first, so that none of them is left to run alone at the end.
        let mut order: Vec<usize> = (0..cells.len()).collect();
        order.sort_by_key(|i| std::cmp::Reverse(cells[*i].expected().timing));
        let queue = Mutex::new(VecDeque::from(order));
        let (sender, results) = mpsc::channel();
        std::thread::scope(|scope| {
            for _ in 0..self.jobs.min(cells.len()) {
                let (queue, cells, run, sender) = (&queue, &cells, &run, sender.clone());
                scope.spawn(move || {
                    loop {
                        let next = queue.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).pop_front();
                        let Some(i) = next else { break };
                        // The receiver outlives this scope.
                        let _ = sender.send((i, run(&cells[i])));
                    }
                });
            }
            drop(sender);
            for (i, report) in results {
                done(&report);
                reports[i] = Some(report);
            }
        });
        let whole = self.partition.map(|_| self.whole());
        Report { partition: self.partition, whole, ..Report::new(reports.into_iter().flatten().collect()) }
    }

    /// What its parts have in common.
    fn whole(&self) -> Whole {
        let whole = Suite { partition: None, ..self.clone() };
        let names = whole.cells().iter().map(Cell::name).collect();
        share::whole(names, [self.policy.grace, self.budget, self.kill_within()], self.policy.signal)
    }

    /// Whether the budget lets a stall be seen: one who waits on a worker does so for the grace at most.
    #[cfg(any(feature = "cli", feature = "conformance"))]
    pub(crate) fn can_tell_a_stall(&self) -> bool {
        self.budget < self.policy.grace / 2 || self.subjects.iter().all(Subject::is_program)
    }

    fn kill_within(&self) -> Duration {
        self.deadline.unwrap_or_else(|| self.policy.grace.saturating_mul(2).saturating_add(Duration::from_secs(30)))
    }

    /// How long a cell may take as a whole: its fixture's handshake, the kill, the last look, the burial.
    #[cfg(any(feature = "cli", feature = "conformance"))]
    pub(crate) fn cell_within(&self) -> Duration {
        self.kill_within().saturating_add(Duration::from_secs(150))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promised::{CONFORMANCE, are_kept, time};

    #[test]
    fn a_kill_may_take_as_long_as_the_documentation_promises() {
        let documented = time(include_str!("suite.rs"), "by default twice the grace and {} more, far");
        let page = time(CONFORMANCE, "takes longer than twice the grace and {} more has failed");
        for grace in [Duration::from_secs(1), Duration::from_secs(5)] {
            let within = Suite::new().grace(grace).kill_within();
            are_kept(&[("deadline", grace * 2 + documented, within), ("docs/conformance", grace * 2 + page, within)]);
        }
    }
}
