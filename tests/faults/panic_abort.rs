//! `panic = "abort"` where no thread can be started: what panics there, as tokio's `spawn_blocking` does, ends the
//! program, so nothing on the way of a kill may.
//!
//! Tests unwind whatever the profile says, so this one builds a program of its own by cargo, in a folder of its own
//! under `target/`: some 15 s of CPU when it is new, nothing when it is not.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::full_table::has_a_small_table;

const CASES: [&str; 8] = [
    "without the kill thread",
    "without a timer",
    "without the kill thread, kill_process_group",
    "the runtime ends",
    "with threads",
    "with threads, kill_process_group",
    "with the kill thread alone, kill_process_group",
    "kill_child",
];

/// The program, built with what this project has locked and fetched.
fn built() -> PathBuf {
    let (root, home) =
        (Path::new(env!("CARGO_MANIFEST_DIR")), Path::new(env!("CARGO_TARGET_TMPDIR")).join("panic_abort"));
    let path = |file: &str| format!("{:?}", root.join(file));
    let manifest = format!(
        "[package]\nname = \"panic-abort\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\
         [[bin]]\nname = \"panic-abort\"\npath = {}\n\
         [dependencies]\ndeadbeat = {{ path = {}, default-features = false }}\n\
         tokio = {{ version = \"1.45\", features = [\"process\", \"rt\", \"time\"] }}\n\
         [profile.dev]\npanic = \"abort\"\ndebug = false\n[workspace]\n",
        path("tests/faults/panic_abort/main.rs"),
        path(""),
    );
    std::fs::create_dir_all(&home).unwrap();
    std::fs::write(home.join("Cargo.toml"), manifest).unwrap();
    std::fs::copy(root.join("Cargo.lock"), home.join("Cargo.lock")).unwrap();
    let cargo = Command::new(env!("CARGO"))
        .args(["build", "--offline", "--target-dir"])
        .arg(home.join("target"))
        .current_dir(&home)
        .output()
        .unwrap();
    assert!(cargo.status.success(), "{}", String::from_utf8_lossy(&cargo.stderr));
    home.join("target/debug/panic-abort")
}

#[test]
fn a_program_that_aborts_on_panics_makes_every_kill_without_a_thread_to_be_had() {
    // Built outside, where there is room for a compiler.
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join("panic_abort/target/debug/panic-abort");
    if std::env::var_os("DEADBEAT_INSIDE_A_PLACE").is_none() {
        assert_eq!(built(), program);
    }
    if !has_a_small_table(a_program_that_aborts_on_panics_makes_every_kill_without_a_thread_to_be_had) {
        return;
    }
    let output = Command::new(&program).output().unwrap();
    let (said, complaint) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let done: Vec<_> = said.lines().filter_map(|line| line.strip_suffix(" done")).collect();
    assert_eq!(done, CASES, "{}: {complaint}", output.status);
    // The control, its last step.
    let signal = std::os::unix::process::ExitStatusExt::signal(&output.status);
    assert_eq!(signal, Some(nix::libc::SIGABRT), "the control was not caught: {said}");
}
