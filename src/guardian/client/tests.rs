use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use super::super::testing::{SOON, messages, sent};
use super::*;
use crate::group::{ProcessGroup, pause};
use crate::signal::Signal;

/// A guardian that reads what it is sent, but the second of its kind not at first.
const SLOW: &str =
    "#!/bin/sh\ncd \"${0%/*}\" || exit\necho $$ >>pids\n[ -e go ] || { : >go; exec cat; }\nsleep 1\nexec cat\n";

/// A guardian that writes what it is sent into a file.
const WRITER: &str = "#!/bin/sh\nexec cat >>\"${0%/*}/sent\"\n";

impl Client {
    /// A client whose guardian is the test, at the other end of the socket.
    pub(in crate::guardian) fn to_test() -> (Arc<Client>, UnixStream) {
        let (connection, guardians) = Connection::to_test();
        let guardian = AtomicI32::new(connection.pid());
        let state = Mutex::new(ClientState { connection: Some(connection), ..ClientState::default() });
        let (program, start_wait) = (GuardianProgram::Named("true".into()), StartWait::NotAwaited);
        let mark = "DEADBEAT_TEST_CLIENT".to_owned();
        (Arc::new(Client { program, start_wait, mark, guardian, state }), guardians)
    }

    /// Holds the lock, as another thread does that waits for the guardian, until this is dropped.
    pub(in crate::guardian) fn keep_busy(&self) -> impl Sized {
        self.wait_for_state()
    }
}

/// A client whose guardian is this script.
fn scripted(dir: &Path, script: &str) -> Client {
    let program = dir.join("guardian");
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, PermissionsExt::from_mode(0o700)).unwrap();
    loop {
        match Client::open(GuardianProgram::Named(program.clone()), StartWait::NotAwaited) {
            // Another test's child, which has not come to its exec yet, can have it open for writing too.
            Err(error) if error.kind() == io::ErrorKind::ExecutableFileBusy => pause(Duration::from_millis(1)),
            client => return client.unwrap(),
        }
    }
}

fn pids(dir: &Path) -> Vec<i32> {
    let text = std::fs::read_to_string(dir.join("pids")).unwrap_or_default();
    // The last line may be half written.
    text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n')?.parse().ok()).collect()
}

#[test]
fn the_guardian_is_told_what_happens_as_it_happens() {
    let (client, guardian) = Client::to_test();
    let (policy, at) = (KillPolicy::default(), Duration::from_secs(7));
    let first = client.guardian();
    assert!(first.is_some());
    assert_eq!(client.announce(&policy, Blocking::Allowed).unwrap(), 1);
    assert_eq!(client.announce(&policy, Blocking::Forbidden).unwrap(), 2);
    client.guard(1, 4242, at, Blocking::Forbidden).unwrap();
    client.kill_escaped(1, Blocking::Allowed).unwrap();
    client.release(2, Blocking::Allowed).unwrap();
    // What comes too late does nothing.
    client.guard(2, 4242, at, Blocking::Allowed).unwrap();
    client.kill_escaped(2, Blocking::Allowed).unwrap();
    let expected = [
        Message::Announce { id: 1, policy: policy.clone() },
        Message::Announce { id: 2, policy },
        Message::Guard { id: 1, pgid: 4242, at },
        Message::KillEscaped { id: 1 },
        Message::Release { id: 2 },
    ];
    assert_eq!(sent(&guardian), expected);
    assert_eq!(client.guardian(), first);
}

#[test]
fn a_caller_that_must_not_block_is_refused_while_the_guardian_does_not_read_or_others_wait_for_it() {
    let (client, guardian) = Client::to_test();
    let first = client.guardian();
    assert!(first.is_some());
    let announce = |blocking| client.announce(&KillPolicy::default(), blocking).map_err(|error| error.kind());
    let full = (0..).find_map(|_| announce(Blocking::Forbidden).err());
    assert_eq!(full, Some(io::ErrorKind::WouldBlock));
    assert_eq!(client.guardian(), first, "it is there, and only slow");
    assert_eq!(
        client.wait_for_state().children.len(),
        sent(&guardian).len(),
        "an announcement that was refused is forgotten"
    );

    let state = client.wait_for_state();
    std::thread::scope(|scope| {
        let start = Instant::now();
        let refused = scope.spawn(|| announce(Blocking::Forbidden));
        while !refused.is_finished() && start.elapsed() < Duration::from_secs(10) {
            pause(Duration::from_millis(1));
        }
        assert_eq!(client.guardian(), first, "its pid can be read all the time");
        let waits = scope.spawn(|| announce(Blocking::Allowed));
        pause(Duration::from_millis(5));
        drop(state);
        assert_eq!(refused.join().unwrap(), Err(io::ErrorKind::WouldBlock));
        assert!(waits.join().unwrap().is_ok());
    });
}

