//! What the suite found, as data that can be written and read back: one [`CellReport`] a cell, and their [`Summary`].
//!
//! Each format is one small file below: a table and a page for people, JSON and JUnit for programs, Markdown for a pull
//! request.

#[cfg(feature = "cli")]
pub(crate) mod escape;
mod expected;
#[cfg(feature = "cli")]
pub mod html;
#[cfg(feature = "cli")]
pub mod json;
#[cfg(feature = "cli")]
pub mod junit;
#[cfg(feature = "cli")]
pub mod markdown;
#[cfg(feature = "cli")]
mod matrix;
mod partition;
mod pulse;
#[cfg(feature = "cli")]
pub mod table;
mod timeline;

use std::fmt;
use std::time::Duration;

use crate::group::{Backend, Member, backend};
use crate::kill::{Outcome, SentSignal};

pub use expected::{Expected, ExpectedPulse, Timing};
pub use partition::{Partition, SuiteId};
pub use pulse::{PulseReport, PulseVerdict, StallReport};
pub use timeline::{Life, Timeline};

/// Whether a cell showed what was expected of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum CellVerdict {
    /// Everything was as expected. A known-bad subject passes if it was caught.
    Pass,
    /// Something was not as expected.
    Fail,
    /// Nothing was proved wrong, and not everything was proved right.
    Inconclusive,
}

impl fmt::Display for CellVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            CellVerdict::Pass => "pass",
            CellVerdict::Fail => "fail",
            CellVerdict::Inconclusive => "inconclusive",
        })
    }
}

/// What was seen of one cell, and the verdict on it.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct CellReport {
    /// The kill implementation under test.
    pub subject: String,
    /// The program that was to be killed.
    pub fixture: String,
    /// The runtime that the subject ran on; `none` for a program, which runs on none.
    pub runtime: String,
    /// The shell that the fixture ran under.
    pub shell: String,
    /// The number of this run, from 1, where every cell is run several times.
    pub repeat: Option<u32>,
    /// Whether the subject is expected to be caught.
    pub known_bad: bool,
    /// What the cell had to show.
    pub expected: Expected,
    /// What became of the group: as the subject reports it, else as it was observed; `None` if neither is known.
    pub outcome: Option<Outcome>,
    /// The time from the call of the subject to its return.
    #[cfg_attr(feature = "serde", serde(rename = "elapsed_ms", with = "crate::millis::maybe"))]
    pub elapsed: Option<Duration>,
    /// The signals that the subject reports it sent; `None` if it reports none of that.
    pub signals: Option<Vec<SentSignal>>,
    /// Live members of the group, up to 1 s after the subject had returned.
    pub leftover: Vec<Member>,
    /// Live processes of the fixture that had left the group.
    pub escaped: Vec<Member>,
    /// The heartbeat of the runtime while the subject was at work.
    pub pulse: Option<PulseReport>,
    /// What happened when; `None` if the subject was never called.
    pub timeline: Option<Timeline>,
    /// The verdict.
    pub verdict: CellVerdict,
    /// Why the verdict is not `Pass`; empty if it is.
    pub why: String,
    /// The command that runs just this cell, where there is one.
    pub again: Option<String>,
}

impl CellReport {
    pub(crate) fn proves_nothing(&self) -> bool {
        self.verdict == CellVerdict::Inconclusive
    }

    pub(crate) fn new(
        subject: &str,
        fixture: &str,
        runtime: &str,
        shell: &str,
        known_bad: bool,
        expected: Expected,
    ) -> Self {
        CellReport {
            subject: subject.to_owned(),
            fixture: fixture.to_owned(),
            runtime: runtime.to_owned(),
            shell: shell.to_owned(),
            repeat: None,
            known_bad,
            expected,
            outcome: None,
            elapsed: None,
            signals: None,
            leftover: Vec::new(),
            escaped: Vec::new(),
            pulse: None,
            timeline: None,
            verdict: CellVerdict::Fail,
            why: String::new(),
            again: None,
        }
    }

    pub(crate) fn failed(mut self, why: String) -> CellReport {
        self.verdict = CellVerdict::Fail;
        self.why = why;
        self
    }

    /// Adds a failure that was seen after the cell had been judged.
    pub(crate) fn failed_too(self, why: String) -> CellReport {
        let why = if self.why.is_empty() { why } else { format!("{}; {why}", self.why) };
        self.failed(why)
    }

    /// The runtime that the subject ran on; `None` for a program.
    #[cfg(feature = "cli")]
    pub(crate) fn runtime(&self) -> Option<&str> {
        (self.runtime != NO_RUNTIME).then_some(&*self.runtime)
    }

