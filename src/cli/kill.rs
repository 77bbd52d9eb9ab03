//! `deadbeat kill`.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use nix::unistd::{Pid, getpgid};
use serde::Serialize;

use super::{args, output};
use crate::group::ProcessGroup;
use crate::kill::{KillError, KillPolicy, KillReport, Outcome, SentSignal, Undertaker};
use crate::millis::millis;
use crate::signal::Signal;

/// Kill process groups: a signal, a grace, SIGKILL for what is left; all of them at once.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit status:
  0  every group is gone
  1  some group is not, or none of its members may be signalled; said on stderr
  2  the call was wrong: nothing was signalled, not even the groups that were named well; or every group is gone,
     and stdout cannot be written to

Interrupted (Ctrl-C) it ends where it is: groups that are in their grace have had the first signal only.")]
pub(super) struct KillArgs {
    /// The process groups, each by the pid of its leader
    #[arg(value_name = "PGID", required = true, allow_negative_numbers = true, value_parser = pgid)]
    pgids: Vec<i32>,
    /// The first signal, by name or number
    #[arg(short, long, value_name = "SIGNAL", default_value = "TERM")]
    signal: Signal,
    /// How long each group has from the first signal until SIGKILL
    #[arg(short, long, value_name = "DURATION", default_value = "5s", value_parser = args::duration)]
    grace: Duration,
    /// The longest time between two looks at a group
    #[arg(long, value_name = "DURATION", default_value = "100ms", value_parser = args::positive_duration)]
    poll_interval: Duration,
    /// How to say what became of them: one line or one JSON object each, in the order given
    #[arg(long, value_enum, default_value_t = Format::Human)]
    format: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Human,
    Json,
}

fn pgid(text: &str) -> Result<i32, String> {
    let pgid = text.parse().map_err(|_| "it is not a process group: write the pid of the group's leader".to_owned())?;
    ProcessGroup::new(pgid).map_err(|error| error.to_string())?;
    Ok(pgid)
}

pub(super) fn run(args: &KillArgs) -> ExitCode {
    let policy = KillPolicy::default().signal(args.signal).grace(args.grace).poll_interval(args.poll_interval);
    let undertaker = match Undertaker::new(policy) {
        Ok(undertaker) => undertaker,
        Err(error) => {
            output::tell(&format_args!("deadbeat: nothing was signalled, no thread can be started: {error}"));
            return ExitCode::FAILURE;
        }
    };
    // All are under way before the first is waited for. One that is named twice is killed once: to some programs a second
    // SIGTERM means "at once".
    let mut burials = BTreeMap::new();
    for pgid in &args.pgids {
        burials.entry(*pgid).or_insert_with(|| undertaker.kill(*pgid));
    }
    let mut results = BTreeMap::new();
    let (mut status, mut printed) = (ExitCode::SUCCESS, ExitCode::SUCCESS);
    for pgid in args.pgids.iter().copied() {
        if let Some(burial) = burials.remove(&pgid) {
            results.insert(pgid, burial.wait_blocking());
        }
        let Some(result) = results.get(&pgid) else { continue };
        match result {
            Ok(report) => {
                if let Some(remark) = remark(report) {
                    output::tell(&format_args!("deadbeat: {remark}"));
                }
                if report.outcome == Outcome::Survived {
                    status = ExitCode::FAILURE;
                }
            }
            Err(error) => {
                output::tell(&format_args!("deadbeat: {error}"));
                status = ExitCode::FAILURE;
            }
        }
        let line = match args.format {
            Format::Json => json(pgid, result),
            Format::Human => result.as_ref().map(human).unwrap_or_default(),
        };
        // The others are still under way: what cannot be printed must not end them, and is said once.
        if printed == ExitCode::SUCCESS {
            printed = output::print(&line, ExitCode::SUCCESS);
        }
    }
    undertaker.shutdown_blocking();
    if status == ExitCode::SUCCESS { printed } else { status }
}

/// What is worth saying beside the outcome.
fn remark(report: &KillReport) -> Option<String> {
    let pgid = report.pgid;
    match report.outcome {
        Outcome::Survived if report.survivors.is_empty() => Some(format!(
            "process group {pgid} was sent SIGKILL and cannot be seen to be gone: without /proc a zombie that its parent has not waited for looks alive"
        )),
        Outcome::Survived => {
            let names: Vec<_> = report.survivors.iter().map(ToString::to_string).collect();
            Some(format!("process group {pgid} outlived the kill: {}", names.join("; ")))
        }
        Outcome::AlreadyGone => {
            let group = getpgid(Some(Pid::from_raw(pgid))).ok().filter(|group| group.as_raw() != pgid)?;
            Some(format!(
                "there is no process group {pgid}; process {pgid} is in group {group}: name that one to kill it"
            ))
        }
        _ => None,
    }
}

fn human(report: &KillReport) -> String {
    let signals: Vec<_> = report.signals.iter().map(|sent: &SentSignal| sent.signal.to_string()).collect();
    match report.outcome {
        Outcome::AlreadyGone => format!("{} was gone already\n", report.pgid),
        outcome => {
            format!("{} {outcome} after {:.1} ms ({})\n", report.pgid, millis(report.elapsed), signals.join(", "))
        }
    }
}

fn json(pgid: i32, result: &Result<KillReport, KillError>) -> String {
    #[derive(Serialize)]
    struct Failure<'a> {
        pgid: i32,
        error: &'a str,
        message: String,
    }
    let line = match result {
        Ok(report) => serde_json::to_string(report),
        Err(error) => {
            serde_json::to_string(&Failure { pgid, error: error.kind().as_str(), message: error.to_string() })
        }
    };
    line.map(|line| line + "\n").unwrap_or_default()
}
