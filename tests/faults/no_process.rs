//! No process and no thread to be had (`EAGAIN`), at a user's limit: every kill is made all the same, on the threads
//! that there are, and a run that cannot be started is an error that leaves nothing.

use std::io;
use std::process::Command;
use std::time::Duration;

use deadbeat::agent::{AgentError, AgentOptions, StartStep, run_subprocess_agent};
use deadbeat::kill::KillThread;
use deadbeat::registry::Registry;
use deadbeat::{KillPolicy, Outcome};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::support::{Group, Held, NAMESPACE, OBEDIENT, SOON, STUBBORN, inside};

/// As a user of its own, since the limit counts all that a user has.
fn is_an_ordinary_user<F: Fn() -> T, T>(test: F) -> bool {
    let user = (0x4000_0000 + std::process::id()).to_string();
    let become_one = ["setpriv", "--reuid", &user, "--regid", &user, "--clear-groups"];
    let reaper = ["sh", "-c", "cd /; \"$@\"; exit", "sh"];
    inside(test, &[&NAMESPACE[..], &reaper, &become_one].concat())
}

/// Nothing can be started any more, until it is dropped.
struct Exhausted(Rlimit);

impl Exhausted {
    fn now() -> Exhausted {
        let limit = getrlimit(Resource::Nproc);
        setrlimit(Resource::Nproc, Rlimit { current: Some(0), maximum: limit.maximum }).unwrap();
        let thread = std::thread::Builder::new().spawn(|| {}).err().map(|error| error.kind());
        let process = Command::new("true").spawn().err().map(|error| error.kind());
        assert_eq!((thread, process), (Some(io::ErrorKind::WouldBlock), Some(io::ErrorKind::WouldBlock)));
        Exhausted(limit)
    }
}

impl Drop for Exhausted {
    fn drop(&mut self) {
        setrlimit(Resource::Nproc, self.0).unwrap();
    }
}

fn policy() -> KillPolicy {
    KillPolicy::default().grace(Duration::from_millis(150)).confirm(SOON)
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap()
}

#[test]
fn every_kill_is_made_without_a_thread_to_be_had() {
    if !is_an_ordinary_user(every_kill_is_made_without_a_thread_to_be_had) {
        return;
    }
    every_kill_is_made(Exhausted::now);
}

/// Of each kind one, while nothing can be started.
pub(crate) fn every_kill_is_made<T>(exhaust: impl FnOnce() -> T) {
    let mut groups = [OBEDIENT, STUBBORN, STUBBORN, STUBBORN, OBEDIENT].map(Group::of);
    let held: Vec<_> = groups.iter_mut().flat_map(Group::members).collect();
    let [obedient, blocking, in_runtime, to_registry, seed] = groups.each_ref().map(Group::pgid);
    let (registry, runtime) = (Registry::new(policy()), runtime());
    registry.register(to_registry).unwrap();
    let exhausted = exhaust();
    assert_eq!(KillThread::new(policy()).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    let outcome = |pgid| policy().kill_blocking(pgid).unwrap().outcome;
    // With a grace as short as this one, a slow machine may not get round to it.
    assert!(matches!(outcome(obedient), Outcome::Terminated | Outcome::Killed));
    assert_eq!(outcome(blocking), Outcome::Killed);
    // In a task: a panic of `spawn_blocking` would be the worker's.
    let kill = runtime.block_on(async { tokio::spawn(async move { policy().kill(in_runtime).await }).await });
    assert_eq!(kill.expect("the worker panicked").unwrap().outcome, Outcome::Killed);
    assert_eq!(registry.kill_all().iter().map(|report| report.outcome).collect::<Vec<_>>(), [Outcome::Killed]);
    runtime.block_on(deadbeat::kill_process_group(seed));
    drop(exhausted);
    assert!(held.iter().all(Held::has_ended));
}

#[test]
fn a_run_that_cannot_be_started_leaves_nothing() {
    if !is_an_ordinary_user(a_run_that_cannot_be_started_leaves_nothing) {
        return;
    }
    let registry = std::sync::Arc::new(Registry::new(policy()));
    let options = AgentOptions::default().registry(registry.clone()).shutdown(Default::default());
    let runtime = runtime();
    let run = || runtime.block_on(run_subprocess_agent(tokio::process::Command::new("true"), &options));
    let exhausted = Exhausted::now();
    let error = run().unwrap_err();
    let AgentError::Spawn(error) = error else { panic!("{error:?}") };
    assert_eq!((error.kind(), error.step), (io::ErrorKind::WouldBlock, StartStep::Preparation), "{error:?}");
    assert!(registry.list().is_empty());
    drop(exhausted);
    assert!(run().unwrap().status.success());
}
