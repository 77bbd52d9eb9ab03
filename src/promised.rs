//! The numbers that the documentation promises, read out of its text: a test holds each against the code, so that
//! neither changes alone.

use std::time::Duration;

use crate::heartbeat::{Flavor, Heartbeat, Lab};
use crate::kill::KillPolicy;
use crate::signal::Signal;
use crate::suite::Suite;

pub(crate) const README: &str = include_str!("../README.md");
pub(crate) const CONFORMANCE: &str = include_str!("../docs/conformance.md");
pub(crate) const TIMEOUT: &str = include_str!("../docs/timeout.md");
pub(crate) const GOTCHAS: &str = include_str!("../GOTCHAS.md");

/// The words in the place of `{}`, where the text has the words around it exactly once. Line breaks and comment markers
/// do not matter.
#[track_caller]
pub(crate) fn words(text: &str, template: &str) -> String {
    let lines = text.lines().map(|line| line.trim_start().trim_start_matches("///").trim_start_matches("//!"));
    let text = lines.flat_map(str::split_whitespace).collect::<Vec<_>>().join(" ");
    let (before, after) = template.split_once("{}").expect("a place for the number");
    let found: Vec<_> = text.match_indices(before).map(|(at, _)| &text[at + before.len()..]).collect();
    let found = found.iter().filter_map(|rest| rest.split_once(after)).map(|(number, _)| number);
    // Not the template itself, where the test is in the same file; nor what only begins alike.
    let found: Vec<_> = found.filter(|number| *number != "{}" && number.len() < 20).collect();
    match found[..] {
        [number] => number.to_owned(),
        _ => panic!("the documentation promises no such thing any more, or says it twice: {template:?}: {found:?}"),
    }
}

/// The time in the place of `{}`: `5 s`, `100 ms`, `a second`, `a minute`, `an hour`.
#[track_caller]
pub(crate) fn time(text: &str, template: &str) -> Duration {
    let words = words(text, template);
    let (number, unit) = words.split_once(' ').unwrap_or_else(|| panic!("{template:?}: {words:?} is no time"));
    let number = if matches!(number, "a" | "an") { 1 } else { number.parse().unwrap_or_else(|_| panic!("{words:?}")) };
    match unit {
        "ms" => Duration::from_millis(number),
        "s" | "second" => Duration::from_secs(number),
        "minute" => Duration::from_secs(60 * number),
        "hour" => Duration::from_secs(3600 * number),
        _ => panic!("{template:?}: {unit:?} is no unit of time"),
    }
}

/// Compares every promise with what the code does, so that a failure shows all that differ.
#[track_caller]
pub(crate) fn are_kept<T: PartialEq + std::fmt::Debug>(promises: &[(&str, T, T)]) {
    let broken: Vec<_> = promises.iter().filter(|(_, promised, kept)| promised != kept).collect();
    assert!(broken.is_empty(), "(what, promised, and what the code has) {broken:#?}");
}

#[test]
fn the_policys_defaults_are_the_documented_ones() {
    let (policy, kill, settings) = (KillPolicy::default(), include_str!("kill.rs"), include_str!("kill/policy.rs"));
    are_kept(&[
        ("grace, README", time(README, "kill_process_group(pgid).await; // SIGTERM, up to {}, SIGKILL"), policy.grace),
        ("grace, seed's function", time(kill, "SIGTERM, up to {} for it to be gone, then"), policy.grace),
        ("grace, head", time(kill, "sent SIGKILL when the grace is over, {} unless the"), policy.grace),
        ("grace, default", time(settings, "SIGTERM then SIGCONT, {} of grace"), policy.grace),
        ("grace, setting", time(settings, "until SIGKILL; {} by default"), policy.grace),
        ("poll, seed's function", time(kill, "the group is looked at every {}. A group"), policy.poll_interval),
        ("poll, default", time(settings, "a look at least every {}, 1 s to confirm"), policy.poll_interval),
        ("poll, setting", time(settings, "two looks at the group; {} by default"), policy.poll_interval),
        (
            "poll, at least",
            time(settings, "100 ms by default, at least {}. An upper"),
            policy.clone().poll_interval(Duration::ZERO).poll_interval,
        ),
        ("confirm, default", time(settings, "every 100 ms, {} to confirm a SIGKILL"), policy.confirm),
        ("confirm, setting", time(settings, "until the members are gone; {} by default"), policy.confirm),
    ]);
    assert_eq!((policy.signal, policy.continue_stopped), (Signal::TERM, true));
}

