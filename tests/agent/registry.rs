//! The registry: nothing in it outlives `kill_all`, whatever enters it and whenever.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use deadbeat::agent::{AgentError, run_subprocess_agent};
use deadbeat::group::{Backend, backend};
use deadbeat::registry::Registry;
use deadbeat::{KillErrorKind, Outcome, Signal};

use super::support::{LONG, NO_PIDS, SOON, Tree, eventually, isolated, policy};

/// A grace that has to be waited for.
const SHORT: Duration = Duration::from_millis(300);

/// A group of one that ignores SIGTERM; killed and reaped when dropped.
struct Stubborn(Child);

impl Stubborn {
    fn start() -> Stubborn {
        Stubborn(Command::new("sh").args(["-c", "trap '' TERM; exec sleep 60"]).process_group(0).spawn().unwrap())
    }

    /// Until it ignores SIGTERM: it has become its `sleep` then.
    fn wait_until_deaf(&self) {
        let comm = format!("/proc/{}/comm", self.0.id());
        eventually("it is deaf", || std::fs::read_to_string(&comm).is_ok_and(|name| name == "sleep\n"));
    }

    fn pgid(&self) -> i32 {
        self.0.id() as i32
    }

    fn has_ended(&mut self) -> bool {
        self.0.try_wait().unwrap().is_some()
    }
}

impl Drop for Stubborn {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// So many that ignore SIGTERM, registered.
fn stubborn(registry: &Registry, count: usize) -> Vec<Stubborn> {
    let groups: Vec<_> = (0..count).map(|_| Stubborn::start()).collect();
    groups.iter().for_each(|group| group.wait_until_deaf());
    groups.iter().for_each(|group| registry.register(group.pgid()).unwrap());
    groups
}

/// How many graces this takes.
fn graces(grace: Duration, kill: impl FnOnce()) -> f64 {
    let start = Instant::now();
    kill();
    start.elapsed().as_secs_f64() / grace.as_secs_f64()
}

#[test]
fn all_are_killed_in_one_grace_and_a_second_call_does_nothing() {
    // One after the other they take as many graces, however long those are. Of a longer one a busy machine, which has
    // 200 to find the time for, adds a smaller part.
    let mut took = Vec::new();
    for seconds in [1, 3, 9] {
        took.push(graces_for_all(Duration::from_secs(seconds)));
        if took.last().is_some_and(|graces| *graces < 3.0) {
            return;
        }
    }
    panic!("it took {took:?} graces");
}

/// How many graces it takes to kill 200 together; beside it, that three one after the other take three.
fn graces_for_all(grace: Duration) -> f64 {
    let registry = Registry::new(policy().grace(grace));
    let mut groups = stubborn(&registry, 200);
    let mut reports = Vec::new();
    let together = graces(grace, || reports = registry.kill_all());
    assert_eq!(reports.len(), 200);
    if backend() == Backend::Proc {
        let early: Vec<_> = reports.iter().filter(|report| report.outcome != Outcome::Killed).collect();
        assert!(early.is_empty(), "{early:?}");
    }
    groups.iter_mut().for_each(|group| eventually("it is dead", || group.has_ended()));
    let again = graces(grace, || assert_eq!(registry.kill_all(), []));

    // The control: one after the other, and already three are too many.
    let groups = stubborn(&Registry::new(policy()), 3);
    let one_by_one = graces(grace, || {
        groups.iter().for_each(|group| drop(policy().grace(grace).kill_blocking(group.pgid())));
    });
    println!("200 together: {together:.3} graces; 3 one by one: {one_by_one:.3}; called again: {again:.3}");
    assert!(one_by_one >= 3.0, "the control was not caught: {one_by_one} graces");
    together
}

#[test]
#[ignore = "a measurement, for a machine that has nothing else to do"]
fn two_hundred_are_killed_within_the_grace_and_a_tenth() {
    let grace = Duration::from_secs(5);
    let registry = Registry::new(policy().grace(grace));
    let mut groups = stubborn(&registry, 200);
    let together = graces(grace, || assert_eq!(registry.kill_all().len(), 200));
    println!("200 groups that ignore SIGTERM: {together:.3} graces");
    groups.iter_mut().for_each(|group| eventually("it is dead", || group.has_ended()));
    assert!(together < 1.1, "{together}");
}

#[test]
fn what_is_registered_meanwhile_is_killed_and_reported_too() {
    // Where zombies cannot be told from the living they hold the grace.
    let grace = if backend() == Backend::Proc { LONG } else { Duration::from_secs(1) };
    let registry = Registry::new(policy().grace(grace));
    // Says that it is up and that it was asked to end, and goes on until it is told not to.
    let dir = tempfile::tempdir().unwrap();
    let [up, asked, go] = ["up", "asked", "go"].map(|name| dir.path().join(name));
    let script = "trap ': >\"$ASKED\"' TERM; : >\"$UP\"; until [ -e \"$GO\" ]; do sleep 0.05; done";
    let mut command = Command::new("sh");
    command.args(["-c", script]).envs([("UP", &up), ("ASKED", &asked), ("GO", &go)]).process_group(0);
    let mut first = Stubborn(command.spawn().unwrap());
    eventually("it is up", || up.exists());
    registry.register(first.pgid()).unwrap();
    // That one obeys.
    let mut second = Stubborn(Command::new("sleep").arg("60").process_group(0).spawn().unwrap());
    let reports = std::thread::scope(|scope| {
        let sweep = scope.spawn(|| registry.kill_all());
        eventually("the sweep is under way", || asked.exists());
        registry.register(second.pgid()).unwrap();
        std::fs::write(&go, "").unwrap();
        sweep.join().unwrap()
    });
    let mut killed: Vec<i32> = reports.iter().map(|report| report.pgid).collect();
    killed.sort_unstable();
    let mut both = [first.pgid(), second.pgid()];
    both.sort_unstable();
    assert_eq!(killed, both);
    eventually("both are dead", || first.has_ended() && second.has_ended());
}

#[test]
fn it_works_in_a_panic() {
    struct Net<'a>(&'a Registry);
    impl Drop for Net<'_> {
        fn drop(&mut self) {
            assert!(std::thread::panicking());
            self.0.kill_all();
        }
    }
    let registry = Registry::new(policy());
    let mut groups = stubborn(&registry, 2);
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let _net = Net(&registry);
        panic!("on purpose");
    }));
    assert!(panicked.is_err());
    groups.iter_mut().for_each(|group| eventually("it is dead", || group.has_ended()));
}

