//! The suite for a kill function of one's own, as a test target: every cell is a test, in a process of its own.
//!
//! A known failure is declared with its reason, and is an error once it passes, so that the list never goes stale.
//! Beside the subjects runs a control, the naive body, which has to be caught: if it is not, a pass of the subjects
//! proves nothing.

use std::process::Command;
use std::sync::Arc;

use libtest_mimic::{Arguments, Failed, Trial};
use signal_hook::iterator::Signals;

use super::builder::{DEADLINES, GRACES, JOBS, Suite};
use super::cell::{Cell, runtime_name};
use super::declared::{Declared, DeclaredAs};
use super::process;
use super::subjects::{Subject, built_in};
use crate::date::is_date;
use crate::fixture;
use crate::report::{CellReport, CellVerdict, about_fixture};
use crate::shutdown::heeded;

/// The name of the control.
const CONTROL: &str = "control";

/// The fixture of the control. It dies of SIGTERM at once, so the naive body is caught by its time and by its pulse.
const CONTROL_FIXTURE: &str = "fast-exit";

/// The option of a process that is to run one cell, before the cell's name.
const ONE_CELL: &str = "--deadbeat-cell";

/// A [`Suite`], under the name that says what a test target is for: your own kill functions against every fixture on
/// every runtime, by `cargo test` or `cargo nextest run`.
///
/// In `Cargo.toml`, a test target without a harness:
///
/// ```toml
/// [[test]]
/// name = "conformance"
/// harness = false
///
/// [dev-dependencies]
/// deadbeat = { path = "../deadbeat", default-features = false, features = ["conformance"] }
/// ```
///
/// In `tests/conformance.rs`:
///
/// ```no_run
/// use deadbeat::suite::Conformance;
///
/// fn main() {
///     Conformance::new()
///         .subject("ours", |pgid| async move { deadbeat::kill_process_group(pgid).await })
///         .main()
/// }
/// ```
pub type Conformance = Suite;

/// The suite as a test target, with the feature `conformance`.
impl Suite {
    /// Declares that a cell fails, and why: `ours/late-fork/current-thread`, or `ours/late-fork/*` for several, where
    /// `*` stands for anything. The cell runs all the same, and a pass is an error.
    pub fn known_failure(self, cells: &str, reason: &str) -> Suite {
        self.declare(DeclaredAs::KnownFailure, cells, reason, None)
    }

    /// Declares that a cell fails until a day `YYYY-MM-DD`, which is the last one, in UTC. From the next day on its
    /// test fails whatever the cell does. Else as [`known_failure`](Self::known_failure).
    pub fn known_failure_until(self, cells: &str, reason: &str, day: &str) -> Suite {
        self.declare(DeclaredAs::KnownFailure, cells, reason, Some(day.to_owned()))
    }

    /// Declares that a cell fails at times, and why: a race in the function, say. Cells are named as for
    /// [`known_failure`](Self::known_failure).
    ///
    /// The cell runs, and what became of it is printed; neither a pass nor a failure is an error, but a run that proves
    /// nothing is. If a cell is declared both ways, the first declaration counts.
    pub fn flaky(self, cells: &str, reason: &str) -> Suite {
        self.declare(DeclaredAs::Flaky, cells, reason, None)
    }

    fn declare(mut self, as_what: DeclaredAs, cells: &str, reason: &str, until: Option<String>) -> Suite {
        self.declared.push(Declared { as_what, pattern: cells.to_owned(), reason: reason.to_owned(), until });
        self
    }

    /// Runs the cells that the arguments of this program ask for, as a test harness does, and exits.
    ///
    /// Many cells run side by side, since they wait more than they compute. `--test-threads` or `RUST_TEST_THREADS`
    /// says how many, under `cargo test`.
    pub fn main(self) -> ! {
        let cells = match self.checked_cells() {
            Ok(cells) => cells,
            Err(error) => {
                eprintln!("deadbeat: {error}");
                std::process::exit(2);
            }
        };
        let words: Vec<_> = std::env::args().skip(1).collect();
        if let [option, name] = &words[..] {
            if option == ONE_CELL {
                match cells.iter().find(|cell| cell.name() == *name) {
                    Some(cell) => process::report_to_parent(&self, cell),
                    None => panic!("no cell {name}"),
                }
            }
        }
        if let Err(error) = end_cells_on_signal() {
            eprintln!("deadbeat: cannot watch for signals: {error}");
            std::process::exit(2);
        }
        let program = std::env::args().next().unwrap_or_default();
        let (options, filters) = without_filters(words);
        let mut arguments = Arguments::from_iter(std::iter::once(program).chain(options));
        let wished = || std::env::var("RUST_TEST_THREADS").ok()?.parse().ok();
        arguments.test_threads = arguments.test_threads.or_else(wished).or(Some(JOBS));
        let this = Arc::new(self);
        let trials = cells.into_iter().map(|cell| {
            let this = Arc::clone(&this);
            Trial::test(cell.name(), move || this.try_cell(&cell))
        });
        let trials: Vec<_> = trials.collect();
        choose(&mut arguments, &filters, &trials);
        libtest_mimic::run(&arguments, trials).exit()
    }

