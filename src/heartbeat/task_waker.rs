//! Whom to wake: read without a lock, since whoever is preempted while holding one would stall the other.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::task::Waker;

/// The watching task's waker. It hardly ever changes, and only then is the mutex touched.
///
/// Who wakes first says why and then looks whether the waker has moved; who polls moves the waker and then looks why. Both
/// in one order for all, so that one of the two sees the other: no wake is lost on a waker of the past.
#[derive(Default)]
pub(super) struct TaskWaker {
    first: OnceLock<Waker>,
    moved: AtomicBool,
    latest: Mutex<Option<Waker>>,
}

impl TaskWaker {
    pub(super) fn set(&self, waker: &Waker) {
        let first = self.first.get_or_init(|| waker.clone());
        if self.moved.load(Ordering::SeqCst) || !first.will_wake(waker) {
            *self.latest.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker.clone());
            self.moved.store(true, Ordering::SeqCst);
        }
    }

    pub(super) fn wake(&self) {
        if !self.moved.load(Ordering::SeqCst) {
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
    use std::sync::atomic::AtomicUsize;
    use std::task::Wake;

    use super::*;

    #[derive(Default)]
    struct Count(AtomicUsize);

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
        assert_eq!((one.0.load(Ordering::SeqCst), two.0.load(Ordering::SeqCst)), (2, 1));
    }
}
