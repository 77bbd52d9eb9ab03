//! No way in which a run can end blocks a worker, for all of its grace.

use std::sync::Arc;
use std::time::Duration;

use deadbeat::KillPolicy;
use deadbeat::agent::{AgentError, run_subprocess_agent};
use deadbeat::group::{Backend, backend};
use deadbeat::heartbeat::{Flavor, Heartbeat, Lab, Pulse, Stall, with_teeth};

use super::support::{INSIDE, Tree, eventually, inside, isolated};

const GRACE: Duration = Duration::from_secs(4);

/// A worker that stands still for this long has waited for the grace, and not for its child to come as far as the exec.
const BUDGET: Duration = Duration::from_secs(2);

fn lab(flavor: Flavor) -> Lab {
    Lab::new(flavor).heartbeat(Heartbeat::new().budget(BUDGET)).deadline(Duration::from_secs(120))
}

#[test]
fn the_one_worker_beats_on_however_a_run_ends() {
    beats_on("steady::the_one_worker_beats_on_however_a_run_ends", Flavor::CurrentThread);
}

#[test]
fn a_worker_of_a_pool_beats_on_however_a_run_ends() {
    beats_on("steady::a_worker_of_a_pool_beats_on_however_a_run_ends", Flavor::MultiThread(1));
}

fn beats_on(test: &str, flavor: Flavor) {
    if backend() != Backend::Proc {
        eprintln!("skipped: the portable readings of the heartbeat cannot tell a block from a busy machine");
        return;
    }
    if std::env::var_os(INSIDE).is_none() {
        // What a process ignores its children ignore from birth: there is no need to wait until they are deaf.
        inside(test, &["--ignore-signal=TERM"]);
        return;
    }
    let deaf = "sleep 60 & sleep 60";
    with_teeth(
        // The same kill on the worker.
        || {
            let tree = Tree::new();
            let mut command = tree.sh(deaf);
            let kill = move || async move {
                tokio::spawn(async move {
                    let child = command.process_group(0).spawn().unwrap();
                    KillPolicy::default().grace(GRACE).kill_blocking(child.id().unwrap() as i32).unwrap();
                })
                .await
            };
            lab(flavor).run_root(kill).unwrap().pulse
        },
        || {
            let trees: [Tree; 4] = std::array::from_fn(|_| Tree::new());
            let [(ended, ended_registry, _), (living, registry, shutdown)] = [isolated(), isolated()];
            let [ended, living] = [ended, living].map(|options| options.policy(KillPolicy::default().grace(GRACE)));
            let [times_out, is_asked, is_dropped] = [0, 1, 2].map(|i: usize| trees[i].sh(deaf));
            let leaves = trees[3].sh("sleep 60 & exit 0");
            let both_run = Arc::clone(&registry);
            let runs = move || async move {
                let timed = ended.clone().timeout(Duration::from_millis(100));
                let times_out = tokio::spawn(async move { run_subprocess_agent(times_out, &timed).await });
                let leaves = tokio::spawn(async move { run_subprocess_agent(leaves, &ended).await });
                let dropping = living.clone();
                let is_dropped = tokio::spawn(async move { run_subprocess_agent(is_dropped, &dropping).await });
                let is_asked = tokio::spawn(async move { run_subprocess_agent(is_asked, &living).await });
                while both_run.list().len() < 2 {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                is_dropped.abort();
                shutdown.request();
                assert!(is_dropped.await.unwrap_err().is_cancelled());
                assert!(matches!(times_out.await.unwrap().unwrap_err(), AgentError::TimedOut { .. }));
                leaves.await.unwrap().unwrap().leftovers.expect("not reported").unwrap();
                is_asked.await.unwrap().unwrap_err();
            };
            let pulse = lab(flavor).run_root(runs).unwrap().pulse;
            eventually("all are dead", || trees.iter().all(|tree| tree.pids().is_empty()));
            let registries = [ended_registry, registry];
            eventually("the registries are empty", || registries.iter().all(|registry| registry.list().is_empty()));
            pulse
        },
    );
}

/// Dead and not reaped: each is one more to be looked at in a walk through this process's descendants.
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
    let lab = || Lab::new(Flavor::CurrentThread).deadline(Duration::from_secs(120));
    let longest = |pulse: Pulse| pulse.longest.max(pulse.worst().map_or(Duration::ZERO, Stall::charged));
    println!("{} children", many_children());
    let look = longest(lab().run_root(|| async { look_at_all() }).unwrap().pulse);
    // One that looks at all of them does so every time; a fork that takes as long on a busy machine does not.
    let run = || {
        let (options, _, _) = isolated();
        let command = Tree::new().sh("exit 0");
        let watched = lab().run_root(move || async move { run_subprocess_agent(command, &options).await }).unwrap();
        assert!(watched.output.unwrap().leftovers.is_none());
        longest(watched.pulse)
    };
    let mut runs = Vec::new();
    while runs.len() < 5 && runs.last().is_none_or(|longest| *longest >= look / 2) {
        runs.push(run());
    }
    println!("a look at all: {look:?}, the runs: {runs:?}");
    assert!(runs.last().is_some_and(|longest| *longest < look / 2), "{runs:?} of a run, and {look:?} of a look at all");
}
