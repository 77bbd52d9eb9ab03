//! `deadbeat kill`: kills the process groups that it is given, all at once.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::Serialize;

use super::{args, output};
use crate::group::{ProcessGroup, group_of_member};
use crate::kill::{KillError, KillErrorKind, KillPolicy, KillReport, KillThread, Outcome, SentSignal};
use crate::millis::millis;
use crate::report::escape;
use crate::signal::Signal;

/// Kill process groups: a signal, a grace, SIGKILL for what is left; all of them at once.
#[derive(Debug, Args)]
#[command(after_help = "\
Exit status:
  0  every group is gone
  1  some group is not, none of its members may be signalled, or a number is that of a process that leads no group;
     said on stderr
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
    // A negative number is a signal as kill(1) takes it, or a group as kill(1) names it.
    ProcessGroup::new(pgid).map_err(|error| match text.strip_prefix('-') {
        Some(number) if number.parse::<Signal>().is_ok() => {
            format!("it is negative: a process group is named by its number alone; for that signal, write -s {number}")
        }
        Some(number) if number != "0" => {
            format!("it is negative: a process group is named by its number alone, so write {number}")
        }
        _ => error.to_string(),
    })?;
    Ok(pgid)
}

/// The advice for the first argument that is a signal as kill(1) takes it, such as `-TERM`, which clap takes for
/// options.
pub(super) fn advice(args: impl Iterator<Item = OsString>) -> Option<String> {
    let mut args = args.map(|arg| arg.into_string().unwrap_or_default()).take_while(|arg| arg != "--");
    args.find(|arg| arg == "kill")?;
    let name =
        args.find_map(|arg| arg.strip_prefix('-').filter(|name| name.parse::<Signal>().is_ok()).map(str::to_owned))?;
    Some(format!("-{name} is no option of deadbeat kill: to send that signal first, write -s {name}"))
}

pub(super) fn run(args: &KillArgs) -> ExitCode {
    let policy = KillPolicy::default().signal(args.signal).grace(args.grace).poll_interval(args.poll_interval);
    let kill_thread = match KillThread::new(policy) {
        Ok(kill_thread) => kill_thread,
        Err(error) => {
            output::tell(&format_args!("deadbeat: nothing was signalled, no thread can be started: {error}"));
            return ExitCode::FAILURE;
        }
    };
    // All are under way before the first is waited for. One that is named twice is killed once: to some programs a
    // second SIGTERM means "at once".
    let mut pending = BTreeMap::new();
    let mut results = BTreeMap::new();
    // Asked before any is killed: with its group a member would be gone.
    for pgid in args.pgids.iter().copied() {
        if let Some(group) = group_of_member(pgid) {
            results.insert(pgid, Err(FailedKill::of_member(pgid, group)));
        }
    }
    for pgid in args.pgids.iter().filter(|pgid| !results.contains_key(pgid)) {
        pending.entry(*pgid).or_insert_with(|| kill_thread.kill(*pgid));
    }
    let (mut status, mut printed) = (ExitCode::SUCCESS, ExitCode::SUCCESS);
    for pgid in args.pgids.iter().copied() {
        if let Some(pending) = pending.remove(&pgid) {
            results.insert(pgid, judged(pgid, pending.wait_blocking()));
        }
        let Some(result) = results.get(&pgid) else { continue };
        match result {
            Ok(report) => {
                if report.outcome == Outcome::Survived {
                    output::tell(&format_args!("deadbeat: {}", survivors(report)));
                    status = ExitCode::FAILURE;
                }
            }
            Err(failure) => {
                output::tell(&format_args!("deadbeat: {}", failure.message));
                status = ExitCode::FAILURE;
            }
        }
        let line = match args.format {
            Format::Json => json(result),
            Format::Human => result.as_ref().map(human).unwrap_or_default(),
        };
        // The others are still under way: what cannot be printed must not end them, and is said once.
        if printed == ExitCode::SUCCESS {
            printed = output::print(&line, ExitCode::SUCCESS);
        }
    }
    kill_thread.shutdown_blocking();
    if status == ExitCode::SUCCESS { printed } else { status }
}