    /// The cells of the subjects and of the control; `Err` if the settings make no sense.
    fn checked_cells(&self) -> Result<Vec<Cell>, String> {
        self.check_subjects()?;
        let fixtures = self.fixtures.iter().map(|fixture| fixture.name.to_owned()).collect();
        let runtimes = self.runtimes.iter().copied().map(runtime_name).collect();
        for (kind, names) in [("fixture", fixtures), ("runtime", runtimes), ("shell", self.shells.clone())] {
            once_each(kind, &names)?;
        }
        fixture::is_polite(self.policy.signal)?;
        self.check_times()?;
        let mut cells = self.cells();
        self.declared.iter().try_for_each(|declared| check_declared(declared, &cells))?;
        let control = built_in().into_iter().take(1).map(|naive| naive.called(CONTROL)).collect::<Vec<_>>();
        let control = self.clone().subjects(control).fixtures(Vec::from_iter(fixture::named(CONTROL_FIXTURE)));
        cells.extend(control.cells());
        Ok(cells)
    }

    fn check_subjects(&self) -> Result<(), String> {
        let subjects: Vec<_> = self.subjects.iter().flatten().map(Subject::name).collect();
        if subjects.is_empty() {
            return Err("there is no subject: name a kill function with .subject(..)".into());
        }
        for (i, name) in subjects.iter().enumerate() {
            if name.is_empty() || *name == CONTROL || name.contains('/') {
                return Err(format!(
                    "{name:?} cannot be a subject's name: choose one without a slash, other than {CONTROL}"
                ));
            }
            if subjects[..i].contains(name) {
                return Err(format!("two subjects are called {name:?}: give each a name of its own"));
            }
        }
        Ok(())
    }

    fn check_times(&self) -> Result<(), String> {
        let (grace, deadline) = (self.policy.grace, self.settings().deadline);
        for (what, time, bounds) in [("grace", grace, &GRACES), ("deadline", deadline, &DEADLINES)] {
            if !bounds.contains(&time) {
                let (shortest, longest) = (bounds.start(), bounds.end());
                return Err(format!(
                    "a {what} of {time:?} cannot be kept: it must be from {shortest:?} to {longest:?}"
                ));
            }
        }
        if deadline <= grace {
            return Err(format!(
                "a deadline of {deadline:?} cannot be kept: it must be longer than the grace, {grace:?}"
            ));
        }
        if !self.can_tell_a_stall() {
            let budget = self.budget;
            return Err(format!(
                "a budget of {budget:?} sees no stall: it must be less than half of the grace, {grace:?}"
            ));
        }
        Ok(())
    }

    fn try_cell(&self, cell: &Cell) -> Result<(), Failed> {
        let program = std::env::current_exe()?;
        let command = || {
            let mut command = Command::new(&program);
            command.args([ONE_CELL, &cell.name()]);
            command
        };
        let report = process::run(self, cell, command);
        let declared = self.declared.iter().find(|declared| declared.is_of(&report.name()));
        judge(&report, declared).map_err(Failed::from)
    }
}

/// The options and the filters among these words. libtest takes several filters, of which a test has to fit one;
/// libtest-mimic takes one and refuses the next.
fn without_filters(words: Vec<String>) -> (Vec<String>, Vec<String>) {
    let (mut options, mut filters) = (Vec::new(), Vec::new());
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        let takes_next = match &*word {
            "--test-threads" | "--logfile" | "--skip" | "--color" | "--format" => true,
            short => short.starts_with('-') && !short.starts_with("--") && short.ends_with('Z'),
        };
        match &*word {
            "--" => filters.extend(words.by_ref()),
            option if option.len() > 1 && option.starts_with('-') => options.push(word),
            _ => filters.push(word),
        }
        if takes_next {
            options.extend(words.next());
        }
    }
    (options, filters)
}

/// Has every test skipped, by its whole name, that fits none of the filters.
fn choose(arguments: &mut Arguments, filters: &[String], trials: &[Trial]) {
    if filters.len() < 2 {
        arguments.filter = filters.first().cloned();
        return;
    }
    let by: Vec<_> =
        filters.iter().map(|filter| Arguments { filter: Some(filter.clone()), ..arguments.clone() }).collect();
    let unwanted = trials.iter().filter(|trial| by.iter().all(|arguments| arguments.is_filtered_out(trial)));
    arguments.skip = unwanted.map(|trial| trial.name().to_owned()).collect();
    arguments.exact = true;
}