#[test]
fn the_heartbeats_defaults_are_the_documented_ones() {
    let (heartbeat, lab) = (include_str!("heartbeat/config.rs"), include_str!("heartbeat/lab.rs"));
    let promised = |interval, budget| Heartbeat::new().interval(interval).budget(budget);
    let readme = promised(
        time(README, "A beat is due every {}, and no worker"),
        time(README, "for more than the budget, {} unless you say"),
    );
    let page = include_str!("../docs/heartbeat.md");
    let page = promised(time(page, "A beat is due every {}. No worker"), time(page, "than the budget, {} by default."));
    let documented =
        promised(time(heartbeat, "A beat every {} and a budget of"), time(heartbeat, "5 ms and a budget of {}. pub"));
    let default = Heartbeat::new();
    are_kept(&[("README", readme, default), ("docs/heartbeat", page, default), ("new", documented, default)]);
    let deadline = format!("deadline: {:?}", time(lab, "settings and a deadline of {}. pub"));
    let lab = format!("{:?}", Lab::new(Flavor::CurrentThread));
    assert!(lab.contains(&deadline), "{deadline} is not in {lab}");
    assert!(lab.contains(&format!("{default:?}")), "{lab}");
}

#[test]
fn the_suites_defaults_are_the_documented_ones() {
    let suite = include_str!("suite/builder.rs");
    let (grace, budget) =
        (time(suite, "with the default {} of grace."), time(suite, "may stand still; {} by default, 1 ms at least"));
    let jobs = words(suite, "cells to run side by side; {} by default");
    assert_eq!(time(CONFORMANCE, "`.budget(..)` is how long a worker may stand still: {}, or"), budget);
    assert_eq!(time(CONFORMANCE, "A grace other than {} is told with"), grace);
    assert_eq!(words(CONFORMANCE, "`cargo test` runs {} side by side"), jobs);
    let default = format!("{:?}", Suite::new());
    let promised = [
        format!("grace: {grace:?}"),
        format!("budget: {budget:?}"),
        format!("jobs: {jobs} "),
        "repeat: 1,".to_owned(),
        r#"shells: ["sh"]"#.to_owned(),
    ];
    let missing: Vec<_> = promised.iter().filter(|promised| !default.contains(*promised)).collect();
    assert!(missing.is_empty(), "{missing:?} is not in {default}");
    assert!(format!("{:?}", Suite::new().budget(Duration::ZERO)).contains("budget: 1ms"));
}

#[test]
fn the_versions_that_are_asked_for_are_those_of_the_package() {
    let package = include_str!("../Cargo.toml");
    let asked = |template| words(package, template);
    are_kept(&[
        ("Rust", words(README, "Rust {} or later, tokio"), asked("rust-version = \"{}\" description")),
        (
            "tokio",
            words(README, "or later, tokio {} or later."),
            asked("tokio = { version = \"{}\", default-features = false, f"),
        ),
    ]);
    // Until there is a release, no version can be asked for.
    let line = r#"deadbeat = { path = "../deadbeat", default-features = false, features = ["conformance"] }"#;
    for text in [README, CONFORMANCE, include_str!("suite/conformance.rs")] {
        assert_eq!((text.matches(line).count(), text.matches("deadbeat = { version").count()), (1, 0));
    }
}

/// Only the example in the documentation is compiled.
#[test]
fn the_readmes_shutdown_is_that_of_the_documentation() {
    let between = |text: &str| {
        let lines: Vec<_> = text.lines().map(|line| line.trim_start_matches("///").trim()).collect();
        let at =
            |what: &str| lines.iter().position(|line| line.starts_with(what)).unwrap_or_else(|| panic!("no {what}"));
        lines[at("deadbeat::shutdown::install_signal_handlers()?;")..=at("deadbeat::registry::kill_all_children();")]
            .join("\n")
    };
    let example = between(README);
    assert_eq!(example, between(include_str!("agent.rs")));
    // A run that is dropped at the request returns nothing.
    assert!(example.contains("ShutdownRequested") && !example.contains("select!"), "{example}");
}

#[test]
fn the_table_in_the_readme_has_the_names_that_the_options_take() {
    let runtimes: Vec<_> = crate::suite::RUNTIMES.iter().copied().map(crate::suite::runtime_name).collect();
    let headings: Vec<_> = README.lines().filter(|line| line.starts_with(" fixture ")).collect();
    assert_eq!(headings.len(), 2);
    for heading in headings {
        assert!(heading.ends_with(&runtimes.join(" ")), "{heading}");
    }
    let counts = crate::report::Summary { pass: 216, fail: 0, inconclusive: 0 };
    assert!(README.contains(&format!("\n{counts}\n")), "{counts}");
}

#[test]
fn a_promise_that_is_not_there_or_there_twice_is_said_to_be_so() {
    let text = "/// It takes 5 s\n    /// to end, and 7 s to begin.\n";
    assert_eq!(time(text, "takes {} to end"), Duration::from_secs(5));
    for template in ["lasts {} to end", " {} s", "It {} begin"] {
        assert!(std::panic::catch_unwind(|| words(text, template)).is_err(), "{template}");
    }
}
