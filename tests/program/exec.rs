//! Killers that are programs: the right one passes everything, and each wrong one, which differs by a line, is caught.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use predicates::prelude::*;
use rstest::rstest;
use serde_json::Value;

use crate::support::{TracedShell, deadbeat};

const RIGHT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/killers/kill-group.sh");

/// A grace of which half is a long time for a shell script, whatever the machine does: a right one has to be back in
/// half of it. A kill of a group that obeys does not wait for it.
const LONG: &str = "--grace 20s";

/// Judges the killer on these fixtures until the verdict is conclusive: with status 3 the machine was too busy.
fn judged(killer: &str, fixtures: &[&str], more: &str) -> (i32, Vec<Value>) {
    let mut judgements = (0..5).map(|_| judged_once(killer, fixtures, more));
    judgements.find(|(status, _)| *status != 3).expect("nothing was proved in five times")
}

/// Runs the suite: the status, and one entry for each cell.
fn judged_once(killer: &str, fixtures: &[&str], more: &str) -> (i32, Vec<Value>) {
    let mut command = deadbeat("suite --format json");
    command.arg(format!("--exec=mine={killer}")).args(more.split_ascii_whitespace());
    fixtures.iter().for_each(|fixture| {
        command.args(["--fixture", fixture]);
    });
    let output = command.output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    (output.status.code().unwrap(), report["cells"].as_array().unwrap().clone())
}

/// Why the one cell failed.
fn complaint(killer: &str, fixture: &str, more: &str) -> String {
    let (status, cells) = judged(killer, &[fixture], more);
    let [cell] = &cells[..] else { panic!("{cells:?}") };
    assert_eq!((status, cell["verdict"].as_str()), (1, Some("fail")), "{cell:#}");
    cell["why"].as_str().unwrap().to_owned()
}

#[test]
fn a_right_script_passes_everything() {
    let (status, cells) = judged(&format!("{RIGHT} {{pgid}} {{grace}}"), &[], "");
    let failed: Vec<_> = cells.iter().filter(|cell| cell["verdict"] != "pass").collect();
    assert_eq!((status, failed), (0, vec![]));
    assert_eq!(cells.len(), deadbeat::fixture::ALL.len(), "a program runs on no runtime, so once");
    for cell in &cells {
        assert_eq!((&cell["runtime"], &cell["expected"]["pulse"]), (&"none".into(), &"none".into()), "{cell:#}");
        assert_eq!((&cell["pulse"], &cell["signals"]), (&Value::Null, &Value::Null), "{cell:#}");
    }
}

/// The right script with one line changed.
fn a_line_away(dir: &Path, from: &str, to: &str) -> PathBuf {
    let right = fs::read_to_string(RIGHT).unwrap();
    assert_eq!(right.matches(from).count(), 1, "{from:?} is not one place in the right script");
    let wrong = dir.join("wrong.sh");
    fs::write(&wrong, right.replace(from, to)).unwrap();
    wrong
}

#[rstest]
#[case::term_only("kill -s KILL", ": kill -s KILL", "ignore-term", "left in the group: ")]
#[case::kill_at_once("kill -s TERM", "kill -s KILL", "slow-exit", "outcome killed, not terminated")]
#[case::leader_only(
    r#"kill -s TERM -- "-$pgid""#,
    r#"kill -TERM "$pgid"; sleep "$grace"; kill -KILL "$pgid"; exit; true"#,
    "forking",
    "left in the group: "
)]
#[case::no_cont("kill -s CONT", ": kill -s CONT", "stopped", "outcome killed, not terminated")]
#[case::esrch_is_gone(
    r#"grep -qs ") [^XZ] [0-9]* $pgid " /proc/[0-9]*/stat"#,
    r#"kill -0 "-$pgid" 2>/dev/null"#,
    "fast-exit",
    "though the group was gone after"
)]
#[case::before_the_grace("$grace * 100", "$grace * 4", "second-term", "before half of the 5s of grace was over")]
fn a_wrong_script_is_caught(#[case] from: &str, #[case] to: &str, #[case] fixture: &str, #[case] fault: &str) {
    let dir = tempfile::tempdir().unwrap();
    let wrong = a_line_away(dir.path(), from, to);
    std::thread::scope(|scope| {
        // The control: the right one passes the same cell.
        let right = scope.spawn(|| judged(&format!("sh {RIGHT} {{pgid}} {{grace}}"), &[fixture], ""));
        let why = complaint(&format!("sh {} {{pgid}} {{grace}}", wrong.display()), fixture, "");
        assert!(why.contains(fault), "{why}");
        let (status, cells) = right.join().unwrap();
        assert_eq!(status, 0, "{cells:#?}");
    });
}

