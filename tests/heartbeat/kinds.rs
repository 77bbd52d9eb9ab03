//! Whatever blocks a worker, it is a stall, and the report names the call.

use std::time::Duration;

use deadbeat::heartbeat::{Culprit, Flavor, Pulse};
use rstest::rstest;

#[cfg(all(target_os = "linux", not(deadbeat_portable)))]
use crate::inside::inside;
use crate::support::{LONG, spawned, spin, starved};

/// A way to block, ready to begin: on a busy machine the start of a process would take longer than the block.
#[cfg(all(target_os = "linux", not(deadbeat_portable)))]
type Block = Box<dyn FnOnce() + Send>;

#[cfg(all(target_os = "linux", not(deadbeat_portable)))]
mod ready {
    use std::fs::File;
    use std::io::Read;
    use std::process::{Command, Stdio};
    use std::sync::mpsc;
    use std::time::Duration;

    use super::Block;
    use crate::support::{LONG, block};

    fn let_go_later(held: impl Send + 'static) {
        std::thread::spawn(move || {
            block(LONG);
            drop(held);
        });
    }

    pub(super) fn sleep() -> Block {
        Box::new(|| block(LONG))
    }

    pub(super) fn channel() -> Block {
        let (sender, receiver) = mpsc::channel::<()>();
        Box::new(move || {
            let_go_later(sender);
            receiver.recv().unwrap_err();
        })
    }

    /// It runs for as long as its input is open.
    pub(super) fn child() -> Block {
        let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
        let stdin = child.stdin.take().unwrap();
        Box::new(move || {
            let_go_later(stdin);
            child.wait().unwrap();
        })
    }

    pub(super) fn pipe() -> Block {
        let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
        Box::new(move || {
            let_go_later(writer);
            File::from(reader).read_to_end(&mut Vec::new()).unwrap();
        })
    }

    pub(super) fn naps() -> Block {
        Box::new(|| (0..30).for_each(|_| block(Duration::from_millis(5))))
    }
}

#[rstest]
#[case::sleep(ready::sleep, &["clock_nanosleep", "nanosleep"], "150 ms asked for")]
#[case::a_child(ready::child, &["wait4", "waitid"], "(cat)")]
#[case::a_pipe(ready::pipe, &["read"], "pipe:[")]
#[case::many_naps(ready::naps, &["clock_nanosleep", "nanosleep"], "5 ms asked for")]
#[cfg(all(target_os = "linux", not(deadbeat_portable)))]
fn a_waiting_worker_is_caught_and_its_call_named(
    #[case] ready: fn() -> Block,
    #[case] calls: &[&str],
    #[case] telling: &str,
    #[values(Flavor::CurrentThread, Flavor::MultiThread(2))] flavor: Flavor,
) {
    its_call_is_named(flavor, ready, calls, telling);
}

/// In a process of its own: the other tests have threads that wait for a CPU, any of which could be the one waited for.
#[test]
#[cfg(all(target_os = "linux", not(deadbeat_portable)))]
fn a_worker_that_waits_for_another_thread_is_caught_and_its_call_named() {
    if inside(a_worker_that_waits_for_another_thread_is_caught_and_its_call_named, &["env"]) {
        for flavor in [Flavor::CurrentThread, Flavor::MultiThread(2)] {
            its_call_is_named(flavor, ready::channel, &["futex"], "a lock, a channel");
        }
    }
}

#[cfg(all(target_os = "linux", not(deadbeat_portable)))]
fn its_call_is_named(flavor: Flavor, ready: fn() -> Block, calls: &[&str], telling: &str) {
    let (pulse, culprit) = caught(|| {
        let block = ready();
        spawned(flavor, move || async move { block() })
    });
    assert!(calls.contains(&culprit.syscall.as_deref().unwrap_or("running")), "{culprit}");
    assert!(culprit.detail.as_ref().is_some_and(|detail| detail.contains(telling)), "{culprit}");
    let stall = pulse.worst().unwrap();
    assert!(stall.blocked.unwrap() > stall.on_cpu, "{pulse}");
}

#[rstest]
fn a_spinning_worker_is_caught_and_said_to_run(
    #[values(Flavor::CurrentThread, Flavor::MultiThread(2))] flavor: Flavor,
) {
    let (pulse, culprit) = caught(|| spawned(flavor, || async { spin(LONG) }));
    assert!(culprit.is_running(), "{pulse}");
    assert!(pulse.worst().unwrap().on_cpu >= Duration::from_millis(50), "{pulse}");
}

fn caught(run: impl FnMut() -> Pulse) -> (Pulse, Culprit) {
    let pulse = starved(run);
    let culprit = pulse.worst().and_then(|stall| stall.culprit.clone());
    (pulse.clone(), culprit.unwrap_or_else(|| panic!("no culprit\n{pulse}")))
}

#[test]
#[cfg(all(target_os = "linux", not(deadbeat_portable), feature = "backtrace"))]
fn with_debug_info_the_probable_line_is_in_the_code_under_watch() {
    let (pulse, culprit) = caught(|| spawned(Flavor::CurrentThread, || async { crate::support::block(LONG) }));
    let line = culprit.line.unwrap_or_else(|| panic!("no line\n{pulse}"));
    assert!(line.contains("tests/heartbeat/"), "{line}");
}
