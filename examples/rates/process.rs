//! A trial in a process of its own, as a test has one under cargo-nextest: any other trial's threads would be threads
//! of its process that wait for a CPU, and may be the ones that its worker waits for.

use std::process::{Command, Stdio};

use crate::trial::Outcome;

const ONE: &str = "--one";

/// The block of the sweep, if it is one of that, and which of the trials this process is to run.
pub(crate) fn asked_for(args: &[String]) -> Option<(Option<u64>, usize)> {
    let at = args.iter().position(|arg| arg == ONE)?;
    let [block, nth] = args.get(at + 1..at + 3)? else { return None };
    Some((block.parse().ok(), nth.parse().expect("a number")))
}

/// # Errors
///
/// What it said, if that was no outcome.
pub(crate) fn run(args: &[String], record: Option<&str>, block: Option<u64>, nth: usize) -> Result<Outcome, String> {
    let block = block.map_or_else(|| "mixed".to_owned(), |block| block.to_string());
    let mut trial = Command::new(std::env::current_exe().expect("this program"));
    trial.args(args).args([ONE, &block, &nth.to_string()]).stdin(Stdio::null()).stderr(Stdio::inherit());
    // The library appends what it judges to the file that this names.
    trial.envs(record.map(|path| ("DEADBEAT_RECORD", path)));
    let said = String::from_utf8_lossy(&trial.output().expect("a process").stdout).into_owned();
    Outcome::heard(&said).ok_or(said)
}
