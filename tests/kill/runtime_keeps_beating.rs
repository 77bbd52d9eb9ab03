//! `kill_process_group` itself, with its own 5 s: nothing stands still meanwhile. The same watch catches the naive
//! body.

use std::time::{Duration, Instant};

use deadbeat::heartbeat::{Flavor, Lab};
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
    let watched = lab.run_root(move || async move {
        let start = Instant::now();
        tokio::spawn(kill()).await.unwrap();
        start.elapsed()
    });
    watched.unwrap()
}

/// Measured again if the machine left a doubt, three times in all. A verdict stands.
fn settled(mut measure: impl FnMut() -> Watched<Duration>) -> Watched<Duration> {
    let mut watched = measure();
    for _ in 1..3 {
        if matches!(watched.pulse.verdict(), Verdict::Inconclusive { .. }) {
            watched = measure();
        }
    }
    watched
}

#[rstest]
fn the_worker_beats_on_while_five_seconds_of_grace_go_by(
    #[values(Flavor::CurrentThread, Flavor::MultiThread(1))] flavor: Flavor,
) {
    if deadbeat::group::backend() != deadbeat::group::Backend::Proc {
        eprintln!("skipped: the portable readings of the heartbeat cannot tell a block from a busy machine");
        return;
    }
    let naive = || {
        let control = start("ignore-term");
        let pgid = control.pgid();
        watch(flavor, move || async move { naive::kill(pgid, Duration::from_secs(5)) })
    };
    let ours = || {
        // The second's leader obeys and is dead long before; a kill of the leader alone would leave the child.
        let (ours, theirs) = (start("ignore-term"), start("stubborn-child"));
        let (pgid, child_pgid) = (ours.pgid(), theirs.pgid());
        let watched = watch(flavor, move || async move {
            tokio::join!(kill_process_group(pgid), kill_process_group(child_pgid));
        });
        assert!(watched.output >= Duration::from_secs(5), "SIGKILL came early, after {:?}", watched.output);
        super::support::eventually("both groups are dead", || ours.has_ended() && theirs.has_ended());
        watched
    };
    std::thread::scope(|scope| {
        let caught = scope.spawn(|| settled(naive));
        let watched = settled(ours);
        assert_eq!(watched.pulse.verdict(), Verdict::Steady, "{:#?}", watched.pulse);

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
        // The bug costs the whole grace, every time; a machine that stands still costs as much now and then.
        let mut ours = Vec::new();
        while ours.len() < 5 && ours.last().is_none_or(|took| *took >= grace / 2) {
            ours.push(took(&|pgid| runtime.block_on(kill_process_group(pgid))));
        }
        assert!(ours.last().is_some_and(|took| *took < grace / 2), "held for {ours:?}");
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
