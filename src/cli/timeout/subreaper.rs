//! Reaps the command's orphans, and ends the processes that have escaped from its group together with it.

use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tokio::sync::oneshot;

use super::escape_finder::EscapeFinder;
use super::kill_escaped::{EscapedKills, EscapedProcess};
use crate::group::descendants::command_of;
use crate::guardian::Guardian;
use crate::kill::KillPolicy;
use crate::signal::Signal;

/// What became of the escaped processes.
pub(super) struct EscapedReport {
    pub(super) killed: Vec<EscapedProcess>,
    /// Number and command of the processes that run on, since they may be a stranger's.
    pub(super) left_alone: Vec<(i32, String)>,
    /// Strangers came and went so fast that it could not be seen whether the command's processes have died out.
    pub(super) is_unsure: bool,
}

pub(super) struct Subreaper {
    finder: EscapeFinder,
    kills: EscapedKills,
    /// The thread that kills while the command's group is being ended.
    killer: Mutex<Option<JoinHandle<()>>>,
}

impl Subreaper {
    pub(super) fn new(guardian: Option<Guardian>, policy: KillPolicy) -> Arc<Subreaper> {
        let (finder, kills) = (EscapeFinder::new(guardian), EscapedKills::new(policy));
        Arc::new(Subreaper { finder, kills, killer: Mutex::default() })
    }

    pub(super) fn finder(&self) -> &EscapeFinder {
        &self.finder
    }

    /// The command ends or is being ended: the processes that have left its group are ended too, by the same signal.
    pub(super) fn begin_end(self: &Arc<Subreaper>, signal: Signal) {
        self.kills.begin(signal);
        self.finder.begin_end();
        self.kill_orphans();
    }

    /// Kills the orphans, on another thread, if the end has begun and there are any.
    pub(super) fn kill_orphans(self: &Arc<Subreaper>) {
        let mut killer = self.killer.lock().unwrap_or_else(PoisonError::into_inner);
        let is_busy = killer.as_ref().is_some_and(|killer| !killer.is_finished());
        if is_busy || !self.kills.have_begun() || self.finder.orphans().is_empty() {
            return;
        }
        let subreaper = Arc::clone(self);
        // Without a thread they are killed when the command is dead.
        *killer = start_killer(move || subreaper.kills.run(&subreaper.finder)).ok();
    }

    /// Sends SIGKILL to all escaped processes.
    pub(super) fn kill_at_once(&self) {
        self.kills.kill_at_once(&self.finder);
    }

    /// The command was reaped and its group is dead: kills the escaped processes that are left. If the future is
    /// dropped, another thread goes on.
    pub(super) fn end(self: &Arc<Subreaper>) -> impl Future<Output = EscapedReport> + use<> {
        self.finder.set_leader(0);
        let earlier = self.killer.lock().unwrap_or_else(PoisonError::into_inner).take();
        let subreaper = Arc::clone(self);
        async move {
            if earlier.is_none() && subreaper.has_died_out() {
                return subreaper.report();
            }
            let (over, is_over) = oneshot::channel();
            let threads = Arc::clone(&subreaper);
            let rest = move || {
                // If it has panicked, there is all the more left to do.
                let _ = earlier.map(JoinHandle::join);
                if !threads.has_died_out() {
                    threads.kills.run(&threads.finder);
                }
                // The receiver is gone if the future was dropped.
                let _ = over.send(());
            };
            match start_killer(rest) {
                // An error means that the thread has panicked, and is over too.
                Ok(_) => drop(is_over.await),
                // Without a thread it is done here, where no signal is handled meanwhile.
                Err(_) => subreaper.kills.run(&subreaper.finder),
            }
            subreaper.report()
        }
    }

    fn has_died_out(&self) -> bool {
        self.finder.has_died_out(|pid| self.kills.is_hopeless(pid))
    }

    fn report(&self) -> EscapedReport {
        // All have ended. A process that is not reaped here would be left to a first process that may never wait.
        self.finder.reap();
        let unknown = self.finder.look().map_or_else(Vec::new, |sorted| sorted.unknown);
        EscapedReport {
            killed: self.kills.take_ended(),
            left_alone: unknown.into_iter().map(|pid| (pid, command_of(pid))).collect(),
            is_unsure: self.kills.are_unsure(),
        }
    }
}

fn start_killer(f: impl FnOnce() + Send + 'static) -> std::io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("deadbeat-killer".into()).spawn(f)
}
