//! What is left to do for a child: kill its group, reap the child, unregister the group.
//!
//! Dropped before that is done, it is handed to the kill thread, which does it.

use std::io;
use std::process::ExitStatus;
use std::sync::Arc;

use tokio::process::Child;

use super::options::Escaped;
use crate::group::ProcessGroup;
use crate::guardian::{self, GuardedChild};
use crate::kill::{Kill, KillPolicy, KillThread};
use crate::registry::Registry;

/// A child that has still to be killed with its group, reaped and unregistered.
pub(super) struct Unfinished {
    pub(super) child: Option<Child>,
    pub(super) group: ProcessGroup,
    pub(super) guarded: Option<GuardedChild>,
    pub(super) escaped: Option<Escaped>,
    pub(super) policy: KillPolicy,
    pub(super) registry: Arc<Registry>,
}

impl Unfinished {
    /// Begins the kill of the group: the first signal is sent, so that members that obey it die even if this process
    /// ends now.
    pub(super) fn begin_kill(&self) -> Kill {
        self.registry.begin_kill(self.group, &self.policy).wait_for_leader(self.policy.reap_within())
    }

    /// Has the guardian kill the processes that have left the group, which only it can find.
    pub(super) fn kill_escaped(&mut self) {
        self.guarded.iter_mut().filter(|_| self.escaped.is_none()).for_each(GuardedChild::kill_escaped_off_worker);
    }

    /// Takes the guarded child, to be released before the leader is reaped. If the caller of the run kills escaped
    /// processes itself, the guardian keeps watching their mark, and there is nothing to release here.
    pub(super) fn take_guarded(&mut self) -> Option<GuardedChild> {
        #[cfg_attr(not(feature = "cli"), expect(unused_mut, reason = "only the program releases the group alone"))]
        let mut guarded = self.guarded.take()?;
        #[cfg(feature = "cli")]
        if let Some(escaped) = &self.escaped {
            // That caller is this program, on a thread of its own.
            guarded.release_group();
            *escaped.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(guarded);
            return None;
        }
        Some(guarded)
    }

    /// Collects the leader's exit and unregisters its group, in one step. `None`: the leader does not end; it stays
    /// guarded, and registered for `kill_all_children`.
    ///
    /// Blocks while a guardian is told, so this is for threads that may block, or for a run that is not guarded any
    /// more.
    pub(super) fn reap(&mut self) -> io::Result<Option<ExitStatus>> {
        // Asked once: a leader that ends right after this is not reaped either, because its group is still guarded.
        if !self.group.leader_has_exited() {
            self.give_up();
            return Ok(None);
        }
        let Some(mut child) = self.child.take() else { return Ok(None) };
        let pgid = self.group.pgid();
        // Before the reaping, after which its number can become a stranger's.
        self.take_guarded().into_iter().for_each(GuardedChild::release);
        let reaped = self.registry.reap(pgid, || child.try_wait());
        if let Err(error) = &reaped {
            // ECHILD: there is nothing left to wait for, now or ever.
            tracing::warn!(pgid, "a command's exit was collected by other code in this process: {error}");
            self.registry.unregister(pgid);
        }
        reaped
    }
}

impl Unfinished {
    /// Gives up a leader that SIGKILL does not end: it stays guarded, and registered for `kill_all_children`.
    pub(super) fn give_up(&mut self) {
        let Some(child) = self.child.take() else { return };
        tracing::warn!(pgid = self.group.pgid(), "the leader of a killed group does not end");
        // tokio would reap it some day, behind the registry's back.
        std::mem::forget(child);
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let Some(child) = self.child.take() else { return };
        self.kill_escaped();
        let kill = self.begin_kill();
        let mut unfinished = Unfinished {
            child: Some(child),
            group: self.group,
            guarded: self.guarded.take(),
            escaped: self.escaped.clone(),
            policy: self.policy.clone(),
            registry: Arc::clone(&self.registry),
        };
        let Ok(kill_thread) = KillThread::global() else {
            // Without a thread there is no grace, and the leader stays a zombie that pins its number.
            let _ = kill.kill_at_once();
            std::mem::forget(unfinished.child.take());
            return;
        };
        kill_thread.begin(kill, move |result| {
            if let Err(error) = result {
                tracing::warn!(pgid = error.pgid(), "a run was dropped and its group not killed: {error}");
            }
            reap_elsewhere(unfinished);
        });
    }
}

/// Reaps on a thread of its own where a guardian has to be told: a guardian that does not read must not hold up the
/// other kills of the kill thread, on which this is called.
fn reap_elsewhere(mut unfinished: Unfinished) {
    if unfinished.guarded.is_none() {
        let _ = unfinished.reap();
        return;
    }
    guardian::on_new_thread_or_here(move || drop(unfinished.reap()));
}
