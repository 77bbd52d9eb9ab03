//! A process that traces one thread of another, stops it for a while and lets it go.

use std::process::{Command, Stdio};
use std::time::Duration;

use nix::sys::ptrace;
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;

/// Has a process stop this thread for so long.
pub(crate) fn stop(thread: Pid, long: Duration) {
    let program = std::env::current_exe().expect("this program");
    let mut tracer = Command::new(program);
    tracer.args(["--tracer", &thread.to_string(), &long.as_millis().to_string()]).stdin(Stdio::null());
    assert!(
        tracer.status().expect("a tracer").success(),
        "the thread cannot be traced: run as root, or allow ptrace(2)"
    );
}

#[expect(clippy::disallowed_methods, reason = "the traced thread is stopped meanwhile")]
pub(crate) fn be_one(args: &[String]) -> ! {
    let [thread, millis] = args else { panic!("a thread and a time") };
    let thread = Pid::from_raw(thread.parse().expect("a thread's number"));
    ptrace::seize(thread, ptrace::Options::empty()).expect("a thread that may be traced");
    ptrace::interrupt(thread).expect("a traced thread");
    waitpid(thread, Some(WaitPidFlag::__WALL)).expect("a stopped thread");
    std::thread::sleep(Duration::from_millis(millis.parse().expect("milliseconds")));
    ptrace::detach(thread, None).expect("a stopped thread");
    std::process::exit(0)
}
