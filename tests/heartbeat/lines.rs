//! The source line in a report is that of the call that blocks, not of one that was over before.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use deadbeat::heartbeat::{Culprit, Flavor, Heartbeat, Lab, LabError, Pulse};
use nix::sys::stat::Mode;

use crate::inside::inside;
use crate::support::{LONG, block, spawned};

/// A call that blocks, with the line it is on.
macro_rules! here {
    ($call:expr) => {{
        leave_return_addresses(100);
        $call;
        line!()
    }};
}

/// Fills the stack that the next call will use with return addresses of calls that are over.
#[inline(never)]
fn leave_return_addresses(depth: u32) -> u32 {
    match depth {
        0 => 0,
        more => 1 + leave_return_addresses(std::hint::black_box(more - 1)),
    }
}

fn later(then: impl FnOnce() + Send + 'static) {
    std::thread::spawn(move || {
        block(LONG);
        then();
    });
}

/// Has a buffer on the stack for the path, of which most is never written.
fn opens(fifo: &Path) -> u32 {
    let other = fifo.to_owned();
    later(move || drop(File::options().write(true).open(other)));
    here!(File::open(fifo).unwrap())
}

#[expect(clippy::disallowed_methods, reason = "the known-bad control: it blocks the worker")]
fn sleeps() -> u32 {
    here!(std::thread::sleep(LONG))
}

fn receives() -> u32 {
    let (sender, receiver) = mpsc::channel::<()>();
    later(move || drop(sender));
    here!(receiver.recv().unwrap_err())
}

fn locks() -> u32 {
    let lock = Arc::new(Mutex::new(()));
    let (held, holds) = (Arc::clone(&lock), Arc::new(std::sync::Barrier::new(2)));
    let holder = Arc::clone(&holds);
    std::thread::spawn(move || {
        let _held = held.lock();
        holder.wait();
        block(LONG);
    });
    holds.wait();
    here!(drop(lock.lock()))
}

fn reads() -> u32 {
    let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC).unwrap();
    later(move || drop(writer));
    let mut reader = File::from(reader);
    here!(reader.read_to_end(&mut Vec::new()).unwrap())
}

fn waits() -> u32 {
    let mut child = Command::new("cat").stdin(Stdio::piped()).spawn().unwrap();
    let stdin = child.stdin.take();
    later(move || drop(stdin));
    here!(child.wait().unwrap())
}

fn joins() -> u32 {
    let thread = std::thread::spawn(|| block(LONG));
    here!(thread.join().unwrap())
}

fn waits_for_a_condition() -> u32 {
    let (lock, condition) = (Mutex::new(()), std::sync::Condvar::new());
    let held = lock.lock().unwrap();
    here!(drop(condition.wait_timeout(held, LONG)))
}

