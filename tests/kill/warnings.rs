//! `kill_process_group` returns nothing, so what it warns of is all that is told.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use deadbeat::kill_process_group;

use super::common_warnings::Warnings;
use super::support::start;

/// How often was it warned, on the thread that polls?
fn warnings_of(future: impl Future<Output = ()>) -> usize {
    let count = Arc::new(AtomicUsize::new(0));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let counted = count.clone();
    let counter = Warnings(move |_: &tracing::Event<'_>| {
        counted.fetch_add(1, Ordering::SeqCst);
    });
    tracing::subscriber::with_default(counter, || runtime.block_on(future));
    count.load(Ordering::SeqCst)
}

#[test]
fn a_kill_that_came_to_its_end_warns_of_nothing() {
    let running = start("fast-exit");
    assert_eq!(warnings_of(kill_process_group(running.pgid())), 0);
}

#[test]
fn one_that_was_refused_is_warned_of() {
    assert_eq!(warnings_of(kill_process_group(1)), 1);
}
