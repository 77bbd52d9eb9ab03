//! Which cells a suite has, what they are run with, and their run side by side.

use std::collections::VecDeque;
use std::future::Future;
#[cfg(any(feature = "cli", feature = "conformance"))]
use std::ops::RangeInclusive;
use std::sync::{Mutex, PoisonError, mpsc};
use std::time::Duration;

use super::cell::{Cell, CellSettings, RUNTIMES};
#[cfg(feature = "conformance")]
use super::declared::Declared;
use super::partition;
use super::run_cell::run_cell;
use super::subjects::{Subject, built_in};
use crate::fixture::{self, Fixture};
use crate::heartbeat::Flavor;
use crate::kill::KillPolicy;
use crate::report::{CellReport, Partition, Report, SuiteId};
use crate::retry::while_inconclusive;
use crate::signal::Signal;

/// How many cells run side by side: they wait, they do not compute; but each starts a few processes.
pub(crate) const JOBS: usize = 40;

/// The graces a suite accepts. Below 100 ms a late kill cannot be told from a slow machine.
#[cfg(any(feature = "cli", feature = "conformance"))]
pub(crate) const GRACES: RangeInclusive<Duration> = Duration::from_millis(100)..=Duration::from_secs(60);

/// The deadlines a suite accepts. The fixture outlives its kill's deadline, and a shell cannot count longer sleeps.
#[cfg(any(feature = "cli", feature = "conformance"))]
pub(crate) const DEADLINES: RangeInclusive<Duration> = Duration::from_millis(1)..=Duration::from_secs(60 * 60);