    /// The name of its [`Cell`](crate::suite::Cell::name).
    pub fn name(&self) -> String {
        cell_name(&self.subject, &self.fixture, &self.runtime, &self.shell, self.repeat)
    }
}

/// The name that stands for the runtime of a program, which runs on none.
pub(crate) const NO_RUNTIME: &str = "none";

/// The name of a cell: `subject/fixture/runtime`, or `subject/fixture` of a program, then the shell and the repeat
/// where there is a choice. It decides the cell's partition, so it must never change.
pub(crate) fn cell_name(subject: &str, fixture: &str, runtime: &str, shell: &str, repeat: Option<u32>) -> String {
    let mut name = format!("{subject}/{fixture}");
    if runtime != NO_RUNTIME {
        name += &format!("/{runtime}");
    }
    if shell != "sh" {
        name += &format!("/{}", shell.replace(' ', "-"));
    }
    if let Some(repeat) = repeat {
        name += &format!("#{repeat}");
    }
    name
}

/// What the fixture of a cell does, for readers of a cell that is not as expected.
#[cfg(any(feature = "cli", feature = "conformance"))]
pub(crate) fn about_fixture(cell: &CellReport) -> Option<String> {
    let name = &*cell.fixture;
    crate::fixture::named(name).map(|fixture| format!("{name}: {}", fixture.about()))
}

impl Summary {
    /// The number of cells.
    pub fn total(&self) -> usize {
        self.pass + self.fail + self.inconclusive
    }
}

/// Reads `2 cells: 1 as expected, 1 failed, 0 inconclusive`.
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (total, Summary { pass, fail, inconclusive }) = (self.total(), self);
        let s = if total == 1 { "" } else { "s" };
        write!(f, "{total} cell{s}: {pass} as expected, {fail} failed, {inconclusive} inconclusive")
    }
}

/// The number of cells with each verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Summary {
    /// Cells that are as expected.
    pub pass: usize,
    /// Cells that are not.
    pub fail: usize,
    /// Cells that proved nothing.
    pub inconclusive: usize,
}

/// Where the suite ran.
#[derive(Clone, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Host {
    /// The operating system.
    pub os: String,
    /// The processor's architecture.
    pub arch: String,
    /// The kernel's release, as `uname -r` prints it.
    pub kernel: String,
    /// How many processors this process may use.
    pub cores: usize,
    /// The way in which deadbeat tells on it whether a group is gone.
    pub backend: Backend,
    /// The version of deadbeat.
    pub deadbeat: String,
}

impl Host {
    fn here() -> Host {
        Host {
            os: std::env::consts::OS.to_owned(),
            arch: std::env::consts::ARCH.to_owned(),
            kernel: rustix::system::uname().release().to_string_lossy().into_owned(),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            backend: backend(),
            deadbeat: env!("CARGO_PKG_VERSION").to_owned(),
        }
    }
}

/// What a suite found.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// Where it ran.
    pub host: Host,
    /// The part of the suite that this is; `None` for the whole.
    pub partition: Option<Partition>,
    /// The suite that this is a part of; `None` for the whole.
    pub whole: Option<SuiteId>,
    /// The cells, in the order of [`Suite::cells`](crate::suite::Suite::cells).
    pub cells: Vec<CellReport>,
    /// The number of cells with each verdict.
    pub summary: Summary,
}

impl Report {
    /// The report on cells that ran on this machine.
    pub(crate) fn new(cells: Vec<CellReport>) -> Report {
        Report::of(Host::here(), cells)
    }

    /// The report on these cells as a whole, counted.
    pub(crate) fn of(host: Host, cells: Vec<CellReport>) -> Report {
        let count = |verdict| cells.iter().filter(|cell| cell.verdict == verdict).count();
        let summary = Summary {
            pass: count(CellVerdict::Pass),
            fail: count(CellVerdict::Fail),
            inconclusive: count(CellVerdict::Inconclusive),
        };
        Report { host, partition: None, whole: None, cells, summary }
    }

    /// Whether every cell showed what was expected of it.
    pub fn all_as_expected(&self) -> bool {
        self.summary.fail == 0 && self.summary.inconclusive == 0
    }
}

/// A report with a cell of every verdict, and with text in it that would break out of any format.
#[cfg(all(test, feature = "cli"))]
const SAMPLE: &str = include_str!("report/sample.json");

/// Every character that has a meaning to some reader of a report, and its neighbours.
#[cfg(all(test, feature = "cli"))]
fn all_sorts_of_characters() -> String {
    let ends_of_planes = (0..=0x10_u32).flat_map(|plane| (plane << 16 | 0xfff0)..=(plane << 16 | 0xffff));
    let some = (0..=0x700).chain(0x2000..=0x2100).chain(0xfd00..=0xfeff).chain(ends_of_planes);
    some.filter_map(char::from_u32).collect()
}
