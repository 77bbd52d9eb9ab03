//! How to run a command: its time, its policy, what it reads, and which guardian, registry and shutdown it has.

use std::fmt;
use std::process::Stdio;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::process::Child;

use crate::guardian::{GuardedChild, Guardian};
use crate::kill::KillPolicy;
use crate::registry::Registry;
use crate::shutdown::Shutdown;

/// What a command reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stdin {
    /// Nothing. In a group of its own a child that reads the terminal is stopped by SIGTTIN.
    #[default]
    Null,
    /// What this process reads. The caller takes care of the terminal.
    Inherit,
    /// A pipe, to be taken from the child in [`AgentOptions::on_spawn`].
    Piped,
}

impl Stdin {
    pub(super) fn stdio(self) -> Stdio {
        match self {
            Stdin::Null => Stdio::null(),
            Stdin::Inherit => Stdio::inherit(),
            Stdin::Piped => Stdio::piped(),
        }
    }
}

/// What becomes of members that are left when the leader has ended by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Leftovers {
    /// They are killed by the policy, before the leader is reaped.
    #[default]
    Kill,
    /// They live on, unregistered: nothing will kill them.
    Leave,
}

/// Where the guarded child of a run is kept when its group is dead, for a caller that kills the processes that have
/// left the group itself, and releases it then.
pub(crate) type Escaped = Arc<Mutex<Option<GuardedChild>>>;

type OnSpawn = Arc<dyn Fn(&mut Child) + Send + Sync>;

/// How to run a command.
#[derive(Clone)]
#[non_exhaustive]
pub struct AgentOptions {
    pub(super) timeout: Option<Duration>,
    pub(super) policy: KillPolicy,
    pub(super) stdin: Stdin,
    pub(super) leftovers: Leftovers,
    pub(super) on_spawn: Option<OnSpawn>,
    pub(super) guardian: Option<Guardian>,
    /// Set if the caller kills the processes that leave the group itself.
    pub(super) escaped: Option<Escaped>,
    pub(super) registry: Arc<Registry>,
    pub(super) shutdown: Arc<Shutdown>,
}

impl Default for AgentOptions {
    /// No timeout, the default policy, nothing to read, leftovers killed, no guardian, the process's own registry and
    /// shutdown.
    fn default() -> AgentOptions {
        AgentOptions {
            timeout: None,
            policy: KillPolicy::default(),
            stdin: Stdin::default(),
            leftovers: Leftovers::default(),
            on_spawn: None,
            guardian: None,
            escaped: None,
            registry: Arc::clone(Registry::global()),
            shutdown: Arc::clone(Shutdown::global()),
        }
    }
}

impl fmt::Debug for AgentOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut options = f.debug_struct("AgentOptions");
        options.field("timeout", &self.timeout).field("policy", &self.policy);
        options.field("stdin", &self.stdin).field("leftovers", &self.leftovers);
        options.field("guardian", &self.guardian).finish_non_exhaustive()
    }
}

impl AgentOptions {
    /// How long the command may run; for ever by default.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> AgentOptions {
        self.timeout = Some(timeout);
        self
    }

    /// How its group is killed.
    #[must_use]
    pub fn policy(mut self, policy: KillPolicy) -> AgentOptions {
        self.policy = policy;
        self
    }

    /// What it reads. Replaces what the `Command` says.
    #[must_use]
    pub fn stdin(mut self, stdin: Stdin) -> AgentOptions {
        self.stdin = stdin;
        self
    }

    /// What becomes of members that the leader leaves behind.
    #[must_use]
    pub fn leftovers(mut self, leftovers: Leftovers) -> AgentOptions {
        self.leftovers = leftovers;
        self
    }

    /// Called with the child once it runs: the place to take its pipes and read them in a task. A pipe that is not
    /// read blocks the command when it is full. The closure must neither wait for the child nor keep it.
    #[must_use]
    pub fn on_spawn(mut self, f: impl Fn(&mut Child) + Send + Sync + 'static) -> AgentOptions {
        self.on_spawn = Some(Arc::new(f));
        self
    }

    /// The guardian that kills what is left of the run when this process dies, even by SIGKILL; none by default.
    ///
    /// The guardian is told of the run before the command is started, and the command carries the run's
    /// [mark](crate::guardian::GuardedChild::mark) in its environment, so a process that calls `setsid`, or is forked
    /// before the guardian knows the group, dies with this process too. Such escaped processes die with the run as
    /// well: when its group is killed, and when it ends by itself and its leftovers are not to be
    /// [left](Leftovers::Leave), the guardian kills them by the policy; the run does not wait for that. A run that no
    /// guardian can be told of is not started ([`AgentError::Spawn`](crate::agent::AgentError::Spawn)).
    ///
    /// To start a guardian takes a millisecond or two, which is not for a worker: do it before the runtime is, or in a
    /// `spawn_blocking`. Later on no worker is blocked, not even when the guardian has died and another is needed.
    #[must_use]
    pub fn guardian(mut self, guardian: Guardian) -> AgentOptions {
        self.guardian = Some(guardian);
        self
    }

    /// Leaves the processes that leave the group to the caller, as long as this process lives; meanwhile the guarded
    /// child is kept here.
    #[cfg(feature = "cli")]
    #[must_use]
    pub(crate) fn own_escaped(mut self, escaped: Escaped) -> AgentOptions {
        self.escaped = Some(escaped);
        self
    }

    /// Where its group is registered while it lives; [`Registry::global`] by default.
    #[must_use]
    pub fn registry(mut self, registry: Arc<Registry>) -> AgentOptions {
        self.registry = registry;
        self
    }

    /// Whose request ends it; [`Shutdown::global`] by default.
    #[must_use]
    pub fn shutdown(mut self, shutdown: Arc<Shutdown>) -> AgentOptions {
        self.shutdown = shutdown;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_is_had_and_what_is_not_is_the_default() {
        let time = Duration::from_secs(7);
        let policy = KillPolicy::default().grace(time);
        let (registry, shutdown) = (Arc::new(Registry::new(policy.clone())), Arc::new(Shutdown::new()));
        let default = AgentOptions::default();
        assert_eq!((default.timeout, default.policy), (None, KillPolicy::default()));
        assert_eq!((default.stdin, default.leftovers), (Stdin::Null, Leftovers::Kill));
        assert!(default.on_spawn.is_none() && default.guardian.is_none() && default.escaped.is_none());
        assert!(Arc::ptr_eq(&default.registry, Registry::global()));
        assert!(Arc::ptr_eq(&default.shutdown, Shutdown::global()));

        let set = AgentOptions::default().timeout(time).policy(policy.clone()).stdin(Stdin::Piped);
        let set = set.leftovers(Leftovers::Leave).on_spawn(|_| {});
        let set = set.registry(Arc::clone(&registry)).shutdown(Arc::clone(&shutdown));
        assert_eq!((set.timeout, &set.policy), (Some(time), &policy));
        assert_eq!((set.stdin, set.leftovers), (Stdin::Piped, Leftovers::Leave));
        assert!(set.on_spawn.is_some());
        assert!(Arc::ptr_eq(&set.registry, &registry) && Arc::ptr_eq(&set.shutdown, &shutdown));
        assert!(format!("{set:?}").contains("timeout: Some(7s)"));
    }
}
