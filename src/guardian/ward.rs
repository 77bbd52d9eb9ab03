//! One child under guard.

use std::io;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::parent::{May, Parent};
use crate::group::{ProcessGroup, since_boot};
use crate::kill::KillPolicy;

/// A child under guard, from before it is started until it is released.
///
/// Dropping a ward does not release it: what is forgotten in a panic dies with the parent.
#[derive(Debug)]
#[must_use = "a ward that is not released is killed when this process ends, even if it ends well"]
pub struct Ward {
    parent: Arc<Parent>,
    ward: u64,
    value: String,
}

impl Ward {
    pub(super) fn announce(parent: &Arc<Parent>, policy: &KillPolicy, may: May) -> io::Result<Ward> {
        let ward = parent.expect(policy, may)?;
        Ok(Ward { parent: Arc::clone(parent), ward, value: ward.to_string() })
    }

    /// For a worker: what may block is done on another thread.
    pub(super) async fn announce_off_worker(parent: &Arc<Parent>, policy: &KillPolicy) -> io::Result<Ward> {
        if let Ok(ward) = Ward::announce(parent, policy, May::NotBlock) {
            return Ok(ward);
        }
        let (parent, policy) = (Arc::clone(parent), policy.clone());
        let (answer, answered) = oneshot::channel();
        elsewhere(move || {
            if let Err(Ok(unwanted)) = answer.send(Ward::announce(&parent, &policy, May::Block)) {
                unwanted.release();
            }
        })?;
        answered.await.unwrap_or_else(|_| Err(io::Error::other("the thread that starts the guardian has panicked")))
    }

    /// Name and value of the variable to put into the child's environment, and of no other child.
    pub fn mark(&self) -> (&str, &str) {
        (&self.parent.mark, &self.value)
    }

    /// Has the group guarded that this child leads. To be called while the leader is un-reaped.
    ///
    /// # Errors
    ///
    /// [`io::ErrorKind::InvalidInput`] for a pgid that must not be signalled. Otherwise the guardian has died and no new
    /// one can be started now; the group will be guarded if that succeeds at a later use.
    pub fn guard(&mut self, pgid: i32) -> io::Result<()> {
        ProcessGroup::new(pgid).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        self.parent.guard(self.ward, pgid, since_boot(), May::Block)
    }

    /// The same on a worker, which it never blocks: what may block is done on another thread, and not waited for. A release
    /// that comes first has come first for the guardian too.
    pub(crate) fn guard_off_worker(&self, group: ProcessGroup) {
        let (ward, at) = (self.ward, since_boot());
        self.tell_off_worker(move |parent, may| parent.guard(ward, group.pgid(), at, may));
    }

    /// Has the guardian end, by the ward's policy and from here on, whoever carries this ward's mark and is not in its
    /// group. It goes on after the release. On a worker, as [`guard_off_worker`](Ward::guard_off_worker).
    pub(crate) fn end_strays_off_worker(&self) {
        let ward = self.ward;
        self.tell_off_worker(move |parent, may| parent.end_strays(ward, may));
    }

    fn tell_off_worker(&self, tell: impl Fn(&Parent, May) -> io::Result<()> + Send + 'static) {
        let warn = |error| tracing::warn!("the guardian has died and no new one can be started: {error}");
        if tell(&self.parent, May::NotBlock).is_err() {
            let parent = Arc::clone(&self.parent);
            elsewhere(move || tell(&parent, May::Block).unwrap_or_else(warn)).unwrap_or_else(warn);
        }
    }

    /// Takes the guard off: off the group, and off whoever carries this ward's mark.
    ///
    /// To be called before the leader is reaped, because from then on its number may be a stranger's. Also to be called
    /// when the child could not be started.
    pub fn release(self) {
        if let Err(error) = self.parent.release(self.ward, May::Block) {
            tracing::warn!("the guardian has died and no new one can be started: {error}");
        }
    }

    /// Takes the guardian off the group, which is dead, before its leader is reaped. Whoever carries the mark stays under
    /// guard until the release. May block.
    #[cfg(feature = "cli")]
    pub(crate) fn let_go_of_group(&self) {
        if let Err(error) = self.parent.let_go(self.ward, May::Block) {
            tracing::warn!("the guardian has died and no new one can be started: {error}");
        }
    }

