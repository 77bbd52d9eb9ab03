//! No way in which a run can end blocks a worker, for all of its grace.

use std::time::Duration;

use deadbeat::KillPolicy;
use deadbeat::agent::{AgentError, run_subprocess_agent};
use deadbeat::group::{Backend, backend};
use deadbeat::heartbeat::{Flavor, Heartbeat, Lab, with_teeth};
use rstest::rstest;

use super::support::{Tree, eventually, isolated};

const GRACE: Duration = Duration::from_secs(2);

/// A worker that stands still for this long has waited for the grace, and not for a CPU to fork on.
const BUDGET: Duration = Duration::from_secs(1);

fn lab(flavor: Flavor) -> Lab {
    Lab::new(flavor).heartbeat(Heartbeat::new().budget(BUDGET)).deadline(Duration::from_secs(120))
}

#[rstest]
fn the_worker_beats_on_however_a_run_ends(#[values(Flavor::CurrentThread, Flavor::MultiThread(1))] flavor: Flavor) {
    if backend() != Backend::Proc {
        eprintln!("skipped: the portable readings of the heartbeat cannot tell a block from a busy machine");
        return;
    }
    with_teeth(
        // The same kill on the worker.
        || {
            let tree = Tree::new();
            let mut command = tree.stubborn();
            let kill = move || async move {
                tokio::spawn(async move {
                    let child = command.process_group(0).spawn().unwrap();
                    tree.wait_until_up();
                    KillPolicy::default().grace(GRACE).kill_blocking(child.id().unwrap() as i32).unwrap();
                })
                .await
            };
            lab(flavor).run(kill).unwrap().pulse
        },
        || {
            let trees: [Tree; 4] = std::array::from_fn(|_| Tree::new());
            let (options, registry, shutdown) = isolated();
            let options = options.policy(KillPolicy::default().grace(GRACE));
            let commands = [trees[0].stubborn(), trees[1].stubborn(), trees[2].stubborn()];
            let leaves = trees[3].sh("trap '' TERM; sleep 60 & exit 0");
            let runs = move || async move {
                let [times_out, is_asked, is_dropped] = commands;
                let timed = options.clone().timeout(Duration::from_secs(1));
                let times_out = tokio::spawn(async move { run_subprocess_agent(times_out, &timed).await });
                let leaving = options.clone();
                let leaves = tokio::spawn(async move { run_subprocess_agent(leaves, &leaving).await });
                let dropping = options.clone();
                let is_dropped = tokio::spawn(async move { run_subprocess_agent(is_dropped, &dropping).await });
                let is_asked = tokio::spawn(async move { run_subprocess_agent(is_asked, &options).await });
                // By then one is in its kill for its timeout, and one for what it left; what comes does not change that.
                tokio::time::sleep(Duration::from_millis(1500)).await;
                is_dropped.abort();
                shutdown.request();
                assert!(is_dropped.await.unwrap_err().is_cancelled());
                assert!(matches!(times_out.await.unwrap().unwrap_err(), AgentError::TimedOut { .. }));
                leaves.await.unwrap().unwrap().leftovers.expect("not reported").unwrap();
                is_asked.await.unwrap().unwrap_err();
            };
            let pulse = lab(flavor).run(runs).unwrap().pulse;
            eventually("all are dead", || trees.iter().all(|tree| tree.pids().is_empty()));
            eventually("the registry is empty", || registry.list().is_empty());
            pulse
        },
    );
}
