//! No way in which a run can end blocks a worker, for all of its grace.

use std::time::Duration;

use deadbeat::KillPolicy;
use deadbeat::agent::{AgentError, run_subprocess_agent};
use deadbeat::group::{Backend, backend};
use deadbeat::heartbeat::{Flavor, Heartbeat, Lab, with_teeth};
use rstest::rstest;

use super::support::{INSIDE, Tree, eventually, inside, isolated};

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

/// Dead, and nobody reaps them: each is one more to be looked at by whoever looks at this process's descendants.
#[cfg(target_os = "linux")]
fn many_children() -> usize {
    const MANY: usize = 6000;
    // Orphans of a shell that ends at once are ours.
    nix::sys::prctl::set_child_subreaper(true).unwrap();
    let script = format!("i=0; while [ $i -lt {MANY} ]; do (: &); i=$((i+1)); done");
    assert!(std::process::Command::new("sh").args(["-c", &script]).status().unwrap().success());
    children().len()
}

#[cfg(target_os = "linux")]
fn children() -> Vec<String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let lists = tasks.map(|task| std::fs::read_to_string(task.path().join("children")).unwrap_or_default());
    lists.flat_map(|list| list.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// A look at all descendants, as one takes it who wants to know whether any is left.
#[cfg(target_os = "linux")]
fn look_at_all() {
    for pid in children() {
        let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
        tasks.for_each(|task| drop(std::fs::read_to_string(task.path().join("children"))));
        std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    }
}

#[test]
#[cfg(target_os = "linux")]
fn the_worker_beats_on_however_many_children_a_subreaper_has() {
    if std::env::var_os(INSIDE).is_none() {
        // A subreaper is all of a process, and so are its children.
        inside("steady::the_worker_beats_on_however_many_children_a_subreaper_has", &[]);
        return;
    }
    // Half of what the looks take, and more than a fork on a busy machine.
    let beat = || Heartbeat::new().budget(Duration::from_millis(120));
    let lab = || Lab::new(Flavor::CurrentThread).heartbeat(beat()).deadline(Duration::from_secs(120));
    println!("{} children", many_children());
    with_teeth(
        || lab().run(|| async { [(); 2].map(|()| look_at_all()) }).unwrap().pulse,
        || {
            let (options, _, _) = isolated();
            let command = Tree::new().sh("exit 0");
            let watched = lab().run(move || async move { run_subprocess_agent(command, &options).await }).unwrap();
            assert!(watched.output.unwrap().leftovers.is_none());
            watched.pulse
        },
    );
}
