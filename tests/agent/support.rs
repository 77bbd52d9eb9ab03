//! What these tests share: registries of their own, commands that can be found again, waiting for what must come.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use deadbeat::KillPolicy;
use deadbeat::agent::AgentOptions;
use deadbeat::group::{Backend, backend};
use deadbeat::registry::Registry;
use deadbeat::shutdown::Shutdown;
use tokio::process::{Child, Command};

#[path = "../common/eventually.rs"]
mod eventually;
pub(crate) use eventually::{SOON, eventually};

/// No pid, no pgid.
pub(crate) const NO_PIDS: [i32; 0] = [];

/// Set in a test that runs once more, in a process of its own.
pub(crate) const INSIDE: &str = "DEADBEAT_TEST_INSIDE";

/// Runs this test once more, by `env` with these options.
pub(crate) fn inside(test: &str, options: &[&str]) {
    let mut command = std::process::Command::new("env");
    command.args(options).arg(std::env::current_exe().unwrap()).args(["--exact", test, "--nocapture"]).env(INSIDE, "1");
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{options:?}: {text}");
}

/// A grace for those that obey; nothing waits for it.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// A short grace, and patience with a machine on which a killed process waits for a CPU to die on. Where zombies cannot
/// be told from the living that would be in vain.
pub(crate) fn policy() -> KillPolicy {
    let policy = KillPolicy::default().grace(Duration::from_millis(300));
    match backend() {
        Backend::Proc => policy.confirm(SOON),
        _ => policy,
    }
}

/// Options with a registry and a shutdown of their own: tests must not share the global ones by accident.
pub(crate) fn isolated() -> (AgentOptions, Arc<Registry>, Arc<Shutdown>) {
    let (registry, shutdown) = (Arc::new(Registry::new(policy())), Arc::new(Shutdown::new()));
    let options = AgentOptions::default().policy(policy());
    (options.registry(Arc::clone(&registry)).shutdown(Arc::clone(&shutdown)), registry, shutdown)
}

/// A tree that can be found by a mark in its environment, and is killed by it in the end, whatever the test does.
pub(crate) struct Tree {
    mark: String,
    dir: tempfile::TempDir,
}

impl Tree {
    pub(crate) fn new() -> Tree {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let mark = format!("{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        Tree { mark, dir: tempfile::tempdir().unwrap() }
    }

    /// `sh -c SCRIPT`, marked.
    pub(crate) fn sh(&self, script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]).env("DEADBEAT_TEST", &self.mark);
        command
    }

    /// What this command starts carries the mark too.
    pub(crate) fn marks<'a>(&self, command: &'a mut std::process::Command) -> &'a mut std::process::Command {
        command.env("DEADBEAT_TEST", &self.mark)
    }

    /// Two processes that ignore SIGTERM, and say so by a file: see [`Tree::is_up`].
    pub(crate) fn stubborn(&self) -> Command {
        let mut command = self.sh("trap '' TERM; sleep 60 & : >\"$DEADBEAT_UP\"; sleep 60");
        command.env("DEADBEAT_UP", self.up());
        command
    }

    fn up(&self) -> PathBuf {
        self.dir.path().join("up")
    }

    /// For `on_spawn`: holds the run up, before its timeout begins, until the tree ignores SIGTERM.
    pub(crate) fn is_up(&self) -> impl Fn(&mut Child) + Send + Sync + 'static {
        let up = self.up();
        move |_| eventually("the tree is up", || up.exists())
    }

    pub(crate) fn wait_until_up(&self) {
        eventually("the tree is up", || self.up().exists());
    }

    /// Its live processes. One that was forked and has not yet executed anything has its parent's environment.
    pub(crate) fn pids(&self) -> Vec<i32> {
        let entry = format!("DEADBEAT_TEST={}", self.mark);
        let is_marked = |pid: &i32| {
            let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|b| *b == 0).any(|word| word == entry.as_bytes())
        };
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_marked).collect()
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        for pid in self.pids() {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
    }
}
