//! `kill_process_group` returns right after SIGKILL, whether or not a member has died of it.
//!
//! The member that does not die of it is held by a tracer, in the stop that `PTRACE_O_TRACEEXIT` makes of its end: one
//! that has had its SIGKILL, and can still be seen in the process table until the tracer lets go.
#![cfg(target_os = "linux")]

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use deadbeat::group::{Backend, backend};
use deadbeat::{KillPolicy, Outcome, kill_process_group};
use nix::sys::ptrace;
use nix::sys::wait::{WaitStatus, waitpid};
use nix::unistd::Pid;

use super::support::{SOON, start};

/// The thread that holds a process; dropping it lets go.
struct Tracer {
    /// When the process was stopped on its way out, which SIGKILL had begun.
    killed: Receiver<Instant>,
    let_go: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Tracer {
    /// `None`: this machine lets no process be traced.
    fn of(pid: i32) -> Option<Tracer> {
        let ((begun, is_begun), (killed, was_killed), (let_go, is_let_go)) = (channel(), channel(), channel::<()>());
        // A tracer is a thread, and what it has traced goes free when it ends.
        let thread = std::thread::spawn(move || {
            let pid = Pid::from_raw(pid);
            let seized = ptrace::seize(pid, ptrace::Options::PTRACE_O_TRACEEXIT);
            begun.send(seized).unwrap();
            if seized.is_err() {
                return;
            }
            loop {
                match waitpid(pid, None) {
                    Ok(WaitStatus::PtraceEvent(_, _, event)) if event == ptrace::Event::PTRACE_EVENT_EXIT as i32 => {
                        break;
                    }
                    // It is to be sent what it was sent.
                    Ok(WaitStatus::Stopped(_, signal)) => drop(ptrace::cont(pid, signal)),
                    Ok(WaitStatus::PtraceEvent(..)) => drop(ptrace::cont(pid, None)),
                    other => panic!("{other:?}"),
                }
            }
            killed.send(Instant::now()).unwrap();
            let _ = is_let_go.recv();
        });
        match is_begun.recv().unwrap() {
            Ok(()) => Some(Tracer { killed: was_killed, let_go: Some(let_go), thread: Some(thread) }),
            Err(error) => {
                eprintln!("skipped: no process may be traced here: {error}");
                None
            }
        }
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        drop(self.let_go.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// From SIGKILL to the return, and from the call to SIGKILL, of a kill of one that does not die of it.
fn times(kill: impl FnOnce(i32)) -> Option<[Duration; 2]> {
    let prey = start("ignore-term");
    let tracer = Tracer::of(prey.pgid())?;
    let called = Instant::now();
    kill(prey.pgid());
    let returned = Instant::now();
    let killed = tracer.killed.recv_timeout(SOON).expect("it was not sent SIGKILL");
    Some([returned.saturating_duration_since(killed), killed - called])
}

#[test]
fn it_returns_right_after_sigkill_though_the_member_is_still_there() {
    if backend() != Backend::Proc {
        eprintln!("skipped: needs /proc");
        return;
    }
    // The control: a kill that confirms takes the second that is promised, and sees that it is still there.
    let second = KillPolicy::default();
    let confirming = times(|pgid| {
        let report = second.grace(Duration::from_millis(50)).kill_blocking(pgid).unwrap();
        assert_eq!(report.outcome, Outcome::Survived, "it does die of SIGKILL, so this shows nothing: {report:?}");
    });
    let Some([confirming, _]) = confirming else { return };
    assert!(confirming >= Duration::from_millis(900), "{confirming:?}");

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    // A slow machine can only make it look late. One that confirms, or has another grace, is late or early every time.
    let mut seen = Vec::new();
    for _ in 0..3 {
        let [after, grace] = times(|pgid| runtime.block_on(kill_process_group(pgid))).unwrap();
        assert!(grace >= Duration::from_secs(5), "SIGKILL came after {grace:?} of the 5 s");
        seen.push([after, grace]);
        if after < Duration::from_millis(400) && grace < Duration::from_secs(8) {
            return;
        }
    }
    panic!("from SIGKILL to the return, from the call to SIGKILL: {seen:?}");
}
