//! The crate outside: where it is, how it is built, and what its harness says.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

const REPOSITORY: &str = env!("CARGO_MANIFEST_DIR");

const MANIFEST: &str = r#"
[package]
name = "outside"
version = "0.0.0"
edition = "2024"

[workspace]

[lib]
path = "lib.rs"

[features]
macros = ["deadbeat/macros"]

[dependencies]
deadbeat = { path = "REPOSITORY", default-features = false }

[dev-dependencies]
rstest = { version = "0.26", default-features = false }
test-log = { version = "0.2", default-features = false }
tokio = { version = "1.45", features = ["macros", "rt-multi-thread", "test-util", "time"] }

[profile.dev]
debug = "line-tables-only"
"#;

/// Always the same folder, so that what was built is not built again.
fn folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("attribute")
}

/// Runs cargo in the crate. It takes the versions of this repository's lock file, which are here already.
pub(crate) fn cargo(args: &[&str]) -> Command {
    let write = |name: &str, text: &str| {
        let file = folder().join(name);
        if fs::read_to_string(&file).is_ok_and(|there| there == text) {
            return;
        }
        // Whole or not at all: several processes may come here at once.
        let mut new = tempfile::NamedTempFile::new_in(folder()).unwrap();
        new.write_all(text.as_bytes()).unwrap();
        new.persist(file).unwrap();
    };
    fs::create_dir_all(folder().join("tests")).unwrap();
    let mut manifest = MANIFEST.replace("REPOSITORY", REPOSITORY);
    // Of an unpacked package the attribute's crate is beside it: see scripts/check-package.
    let beside = format!("{REPOSITORY}/../deadbeat-macros-{}", env!("CARGO_PKG_VERSION"));
    if Path::new(&beside).exists() {
        manifest += &format!("\n[patch.crates-io]\ndeadbeat-macros = {{ path = {beside:?} }}\n");
    }
    write("Cargo.toml", &manifest);
    write("lib.rs", "");
    write("tests/suite.rs", include_str!("suite.rs"));
    write("tests/mistakes.rs", super::mistakes::SOURCE);
    // What it locks differs by the crate's own name, which cargo adds: so it is compared with what it was copied from.
    let lock = include_str!("../../Cargo.lock");
    if fs::read_to_string(folder().join("Cargo.lock.copied")).ok().as_deref() != Some(lock) {
        write("Cargo.lock", lock);
        write("Cargo.lock.copied", lock);
    }
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(folder()).args(args).env("CARGO_TARGET_DIR", folder().join("target"));
    quiet(&mut command);
    command
}

/// Without what the environment of these tests says to tests.
fn quiet(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("DEADBEAT") || name.starts_with("NEXTEST") || name.starts_with("RUST_") {
            command.env_remove(&*name);
        }
    }
}

/// The program of the suite's tests.
pub(crate) fn suite() -> Command {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    let mut command = Command::new(PROGRAM.get_or_init(|| {
        let args =
            ["test", "--offline", "--features", "macros", "--test", "suite", "--no-run", "--message-format", "json"];
        let output = cargo(&args).output().unwrap();
        assert!(output.status.success(), "{}", text(&output));
        let messages = String::from_utf8(output.stdout).unwrap();
        let messages = messages.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let mut programs = messages.filter_map(|message| message["executable"].as_str().map(PathBuf::from));
        programs.next_back().expect("the program of the tests")
    }));
    quiet(&mut command);
    command.current_dir(folder());
    command
}

/// All that it printed.
pub(crate) fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// What libtest says of each test, `ok` or `FAILED`, and what it shows of those that failed.
pub(crate) fn results(stdout: &[u8]) -> BTreeMap<String, (String, String)> {
    let stdout = String::from_utf8_lossy(stdout);
    let mut results = BTreeMap::new();
    for line in stdout.lines().filter_map(|line| line.strip_prefix("test ")) {
        let Some((name, result)) = line.split_once(" ... ") else { continue };
        let name = name.trim_end_matches(" - should panic").to_owned();
        results.insert(name, (result.to_owned(), String::new()));
    }
    let mut shown = None;
    for line in stdout.lines() {
        if let Some(name) = line.strip_prefix("---- ").and_then(|line| line.strip_suffix(" stdout ----")) {
            shown = results.get_mut(name);
        } else if line == "failures:" {
            shown = None;
        } else if let Some((_, text)) = &mut shown {
            text.push_str(line);
            text.push('\n');
        }
    }
    results
}
