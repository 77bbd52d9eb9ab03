//! A thread that is traced for a while, and not any more at the end, was stopped by the tracer and not by its code.

use std::process::{Command, Stdio};

use deadbeat::heartbeat::{Flavor, Lab, Pulse, Verdict, Why};
use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

use crate::inside::skip;
use crate::support::{LONG, assert_not_accused, block, spin, starved};

const TRACED: &str = "DEADBEAT_HEARTBEAT_TRACED";

/// Not a test of its own: what the tracer runs. It stops a thread of its parent and lets it go.
#[test]
#[ignore = "run by the other test here, as a child process"]
fn the_tracer() {
    let Ok(thread) = std::env::var(TRACED) else { return };
    let thread = Pid::from_raw(thread.parse().unwrap());
    ptrace::seize(thread, ptrace::Options::empty()).unwrap();
    ptrace::interrupt(thread).unwrap();
    waitpid(thread, Some(WaitPidFlag::__WALL)).unwrap();
    block(LONG);
    ptrace::detach(thread, None).unwrap();
}

/// Whether it was traced.
fn trace(thread: Pid) -> bool {
    let mut tracer = Command::new(std::env::current_exe().unwrap());
    tracer.args(["--exact", "traced_thread::the_tracer", "--ignored"]).env(TRACED, thread.to_string());
    tracer.stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok_and(|status| status.success())
}

/// Polls of a millisecond, until `meanwhile` is over, which is told the thread.
fn short_polls(flavor: Flavor, meanwhile: fn(Pid) -> bool) -> (bool, Pulse) {
    let polls = async move {
        let thread = nix::unistd::gettid();
        let meanwhile = tokio::task::spawn_blocking(move || meanwhile(thread));
        while !meanwhile.is_finished() {
            spin(std::time::Duration::from_millis(1));
            tokio::task::yield_now().await;
        }
        meanwhile.await.unwrap()
    };
    let watched = Lab::new(flavor).run(|| polls).unwrap();
    (watched.output, watched.pulse)
}

#[test]
fn a_thread_that_was_traced_for_a_while_is_not_accused() {
    for flavor in [Flavor::CurrentThread, Flavor::MultiThread(1)] {
        let (traced, pulse) = short_polls(flavor, trace);
        if !traced {
            return skip("no thread may be traced here");
        }
        assert_not_accused(&pulse);
        let by_a_tracer = |why: &Why| matches!(why, Why::Traced { .. });
        assert!(pulse.stalls.iter().filter_map(|stall| stall.doubt.as_ref()).any(by_a_tracer), "\n{pulse}");
        // The control: as long a stop, by the code itself.
        let blocks = || Lab::new(flavor).run(|| async { block(LONG) });
        assert_eq!(starved(|| blocks().unwrap().pulse).verdict(), Verdict::Starved);
    }
}
