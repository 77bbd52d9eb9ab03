//! Calls of the program under test, and a search for what it has started.

use std::path::{Path, PathBuf};
use std::time::Duration;

use assert_cmd::Command;

/// A limit for what hangs, far beyond what a slow machine takes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Variables of the tests' environment that the program must not see.
pub(crate) const DECIDES_COLOURS: [&str; 4] = ["NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "CI"];

/// The command `deadbeat` with these arguments, separated by blanks.
pub(crate) fn deadbeat(args: &str) -> Command {
    let mut command = Command::new(program());
    command.args(args.split_ascii_whitespace()).timeout(PATIENCE);
    DECIDES_COLOURS.iter().for_each(|name| {
        command.env_remove(name);
    });
    command
}

pub(crate) fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_deadbeat"))
}

/// A right subject, and a fixture that dies at once; with a budget that a machine with many at work does not exceed,
/// and a grace that nothing waits for.
pub(crate) const PASSING: &str =
    "suite --subject spawn-blocking --fixture fast-exit --runtime current-thread --budget 5s --grace 60s";

/// A killer that does not exist, where there is nothing to kill: its status is its one fault.
pub(crate) const FAILING: &str = "suite --exec mine=/no/such/killer-of-{pgid} --fixture zombie";

/// A report with a cell of every verdict, and text in it that would break out of any format, as one of a whole suite.
pub(crate) fn sample() -> String {
    let mut report: serde_json::Value = serde_json::from_str(include_str!("../../src/report/sample.json")).unwrap();
    (report["partition"], report["whole"]) = (serde_json::Value::Null, serde_json::Value::Null);
    report.to_string()
}

/// A suite of one cell, which takes all of a grace that is far beyond what a test waits.
#[cfg(target_os = "linux")]
pub(crate) const LONG: &str =
    "suite --subject spawn-blocking --fixture ignore-term --runtime current-thread --grace 60s";

/// A shell for `--shell` that leaves a trace of having been run.
pub(crate) struct TracedShell {
    pub(crate) shell: PathBuf,
    trace: PathBuf,
}

impl TracedShell {
    pub(crate) fn new_in(dir: &Path) -> TracedShell {
        use std::os::unix::fs::PermissionsExt;

        let (shell, trace) = (dir.join("traced-sh"), dir.join("trace"));
        std::fs::write(&shell, format!("#!/bin/sh\n: > '{}'\nexec sh \"$@\"\n", trace.display())).unwrap();
        std::fs::set_permissions(&shell, PermissionsExt::from_mode(0o755)).unwrap();
        TracedShell { shell, trace }
    }

    pub(crate) fn was_run(&self) -> bool {
        self.trace.exists()
    }
}

/// Looks until the condition holds. A slow machine makes it late, never wrong.
#[track_caller]
pub(crate) fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let start = std::time::Instant::now();
    while !holds() {
        assert!(start.elapsed() < PATIENCE, "it never came that {what}");
        #[expect(clippy::disallowed_methods, reason = "between two looks, on a thread of the test's own")]
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
}

#[cfg(target_os = "linux")]
pub(crate) mod linux {
    //! Finds processes by the marks of the suite that started them.

    pub(crate) use rustix::process::Signal;
    use rustix::process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal};

    /// The living processes of the fixtures that process `starter` has started. A zombie's environment reads empty.
    pub(crate) fn fixtures_of(starter: u32) -> Vec<i32> {
        let is_fixture = |marks: Marks| marks.is_of(starter) && marks.is_fixture();
        pids().filter(|pid| is_fixture(Marks::of(*pid))).collect()
    }

    /// The living processes of a suite's cells, with their fixtures and killers.
    pub(crate) fn processes_of(starter: u32) -> Vec<i32> {
        pids().filter(|pid| Marks::of(*pid).is_of(starter)).collect()
    }

    /// The living processes of a suite's cells without the fixtures'. One look at each decides, since a process may be
    /// in the middle of an exec at the next.
    pub(crate) fn cells_of(starter: u32) -> Vec<i32> {
        let is_cell = |marks: Marks| marks.is_of(starter) && !marks.is_fixture();
        pids().filter(|pid| is_cell(Marks::of(*pid))).collect()
    }

    fn pids() -> impl Iterator<Item = i32> {
        std::fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
    }

    struct Marks(Vec<u8>);

    impl Marks {
        fn of(pid: i32) -> Marks {
            Marks(std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default())
        }

        /// Of one of its cells: the cell's own process, its fixture's, its killer's.
        fn is_of(&self, starter: u32) -> bool {
            self.has(&format!("DEADBEAT_CELL={starter}-"))
        }

        fn is_fixture(&self) -> bool {
            self.has("DEADBEAT_FIXTURE=")
        }

        fn has(&self, entry: &str) -> bool {
            self.0.split(|b| *b == 0).any(|other| other.starts_with(entry.as_bytes()))
        }
    }

    /// Signals each, held by its pidfd while its mark is read again, so that a number that was reused is not hit.
    pub(crate) fn signal_all(pids: &[i32], starter: u32, signal: Signal) {
        for pid in pids {
            let Ok(handle) = pidfd_open(Pid::from_raw(*pid).unwrap(), PidfdFlags::empty()) else { continue };
            if Marks::of(*pid).is_of(starter) {
                let _ = pidfd_send_signal(handle, signal);
            }
        }
    }
}