#[test]
fn it_works_after_the_runtime_was_shut_down() {
    let (options, registry, _) = isolated();
    let tree = Tree::new();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let options = options.on_spawn(tree.is_up());
    let command = tree.stubborn();
    runtime.spawn(async move { run_subprocess_agent(command, &options).await });
    tree.wait_until_up();
    eventually("it is registered", || registry.list().len() == 1);
    runtime.shutdown_background();
    assert_eq!(registry.kill_all().len(), 1);
    if backend() == Backend::Proc {
        assert_eq!(tree.pids(), NO_PIDS, "it did not wait");
    }
    eventually("the group is dead", || tree.pids().is_empty());
    eventually("and reaped", || registry.list().is_empty());
}

/// Two processes; the leader counts how often it is asked to end, and goes on.
fn counting(tree: &Tree, count: &std::path::Path) -> tokio::process::Command {
    let mut command = tree.sh("trap 'echo asked >>\"$COUNT\"' TERM; : >\"$COUNT\"; while :; do sleep 0.05; done");
    command.env("COUNT", count);
    command
}

fn asked(count: &std::path::Path) -> usize {
    std::fs::read_to_string(count).unwrap_or_default().lines().count()
}

#[test]
fn a_run_that_is_being_killed_is_asked_once_and_has_what_is_left_of_its_own_grace() {
    // Never twice. A shell that got no time in its grace has not counted the one.
    let most = (0..3).map(|_| times_asked()).find(|times| *times > 0);
    assert_eq!(most, Some(1), "how often it was asked");
}