/// Why a group that was named was not killed, as it is printed.
#[derive(Serialize)]
struct FailedKill {
    pgid: i32,
    error: &'static str,
    message: String,
}

impl FailedKill {
    fn of_member(pgid: i32, group: i32) -> FailedKill {
        FailedKill { pgid, error: KillErrorKind::NotLeader.as_str(), message: not_leader(pgid, group) }
    }
}

/// The result for a number that was named. That no group has it is a failure if a process has it: the process was
/// meant, or its group.
fn judged(pgid: i32, result: Result<KillReport, KillError>) -> Result<KillReport, FailedKill> {
    let failure = |kind: KillErrorKind, message| FailedKill { pgid, error: kind.as_str(), message };
    match result {
        Ok(report) if report.outcome == Outcome::AlreadyGone => match group_of_member(pgid) {
            Some(group) => Err(FailedKill::of_member(pgid, group)),
            None => Ok(report),
        },
        Ok(report) => Ok(report),
        Err(error) => Err(failure(error.kind(), error.to_string())),
    }
}

/// The message for a process that leads no group. It advises to name its group only if that one would be killed.
fn not_leader(pid: i32, group: i32) -> String {
    let begin = format!("process {pid} leads no group");
    match ProcessGroup::new(group) {
        Ok(group) => format!("{begin}, it is in group {group}: name that one"),
        Err(_) if group == 0 => format!("{begin}, and its own is in another pid namespace: kill it from there"),
        Err(error) => format!("{begin}, it is in group {group}, and that one is not killed: {error}"),
    }
}

fn survivors(report: &KillReport) -> String {
    let pgid = report.pgid;
    if report.survivors.is_empty() {
        return format!(
            "process group {pgid} was sent SIGKILL and cannot be seen to be gone: without /proc a zombie that its \
             parent has not waited for looks alive"
        );
    }
    let names: Vec<_> = report.survivors.iter().map(ToString::to_string).collect();
    format!("process group {pgid} outlived the kill: {}", names.join("; "))
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

fn json(result: &Result<KillReport, FailedKill>) -> String {
    let line = match result {
        Ok(report) => serde_json::to_string(report),
        Err(failure) => serde_json::to_string(failure),
    };
    line.map(|line| escape::json(&line) + "\n").unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_as_kill_takes_it_is_told_how_to_write() {
        let advice = |line: &str| advice(line.split_ascii_whitespace().map(OsString::from));
        for (line, name) in [("kill -TERM 4242", "TERM"), ("--color never kill 4242 -sigint", "sigint")] {
            let advice = advice(line).expect(line);
            assert!(advice.ends_with(&format!("write -s {name}")), "{advice}");
        }
        for line in ["kill --grace 4242", "kill -x 4242", "kill -- -TERM", "suite -TERM", "kill 4242"] {
            assert_eq!(advice(line), None, "{line}");
        }
        assert!(pgid("-9").unwrap_err().ends_with("for that signal, write -s 9"));
        assert!(pgid("-1234").unwrap_err().ends_with("write 1234"));
        assert!(!pgid("-4242").unwrap_err().contains("-s"));
    }

    #[test]
    fn what_a_process_calls_itself_is_no_command_to_a_terminal() {
        let named = "\u{7f}\u{9b}2J\u{202e}";
        let failure = FailedKill { pgid: 7, error: "survived", message: named.to_owned() };
        let line = json(&Err(failure));
        assert!(!line.contains(['\u{7f}', '\u{9b}', '\u{202e}']), "{line:?}");
        assert_eq!(serde_json::from_str::<serde_json::Value>(&line).unwrap()["message"], named);
    }

    #[test]
    fn only_a_group_that_can_be_named_is_advised() {
        let own = nix::unistd::getpgrp().as_raw();
        assert_eq!(not_leader(4242, 4240), "process 4242 leads no group, it is in group 4240: name that one");
        for (group, why) in [(0, "another pid namespace"), (1, "every process"), (own, "the caller's own group")] {
            let message = not_leader(4242, group);
            assert!(message.contains(why) && !message.contains("name that one"), "{message}");
        }
    }
}
