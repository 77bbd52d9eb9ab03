//! A runtime can starve while every worker is steady: in its blocking pool, and when it is dropped.

use std::time::Duration;

use deadbeat::heartbeat::RuntimeShutdown;
use deadbeat::heartbeat::{Flavor, Heartbeat, Lab};
use tokio::runtime::Builder;

use crate::support::{LONG, assert_steady, block};

const BUDGET: Duration = Duration::from_millis(50);

#[test]
fn a_full_blocking_pool_is_starved_though_the_workers_are_steady() {
    let runtime = Builder::new_current_thread().enable_all().max_blocking_threads(1).build().unwrap();
    let pulse = |hold: Duration| {
        let watch = async move {
            tokio::time::sleep(Duration::from_millis(20)).await;
            tokio::task::spawn_blocking(move || block(hold)).await.unwrap();
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        runtime.block_on(Heartbeat::new().blocking_pool(true).watch(watch)).pulse
    };
    let full = pulse(LONG * 2);
    assert_steady(&full);
    let pool = full.blocking_pool.unwrap();
    assert!(pool.is_starved(BUDGET), "{pool}");
    // A busy machine may serve none in so short a watch, or one late.
    let free = || pulse(Duration::from_millis(1)).blocking_pool.unwrap();
    let served = (0..20).map(|_| free()).find(|free| free.probes > 0 && free.longest < pool.longest);
    assert!(served.is_some(), "in twenty times no closure was served sooner than behind a block: {pool}");
}

#[test]
fn a_lab_takes_the_pulse_of_the_blocking_pool_unless_told_not_to() {
    let pool = |lab: Lab| lab.run_root(|| async { tokio::time::sleep(LONG).await }).unwrap().pulse.blocking_pool;
    let lab = Lab::new(Flavor::CurrentThread);
    let mut pools = (0..5).map(|_| pool(lab.clone()).unwrap());
    assert!(pools.any(|pool| pool.probes > 0 || pool.pending), "in five times it was not asked");
    assert!(pool(lab.heartbeat(Heartbeat::new().blocking_pool(false))).is_none());
}

/// Behind what it waited, if that was seen.
fn is_told(slow: &RuntimeShutdown) -> bool {
    let detail = slow.behind.as_ref().map(|behind| behind.detail.as_deref());
    cfg!(any(not(target_os = "linux"), deadbeat_portable)) || detail.is_none_or(|told| told == Some("150 ms asked for"))
}

#[test]
fn a_shutdown_takes_as_long_as_the_closure_it_waits_for() {
    let lab = Lab::new(Flavor::CurrentThread);
    // Where the machine has no time for the dropping, the closure is over before it begins.
    let slow = || lab.run_root(|| async { drop(tokio::task::spawn_blocking(|| block(LONG))) }).unwrap().pulse.shutdown;
    let mut slow = (0..10).map(|_| slow().unwrap()).inspect(|slow| println!("{slow}"));
    let slow = slow.find(|slow| slow.over && slow.took >= LONG / 2 && is_told(slow));
    let slow = slow.expect("in ten times it did not wait, or not behind the closure");
    let quick = || lab.run_root(|| async {}).unwrap().pulse.shutdown.unwrap();
    assert!((0..10).map(|_| quick()).any(|quick| quick.over && quick.took < slow.took), "none was quicker than {slow}");
}