/// A clock of whole seconds may take 4.4 s for 5.
#[rstest]
#[case("ignore-term")]
#[case("stubborn-child")]
fn a_clock_of_whole_seconds_is_no_fault(#[case] fixture: &str) {
    let killer = "kill -TERM -{pgid}; sleep 4.4; kill -KILL -{pgid}";
    let (status, cells) = judged(killer, &[fixture], "");
    assert_eq!(status, 0, "{cells:#?}");
    let why = complaint("kill -TERM -{pgid}; sleep 1; kill -KILL -{pgid}", fixture, LONG);
    assert!(why.contains("before half of the 20s of grace was over"), "{why}");
}

/// The grace is an upper bound too: a group that goes much later may have gone by itself.
#[rstest]
#[case::late_kill("kill -TERM -{pgid}; sleep 12; kill -KILL -{pgid}", "SIGKILL came late")]
#[case::esrch_after_the_kill(
    "kill -TERM -{pgid}; sleep {grace}; kill -KILL -{pgid}; n=0
     while kill -0 -{pgid} && [ $n -lt 40 ]; do sleep 0.1; n=$((n + 1)); done; exit 0",
    "though the group was gone after"
)]
fn a_killer_that_takes_too_long_is_caught(#[case] wrong: &str, #[case] fault: &str) {
    let why = complaint(wrong, "ignore-term", "--grace 1s");
    assert!(why.contains(fault), "{why}");
    assert_eq!(judged("kill -TERM -{pgid}; sleep {grace}; kill -KILL -{pgid}", &["ignore-term"], "--grace 1s").0, 0);
}

#[cfg(target_os = "linux")]
#[test]
fn a_group_that_was_asked_late_is_said_to_have_died_of_what_it_died_of() {
    let late = "sleep 1.2; kill -s TERM -- -{pgid}";
    let (status, cells) = judged(late, &["fast-exit"], "--grace 1s");
    let cell = &cells[0];
    assert_eq!((status, cell["outcome"].as_str()), (1, Some("terminated")), "{cell:#}");
    assert_eq!(cell["timeline"]["lives"][0]["ended_by"], "SIGTERM", "{cell:#}");
    let why = cell["why"].as_str().unwrap();
    assert!(why.contains("its leader died of SIGTERM: the first signal came late"), "{why}");
    // The control: SIGKILL at that time is called SIGKILL.
    let why = complaint("sleep 1.2; kill -s KILL -- -{pgid}", "fast-exit", "--grace 1s");
    assert!(why.starts_with("outcome killed, not terminated: its leader died of SIGKILL"), "{why}");
}