    /// For a worker: what may block is done on another thread. Done when this resolves.
    pub(crate) async fn release_off_worker(self) {
        if self.parent.release(self.ward, May::NotBlock).is_ok() {
            return;
        }
        let (done, is_done) = oneshot::channel();
        let release = move || {
            self.release();
            // Whoever waited may have gone.
            let _ = done.send(());
        };
        match elsewhere(release) {
            // An error means that it panicked, and is over too.
            Ok(()) => drop(is_done.await),
            Err(error) => tracing::warn!("a ward is not released, no thread can be started: {error}"),
        }
    }
}

/// On a thread of its own: it may take the start of a process, or wait for one that does not listen.
fn elsewhere(f: impl FnOnce() + Send + 'static) -> io::Result<()> {
    std::thread::Builder::new().name("guardian-post".into()).spawn(f).map(drop)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::super::letter::Letter;
    use super::super::parent::tests::{heard, keep_busy, next, told};
    use super::*;

    /// On one worker: whatever waits there makes everybody wait.
    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
    }

    fn child() -> ProcessGroup {
        ProcessGroup::new(i32::MAX).unwrap()
    }

    #[test]
    fn each_ward_has_a_mark_and_what_becomes_of_it_is_told() {
        let (parent, guardian) = told();
        let policy = KillPolicy::default();
        let mut first = Ward::announce(&parent, &policy, May::Block).unwrap();
        let second = block_on(Ward::announce_off_worker(&parent, &policy)).unwrap();
        assert_eq!(first.mark(), (parent.mark.as_str(), "1"));
        assert_eq!(second.mark(), (parent.mark.as_str(), "2"));
        assert_eq!(first.guard(1).unwrap_err().kind(), io::ErrorKind::InvalidInput);
        let before = since_boot();
        first.guard(child().pgid()).unwrap();
        second.guard_off_worker(child());
        second.end_strays_off_worker();
        first.release();
        block_on(second.release_off_worker());
        let heard = heard(&guardian);
        let [Letter::Guard { at: one, .. }, Letter::Guard { at: two, .. }] = heard[2..4] else { panic!("{heard:?}") };
        assert!(before <= one && one <= two && two <= since_boot(), "{before:?} {one:?} {two:?}");
        let pgid = child().pgid();
        let expected = [
            Letter::Expect { ward: 1, policy: policy.clone() },
            Letter::Expect { ward: 2, policy },
            Letter::Guard { ward: 1, pgid, at: one },
            Letter::Guard { ward: 2, pgid, at: two },
            Letter::EndStrays { ward: 2 },
            Letter::Release { ward: 1 },
            Letter::Release { ward: 2 },
        ];
        assert_eq!(heard, expected);
    }

    #[test]
    fn what_would_keep_a_worker_is_done_elsewhere() {
        let (parent, guardian) = told();
        let ward = block_on(async {
            let busy = keep_busy(&parent);
            let announcing = Arc::clone(&parent);
            let announcing =
                tokio::spawn(async move { Ward::announce_off_worker(&announcing, &KillPolicy::default()).await });
            tokio::task::yield_now().await;
            assert!(!announcing.is_finished());
            drop(busy);
            announcing.await.unwrap().unwrap()
        });
        assert!(matches!(next(&guardian), Letter::Expect { ward: 1, .. }));

        let busy = keep_busy(&parent);
        ward.guard_off_worker(child());
        ward.end_strays_off_worker();
        drop(busy);
        // Of two that had to wait either can come first.
        let told = [next(&guardian), next(&guardian)].map(|letter| match letter {
            Letter::Guard { ward: 1, pgid, .. } => Some(pgid),
            Letter::EndStrays { ward: 1 } => None,
            other => panic!("{other:?}"),
        });
        assert_eq!(HashSet::from(told), HashSet::from([Some(child().pgid()), None]));

        block_on(async {
            let busy = keep_busy(&parent);
            let releasing = tokio::spawn(ward.release_off_worker());
            tokio::task::yield_now().await;
            assert!(!releasing.is_finished());
            drop(busy);
            releasing.await.unwrap();
        });
        assert_eq!(heard(&guardian), [Letter::Release { ward: 1 }]);
    }
}
