//! Whatever can be known to be wrong is said before anything runs, with status 2 and the way to do it right.

use predicates::prelude::*;
use rstest::rstest;

use crate::support::{TracedShell, deadbeat};

#[rstest]
#[case("--subject", &["inline", "spawn-blocking", "async-sleep"])]
#[case("--fixture", &["fast-exit", "ignore-term", "zombie"])]
#[case("--runtime", &["current-thread", "multi-thread-1", "multi-thread-2"])]
fn an_unknown_name_is_refused_with_the_names_there_are(#[case] option: &str, #[case] names: &[&str]) {
    let assert = deadbeat("suite").args([option, "bogus"]).assert().code(2).stdout("");
    names.iter().fold(assert, |assert, name| assert.stderr(predicate::str::contains(*name)));
    // The control: with a name of that list nothing is refused.
    deadbeat("suite --list").args([option, names[0]]).assert().success();
}

#[rstest]
#[case("5 parsecs")]
#[case("s")]
#[case("")]
#[case("-1s")]
#[case("1.2.3")]
fn a_malformed_duration_is_refused_with_the_way_to_write_one(
    #[values("--grace", "--budget")] option: &str,
    #[case] duration: &str,
) {
    let hint = predicate::str::contains("write a duration such as 250ms, 5s or 1m 30s");
    deadbeat("suite --list").arg(format!("{option}={duration}")).assert().code(2).stdout("").stderr(hint);
}

#[rstest]
#[case("--grace", "0")]
#[case("--grace", "10000000000000000000")]
#[case("--budget", "0s")]
#[case("--budget", "10000000000000000000")]
fn a_duration_that_no_suite_can_keep_is_refused_with_the_bounds(#[case] option: &str, #[case] duration: &str) {
    let bounds = predicate::str::is_match("it must be from 1(00)?ms to ").unwrap();
    deadbeat("suite --list").args([option, duration]).assert().code(2).stdout("").stderr(bounds);
}

#[rstest]
#[case("250ms")]
#[case("1m")]
#[case("1s 500ms")]
#[case("2.5")]
fn the_durations_that_are_meant_are_taken(#[values("--grace", "--deadline")] option: &str, #[case] duration: &str) {
    let suite = if option == "--grace" { "suite --list" } else { "suite --list --grace 200ms" };
    deadbeat(suite).args([option, duration]).assert().success();
}

#[rstest]
#[case("--budget 2500ms", "--budget 2s 500ms", "5s")]
#[case("--budget 1h", "--budget 1h", "5s")]
#[case("--grace 2s --budget 1s", "--budget 1s", "2s")]
fn a_budget_that_hides_every_stall_is_refused_with_what_to_change(
    #[case] args: &str,
    #[case] budget: &str,
    #[case] grace: &str,
) {
    let said = format!("deadbeat: {budget}: it must be less than half of the grace, {grace}, or no stall is seen");
    let remedy = predicate::str::starts_with(said).and(predicate::str::contains("longer --grace"));
    deadbeat("suite --list").args(args.split_ascii_whitespace()).assert().code(2).stdout("").stderr(remedy);
    // Where nothing has a pulse there is nothing to hide.
    if !args.contains("--budget") {
        deadbeat("suite --list --exec mine=./kill-group-{pgid}").args(args.split_ascii_whitespace()).assert().success();
    }
}

/// No option is blamed that was not given.
#[test]
fn a_grace_that_is_too_short_for_the_budget_that_is_not_given_is_refused_by_its_own_name() {
    let said = "deadbeat: --grace 100ms: the budget, 50ms unless --budget says otherwise, must be less than half of";
    let assert = deadbeat("suite --list --grace 100ms").assert().code(2).stdout("");
    assert.stderr(predicate::str::starts_with(said));
    deadbeat("suite --list --exec mine=./kill-group-{pgid} --grace 100ms").assert().success();
}

#[test]
fn a_budget_of_a_little_less_than_half_of_the_grace_is_taken() {
    deadbeat("suite --list --budget 2499ms").assert().success();
    deadbeat("suite --list --grace 100ms --budget 49ms").assert().success();
}

#[rstest]
#[case("--jobs", "0")]
#[case("--jobs", "many")]
#[case("--format", "xml")]
fn any_other_bad_value_is_refused(#[case] option: &str, #[case] value: &str) {
    deadbeat("suite --list").args([option, value]).assert().code(2).stdout("").stderr(predicate::str::contains(option));
}

#[rstest]
#[case::a_missing_folder("missing/report.json", "No such file or directory (os error 2); make the folder ")]
#[case::a_file_for_a_folder("traced-sh/report.json", "Not a directory (os error 20); ")]
#[case::a_folder("", "Is a directory (os error 21); name a file in it")]
#[case::a_folder_that_would_have_to_be_made("report/", "Is a directory (os error 21); name a file in it")]
fn an_output_that_cannot_be_written_is_refused_before_anything_runs(
    #[values("--output", "--html")] option: &str,
    #[case] file: &str,
    #[case] why: &str,
) {
    let dir = tempfile::tempdir().unwrap();
    let shell = TracedShell::new_in(dir.path());
    let suite = |file: &str| {
        let mut command = deadbeat("suite --subject spawn-blocking --fixture zombie --runtime current-thread");
        command
            .args(["--grace", "60s", "--budget", "5s", "--shell"])
            .arg(&shell.shell)
            .arg(option)
            .arg(dir.path().join(file));
        command
    };
    let said = format!("deadbeat: cannot write {}: {why}", dir.path().join(file).display());
    suite(file).assert().code(2).stdout("").stderr(predicate::str::starts_with(said));
    assert!(!shell.was_run(), "a fixture was started all the same");
    // The control: where it can be written the same suite runs, under the same shell.
    suite("report.json").assert().success();
    assert!(shell.was_run());
}

#[test]
fn an_output_with_no_name_is_refused() {
    deadbeat("suite --output=").assert().code(2).stdout("").stderr(predicate::str::is_empty().not());
}