/// Which cells to run, and how: by [`run`](Suite::run) in this process, or with the feature `conformance` by `main`, as
/// the tests of a test target.
///
/// ```no_run
/// use deadbeat::suite::Suite;
///
/// let report = Suite::new().jobs(8).run(|cell| eprintln!("{}: {}", cell.name(), cell.verdict));
/// assert!(report.all_as_expected());
/// ```
#[derive(Clone, Debug)]
#[must_use = "it runs nothing until `run` or `main` is called"]
pub struct Suite {
    /// `None`: the built-in ones.
    pub(super) subjects: Option<Vec<Subject>>,
    pub(super) fixtures: Vec<Fixture>,
    pub(super) runtimes: Vec<Flavor>,
    pub(super) shells: Vec<String>,
    repeat: u32,
    partition: Option<Partition>,
    pub(super) policy: KillPolicy,
    pub(crate) budget: Duration,
    deadline: Option<Duration>,
    #[cfg(feature = "conformance")]
    pub(super) declared: Vec<Declared>,
    jobs: usize,
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
            subjects: None,
            fixtures: fixture::ALL.to_vec(),
            runtimes: RUNTIMES.to_vec(),
            shells: vec!["sh".into()],
            repeat: 1,
            partition: None,
            policy: KillPolicy::default(),
            budget: Duration::from_millis(50),
            deadline: None,
            #[cfg(feature = "conformance")]
            declared: Vec::new(),
            jobs: JOBS,
        }
    }

    /// Adds a kill function to judge, which takes a pgid. What it did is observed from the fixture's end. Subjects that
    /// are named take the place of the built-in ones.
    pub fn subject<F, Fut>(mut self, name: &str, kill: F) -> Suite
    where
        F: Fn(i32) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        self.subjects.get_or_insert_default().push(Subject::new(name, kill));
        self
    }

    /// The subjects to judge, in place of the built-in ones.
    pub fn subjects(mut self, subjects: impl Into<Vec<Subject>>) -> Suite {
        self.subjects = Some(subjects.into());
        self
    }

    /// The fixtures to hold the subjects against; all by default.
    pub fn fixtures(mut self, fixtures: impl Into<Vec<Fixture>>) -> Suite {
        self.fixtures = fixtures.into();
        self
    }

    /// The runtimes to run the subjects on, all by default; programs run once, on none.
    pub fn runtimes(mut self, runtimes: impl Into<Vec<Flavor>>) -> Suite {
        self.runtimes = runtimes.into();
        self
    }

    /// The shells to run the fixtures under, each with its arguments (`busybox sh`): every cell once under each.
    pub fn shells(mut self, shells: impl Into<Vec<String>>) -> Suite {
        self.shells = shells.into();
        self
    }

    /// How many times to run every cell; once by default, and at least.
    pub fn repeat(mut self, times: u32) -> Suite {
        self.repeat = times.max(1);
        self
    }

    /// The part of the suite to run. A cell's [name](Cell::name) alone decides its part: FNV-1a, 64 bits, modulo the
    /// number of parts.
    pub fn partition(mut self, partition: Partition) -> Suite {
        self.partition = Some(partition);
        self
    }

    /// The grace that the subjects give, 5 s by default: built-in subjects and programs are told it, functions of your
    /// own have to give as much. The program and `main` take from 100 ms to a minute. A short one makes a quick suite
    /// and leaves less room for a slow machine.
    pub fn grace(mut self, grace: Duration) -> Suite {
        self.policy = self.policy.grace(grace);
        self
    }

    /// The signal by which the subjects ask a group to end before they send SIGKILL: SIGTERM by default, else SIGINT,
    /// SIGHUP, SIGQUIT, SIGUSR1 or SIGUSR2. The fixtures obey, ignore or handle it, as
    /// [`Setup::first_signal`](crate::fixture::Setup::first_signal) says.
    pub fn first_signal(mut self, signal: Signal) -> Suite {
        self.policy = self.policy.signal(signal);
        self
    }

    /// How long a worker may stand still; 50 ms by default, 1 ms at least. A budget of half of the grace or more would
    /// catch no subject, since known-bad ones stand still for the grace.
    pub fn budget(mut self, budget: Duration) -> Suite {
        self.budget = budget.max(Duration::from_millis(1));
        self
    }

    /// How long a kill may take before its cell is ended and fails; by default twice the grace and 30 s more, far
    /// beyond what the slowest machine needs for the longest kill. The program and `main` take an hour at most.
    pub fn deadline(mut self, deadline: Duration) -> Suite {
        self.deadline = Some(deadline);
        self
    }

    /// How many cells to run side by side; 40 by default. A test target says that by `--test-threads`.
    pub fn jobs(mut self, jobs: usize) -> Suite {
        self.jobs = jobs.max(1);
        self
    }

    /// The cells of this suite, in the order of the report.
    pub fn cells(&self) -> Vec<Cell> {
        let repeats: Vec<_> = if self.repeat == 1 { vec![None] } else { (1..=self.repeat).map(Some).collect() };
        let on_runtimes: Vec<_> = self.runtimes.iter().copied().map(Some).collect();
        let mut cells = Vec::new();
        for subject in self.judged() {
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
        cells.retain(|cell| self.partition.is_none_or(|part| partition::has(part, &cell.name())));
        cells
    }

    /// Runs every cell in this process, some side by side, and calls `done` with the report on each as it ends. A cell
    /// that proves nothing is run again, three times in all.
    ///
    /// The program runs each cell in a process of its own instead, and so does `main` (feature `conformance`).
    pub fn run(&self, done: impl FnMut(&CellReport)) -> Report {
        self.run_by(|cell| while_inconclusive(|| self.run_cell(cell), CellReport::proves_nothing), done)
    }

    /// Runs one cell in this process, once.
    pub(super) fn run_cell(&self, cell: &Cell) -> CellReport {
        run_cell(cell, &self.settings())
    }

    /// Runs every cell by `run`, some side by side, and calls `done` with the report on each as it ends.
    pub(crate) fn run_by(&self, run: impl Fn(&Cell) -> CellReport + Sync, mut done: impl FnMut(&CellReport)) -> Report {
        let cells = self.cells();
        let mut reports: Vec<Option<CellReport>> = cells.iter().map(|_| None).collect();
        // Long cells first, so that none of them runs alone at the end.
        let mut order: Vec<usize> = (0..cells.len()).collect();
        order.sort_by_key(|i| std::cmp::Reverse(cells[*i].expected().timing));
        let queue = Mutex::new(VecDeque::from(order));
        let (sender, results) = mpsc::channel();
        std::thread::scope(|scope| {
            for _ in 0..self.jobs.min(cells.len()) {
                let (queue, cells, run, sender) = (&queue, &cells, &run, sender.clone());
                scope.spawn(move || {
                    loop {
                        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
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
        let whole = self.partition.map(|_| self.id());
        Report { partition: self.partition, whole, ..Report::new(reports.into_iter().flatten().collect()) }
    }

    /// What all parts of this suite have in common.
    fn id(&self) -> SuiteId {
        let whole = Suite { partition: None, ..self.clone() };
        let names = whole.cells().iter().map(Cell::name).collect();
        let CellSettings { policy, budget, deadline } = self.settings();
        partition::suite_id(names, [policy.grace, budget, deadline], policy.signal)
    }

    fn judged(&self) -> Vec<Subject> {
        self.subjects.clone().unwrap_or_else(built_in)
    }

    pub(super) fn settings(&self) -> CellSettings {
        let deadline = self.deadline;
        let deadline =
            deadline.unwrap_or_else(|| self.policy.grace.saturating_mul(2).saturating_add(Duration::from_secs(30)));
        CellSettings { policy: self.policy.clone(), budget: self.budget, deadline }
    }

    /// Whether a stall can exceed the budget: a subject that blocks a worker does so for the grace at most.
    #[cfg(any(feature = "cli", feature = "conformance"))]
    pub(crate) fn can_tell_a_stall(&self) -> bool {
        self.budget < self.policy.grace / 2 || self.judged().iter().all(Subject::is_program)
    }

    /// How long a cell may take in all: the fixture's handshake, the kill, the last look, and the end of what is left.
    #[cfg(any(feature = "cli", feature = "conformance"))]
    pub(super) fn cell_within(&self) -> Duration {
        self.settings().deadline.saturating_add(Duration::from_secs(150))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promised::{CONFORMANCE, are_kept, time};

    #[test]
    fn a_kill_may_take_as_long_as_the_documentation_promises() {
        let documented = time(include_str!("builder.rs"), "by default twice the grace and {} more, far");
        let page = time(CONFORMANCE, "takes longer than twice the grace and {} more has failed");
        for grace in [Duration::from_secs(1), Duration::from_secs(5)] {
            let within = Suite::new().grace(grace).settings().deadline;
            are_kept(&[("deadline", grace * 2 + documented, within), ("docs/conformance", grace * 2 + page, within)]);
        }
    }

    #[test]
    fn subjects_that_are_named_take_the_place_of_the_built_in_ones() {
        let subjects = |suite: &Suite| {
            let mut names: Vec<_> = suite.cells().iter().map(|cell| cell.subject.name().to_owned()).collect();
            names.dedup();
            names
        };
        let built_in: Vec<_> = built_in().iter().map(|subject| subject.name().to_owned()).collect();
        assert_eq!(subjects(&Suite::new()), built_in);
        let two = Suite::new().subject("ours", |_| async {}).subject("theirs", |_| async {});
        assert_eq!(subjects(&two), ["ours", "theirs"]);
        assert_eq!(subjects(&two.subjects([])), [""; 0]);
    }
}