/// Has an interruption end the cells before the process: Ctrl-C, or a test runner that ends a test that takes too long.
fn end_cells_on_signal() -> std::io::Result<()> {
    let mut signals = Signals::new(heeded())?;
    std::thread::Builder::new().name("deadbeat-signals".into()).spawn(move || {
        let Some(signal) = signals.forever().next() else { return };
        process::kill_all();
        std::process::exit(128 + signal);
    })?;
    Ok(())
}

fn judge(report: &CellReport, declared: Option<&Declared>) -> Result<(), String> {
    let (name, why) = (report.name(), &report.why);
    if let Some((declared, day)) = declared.and_then(|declared| Some((declared, declared.over_since()?))) {
        let reason = &declared.reason;
        return Err(match report.verdict {
            CellVerdict::Pass => {
                format!(
                    "it was known to fail until {day}, which is over ({reason}), and passes: take the declaration away"
                )
            }
            _ => format!("it was known to fail until {day}, which is over ({reason}): {why}"),
        });
    }
    let declared = declared.map(|declared| (declared.as_what, &declared.reason));
    match (report.verdict, declared) {
        (CellVerdict::Pass, None) => {}
        (CellVerdict::Pass, Some((DeclaredAs::KnownFailure, reason))) => {
            return Err(format!("it passes, though it is a known failure ({reason}): take the declaration away"));
        }
        (CellVerdict::Pass, Some((DeclaredAs::Flaky, reason))) => eprintln!("flaky cell {name} ({reason}): it passed"),
        (CellVerdict::Fail, Some((as_what, reason))) => {
            eprintln!("{} {name} ({reason}): {why}", as_what.name());
        }
        (CellVerdict::Fail, None) => {
            // On a line of its own, for readers who do not know the fixture yet.
            let about = about_fixture(report).map(|about| format!("\n{about}")).unwrap_or_default();
            return Err(why.clone() + &about);
        }
        (CellVerdict::Inconclusive, _) => return Err(format!("inconclusive: {why}")),
    }
    Ok(())
}

/// Checks that a declaration has a reason and is of some cell, and that its last day is a date.
fn check_declared(declared: &Declared, cells: &[Cell]) -> Result<(), String> {
    let Declared { as_what, pattern, reason, until } = declared;
    let known = as_what.name();
    if reason.trim().is_empty() {
        return Err(format!("the {known} {pattern:?} has no reason: say why it fails"));
    }
    if let Some(day) = until.as_ref().filter(|day| !is_date(day)) {
        return Err(format!("{day:?} is no date: write the last day of the {known} {pattern:?} as YYYY-MM-DD"));
    }
    if !cells.iter().any(|cell| declared.is_of(&cell.name())) {
        return Err(format!("the {known} {pattern:?} is no cell: --list shows those there are"));
    }
    Ok(())
}