#[test]
fn a_command_that_hangs_is_killed_with_all_that_it_started() {
    let dir = tempfile::tempdir().unwrap();
    let pids = dir.path().join("pids");
    let stray = format!("'echo $$ >>{0}; exec sleep 100'", pids.display());
    let hang = format!("echo who am I >&2; setsid sh -c {stray} & sh -c {stray} & wait # {{pgid}}");
    // A busy machine may take longer to start them all.
    let mut deadlines = ["3s", "20s"].into_iter().map(|deadline| {
        let _ = fs::remove_file(&pids);
        let start = Instant::now();
        let why = complaint(&hang, "fast-exit", &format!("--grace 1s --deadline {deadline}"));
        assert!(why.contains(&format!("was not over after {deadline} and was killed (")), "{why}");
        assert!(start.elapsed() < Duration::from_secs(50), "the sleeps were waited for");
        why
    });
    let both = || fs::read_to_string(&pids).is_ok_and(|pids| pids.lines().count() == 2);
    let why = deadlines.find(|why| both() && why.contains(" sleep 100")).expect("they were never started");
    assert!(why.contains("it said: who am I"), "{why}");
    let pids = fs::read_to_string(pids).unwrap();
    assert_eq!(pids.lines().count(), 2, "{pids}");
    for pid in pids.lines() {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        assert!(!line.contains("sleep"), "{pid} still runs");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_killer_that_gets_those_who_left_the_group_too_is_right() {
    // A process in the middle of its exec shows no environment. In the end both are a `sleep`.
    let by_mark = format!(
        r#"until mark=$(tr '\0' '\n' </proc/{{pgid}}/environ | grep ^DEADBEAT_FIXTURE=); do :; done
        names() ( cat /dev/null $(grep -lsaz "^$mark\$" /proc/[0-9]*/environ | sed s/environ/comm/) )
        until [ "$(names | grep -c '^sleep$')" = 2 ]; do :; done
        sh {RIGHT} {{pgid}} {{grace}}
        kill -KILL $(grep -lsaz "^$mark\$" /proc/[0-9]*/environ | cut -d / -f 3)"#
    );
    let (status, cells) = judged(&by_mark, &["setsid-escape"], LONG);
    assert_eq!((status, &cells[0]["escaped"]), (0, &Value::Array(vec![])), "{cells:#?}");
    // The control: without that the process is there, which is no fault either.
    let (status, cells) = judged(&format!("sh {RIGHT} {{pgid}} {{grace}}"), &["setsid-escape"], LONG);
    assert_eq!((status, cells[0]["escaped"].as_array().unwrap().len()), (0, 1), "{cells:#?}");
}

#[cfg(target_os = "linux")]
#[test]
fn a_fixture_outlives_the_deadline_of_its_kill() {
    let killer = r"until tr '\0' '\n' </proc/{pgid}/environ | grep ^DEADBEAT_LIFE= >&2; do :; done; exit 1";
    for (deadline, life) in [("", "120"), ("--deadline 150s", "210"), ("--deadline 1h", "3660")] {
        let why = complaint(killer, "fast-exit", deadline);
        assert!(why.contains(&format!("it said: DEADBEAT_LIFE={life};")), "{why}");
    }
}

#[rstest]
#[case::status("echo alas >&2; exit 3 # {pgid}", "the command ended with exit status: 3; it said: alas")]
#[case::crash("kill -SEGV $$ # {pgid}", "the command ended with signal: 11")]
#[case::not_found("/no/such/killer {pgid}", "the command ended with exit status: 127; it said: ")]
#[case::quiet("exit 1 # {pgid}", "the command ended with exit status: 1")]
fn a_command_that_does_not_end_well_fails_with_its_stderr(#[case] killer: &str, #[case] fault: &str) {
    let why = complaint(killer, "zombie", "");
    assert!(why.starts_with(fault), "{why}");
    // The control: a killer that does nothing and exits with 0 is right where there is nothing to do.
    assert_eq!(judged(": {pgid}", &["zombie"], "").0, 0);
}

#[test]
fn a_command_that_says_no_end_of_things_is_read_and_its_first_and_last_words_are_told() {
    let why = complaint("yes I will | head -n 100000 >&2; echo no more >&2; exit 1 # {pgid}", "zombie", "");
    // On a busy machine, what the machine did follows.
    let said = why.split("; in these ").next().unwrap();
    assert!(said.contains("it said: I will | I will") && said.ends_with(" | I will | no more"), "{why}");
    assert!(why.contains(" bytes left out … "), "{why}");
    assert!(why.len() < 10_000, "{} bytes", why.len());
}

#[test]
fn the_pgid_and_the_grace_are_filled_in() {
    let why = complaint("echo {pgid}+{pgid} {grace} >&2; kill -KILL -{pgid}; exit 9", "fast-exit", "--grace 1s500ms");
    let said = why.split_once("it said: ").expect("nothing said").1;
    let (pgids, rest) = said.split_once(' ').unwrap();
    let (one, other) = pgids.split_once('+').unwrap();
    assert!(one == other && one.parse::<i32>().unwrap() > 1, "{said}");
    assert!(rest.starts_with("1.5;"), "{said}");
}

#[rstest]
#[case("--runtime=current-thread")]
#[case("--budget=1s")]
fn what_only_a_pulse_has_is_refused_where_only_programs_are_judged(#[case] option: &str) {
    let refused = predicates::str::contains(option.split('=').next().unwrap())
        .and(predicates::str::contains("a program runs on no runtime"))
        .and(predicates::str::contains("--subject"));
    let list = || {
        let mut command = deadbeat("suite --list --exec");
        command.args(["mine=./kill-group {pgid}", option]);
        command
    };
    list().assert().code(2).stdout("").stderr(refused);
    // The control: beside a subject that has a pulse the option is for that one.
    list().args(["--subject", "spawn-blocking"]).assert().success().stdout(predicates::str::contains("mine "));
}

#[test]
fn beside_a_subject_the_command_that_shows_a_programs_failure_again_can_be_run() {
    let mut command = deadbeat("suite --format json --subject spawn-blocking --fixture zombie --budget 1s");
    let output = command.arg("--runtime=current-thread").arg("--exec=mine=exit 3 # {pgid}").output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let cells = report["cells"].as_array().unwrap();
    let again = |subject: &str| {
        let cell = cells.iter().find(|cell| cell["subject"] == subject).unwrap();
        cell["again"].as_str().unwrap().split_once(" suite ").unwrap().1.to_owned()
    };
    assert_eq!(again("mine"), "--exec mine='exit 3 # {pgid}' --fixture zombie");
    assert_eq!(
        again("spawn-blocking"),
        "--subject spawn-blocking --fixture zombie --runtime current-thread --budget 1s"
    );
}

#[rstest]
#[case("mine=./kill-group", "has no {pgid}")]
#[case("mine=./kill-group {PGID}", "has no {pgid}")]
#[case("./kill-group {pgid}", "NAME='CMD {pgid}'")]
#[case("inline=./kill-group {pgid}", "there is a subject of that name already")]
fn a_killer_that_cannot_be_meant_is_refused_before_anything_runs(#[case] killer: &str, #[case] hint: &str) {
    let dir = tempfile::tempdir().unwrap();
    let shell = TracedShell::new_in(dir.path());
    let mut command = deadbeat("suite --fixture zombie --shell");
    let assert = command.arg(&shell.shell).args(["--exec", killer]).assert().code(2).stdout("");
    assert.stderr(predicates::str::contains(hint));
    assert!(!shell.was_run());
}

#[test]
fn the_command_that_shows_a_failure_again_is_whole() {
    let (_, cells) = judged("exit 3 # it's {pgid}", &["zombie"], "--shell dash --first-signal int");
    let again = cells[0]["again"].as_str().unwrap();
    let expected = r" suite --exec mine='exit 3 # it'\''s {pgid}' --fixture zombie --shell dash --first-signal SIGINT";
    // The program is called by its name where that is in the path, else by its path.
    let program = again.strip_suffix(expected).unwrap_or_else(|| panic!("{again}"));
    assert!(program == "deadbeat" || Path::new(program) == crate::support::program(), "{program}");
}
