//! One child under guard.

use std::io;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;

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
    late: Option<Late>,
}

impl Ward {
    pub(super) fn announce(parent: &Arc<Parent>, policy: &KillPolicy, may: May) -> io::Result<Ward> {
        let ward = parent.expect(policy, may)?;
        Ok(Ward { parent: Arc::clone(parent), ward, value: ward.to_string(), late: None })
    }

    /// For a worker: what may block is done on another thread.
    pub(super) async fn announce_off_worker(parent: &Arc<Parent>, policy: &KillPolicy) -> io::Result<Ward> {
        if let Ok(ward) = Ward::announce(parent, policy, May::NotBlock) {
            return Ok(ward);
        }
        let (parent, policy) = (Arc::clone(parent), policy.clone());
        let (answer, answered) = oneshot::channel();
        let mut answered = Awaited(answered);
        elsewhere(move || {
            if let Err(Ok(unwanted)) = answer.send(Ward::announce(&parent, &policy, May::Block)) {
                unwanted.release();
            }
        })?;
        (&mut answered.0)
            .await
            .unwrap_or_else(|_| Err(io::Error::other("the thread that starts the guardian has panicked")))
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

    /// The same on a worker, which it never blocks: what may block is done on another thread, and not waited for. What is
    /// said of the ward after it is told after it.
    pub(crate) fn guard_off_worker(&mut self, group: ProcessGroup) {
        let (ward, at) = (self.ward, since_boot());
        self.tell_off_worker(move |parent, may| parent.guard(ward, group.pgid(), at, may));
    }

    /// Has the guardian end, by the ward's policy and from here on, whoever carries this ward's mark and is not in its
    /// group. It goes on after the release. On a worker, as [`guard_off_worker`](Ward::guard_off_worker).
    pub(crate) fn end_strays_off_worker(&mut self) {
        let ward = self.ward;
        self.tell_off_worker(move |parent, may| parent.end_strays(ward, may));
    }

    fn tell_off_worker(&mut self, tell: impl Fn(&Parent, May) -> io::Result<()> + Send + 'static) {
        if self.late.is_none() && tell(&self.parent, May::NotBlock).is_ok() {
            return;
        }
        let parent = Arc::clone(&self.parent);
        let letter = move || tell(&parent, May::Block).unwrap_or_else(warn);
        match self.late.take().map_or_else(Late::begin, Ok) {
            Ok(late) => self.late.insert(late).tell(letter),
            Err(error) => warn(error),
        }
    }

    /// Waits until all is told that had to wait.
    fn catch_up(&mut self) {
        if let Some(late) = self.late.take() {
            late.finish();
        }
    }

    /// Takes the guard off: off the group, and off whoever carries this ward's mark.
    ///
    /// To be called before the leader is reaped, because from then on its number may be a stranger's. Also to be called
    /// when the child could not be started.
    pub fn release(mut self) {
        self.catch_up();
        self.parent.release(self.ward, May::Block).unwrap_or_else(warn);
    }

    /// Takes the guardian off the group, which is dead, before its leader is reaped. Whoever carries the mark stays under
    /// guard until the release. May block.
    #[cfg(feature = "cli")]
    pub(crate) fn let_go_of_group(&mut self) {
        self.catch_up();
        self.parent.let_go(self.ward, May::Block).unwrap_or_else(warn);
    }

    /// For a worker: what may block is done on another thread. Done when this resolves.
    pub(crate) async fn release_off_worker(self) {
        if self.late.is_none() && self.parent.release(self.ward, May::NotBlock).is_ok() {
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
            Ok(_) => drop(is_done.await),
            Err(error) => tracing::warn!("a ward is not released, no thread can be started: {error}"),
        }
    }
}

fn warn(error: io::Error) {
    tracing::warn!("the guardian has died and no new one can be started: {error}");
}

/// On a thread of its own: it may take the start of a process, or wait for one that does not listen.
fn elsewhere(f: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
    std::thread::Builder::new().name("guardian-post".into()).spawn(f)
}

/// The same, on this thread if there is no other to be had.
pub(crate) fn elsewhere_or_here<F: FnOnce() + Send + 'static>(f: F) {
    // A thread that cannot be started takes along what it was to do.
    let shared = Arc::new(Mutex::new(Some(f)));
    let theirs = Arc::clone(&shared);
    let take_and_call = |shared: &Mutex<Option<F>>| {
        let f = shared.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(f) = f {
            f();
        }
    };
    if elsewhere(move || take_and_call(&theirs)).is_err() {
        take_and_call(&shared);
    }
}

