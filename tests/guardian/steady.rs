//! A guarded run keeps no worker from its scheduler, whatever its guardian does, and is served by the one it was given.

use std::time::Duration;

use deadbeat::KillPolicy;
use deadbeat::agent::{AgentOptions, run_subprocess_agent};
use deadbeat::guardian::{GuardedChild, Guardian};
use deadbeat::heartbeat::{Flavor, Heartbeat, Lab, with_teeth};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::Command;

/// A worker that stands still for this long waits for the guardian (ten seconds), and not for its child to come as far
/// as the exec.
const BUDGET: Duration = Duration::from_secs(3);

fn lab() -> Lab {
    Lab::new(Flavor::CurrentThread).heartbeat(Heartbeat::new().budget(BUDGET)).deadline(Duration::from_secs(60))
}

/// A guardian that does not read what it is told.
fn stopped() -> (Guardian, i32) {
    let guardian = Guardian::of_this_program().unwrap();
    let pid = guardian.pid().unwrap();
    // Our child, which is not waited for while it lives.
    kill(Pid::from_raw(pid), Signal::SIGSTOP).unwrap();
    (guardian, pid)
}

/// Until the guardian is replaced because it does not read, or so many.
fn announced(guardian: &Guardian, at_most: usize) -> Vec<GuardedChild> {
    let mut guarded = Vec::new();
    let first = guardian.pid();
    while guarded.len() < at_most && guardian.pid() == first {
        guarded.push(guardian.announce(&KillPolicy::default()).unwrap());
    }
    guarded
}

async fn kill_wholly(pid: i32) {
    kill(Pid::from_raw(pid), Signal::SIGKILL).unwrap();
    // Our child, which was not waited for.
    while !std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap().contains(") Z") {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

pub(crate) fn no_worker_waits_for_a_guardian_that_does_not_listen() {
    let (fit, how_many) = std::sync::mpsc::channel();
    with_teeth(
        || {
            let (guardian, _) = stopped();
            let watched = lab().run_root(move || async move { announced(&guardian, 10_000) }).unwrap();
            fit.send(watched.output.len() - 1).unwrap();
            watched.pulse
        },
        || {
            let (guardian, stopped) = stopped();
            // As many as do not have to wait.
            let _guarded = announced(&guardian, how_many.recv().unwrap());
            assert_eq!(guardian.pid(), Some(stopped), "it was found out too early to show anything");
            let options = AgentOptions::default().guardian(guardian.clone());
            let watched = lab().run_root(move || async move {
                run_subprocess_agent(Command::new("true"), &options).await.unwrap();
                let second = guardian.pid().unwrap();
                kill_wholly(second).await;
                run_subprocess_agent(Command::new("true"), &options).await.unwrap();
                (second, guardian.pid())
            });
            let watched = watched.unwrap();
            let (second, third) = watched.output;
            assert!(second != stopped && third.is_some_and(|third| third != second), "{stopped} {second} {third:?}");
            watched.pulse
        },
    );
}

/// What a run costs beside that is for `cargo bench --bench kill guarded`.
pub(crate) fn one_guardian_serves_all_runs() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let served_by = |guardian: Guardian| {
        let options = AgentOptions::default().guardian(guardian.clone());
        runtime.block_on(run_subprocess_agent(Command::new("true"), &options)).unwrap();
        guardian.pid().unwrap()
    };
    let guardian = Guardian::of_this_program().unwrap();
    let first = guardian.pid().unwrap();
    for _ in 0..100 {
        assert_eq!(served_by(guardian.clone()), first);
    }
    // The control: another guardian is another process.
    assert_ne!(served_by(Guardian::of_this_program().unwrap()), first);
}
