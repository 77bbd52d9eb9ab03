//! The suite: each subject against each fixture on each runtime, every cell held to what is expected of it.
//!
//! A subject that is known to be bad is *expected* to be caught: a suite that lets it pass has lost its teeth, and
//! fails.

mod cell;
mod lives;
mod scenarios;
mod subjects;

use std::collections::VecDeque;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use crate::fixture::{self, Fixture};
use crate::heartbeat::lab::Flavor;
use crate::kill::KillPolicy;
use crate::report::{CellReport, Report};

pub use scenarios::{Expected, ExpectedPulse, RUNTIMES, Timing, runtime_name};
pub use subjects::{Subject, built_in};

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
    shell: String,
    policy: KillPolicy,
    budget: Duration,
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
    /// Where the subject runs.
    pub runtime: Flavor,
    /// The shell that the fixture runs under.
    pub shell: String,
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
            shell: "sh".into(),
            policy: KillPolicy::default(),
            budget: Duration::from_millis(50),
            // The cells wait, they do not compute; but each starts a few processes.
            jobs: 24,
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

    /// The runtimes to run them on.
    #[must_use]
    pub fn runtimes(mut self, runtimes: impl Into<Vec<Flavor>>) -> Suite {
        self.runtimes = runtimes.into();
        self
    }

    /// The shell to run the fixtures under, with its arguments: `dash`, `busybox sh`.
    #[must_use]
    pub fn shell(mut self, shell: &str) -> Suite {
        self.shell = shell.to_owned();
        self
    }

    /// The grace that subjects are told to give. A short one makes a quick suite and leaves less room for a slow machine.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Suite {
        self.policy = self.policy.grace(grace);
        self
    }

    /// How long a worker may stand still; 50 ms by default, 1 ms at least.
    #[must_use]
    pub fn budget(mut self, budget: Duration) -> Suite {
        self.budget = budget.max(Duration::from_millis(1));
        self
    }

    /// How many cells to run side by side; 24 by default.
    #[must_use]
    pub fn jobs(mut self, jobs: usize) -> Suite {
        self.jobs = jobs.max(1);
        self
    }

    /// The cells of this suite, in the order of the report.
    pub fn cells(&self) -> Vec<Cell> {
        let mut cells = Vec::new();
        for subject in &self.subjects {
            for fixture in &self.fixtures {
                for runtime in &self.runtimes {
                    cells.push(Cell {
                        subject: subject.clone(),
                        fixture: *fixture,
                        runtime: *runtime,
                        shell: self.shell.clone(),
                    });
                }
            }
        }
        cells
    }

    /// Runs every cell, some side by side; `done` is told of each as it ends.
    pub fn run(&self, mut done: impl FnMut(&CellReport)) -> Report {
        let cells = self.cells();
        let mut reports: Vec<Option<CellReport>> = cells.iter().map(|_| None).collect();
        // The long ones first, so that none of them is left to run alone at the end.
        let mut order: Vec<usize> = (0..cells.len()).collect();
        order.sort_by_key(|i| std::cmp::Reverse(cells[*i].expected().timing));
        let queue = Mutex::new(VecDeque::from(order));
        let (sender, results) = mpsc::channel();
        std::thread::scope(|scope| {
            for _ in 0..self.jobs.min(cells.len()) {
                let (queue, cells, sender) = (&queue, &cells, sender.clone());
                scope.spawn(move || {
                    loop {
                        let next = queue.lock().unwrap_or_else(|poisoned| poisoned.into_inner()).pop_front();
                        let Some(i) = next else { break };
                        // The receiver outlives this scope.
                        let _ = sender.send((i, cell::run(&cells[i], &self.policy, self.budget)));
                    }
                });
            }
            drop(sender);
            for (i, report) in results {
                done(&report);
                reports[i] = Some(report);
            }
        });
        Report::new(reports.into_iter().flatten().collect())
    }
}