fn times_asked() -> usize {
    let dir = tempfile::tempdir().unwrap();
    let (count, tree) = (dir.path().join("count"), Tree::new());
    let (options, registry, _) = isolated();
    // Ten of the registry's.
    let grace = Duration::from_secs(3);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (command, up) = (counting(&tree, &count), count.clone());
    let options = options.policy(policy().grace(grace)).on_spawn(move |_| eventually("it is up", || up.exists()));
    let start = Instant::now();
    runtime.block_on(async {
        let run = run_subprocess_agent(command, &options);
        assert!(tokio::time::timeout(Duration::ZERO, run).await.is_err());
    });
    // The run is dropped, and its kill goes on.
    let reports = registry.kill_all();
    eventually("the group is dead", || tree.pids().is_empty());
    let took = start.elapsed();
    if backend() == Backend::Proc {
        let terms = reports.iter().flat_map(|report| &report.signals).filter(|sent| sent.signal == Signal::TERM);
        assert_eq!((reports.len(), terms.count()), (1, 0), "{reports:?}");
    }
    assert!(took >= grace, "not by the run's own policy: {took:?}");
    asked(&count)
}

#[test]
fn a_run_that_is_killed_with_all_others_says_so_and_none_is_started_afterwards() {
    let (options, registry, _) = isolated();
    let options = options.policy(policy().grace(if backend() == Backend::Proc { LONG } else { SHORT }));
    let tree = Tree::new();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let sweeper = Arc::clone(&registry);
    let (command, again) = (tree.sh("exec sleep 60"), tree.sh("exit 0"));
    let sweep = std::thread::spawn(move || {
        eventually("it is registered", || sweeper.list().len() == 1);
        sweeper.kill_all()
    });
    let error = runtime.block_on(run_subprocess_agent(command, &options)).unwrap_err();
    let AgentError::KilledWithAll { status: Some(status) } = error else { panic!("{error:?}") };
    assert_eq!(status.signal(), Some(Signal::TERM.as_raw()));
    assert_eq!(sweep.join().unwrap().len(), 1);
    let error = runtime.block_on(run_subprocess_agent(again, &options)).unwrap_err();
    assert!(matches!(error, AgentError::KilledWithAll { status: None }), "{error:?}");
}

#[test]
fn newcomers_without_end_do_not_keep_it_from_its_end() {
    let registry = Registry::new(policy());
    let over = std::sync::atomic::AtomicBool::new(false);
    let first = stubborn(&registry, 1);
    let groups = std::thread::scope(|scope| {
        let newcomers = scope.spawn(|| {
            let mut groups = Vec::new();
            // Far more often than once a grace.
            while !over.load(Ordering::SeqCst) && groups.len() < 400 {
                let group = Stubborn::start();
                group.wait_until_deaf();
                registry.register(group.pgid()).unwrap();
                groups.push(group);
                std::thread::park_timeout(Duration::from_millis(20));
            }
            groups
        });
        assert!(!registry.kill_all().is_empty());
        over.store(true, Ordering::SeqCst);
        newcomers.join().unwrap()
    });
    println!("{} newcomers", groups.len());
    assert!(groups.len() < 400, "it went on for as long as there were any");
    for mut group in groups.into_iter().chain(first) {
        eventually("it is dead", || group.has_ended());
    }
}

#[test]
fn what_is_registered_afterwards_is_killed_too() {
    let registry = Registry::new(policy());
    assert_eq!(registry.kill_all(), []);
    let mut late = Stubborn::start();
    registry.register(late.pgid()).unwrap();
    eventually("the late one is dead", || late.has_ended());
}

#[test]
fn an_unregistered_group_is_left_alone() {
    let registry = Registry::new(policy());
    let (mut kept, mut gone) = (Stubborn::start(), Stubborn::start());
    registry.register(kept.pgid()).unwrap();
    registry.register(gone.pgid()).unwrap();
    registry.unregister(kept.pgid());
    assert_eq!(registry.kill_all().len(), 1);
    eventually("the registered one is dead", || gone.has_ended());
    assert!(!kept.has_ended());
}