fn reads_from_a_socket() -> u32 {
    let (mut ours, theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    later(move || drop(theirs));
    here!(ours.read_exact(&mut [0; 8]).unwrap_err())
}

fn runs_a_command() -> u32 {
    here!(Command::new("sleep").arg("0.15").output().unwrap())
}

fn locks_a_file() -> u32 {
    use nix::fcntl::{Flock, FlockArg};
    let path = tempfile::NamedTempFile::new().unwrap();
    let held = Flock::lock(path.reopen().unwrap(), FlockArg::LockExclusive).unwrap();
    let file = path.reopen().unwrap();
    later(move || drop(held));
    here!(drop(Flock::lock(file, FlockArg::LockExclusive)))
}

/// Once its wait was seen, whatever the verdict: on a busy machine it can be over before there is a look at it.
fn caught(flavor: Flavor, blocks: impl Fn() -> u32 + Clone + Send + 'static) -> (Culprit, u32) {
    for _ in 0..20 {
        let (tell, told) = mpsc::channel();
        let blocks = blocks.clone();
        let pulse = spawned(flavor, move || async move { tell.send(blocks()).unwrap() });
        let culprit = pulse.worst().and_then(|stall| stall.culprit.clone());
        if let Some(culprit) = culprit.filter(|culprit| !culprit.is_running()) {
            return (culprit, told.recv().unwrap());
        }
    }
    panic!("its wait was never seen");
}

/// How many of so many reports name the line of the call, and what each of the others says.
fn named(times: u32, flavor: Flavor, blocks: impl Fn() -> u32 + Clone + Send + 'static) -> (u32, Vec<String>) {
    let (mut right, mut others) = (0, Vec::new());
    for _ in 0..times {
        let (culprit, line) = caught(flavor, blocks.clone());
        let end = format!("tests/heartbeat/lines.rs:{line}");
        match !culprit.guessed && culprit.line.as_ref().is_some_and(|line| line.ends_with(&end)) {
            true => right += 1,
            false => others.push(format!("{culprit}, not at line {line}")),
        }
    }
    (right, others)
}

#[test]
fn a_return_address_left_over_from_an_earlier_call_is_not_taken_for_the_call_that_blocks() {
    let directory = tempfile::tempdir().unwrap();
    let fifo = directory.path().join("fifo");
    nix::unistd::mkfifo(&fifo, Mode::S_IRUSR | Mode::S_IWUSR).unwrap();
    let (right, others) = named(20, Flavor::CurrentThread, move || opens(&fifo));
    assert_eq!((right, &others), (20, &Vec::new()));
}

#[test]
fn whatever_blocks_its_call_is_the_line_named() {
    type Blocks = fn() -> u32;
    let kinds: [(&str, Blocks); 10] = [
        ("sleep", sleeps),
        ("channel", receives),
        ("lock", locks),
        ("pipe", reads),
        ("child", waits),
        ("thread", joins),
        ("condition", waits_for_a_condition),
        ("socket", reads_from_a_socket),
        ("command", runs_a_command),
        ("file", locks_a_file),
    ];
    let mut wrong = Vec::new();
    for (kind, blocks) in kinds {
        for flavor in [Flavor::CurrentThread, Flavor::MultiThread(2)] {
            let (_, others) = named(2, flavor, blocks);
            wrong.extend(others.into_iter().map(|other| format!("{kind}, {flavor}: {other}")));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

/// In a process of its own, whose symbols are not read yet, beside threads that leave it little of its one CPU: the
/// reading takes longer than the code.
#[test]
fn code_that_was_over_in_time_is_not_hung_for_the_reading_of_symbols() {
    if !inside(code_that_was_over_in_time_is_not_hung_for_the_reading_of_symbols, &["taskset", "-c", "0"]) {
        return;
    }
    let (deadline, begun) = (Duration::from_secs(1), Instant::now());
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(move || {
                while begun.elapsed() < deadline * 2 {
                    std::hint::spin_loop();
                }
            });
        }
        let (tell, told) = mpsc::channel();
        let result = Lab::new(Flavor::CurrentThread).deadline(deadline).run_root(move || async move {
            block(Duration::from_millis(300));
            tell.send(Instant::now()).unwrap();
        });
        let over = told.recv().unwrap();
        match result {
            Ok(watched) => assert_line_or_reason(&watched.pulse),
            // It was over too late, or the machine kept its thread from saying so.
            Err(LabError::Hung { pulse }) => {
                assert_line_or_reason(&pulse);
                assert!(over > begun + deadline / 2, "it was over after {:?}\n{pulse}", over - begun);
            }
            Err(error) => panic!("{error}"),
        }
    });
}

/// Of each that waited.
fn assert_line_or_reason(pulse: &Pulse) {
    let culprits = pulse.stalls.iter().filter_map(|stall| stall.culprit.as_ref());
    let without = |culprit: &&Culprit| !culprit.is_running() && culprit.line.is_none() && culprit.no_line.is_none();
    assert_eq!(culprits.filter(without).count(), 0, "{pulse}");
}

#[tokio::test]
async fn a_watch_names_the_line_or_says_why_it_cannot() {
    let watched = Heartbeat::new().watch(async { block(LONG) }).await;
    assert_line_or_reason(&watched.pulse);
}