#[test]
fn the_next_guardian_is_told_everything_by_a_caller_that_may_wait_for_it() {
    let dir = tempfile::tempdir().unwrap();
    let mut client = scripted(dir.path(), WRITER);
    // In place of the first one, which has read nothing then: it is looked at what the second one reads.
    let (connection, guardians) = Connection::to_test();
    client.guardian = AtomicI32::new(connection.pid());
    client.state.get_mut().unwrap().connection.replace(connection).unwrap().close();
    let first = client.guardian();
    let (policy, at) = (KillPolicy::default(), Duration::from_secs(7));
    assert_eq!(client.announce(&policy, Blocking::Allowed).unwrap(), 1);
    assert_eq!(client.announce(&policy, Blocking::Allowed).unwrap(), 2);
    client.guard(1, 4242, at, Blocking::Allowed).unwrap();
    // Another test may be about to exec a child that holds it open.
    guardians.shutdown(std::net::Shutdown::Both).unwrap();
    let refused = client.kill_escaped(2, Blocking::Forbidden).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::WouldBlock);
    assert_eq!(client.guardian(), None, "a dead one is none");
    assert_eq!(client.announce(&policy, Blocking::Allowed).unwrap(), 3);
    let second = client.guardian();
    assert!(second.is_some() && second != first);
    let expected = [
        Message::Announce { id: 1, policy: policy.clone() },
        Message::Guard { id: 1, pgid: 4242, at },
        Message::Announce { id: 2, policy: policy.clone() },
        Message::KillEscaped { id: 2 },
        Message::Announce { id: 3, policy },
    ];
    let start = Instant::now();
    let read = || messages(&std::fs::read(dir.path().join("sent")).unwrap_or_default());
    while read() != expected {
        assert!(start.elapsed() < SOON, "{:?}", read());
        pause(Duration::from_millis(1));
    }
}

#[test]
#[cfg(feature = "cli")]
fn a_released_group_is_forgotten_and_its_child_is_not() {
    let (client, guardian) = Client::to_test();
    let at = Duration::from_secs(7);
    assert_eq!(client.announce(&KillPolicy::default(), Blocking::Allowed).unwrap(), 1);
    client.guard(1, 4242, at, Blocking::Allowed).unwrap();
    client.release_group(1, Blocking::Allowed).unwrap();
    // What comes too late does nothing.
    client.release_group(2, Blocking::Allowed).unwrap();
    assert_eq!(client.wait_for_state().children[&1].group, None, "the next guardian would be told of it");
    assert_eq!(sent(&guardian)[1..], [Message::Guard { id: 1, pgid: 4242, at }, Message::ReleaseGroup { id: 1 }]);
}

#[test]
fn without_a_guarded_child_no_guardian_is_needed() {
    let (client, guardians) = Client::to_test();
    let id = client.announce(&KillPolicy::default(), Blocking::Allowed).unwrap();
    // Another test may be about to exec a child that holds it open.
    guardians.shutdown(std::net::Shutdown::Both).unwrap();
    client.release(id, Blocking::Allowed).unwrap();
    assert_eq!(client.guardian(), None);
}

#[test]
fn a_guardian_that_is_being_started_is_never_without_a_number() {
    let dir = tempfile::tempdir().unwrap();
    let client = scripted(dir.path(), SLOW);
    // More than a socket holds: the next one is told all of it, and is not up before it has read some.
    for _ in 0..4000 {
        client.announce(&KillPolicy::default(), Blocking::Allowed).unwrap();
    }
    let first = client.guardian().unwrap();
    ProcessGroup::new(first).unwrap().signal(Signal::KILL).unwrap();
    std::thread::scope(|scope| {
        // The socket takes messages until the first is quite dead.
        scope.spawn(|| {
            while client.guardian() == Some(first) {
                client.announce(&KillPolicy::default(), Blocking::Allowed).unwrap();
            }
        });
        while pids(dir.path()).len() < 2 {
            pause(Duration::from_millis(1));
        }
        let second = pids(dir.path())[1];
        assert_eq!(client.guardian(), Some(second), "it is there, and has no number");
    });
}
