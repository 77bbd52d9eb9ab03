//! Suites under many shells, many times.

use predicates::prelude::*;
use serde_json::Value;

use crate::support::{PASSING, deadbeat};

fn cells(more: &[&str]) -> Vec<Value> {
    let output = deadbeat(PASSING).args(["--format=json"]).args(more).output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    report["cells"].as_array().unwrap().clone()
}

#[test]
fn every_cell_runs_under_every_shell() {
    // These are installed everywhere; the second is the same shell by another name.
    let sh = which("sh");
    for shells in [&["--shell", &format!("sh,{sh}")][..], &["--shell", "sh", "--shell", &sh]] {
        let shells: Vec<_> = cells(shells).iter().map(|cell| cell["shell"].clone()).collect();
        assert_eq!(shells, ["sh", &*sh]);
    }
}

fn which(program: &str) -> String {
    let paths = std::env::var_os("PATH").unwrap();
    let file = std::env::split_paths(&paths).map(|dir| dir.join(program)).find(|file| file.is_file()).unwrap();
    file.to_str().unwrap().to_owned()
}

#[test]
fn busybox_is_short_for_its_shell() {
    if std::env::split_paths(&std::env::var_os("PATH").unwrap()).any(|dir| dir.join("busybox").is_file()) {
        let cells = cells(&["--shell", "busybox"]);
        assert_eq!((cells.len(), &cells[0]["shell"], &cells[0]["verdict"]), (1, &"busybox sh".into(), &"pass".into()));
    } else {
        eprintln!("skipped: busybox is not installed");
    }
}

#[test]
fn of_several_shells_the_one_that_is_not_installed_is_named_before_anything_runs() {
    let said = predicate::str::contains("no-such-shell is not installed");
    deadbeat(PASSING).args(["--shell", "sh,no-such-shell"]).assert().code(2).stdout("").stderr(said);
}

#[test]
fn a_cell_runs_as_many_times_as_asked() {
    let repeats: Vec<_> = cells(&["--repeat", "3"]).iter().map(|cell| cell["repeat"].clone()).collect();
    assert_eq!(repeats, [1, 2, 3]);
    assert_eq!(cells(&[])[0]["repeat"], Value::Null);
    deadbeat(PASSING).args(["--repeat", "0"]).assert().code(2).stdout("").stderr(predicate::str::contains("--repeat"));
}

#[test]
fn a_deadline_within_the_grace_is_refused() {
    let said = predicate::str::contains("--deadline 2s: it must be longer than the grace, 5s");
    deadbeat("suite --list --deadline 2s").assert().code(2).stdout("").stderr(said);
    deadbeat("suite --list --deadline 6s").assert().success();
}
