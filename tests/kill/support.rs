//! What these tests share: starting fixtures, waiting for what must come.

use std::time::Duration;

use deadbeat::fixture::{self, Running};
use deadbeat::group::{Backend, backend};
use deadbeat::{KillPolicy, ProcessGroup};

#[path = "../common/eventually.rs"]
mod eventually;
pub(crate) use eventually::{SOON, eventually};
#[cfg(target_os = "linux")]
#[path = "../common/inside.rs"]
mod inside;
#[cfg(target_os = "linux")]
pub(crate) use inside::inside;

/// A grace for those that obey; nothing waits for it.
pub(crate) const LONG: Duration = Duration::from_secs(60);

/// The default policy, but patient with a machine on which a killed process waits for a CPU to die on. Where zombies
/// cannot be told from the living it would be patient in vain.
pub(crate) fn policy() -> KillPolicy {
    match backend() {
        Backend::Proc => KillPolicy::default().confirm(SOON),
        _ => KillPolicy::default(),
    }
}

pub(crate) fn start(name: &str) -> Running {
    fixture::named(name).expect("no such fixture").start().unwrap()
}

/// The state of a process, by `/proc`.
pub(crate) fn state(pid: i32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

/// A group that this process has nothing to do with: it must outlive every kill of others.
pub(crate) struct Bystander(std::process::Child);

impl Bystander {
    pub(crate) fn start() -> Bystander {
        use std::os::unix::process::CommandExt;
        Bystander(std::process::Command::new("sleep").arg("120").process_group(0).spawn().unwrap())
    }

    pub(crate) fn is_alive(&mut self) -> bool {
        self.0.try_wait().unwrap().is_none()
    }

    pub(crate) fn group(&self) -> ProcessGroup {
        ProcessGroup::new(self.0.id() as i32).unwrap()
    }
}

impl Drop for Bystander {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
