//! The registry that a process has from the start, by the free functions.

use std::os::unix::process::CommandExt;
use std::process::Command;

use deadbeat::KillErrorKind;
use deadbeat::registry::{Registry, kill_all_children, register_child, unregister_child};

use super::support::{INSIDE, NO_PIDS, inside};

#[test]
fn the_free_functions_are_about_the_registry_of_the_process() {
    if std::env::var_os(INSIDE).is_none() {
        // The end of all of its children is the end of all that others here would start.
        inside("global::the_free_functions_are_about_the_registry_of_the_process", &[]);
        return;
    }
    assert_eq!(register_child(1).unwrap_err().kind(), KillErrorKind::InvalidGroup);
    let mut child = Command::new("sleep").arg("60").process_group(0).spawn().unwrap();
    let pgid = child.id() as i32;
    register_child(pgid).unwrap();
    assert_eq!(Registry::global().list(), [pgid]);
    unregister_child(pgid);
    assert_eq!(Registry::global().list(), NO_PIDS);
    register_child(pgid).unwrap();
    let reports = kill_all_children();
    let killed: Vec<i32> = reports.iter().map(|report| report.pgid).collect();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(killed, [pgid]);
}