/// Refuses an empty list, whose test target would pass without a cell, and a name that is there twice, since two cells
/// of one name cannot be told apart.
fn once_each(kind: &str, names: &[String]) -> Result<(), String> {
    if names.is_empty() {
        return Err(format!("there is no {kind}: name one with .{kind}s(..), or leave it out for those by default"));
    }
    match names.iter().enumerate().find(|(i, name)| name.trim().is_empty() || names[..*i].contains(name)) {
        Some((_, name)) => Err(format!("the {kind} {name:?} is empty or there twice: name it once in .{kind}s(..)")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::heartbeat::Flavor;
    use crate::signal::Signal;
    use crate::suite::cell::RUNTIMES;

    fn with(subjects: &[&str]) -> Suite {
        subjects.iter().fold(Suite::new(), |tests, name| tests.subject(name, |_| async {}))
    }

    #[test]
    fn filters_are_told_from_options_and_their_values() {
        for (line, options, filters) in [
            ("", "", ""),
            ("a b --exact c", "--exact", "a b c"),
            ("--format terse a --list", "--format terse --list", "a"),
            ("--skip a b --skip=c d", "--skip a --skip=c", "b d"),
            ("-Z unstable-options a", "-Z unstable-options", "a"),
            ("-qZ unstable-options a -q", "-qZ unstable-options -q", "a"),
            ("--color never - -- --exact a", "--color never", "- --exact a"),
        ] {
            let split = |line: &str| line.split_ascii_whitespace().map(str::to_owned).collect::<Vec<_>>();
            assert_eq!(without_filters(split(line)), (split(options), split(filters)), "{line}");
        }
    }

    #[test]
    fn every_cell_is_there_once_and_the_control_on_every_runtime() {
        let cells = with(&["ours", "theirs"]).checked_cells().unwrap();
        let mut names: Vec<_> = cells.iter().map(Cell::name).collect();
        assert_eq!(names.len(), 2 * fixture::ALL.len() * RUNTIMES.len() + RUNTIMES.len());
        assert!(names.contains(&"control/fast-exit/multi-thread-1".to_owned()), "{names:?}");
        names.sort();
        names.dedup();
        assert_eq!(names.len(), cells.len());
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_to_do() {
        for (tests, hint) in [
            (with(&[]), ".subject(..)"),
            (with(&["control"]), "other than control"),
            (with(&["a/b"]), "without a slash"),
            (with(&["ours", "ours"]), "a name of its own"),
            (with(&["ours"]).fixtures([]), "there is no fixture"),
            (with(&["ours"]).runtimes([]), "there is no runtime"),
            (with(&["ours"]).shells([]), "there is no shell"),
            (with(&["ours"]).fixtures([fixture::ALL[1], fixture::ALL[1]]), "\"deep-tree\" is empty or there twice"),
            (with(&["ours"]).runtimes([Flavor::CurrentThread; 2]), "there twice"),
            (with(&["ours"]).shells(["sh".to_owned(), "sh".to_owned()]), "there twice"),
            (with(&["ours"]).shells([" ".to_owned()]), "\" \" is empty"),
            (with(&["ours"]).grace(Duration::from_secs(61)), "to 60s"),
            (with(&["ours"]).deadline(Duration::from_secs(3601)), "to 3600s"),
            (with(&["ours"]).deadline(Duration::from_secs(5)), "longer than the grace"),
            (with(&["ours"]).budget(Duration::from_millis(2500)), "less than half of the grace, 5s"),
            (with(&["ours"]).grace(Duration::from_millis(100)), "a budget of 50ms sees no stall"),
            (with(&["ours"]).first_signal(Signal::KILL), "write one of SIGTERM, SIGINT, "),
            (with(&["ours"]).known_failure("ours/late-fork/*", " "), "say why it fails"),
            (with(&["ours"]).known_failure("ours/late-frok/*", "typing"), "--list"),
            (with(&["ours"]).known_failure("control/fast-exit/*", "no excuse for it"), "--list"),
            (
                with(&["ours"]).known_failure_until("ours/late-fork/*", "slow", "2027-02-29"),
                "\"2027-02-29\" is no date",
            ),
            (with(&["ours"]).flaky("ours/late-fork/*", ""), "say why it fails"),
            (with(&["ours"]).flaky("ours/late-frok/*", "typing"), "the flaky cell \"ours/late-frok/*\" is no cell"),
        ] {
            let error = tests.checked_cells().expect_err(hint);
            assert!(error.contains(hint), "{error}");
        }
    }

    #[test]
    fn a_known_failure_has_to_fail_and_a_flaky_cell_may() {
        let cell = &with(&["ours"]).checked_cells().unwrap()[0];
        let report = |verdict| CellReport { verdict, why: "because".into(), ..cell.unjudged() };
        let declared = |as_what| Declared { as_what, pattern: "*".into(), reason: "we are slow".into(), until: None };
        let (failure, flaky) = (&declared(DeclaredAs::KnownFailure), &declared(DeclaredAs::Flaky));
        assert_eq!(judge(&report(CellVerdict::Pass), None), Ok(()));
        assert_eq!(judge(&report(CellVerdict::Fail), Some(failure)), Ok(()));
        let fixture = "already-gone: shakes hands and exits 0; its starter reaps it, so that no group is left.";
        assert_eq!(judge(&report(CellVerdict::Fail), None), Err(format!("because\n{fixture}")));
        assert!(judge(&report(CellVerdict::Pass), Some(failure)).unwrap_err().contains("take the declaration away"));
        for verdict in [CellVerdict::Pass, CellVerdict::Fail] {
            assert_eq!(judge(&report(verdict), Some(flaky)), Ok(()));
        }
        let until = |day: &str| Declared { until: Some(day.to_owned()), ..declared(DeclaredAs::KnownFailure) };
        assert_eq!(judge(&report(CellVerdict::Fail), Some(&until("9999-12-31"))), Ok(()));
        for (verdict, said) in [
            (CellVerdict::Fail, "it was known to fail until 2020-02-29, which is over (we are slow): because"),
            (CellVerdict::Pass, "which is over (we are slow), and passes: take the declaration away"),
            (CellVerdict::Inconclusive, "which is over"),
        ] {
            assert!(judge(&report(verdict), Some(&until("2020-02-29"))).unwrap_err().contains(said));
        }
        for known in [None, Some(failure), Some(flaky)] {
            assert!(judge(&report(CellVerdict::Inconclusive), known).unwrap_err().contains("inconclusive"));
        }
    }
}