/// What a worker could not tell of a ward at once, and what came after it, in this order: a release that overtook the
/// word to end its strays would spare them.
#[derive(Debug)]
struct Late {
    letters: mpsc::Sender<Box<dyn FnOnce() + Send>>,
    thread: JoinHandle<()>,
}

impl Late {
    fn begin() -> io::Result<Late> {
        let (letters, waiting) = mpsc::channel::<Box<dyn FnOnce() + Send>>();
        let thread = elsewhere(move || waiting.into_iter().for_each(|letter| letter()))?;
        Ok(Late { letters, thread })
    }

    fn tell(&self, letter: impl FnOnce() + Send + 'static) {
        // It is refused only if an earlier one has panicked.
        let _ = self.letters.send(Box::new(letter));
    }

    fn finish(self) {
        drop(self.letters);
        // A panic has said what it was.
        let _ = self.thread.join();
    }
}

/// A ward that is being announced. One that nobody takes is released.
struct Awaited(oneshot::Receiver<io::Result<Ward>>);

impl Drop for Awaited {
    fn drop(&mut self) {
        self.0.close();
        if let Ok(Ok(unwanted)) = self.0.try_recv() {
            elsewhere(|| unwanted.release()).map_or_else(warn, drop);
        }
    }
}

#[cfg(test)]
mod tests {
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
        let mut second = block_on(Ward::announce_off_worker(&parent, &policy)).unwrap();
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
        let mut ward = block_on(async {
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
        drop(busy);
        // That it need not wait any more changes nothing: it comes second.
        ward.end_strays_off_worker();
        let told = next(&guardian);
        assert!(matches!(told, Letter::Guard { ward: 1, pgid, .. } if pgid == child().pgid()), "{told:?}");
        assert_eq!(next(&guardian), Letter::EndStrays { ward: 1 });

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

    #[test]
    fn a_release_comes_after_what_had_to_wait_before_it() {
        let (parent, guardian) = told();
        for released in 1..=2 {
            let mut ward = Ward::announce(&parent, &KillPolicy::default(), May::Block).unwrap();
            assert!(matches!(next(&guardian), Letter::Expect { .. }));
            let busy = keep_busy(&parent);
            ward.end_strays_off_worker();
            drop(busy);
            match released {
                1 => ward.release(),
                _ => block_on(ward.release_off_worker()),
            }
            assert_eq!(heard(&guardian), [Letter::EndStrays { ward: released }, Letter::Release { ward: released }]);
        }
    }

    #[test]
    fn a_ward_that_nobody_waits_for_any_more_is_released() {
        let (parent, guardian) = told();
        let announced = |taken: bool| {
            let (answer, answered) = oneshot::channel();
            let mut awaited = Awaited(answered);
            answer.send(Ward::announce(&parent, &KillPolicy::default(), May::Block)).unwrap();
            assert!(matches!(next(&guardian), Letter::Expect { .. }));
            taken.then(|| block_on(&mut awaited.0).unwrap().unwrap())
        };
        announced(false);
        assert_eq!(next(&guardian), Letter::Release { ward: 1 });
        let taken = announced(true).unwrap();
        assert_eq!(heard(&guardian), []);
        taken.release();
    }

    #[test]
    #[cfg(feature = "cli")]
    fn the_guardian_lets_go_of_a_dead_group_before_the_release_and_after_what_had_to_wait() {
        let (parent, guardian) = told();
        let mut ward = Ward::announce(&parent, &KillPolicy::default(), May::Block).unwrap();
        let busy = keep_busy(&parent);
        ward.guard_off_worker(child());
        drop(busy);
        ward.let_go_of_group();
        ward.release();
        let heard = heard(&guardian);
        assert!(matches!(heard[..2], [Letter::Expect { ward: 1, .. }, Letter::Guard { ward: 1, .. }]), "{heard:?}");
        assert_eq!(heard[2..], [Letter::LetGo { ward: 1 }, Letter::Release { ward: 1 }]);
    }
}
