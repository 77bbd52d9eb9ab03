//! The waker of the watching task: read without a lock, since a thread that is preempted while it holds one would stall
//! the other.

use std::sync::{OnceLock, PoisonError};
use std::task::Waker;

use crate::sync::{AtomicBool, Mutex, Ordering, fence};

/// The watching task's waker. It hardly ever changes, and only then is the mutex touched.
///
/// 1. The thread that wakes sets the reason, then looks whether the waker has moved.
/// 2. The thread that polls moves the waker, then looks for a reason.
///
/// A fence lies between the two steps on either side, so that one of them sees the other, however the reason is set: no
/// wake is lost on a waker of the past.
#[derive(Default)]
pub(crate) struct TaskWaker {
    first: OnceLock<Waker>,
    moved: AtomicBool,
    latest: Mutex<Option<Waker>>,
}

impl TaskWaker {
    /// Called by the thread that polls, before it looks why it was woken.
    pub(crate) fn set(&self, waker: &Waker) {
        let mut is_news = false;
        let first = self.first.get_or_init(|| {
            is_news = true;
            waker.clone()
        });
        if self.moved.load(Ordering::Acquire) || !first.will_wake(waker) {
            *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker.clone());
            self.moved.store(true, Ordering::Release);
            is_news = true;
        }
        // If the waker did not change, the waking thread saw it at an earlier fence, so no new fence is needed.
        if is_news {
            fence(Ordering::SeqCst);
        }
    }

    /// Called by the thread that has set the reason.
    pub(crate) fn wake(&self) {
        fence(Ordering::SeqCst);
        if !self.moved.load(Ordering::Acquire) {
            if let Some(first) = self.first.get() {
                first.wake_by_ref();
            }
            return;
        }
        let latest = self.latest.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(latest) = latest {
            latest.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    pub(crate) struct Count(AtomicUsize);

    impl Count {
        pub(crate) fn get(&self) -> usize {
            self.0.load(Ordering::SeqCst)
        }
    }

    impl Wake for Count {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn the_last_waker_set_is_the_one_woken() {
        let (one, two) = (Arc::new(Count::default()), Arc::new(Count::default()));
        let task = TaskWaker::default();
        task.wake();
        task.set(&Waker::from(Arc::clone(&one)));
        task.wake();
        task.set(&Waker::from(Arc::clone(&two)));
        task.wake();
        task.set(&Waker::from(Arc::clone(&one)));
        task.wake();
        assert_eq!((one.get(), two.get()), (2, 1));
    }

    /// The lock is for a task that moves: one that never does takes none.
    #[test]
    fn a_task_that_comes_again_with_the_same_waker_needs_no_lock() {
        let one = Arc::new(Count::default());
        let task = TaskWaker::default();
        for times in 1..=3 {
            task.set(&Waker::from(Arc::clone(&one)));
            assert!(!task.moved.load(Ordering::SeqCst) && task.latest.lock().unwrap().is_none());
            task.wake();
            assert_eq!(one.get(), times);
        }
    }
}

#[cfg(test)]
#[cfg(deadbeat_loom)]
mod loom_tests {
    use std::sync::Arc as CountArc;

    use super::tests::Count;
    use super::*;
    use crate::sync::Arc;

    /// A task that has had so many wakers gets another, while a thread wakes it by these two steps, given the flag that
    /// says why. In any order the task sees why, or its newest waker is woken. (What is done to the first waker's
    /// `OnceLock` is one step to loom.)
    fn no_wake_is_lost(wakers_before: usize, wake: fn(&AtomicBool, &TaskWaker)) {
        loom::model(move || {
            let shared = Arc::new((AtomicBool::new(false), TaskWaker::default()));
            for _ in 0..wakers_before {
                shared.1.set(&Waker::from(CountArc::<Count>::default()));
            }
            let theirs = Arc::clone(&shared);
            let waking = loom::thread::spawn(move || wake(&theirs.0, &theirs.1));
            let newest = CountArc::<Count>::default();
            shared.1.set(&Waker::from(CountArc::clone(&newest)));
            let seen = shared.0.load(Ordering::Relaxed);
            waking.join().unwrap();
            assert!(seen || newest.get() == 1, "a wake was lost");
        });
    }

    fn says_why_and_wakes(why: &AtomicBool, task: &TaskWaker) {
        why.store(true, Ordering::Relaxed);
        task.wake();
    }

    #[test]
    fn loom_no_wake_is_lost_on_the_first_waker() {
        no_wake_is_lost(0, says_why_and_wakes);
    }

    #[test]
    fn loom_no_wake_is_lost_while_the_waker_moves() {
        no_wake_is_lost(1, says_why_and_wakes);
    }

    #[test]
    fn loom_no_wake_is_lost_while_the_waker_moves_on() {
        no_wake_is_lost(2, says_why_and_wakes);
    }

    #[test]
    #[should_panic(expected = "a wake was lost")]
    fn loom_the_control_that_wakes_before_it_says_why_is_caught() {
        no_wake_is_lost(1, |why, task| {
            task.wake();
            why.store(true, Ordering::Relaxed);
        });
    }
}
