//! Where a watched future is polled: on the one worker of its runtime, on one of several, or on none.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

use tokio::runtime::{Handle, RuntimeFlavor};

/// Where a watched future is polled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// In a current_thread runtime, whose one worker does everything.
    CurrentThread,
    /// In a task of a multi-thread runtime: on a worker, now this one and now that.
    Task,
    /// As the root of a multi-thread `block_on`: on a thread that is no worker.
    Root,
    /// Outside any runtime.
    Nowhere,
}

impl Place {
    pub(crate) fn here() -> Self {
        let Ok(handle) = Handle::try_current() else {
            return Self::Nowhere;
        };
        match handle.runtime_flavor() {
            RuntimeFlavor::CurrentThread => Self::CurrentThread,
            _ if is_on_a_worker() => Self::Task,
            _ => Self::Root,
        }
    }
}

/// Whether this thread is a worker right now. One of the blocking pool is not, though what it polls with
/// `Handle::block_on` has the number of a task; nor is one in `block_in_place`.
///
/// What yields on a worker is woken when the driver has been turned, and anywhere else at once.
pub(crate) fn is_on_a_worker() -> bool {
    let woken = Arc::new(Woken::default());
    let _ = pin!(tokio::task::yield_now()).poll(&mut Context::from_waker(&Waker::from(Arc::clone(&woken))));
    !woken.0.load(Ordering::SeqCst)
}

#[derive(Default)]
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::SeqCst);
    }
}
