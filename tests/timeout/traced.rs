//! A process that is traced from outside: dead, it is kept from its parent for as long as its tracer likes.

use nix::sys::ptrace;
use nix::unistd::Pid;
use rustix::process::Signal;

use crate::inside::skip;
use crate::support::{Run, Tool, eventually};

#[test]
fn a_dead_orphan_that_another_process_traces_does_not_hold_the_end() {
    let script = "(setsid sh -c 'echo ready $$; exec sleep 300 >&- 2>&-' &); exec sleep 300";
    let mut run = Run::of(Tool::Deadbeat, &["-k", ".3", "300", "sh", "-c", script]);
    let orphan = run.victim();
    // By this thread, which does not wait for it and lets go of it only when it ends itself.
    if let Err(error) = ptrace::seize(Pid::from_raw(orphan.pid), ptrace::Options::empty()) {
        return skip(&format!("no process can be traced here: {error}"));
    }
    run.signal(Signal::ALARM);
    eventually("deadbeat has ended", || run.has_ended());
    assert_eq!(run.status().code(), Some(124));
    assert!(!orphan.is_alive(), "process {} survived", orphan.pid);
}
