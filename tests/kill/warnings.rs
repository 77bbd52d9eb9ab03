//! `kill_process_group` returns nothing, so what it warns of is all that anybody is told.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use deadbeat::kill_process_group;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use super::support::start;

/// Counts warnings, and all that is worse.
struct Warnings(Arc<AtomicUsize>);

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::WARN
    }

    fn event(&self, _: &Event<'_>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// How often was it warned, on the thread that polls?
fn warnings_of(future: impl Future<Output = ()>) -> usize {
    let count = Arc::new(AtomicUsize::new(0));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tracing::subscriber::with_default(Warnings(count.clone()), || runtime.block_on(future));
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
