//! A runtime can starve while every worker is steady: in its blocking pool, and when it is dropped.

use std::time::Duration;

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
    let free = pulse(Duration::from_millis(1)).blocking_pool.unwrap();
    assert!(free.probes > 0 && free.longest < pool.longest, "{free}");
}

#[test]
fn a_lab_takes_the_pulse_of_the_blocking_pool_unless_told_not_to() {
    let pool = |lab: Lab| lab.run(|| async { tokio::time::sleep(LONG).await }).unwrap().pulse.blocking_pool;
    let lab = Lab::new(Flavor::CurrentThread);
    let probed = pool(lab.clone()).unwrap();
    assert!(probed.probes > 0 || probed.pending, "{probed}");
    assert!(pool(lab.heartbeat(Heartbeat::new().blocking_pool(false))).is_none());
}

#[test]
fn a_shutdown_takes_as_long_as_the_closure_it_waits_for() {
    let lab = Lab::new(Flavor::CurrentThread);
    let slow = lab.run(|| async { drop(tokio::task::spawn_blocking(|| block(LONG))) }).unwrap().pulse;
    let slow = slow.shutdown.unwrap();
    assert!(slow.over && slow.took >= LONG / 2, "{slow}");
    #[cfg(all(target_os = "linux", not(deadbeat_portable)))]
    if let Some(behind) = &slow.behind {
        assert_eq!(behind.detail.as_deref(), Some("150 ms asked for"), "{slow}");
    }
    let quick = lab.run(|| async {}).unwrap().pulse.shutdown.unwrap();
    assert!(quick.over && quick.took < slow.took, "{quick}");
}
