//! The arguments of `deadbeat suite`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use clap::builder::PossibleValuesParser;

use super::publish::Publish;
use crate::cli::args;
use crate::fixture;
use crate::report::Partition;
use crate::signal::Signal;
use crate::suite::{JOBS, RUNTIMES, Subject, built_in, runtime_name};

/// Run every subject against every fixture on every runtime, and hold each cell to what is expected of it.
///
/// A subject that is known to be bad is expected to be caught: the suite fails if it is not.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit status:
  0  every cell is as expected
  1  some cell is not: each is named, with the command that runs just that cell
  2  the call was wrong, or the output cannot be written
  3  some cell stayed inconclusive, and none failed
  130  interrupted: every fixture was killed")]
pub(in crate::cli) struct SuiteArgs {
    /// Only this subject; may be repeated
    #[arg(long = "subject", value_name = "NAME", value_parser = PossibleValuesParser::new(subject_names()))]
    pub(super) subjects: Vec<String>,
    /// Only this fixture; may be repeated
    #[arg(long = "fixture", value_name = "NAME", value_parser = PossibleValuesParser::new(fixture_names()))]
    pub(super) fixtures: Vec<String>,
    /// Judge this killer too, or alone where there is no --subject: a command line for /bin/sh -c, in which {pgid}
    /// stands for the process group and {grace} for the grace in seconds; may be repeated
    #[arg(long = "exec", value_name = "NAME='CMD {pgid}'", value_parser = killer)]
    pub(super) killers: Vec<Subject>,
    /// Only this runtime; may be repeated
    #[arg(long = "runtime", value_name = "NAME", value_parser = PossibleValuesParser::new(runtime_names()))]
    pub(super) runtimes: Vec<String>,
    /// The shells that the fixtures run under, every cell once under each: dash,bash,busybox; may be repeated; sh
    /// unless said otherwise
    #[arg(long = "shell", value_name = "SHELL", value_delimiter = ',', value_parser = args::shell)]
    pub(super) shells: Vec<String>,
    /// How many times to run every cell
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub(super) repeat: u32,
    /// Run only the M-th of N parts, which --merge puts together; a cell's part is told by its name
    #[arg(long, value_name = "M/N")]
    pub(super) partition: Option<Partition>,
    /// The grace that the subjects are told to give
    #[arg(long, value_name = "DURATION", default_value = "5s", value_parser = args::grace)]
    pub(super) grace: Duration,
    /// The signal by which the subjects ask a group to end before they send SIGKILL; the fixtures obey or ignore this
    /// one
    #[arg(long, value_name = "SIGNAL", default_value = "TERM", value_parser = args::first_signal)]
    pub(super) first_signal: Signal,
    /// How long a worker may stand still, 50 ms unless said otherwise; less than half of the grace, or no stall is seen
    #[arg(long, value_name = "DURATION", value_parser = args::budget)]
    pub(super) budget: Option<Duration>,
    /// How long a kill may take before it is ended and fails; twice the grace and 30 s unless said otherwise
    #[arg(long, value_name = "DURATION", value_parser = args::deadline)]
    pub(super) deadline: Option<Duration>,
    /// How many cells to run side by side, each in a process of its own
    #[arg(
        long,
        value_name = "N",
        default_value_t = JOBS as u16,
        value_parser = clap::value_parser!(u16).range(1..=1024)
    )]
    pub(super) jobs: u16,
    #[command(flatten)]
    pub(super) publish: Publish,
    /// List the cells and what is expected of each; run nothing. Time `prompt`: back soon after the group is gone;
    /// `grace`: takes half of it and more
    #[arg(long)]
    pub(super) list: bool,
    /// Run nothing: put the JSON reports of all parts together, and report on the whole
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with_all = RUNNING)]
    pub(super) merge: Vec<PathBuf>,
    /// Run this cell for the suite that started us
    #[arg(long, value_name = "NAME", hide = true)]
    pub(super) cell: Option<String>,
}

/// The arguments that say which cells to run, and how: none of them makes sense together with --merge.
const RUNNING: [&str; 14] = [
    "subjects",
    "fixtures",
    "killers",
    "runtimes",
    "shells",
    "repeat",
    "partition",
    "grace",
    "first_signal",
    "budget",
    "deadline",
    "jobs",
    "list",
    "cell",
];

fn subject_names() -> Vec<&'static str> {
    // Leaked, since clap keeps the names for the life of the program.
    built_in().iter().map(|subject| &*Box::leak(subject.name().to_owned().into_boxed_str())).collect()
}

fn fixture_names() -> impl Iterator<Item = &'static str> {
    fixture::ALL.iter().map(|fixture| fixture.name)
}

fn runtime_names() -> Vec<&'static str> {
    RUNTIMES.iter().map(|runtime| &*Box::leak(runtime_name(*runtime).into_boxed_str())).collect()
}

/// The killer that `NAME=CMD {pgid}` describes.
pub(super) fn killer(text: &str) -> Result<Subject, String> {
    let (name, template) =
        text.split_once('=').ok_or("write NAME='CMD {pgid}', such as mine='./kill-group {pgid} {grace}'")?;
    if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
        return Err(format!("{name:?} is no name for a killer: write letters, digits, - _ and ."));
    }
    Subject::program(name, template).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_killer_is_a_name_and_a_command_with_a_place_for_the_pgid() {
        let killer = |text| super::killer(text).map(|subject| (subject.name().to_owned(), subject.about().to_owned()));
        assert_eq!(killer("mine=A=1 ./k {pgid}"), Ok(("mine".into(), "A=1 ./k {pgid}".into())));
        for (text, hint) in [
            ("./k {pgid}", "NAME='CMD {pgid}'"),
            ("mine=./k", "has no {pgid}"),
            ("mine=", "has no {pgid}"),
            ("=./k {pgid}", "no name for a killer"),
            ("a/b=./k {pgid}", "no name for a killer"),
        ] {
            let error = killer(text).expect_err(text);
            assert!(error.contains(hint), "{text}: {error}");
        }
    }
}