#[test]
fn a_panic_while_holding_it_loses_nothing() {
    let registry = Arc::new(Registry::new(policy()));
    let mut group = Stubborn::start();
    registry.register(group.pgid()).unwrap();
    let theirs = Arc::clone(&registry);
    let pgid = group.pgid();
    let panicked = std::thread::spawn(move || {
        let _ = theirs.reap::<(), ()>(pgid, || panic!("on purpose, under the lock"));
    });
    assert!(panicked.join().is_err());
    assert_eq!(registry.list(), [group.pgid()]);
    assert_eq!(registry.kill_all().len(), 1);
    eventually("it is dead", || group.has_ended());
}

#[test]
fn a_sweep_from_within_any_of_the_registries_a_thread_holds_is_no_deadlock() {
    let (over, is_over) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let (outer, inner) = (Registry::new(policy()), Registry::new(policy()));
        let nested = || {
            inner.reap::<(), ()>(i32::MAX, || {
                assert_eq!((outer.kill_all(), inner.kill_all()), (vec![], vec![]));
                Ok(None)
            })
        };
        outer
            .reap::<(), ()>(i32::MAX, || {
                nested()?;
                // The inner one is free again, the outer one is not.
                assert_eq!(outer.kill_all(), []);
                Ok(None)
            })
            .unwrap();
        over.send(()).unwrap();
    });
    is_over.recv_timeout(SOON).expect("it waits for itself");
}

#[test]
fn a_dangerous_pgid_is_refused() {
    let registry = Registry::new(policy());
    for pgid in [0, 1, -1, nix::unistd::getpgrp().as_raw()] {
        assert_eq!(registry.register(pgid).unwrap_err().kind(), KillErrorKind::InvalidGroup);
    }
    assert_eq!(registry.list(), NO_PIDS);
}

#[test]
fn many_threads_register_unregister_and_kill_and_every_group_is_accounted_for() {
    const THREADS: usize = 8;
    const EACH: usize = 12;
    let registry = Registry::new(policy());
    let reports = Mutex::new(Vec::new());
    let (owned, kept, swept) = (Mutex::new(Vec::new()), Mutex::new(Vec::new()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            eventually("a run is registered", || registry.list().len() >= THREADS / 2);
            *reports.lock().unwrap() = registry.kill_all();
        });
        for thread in 0..THREADS {
            let (registry, owned, kept, swept) = (&registry, &owned, &kept, &swept);
            scope.spawn(move || {
                for i in 0..EACH {
                    let mut group = Stubborn::start();
                    let pgid = group.pgid();
                    registry.register(pgid).unwrap();
                    match (i + thread) % 4 {
                        // Its owner ends it.
                        0 => {
                            group.0.kill().unwrap();
                            eventually("it is reaped", || {
                                registry.reap(pgid, || group.0.try_wait()).unwrap().is_some()
                            });
                            owned.lock().unwrap().push(pgid);
                        }
                        // Its owner answers for it, for as long as it is left to live.
                        1 => {
                            registry.unregister(pgid);
                            kept.lock().unwrap().push(pgid);
                        }
                        // The sweep does, or will, or the closed registry has at once.
                        _ => {
                            eventually("it is reaped", || {
                                registry.reap(pgid, || group.0.try_wait()).unwrap().is_some()
                            });
                            swept.lock().unwrap().push(pgid);
                        }
                    }
                }
            });
        }
    });
    let [owned, kept, swept] = [owned, kept, swept].map(|pgids| pgids.into_inner().unwrap());
    assert_eq!((owned.len(), kept.len(), swept.len()), (THREADS * EACH / 4, THREADS * EACH / 4, THREADS * EACH / 2));
    let mut reported: Vec<i32> = reports.into_inner().unwrap().iter().map(|report| report.pgid).collect();
    assert!(!reported.is_empty());
    assert!(reported.iter().all(|pgid| [&owned, &kept, &swept].into_iter().any(|all| all.contains(pgid))));
    reported.sort_unstable();
    assert!(reported.windows(2).all(|pair| pair[0] != pair[1]), "one was killed twice: {reported:?}");
    assert_eq!(registry.list(), NO_PIDS);
}
