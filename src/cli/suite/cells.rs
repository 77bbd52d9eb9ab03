//! The cells that the arguments ask for; how to list them, and the command for just one of them.

use std::process::Command;
use std::time::Duration;

use super::args::SuiteArgs;
use crate::cli::args::{search_path, shell as installed};
use crate::fixture;
use crate::report::CellReport;
use crate::signal::Signal;
use crate::suite::{Cell, RUNTIMES, Subject, Suite, built_in, runtime_name};

pub(super) fn suite(args: &SuiteArgs) -> Result<Suite, String> {
    let chosen = |names: &[String], name: &str| names.is_empty() || names.iter().any(|wanted| wanted == name);
    let mut subjects: Vec<_> = built_in().into_iter().filter(|s| chosen(&args.subjects, s.name())).collect();
    if args.subjects.is_empty() && !args.killers.is_empty() {
        subjects.clear();
    }
    subjects.extend(args.killers.iter().cloned());
    let fixtures: Vec<_> = fixture::ALL.iter().copied().filter(|f| chosen(&args.fixtures, f.name)).collect();
    let runtimes: Vec<_> = RUNTIMES.iter().copied().filter(|r| chosen(&args.runtimes, &runtime_name(*r))).collect();
    for (i, subject) in args.killers.iter().enumerate() {
        let name = subject.name();
        if args.killers[..i]
            .iter()
            .map(Subject::name)
            .chain(built_in().iter().map(Subject::name))
            .any(|other| other == name)
        {
            return Err(format!("--exec {name}=..: there is a subject of that name already, give it another"));
        }
    }
    let mut shells: Vec<String> = Vec::new();
    if args.shells.is_empty() {
        shells.push(installed("sh").map_err(|why| {
            format!(
                "{why} in {}, and the fixtures run under it: name a shell with --shell",
                search_path().to_string_lossy()
            )
        })?);
    }
    for shell in &args.shells {
        if !shells.contains(shell) {
            shells.push(shell.clone());
        }
    }
    let runs_somewhere = subjects.iter().any(|subject| !subject.is_program());
    let idle = [("--runtime", !args.runtimes.is_empty()), ("--budget", args.budget.is_some())];
    if let Some((option, _)) = idle.into_iter().find(|(_, given)| *given && !runs_somewhere) {
        return Err(format!(
            "{option}: a program runs on no runtime and has no pulse; leave it out, or add a --subject that has"
        ));
    }
    if let Some(deadline) = args.deadline.filter(|deadline| *deadline <= args.grace) {
        let (deadline, grace) = (humantime::format_duration(deadline), humantime::format_duration(args.grace));
        return Err(format!("--deadline {deadline}: it must be longer than the grace, {grace}"));
    }
    let mut suite = Suite::new().subjects(subjects).fixtures(fixtures).runtimes(runtimes).shells(shells);
    suite = suite.repeat(args.repeat).grace(args.grace).first_signal(args.first_signal).jobs(args.jobs.into());
    if let Some(budget) = args.budget {
        suite = suite.budget(budget);
    }
    if !suite.can_tell_a_stall() {
        let (budget, grace) = (humantime::format_duration(suite.budget), humantime::format_duration(args.grace));
        let must = "must be less than half of the grace";
        return Err(match args.budget {
            Some(_) => format!(
                "--budget {budget}: it {must}, {grace}, or no stall is seen; lower it, or give a longer --grace"
            ),
            None => format!(
                "--grace {grace}: the budget, {budget} unless --budget says otherwise, {must}, or no stall is seen; \
                 give a longer --grace, or a --budget"
            ),
        });
    }
    if let Some(partition) = args.partition {
        suite = suite.partition(partition);
    }
    if let Some(deadline) = args.deadline {
        suite = suite.deadline(deadline);
    }
    Ok(suite)
}

/// The command by which the program runs this cell in another process: its own arguments, and the cell's name.
pub(super) fn command(cell: &Cell) -> Command {
    let program = std::env::current_exe().unwrap_or_else(|_| "deadbeat".into());
    let mut command = Command::new(program);
    for arg in std::env::args_os().skip(1) {
        // Behind `suite`, and before a `--` that ends the options.
        let is_ours = arg == "suite" && command.get_args().all(|before| before != "suite");
        command.arg(arg);
        if is_ours {
            command.arg(format!("--cell={}", cell.name()));
        }
    }
    command
}

pub(super) fn list(suite: &Suite) -> String {
    let cells = suite.cells();
    let mut text = format!("{:15}{:19}{:16}{:14}{:8}{}\n", "subject", "fixture", "runtime", "outcome", "time", "pulse");
    let several_shells = cells.iter().any(|cell| cell.shell != cells[0].shell);
    for cell in &cells {
        let expected = cell.expected();
        let outcome = expected.outcome.map_or("unknown", |outcome| outcome.as_str());
        let mut line = format!(
            "{:15}{:19}{:16}{outcome:14}{:8}{}",
            cell.subject.name(),
            cell.fixture.name,
            cell.runtime.map_or_else(|| "-".into(), runtime_name),
            expected.timing,
            expected.pulse,
        );
        if several_shells {
            line += &format!("  {}", cell.shell);
        }
        if let Some(repeat) = cell.repeat {
            line += &format!("  #{repeat}");
        }
        text += &(line + "\n");
    }
    text
}

/// The command that runs just this cell.
pub(super) fn again(cell: &CellReport, args: &SuiteArgs) -> String {
    let mut command = program() + " suite";
    match args.killers.iter().find(|killer| killer.name() == cell.subject) {
        Some(killer) => command += &format!(" --exec {}={}", killer.name(), quoted(killer.about())),
        None => command += &format!(" --subject {}", cell.subject),
    }
    command += &format!(" --fixture {}", cell.fixture);
    // A program runs on none.
    if let Some(runtime) = cell.runtime() {
        command += &format!(" --runtime {runtime}");
    }
    if cell.shell != "sh" {
        command += &format!(" --shell {}", quoted(&cell.shell));
    }
    let durations = [
        ("grace", Some(args.grace).filter(|grace| *grace != Duration::from_secs(5))),
        // A program has no pulse.
        ("budget", args.budget.filter(|_| cell.runtime().is_some())),
        ("deadline", args.deadline),
    ];
    for (option, duration) in durations {
        if let Some(duration) = duration {
            command += &format!(" --{option} {}", quoted(&humantime::format_duration(duration).to_string()));
        }
    }
    if args.first_signal != Signal::TERM {
        command += &format!(" --first-signal {}", args.first_signal);
    }
    command
}

/// How this program is called from a shell: by its name where that is found, else by its path.
fn program() -> String {
    let paths = search_path();
    let is_found = std::env::split_paths(&paths).any(|dir| dir.join("deadbeat").is_file());
    let here = std::env::current_exe().ok().filter(|_| !is_found);
    here.map_or_else(|| "deadbeat".to_owned(), |path| quoted(&path.display().to_string()))
}

/// The text, quoted as one word of a shell command.
pub(super) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_quoted_when_a_shell_would_read_it_otherwise() {
        for (word, text) in [("1s", "1s"), ("/bin/sh", "/bin/sh"), ("busybox sh", "'busybox sh'"), ("", "''")] {
            assert_eq!(quoted(word), text);
        }
        assert_eq!(quoted("it's"), r"'it'\''s'");
    }
}
