//! The page: one file that loads no other, and is written whole or not at all.

use std::fs;
use std::path::Path;
use std::process::Command;

use predicates::prelude::*;
use serde_json::Value;

use crate::support::{FAILING, PASSING, deadbeat, program, sample};

/// The report in the page, as its script reads it.
fn data(page: &str) -> Value {
    let (_, rest) = page.split_once("<script type=\"application/json\" id=\"report\">").expect("no report in it");
    serde_json::from_str(rest.split_once("</script>").expect("no end of it").0).expect("no JSON")
}

fn page(file: &Path) -> String {
    fs::read_to_string(file).unwrap()
}

#[test]
fn the_page_is_written_beside_the_report_and_holds_it() {
    let dir = tempfile::tempdir().unwrap();
    let (file, json) = (dir.path().join("page.html"), dir.path().join("report.json"));
    // A second cell, in which a member is seen to live.
    deadbeat(FAILING)
        .args(["--fixture=fast-exit", "--format=json", "--output"])
        .arg(&json)
        .arg("--html")
        .arg(&file)
        .assert()
        .code(1)
        .stdout("");
    let report: Value = serde_json::from_str(&fs::read_to_string(json).unwrap()).unwrap();
    let inside = data(&page(&file));
    for field in
        ["/cells/0/why", "/cells/0/again", "/cells/0/elapsed_ms", "/cells/0/timeline/lives/0/pid", "/summary/fail"]
    {
        assert_eq!(inside.pointer(field), report.pointer(field), "{field}");
        assert!(inside.pointer(field).is_some(), "{field}: {inside:#}");
    }
}

#[test]
fn the_page_of_hostile_words_has_the_elements_of_any_other_and_names_no_other_place() {
    let dir = tempfile::tempdir().unwrap();
    let (merged, file, plain) =
        (dir.path().join("sample.json"), dir.path().join("page.html"), dir.path().join("plain.html"));
    fs::write(&merged, sample()).unwrap();
    deadbeat("suite --merge").arg(&merged).arg("--html").arg(&file).assert().code(1);
    deadbeat(PASSING).arg("--html").arg(&plain).assert().success();
    let (hostile, plain) = (page(&file), page(&plain));
    let inside = data(&hostile);
    let whys: Vec<_> = inside["cells"].as_array().unwrap().iter().filter_map(|cell| cell["why"].as_str()).collect();
    assert!(whys.iter().any(|why| why.contains("</script><script>alert(1)</script> <!--")), "{whys:?}");
    assert_eq!(hostile.matches('<').count(), plain.matches('<').count(), "a word became an element");
    // The only addresses are the name of SVG and those in the sample.
    let addresses = |page: &str| page.matches("://").count();
    assert_eq!((addresses(&plain), addresses(&hostile)), (1, 2));
}

#[test]
fn a_page_that_does_not_fit_leaves_the_old_one_and_the_old_report() {
    let dir = tempfile::tempdir().unwrap();
    let (file, report) = (dir.path().join("page.html"), dir.path().join("report"));
    let suite = |limit: &str| {
        fs::write(&file, "the old page").unwrap();
        fs::write(&report, "the old report").unwrap();
        // A write beyond the limit is an error then, not a signal.
        let script = format!("trap '' XFSZ; ulimit -f {limit}; exec \"$0\" {PASSING} --html \"$1\" --output \"$2\"");
        Command::new("sh").args(["-c", &script]).args([program(), &file, &report]).output().unwrap()
    };
    let output = suite("16");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("cannot write "), "{output:?}");
    assert_eq!((page(&file).as_str(), page(&report).as_str()), ("the old page", "the old report"));
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "something else was left in the folder");
    // The control: with room for it the same call writes both.
    let output = suite("unlimited");
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    assert!(page(&file).contains("</html>") && page(&report).contains("1 cell"));
}

#[test]
fn a_page_and_a_report_in_one_file_are_refused_before_anything_runs() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("both");
    let hint = predicate::str::contains("--output and --html name the same file");
    deadbeat(PASSING).arg("--html").arg(&file).arg("--output").arg(&file).assert().code(2).stdout("").stderr(hint);
    assert!(!file.exists());
    // However the name is written, and whether the file exists or not.
    let other = dir.path().join(".").join("both");
    let (plain, link) = (dir.path().join("plain"), dir.path().join("link"));
    fs::write(&plain, "").unwrap();
    std::os::unix::fs::symlink(&plain, &link).unwrap();
    let hint = predicate::str::contains("--output and --html name the same file");
    for (file, other) in [(file, other), (plain, link)] {
        let mut command = deadbeat(PASSING);
        command.arg("--output").arg(file).arg("--html").arg(other).assert().code(2).stdout("").stderr(hint.clone());
    }
}
