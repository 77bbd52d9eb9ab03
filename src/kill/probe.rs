//! Whether the system starts a thread now, found out by starting one, without blocking and without a panic.

use std::time::Instant;

use tokio::sync::oneshot;

use super::kill_thread::PATIENCE;
use crate::group::{has_thread, this_thread};

/// By the time this says yes, the thread that was started has ended and its place is free again. It says no, too, if that
/// takes longer than the kill thread waits anyway.
pub(super) async fn a_thread_can_be_started() -> bool {
    let begun = Instant::now();
    let (told, ended) = oneshot::channel();
    let say_which = move || {
        // The receiver may have gone.
        let _ = told.send(this_thread());
    };
    if std::thread::Builder::new().name("deadbeat-probe".into()).spawn(say_which).is_err() {
        return false;
    }
    let Ok(thread) = ended.await else { return false };
    // It has said so as the last thing it did, and still counts until the kernel has taken it off.
    while has_thread(thread) {
        if begun.elapsed() >= PATIENCE {
            return false;
        }
        tokio::task::yield_now().await;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_is_started_and_nothing_of_it_is_left() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        // On a machine that gives it no CPU for so long it says no now and then.
        let started = (0..100).filter(|_| runtime.block_on(a_thread_can_be_started())).count();
        assert!(started > 0);
    }
}
