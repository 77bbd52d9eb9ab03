//! Whatever blocks a worker, it is a stall, and the report names the call.

use std::io::Read;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use deadbeat::heartbeat::{Flavor, Pulse};
use rstest::rstest;

use crate::support::{LONG, assert_starved, block, spawned, spin};

fn channel() {
    let (sender, receiver) = mpsc::channel::<()>();
    let holder = std::thread::spawn(move || {
        block(LONG);
        drop(sender);
    });
    receiver.recv().unwrap_err();
    holder.join().unwrap();
}

fn child() {
    Command::new("sleep").arg("0.2").spawn().unwrap().wait().unwrap();
}

fn pipe() {
    let mut child = Command::new("sleep").arg("0.2").stdout(Stdio::piped()).spawn().unwrap();
    child.stdout.take().unwrap().read_to_end(&mut Vec::new()).unwrap();
    child.wait().unwrap();
}

fn naps() {
    for _ in 0..30 {
        block(Duration::from_millis(5));
    }
}

#[rstest]
#[case::sleep(|| block(LONG), &["clock_nanosleep", "nanosleep"], "150 ms asked for")]
#[case::a_channel(channel, &["futex"], "a lock, a channel")]
#[case::a_child(child, &["wait4", "waitid"], "(sleep 0.2)")]
#[case::a_pipe(pipe, &["read"], "pipe:[")]
#[case::many_naps(naps, &["clock_nanosleep", "nanosleep"], "5 ms asked for")]
#[cfg(all(target_os = "linux", not(deadbeat_portable)))]
fn a_waiting_worker_is_caught_and_its_call_named(
    #[case] wait: fn(),
    #[case] calls: &[&str],
    #[case] telling: &str,
    #[values(Flavor::CurrentThread, Flavor::MultiThread(2))] flavor: Flavor,
) {
    let pulse = spawned(flavor, move || async move { wait() });
    assert_starved(&pulse);
    let culprit = culprit(&pulse);
    assert!(calls.contains(&culprit.syscall.as_deref().unwrap_or("running")), "{culprit}");
    assert!(culprit.detail.as_ref().is_some_and(|detail| detail.contains(telling)), "{culprit}");
    let stall = pulse.worst().unwrap();
    assert!(stall.blocked.unwrap() > stall.on_cpu, "{pulse}");
}

#[rstest]
fn a_spinning_worker_is_caught_and_said_to_run(
    #[values(Flavor::CurrentThread, Flavor::MultiThread(2))] flavor: Flavor,
) {
    let pulse = spawned(flavor, || async { spin(LONG) });
    assert_starved(&pulse);
    assert!(culprit(&pulse).is_running(), "{pulse}");
    assert!(pulse.worst().unwrap().on_cpu >= Duration::from_millis(50), "{pulse}");
}

fn culprit(pulse: &Pulse) -> &deadbeat::heartbeat::Culprit {
    pulse.worst().and_then(|stall| stall.culprit.as_ref()).unwrap_or_else(|| panic!("no culprit\n{pulse}"))
}

#[test]
#[cfg(all(target_os = "linux", not(deadbeat_portable), feature = "backtrace"))]
fn with_debug_info_the_probable_line_is_in_the_code_under_watch() {
    let pulse = spawned(Flavor::CurrentThread, || async { block(LONG) });
    let line = culprit(&pulse).line.as_deref().unwrap_or_else(|| panic!("no line\n{pulse}"));
    assert!(line.contains("tests/heartbeat/"), "{line}");
}
