//! `kill_process_group` itself, with its own 5 s: nothing stands still meanwhile. The same watch catches the naive body.

use std::time::{Duration, Instant};

use deadbeat::heartbeat::lab::{Flavor, Lab};
use deadbeat::heartbeat::{Heartbeat, Verdict, Watched};
use deadbeat::{KillPolicy, kill_process_group};
use rstest::rstest;

use super::naive;
use super::support::start;

/// A worker that stands still for this long has been blocked, on the slowest of machines.
const BUDGET: Duration = Duration::from_secs(2);

fn watch<Fut>(flavor: Flavor, kill: impl FnOnce() -> Fut + Send + 'static) -> Watched<Duration>
where
    Fut: Future<Output = ()> + Send + 'static,
{
    let lab = Lab::new(flavor).heartbeat(Heartbeat::new().budget(BUDGET)).deadline(Duration::from_secs(60));
    let watched = lab.run(move || async move {
        let start = Instant::now();
        tokio::spawn(kill()).await.unwrap();
        start.elapsed()
    });
    watched.unwrap()
}

#[rstest]
fn the_worker_beats_on_while_five_seconds_of_grace_go_by(
    #[values(Flavor::CurrentThread, Flavor::MultiThread(1))] flavor: Flavor,
) {
    if deadbeat::group::backend() != deadbeat::group::Backend::Proc {
        eprintln!("skipped: the portable readings of the heartbeat cannot tell a block from a busy machine");
        return;
    }
    let (ours, control) = (start("ignore-term"), start("ignore-term"));
    // Its leader obeys and is dead long before; a kill of the leader alone would leave the child.
    let theirs = start("stubborn-child");
    let (pgid, control_pgid, child_pgid) = (ours.pgid(), control.pgid(), theirs.pgid());
    std::thread::scope(|scope| {
        let caught = scope
            .spawn(move || watch(flavor, move || async move { naive::kill(control_pgid, Duration::from_secs(5)) }));
        let watched = watch(flavor, move || async move {
            tokio::join!(kill_process_group(pgid), kill_process_group(child_pgid));
        });

        assert_eq!(watched.pulse.verdict(), Verdict::Steady, "{:#?}", watched.pulse);
        assert!(watched.output >= Duration::from_secs(5), "SIGKILL came early, after {:?}", watched.output);
        super::support::eventually("both groups are dead", || ours.has_ended() && theirs.has_ended());

        let caught = caught.join().unwrap();
        assert_eq!(caught.pulse.verdict(), Verdict::Starved, "the control was not caught: {:#?}", caught.pulse);
        assert!(caught.pulse.longest >= BUDGET, "{:#?}", caught.pulse);
    });
}

#[test]
fn a_zombie_leader_does_not_hold_the_grace() {
    if deadbeat::group::backend() != deadbeat::group::Backend::Proc {
        return;
    }
    let grace = Duration::from_secs(5);
    let took = |kill: &dyn Fn(i32)| {
        let running = start("fast-exit");
        let start = Instant::now();
        kill(running.pgid());
        start.elapsed()
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    std::thread::scope(|scope| {
        let control = scope.spawn(|| took(&|pgid| naive::kill(pgid, grace)));
        // Both are late by the machine's slowness alone; the bound is half of what the bug costs.
        let ours = took(&|pgid| runtime.block_on(kill_process_group(pgid)));
        assert!(ours < grace / 2, "held for {ours:?}");
        let control = control.join().unwrap();
        assert!(control >= grace, "the control was not caught: {control:?}");
    });
}

#[tokio::test]
async fn a_refused_pgid_is_no_panic_and_signals_nobody() {
    // Each of these would reach this very process.
    for pgid in [0, 1, -1, nix::unistd::getpgrp().as_raw()] {
        kill_process_group(pgid).await;
        let error = KillPolicy::default().kill(pgid).await.unwrap_err();
        assert_eq!(error.kind(), deadbeat::KillErrorKind::InvalidGroup);
    }
}
