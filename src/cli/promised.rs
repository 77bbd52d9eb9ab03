//! Tests that the defaults in the help of the command line are those that the library and the docs promise.

use std::time::Duration;

use super::args;
use super::commands::all_commands;
use crate::kill::KillPolicy;
use crate::promised::{are_kept, time, words};
use crate::suite::{DEADLINES, GRACES, Suite};

fn default_of(command: &str, option: &str) -> String {
    let mut all = all_commands();
    let command = all.find_subcommand_mut(command).expect("a command");
    let option = command.get_arguments().find(|arg| arg.get_long() == Some(option)).expect("an option");
    option.get_default_values().iter().map(|value| value.to_string_lossy()).collect()
}

#[test]
fn the_programs_defaults_are_those_of_the_library() {
    let (policy, default) =
        (KillPolicy::default(), |command, option| args::duration(&default_of(command, option)).unwrap());
    are_kept(&[
        ("kill --grace", policy.grace, default("kill", "grace")),
        ("kill --poll-interval", policy.poll_interval, default("kill", "poll-interval")),
        ("suite --grace", policy.grace, default("suite", "grace")),
    ]);
    let word = |command, option| default_of(command, option);
    assert_eq!([word("kill", "signal"), word("timeout", "signal")], ["TERM", "TERM"]);
    assert_eq!(word("suite", "repeat"), "1");
    // No default that clap would check, and blame the option for.
    let shell = words(include_str!("suite/args.rs"), "dash,bash,busybox; may be repeated; {} unless said otherwise");
    assert!(format!("{:?}", Suite::new()).contains(&format!("shells: [{shell:?}]")), "{shell}");
    let jobs = format!("jobs: {} ", word("suite", "jobs"));
    assert!(format!("{:?}", Suite::new()).contains(&jobs), "{jobs}");
}

#[test]
fn the_suites_bounds_are_the_documented_ones() {
    let builder = include_str!("../suite/builder.rs");
    are_kept(&[
        ("shortest grace", time(builder, "The program and `main` take from {} to a minute."), *GRACES.start()),
        ("longest grace", time(builder, "take from 100 ms to {}. A short one"), *GRACES.end()),
        ("longest deadline", time(builder, "The program and `main` take {} at most."), *DEADLINES.end()),
    ]);
    let [ms, day] = [Duration::from_millis(1), Duration::from_secs(24 * 60 * 60)];
    assert_eq!([args::budget("1ms"), args::budget("24h")], [Ok(ms), Ok(day)]);
    assert!(args::budget("999us").is_err() && args::budget("24h 1ms").is_err());
}
