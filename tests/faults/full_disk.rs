//! No room for a report: an error, the old report as it was, and nothing beside it.

use std::fs;
use std::path::Path;
use std::process::Stdio;

use crate::support::{NAMESPACE, deadbeat, inside};

const SUITE: &str = "suite --subject spawn-blocking --fixture fast-exit --runtime current-thread --budget 1s";

/// A disk of one page over `/mnt`, in a place of its own.
fn has_a_small_disk<F: Fn() -> T, T>(test: F) -> bool {
    let script = ["sh", "-c", "mount -t tmpfs -o size=8k none /mnt && \"$@\"; exit", "sh"];
    let is_inside = inside(test, &[&NAMESPACE[..], &script].concat());
    if is_inside {
        let much = fs::write("/mnt/much", [0; 64 * 1024]).unwrap_err();
        assert_eq!(much.kind(), std::io::ErrorKind::StorageFull);
        fs::remove_file("/mnt/much").unwrap();
    }
    is_inside
}

fn files() -> Vec<String> {
    let mut files: Vec<_> =
        fs::read_dir("/mnt").unwrap().map(|file| file.unwrap().file_name().into_string().unwrap()).collect();
    files.sort();
    files
}

#[test]
fn a_report_without_room_leaves_the_old_one_whole() {
    if !has_a_small_disk(a_report_without_room_leaves_the_old_one_whole) {
        return;
    }
    fs::write("/mnt/page.html", "the old one").unwrap();
    let output = deadbeat(SUITE).args(["--html", "/mnt/page.html"]).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("cannot write /mnt/page.html: No space left on device"), "{said}");
    assert_eq!(fs::read_to_string("/mnt/page.html").unwrap(), "the old one");
    assert_eq!(files(), ["page.html"]);
}

#[test]
fn of_two_reports_each_is_whole_or_not_there() {
    if !has_a_small_disk(of_two_reports_each_is_whole_or_not_there) {
        return;
    }
    let mut suite = deadbeat(SUITE);
    suite.args(["--format", "json", "--output", "/mnt/report.json", "--html", "/mnt/page.html"]);
    let output = suite.output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
    for name in files() {
        assert_eq!(name, "report.json");
        serde_json::from_str::<serde_json::Value>(&fs::read_to_string(Path::new("/mnt").join(name)).unwrap()).unwrap();
    }
}

#[test]
fn a_stdout_that_is_closed_from_the_start_keeps_nobody_from_being_killed() {
    let mut group = crate::support::Group::of(crate::support::STUBBORN);
    let held = group.members();
    let program = env!("CARGO_BIN_EXE_deadbeat");
    let script = format!("exec '{program}' kill --grace 100ms {} >&-", group.pgid());
    let status = std::process::Command::new("sh").args(["-c", &script]).stderr(Stdio::null()).status().unwrap();
    assert!(held.iter().all(crate::support::Held::has_ended), "{status}");
    assert_eq!(status.code(), Some(2), "all are dead, and it could not be said");
}
