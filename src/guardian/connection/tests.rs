use std::io::Write;
use std::net::Shutdown;

use super::super::testing::SOON;
use super::*;
use crate::group::pause;

impl Connection {
    /// A connection whose other end the test has, in place of a guardian that has ended.
    pub(in crate::guardian) fn to_test() -> (Connection, UnixStream) {
        let connection =
            Connection::open(&GuardianProgram::Named("true".into()), "DEADBEAT_TEST_CONNECTION", |_| Ok(())).unwrap();
        let (socket, guardians) = UnixStream::pair().unwrap();
        (Connection { socket, ..connection }, guardians)
    }
}

#[test]
fn a_program_has_as_long_to_answer_as_the_documentation_promises() {
    let promised = crate::promised::time(include_str!("../../guardian.rs"), "answer as a guardian within {} is killed");
    assert_eq!(HANDSHAKE_TIMEOUT, promised);
}

#[test]
fn a_message_waits_for_room_as_long_as_it_may() {
    let (connection, guardians) = Connection::to_test();
    let mut sent = 0;
    let error = loop {
        match connection.send_within(&Message::Release { id: sent }, Duration::ZERO) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    assert!(sent >= 100, "there was room for {sent}");
    let last_of = |messages: u64| {
        let mut read = vec![0; messages as usize * LENGTH];
        (&guardians).read_exact(&mut read).unwrap();
        read.chunks_exact(LENGTH).last().and_then(|message| Message::decode(message.first_chunk()?))
    };
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            // There is no room yet when the next one is sent.
            pause(Duration::from_millis(20));
            last_of(sent)
        });
        connection.send_within(&Message::Release { id: sent }, SOON).unwrap();
        assert_eq!(reader.join().unwrap(), Some(Message::Release { id: sent - 1 }));
    });
    assert_eq!(last_of(1), Some(Message::Release { id: sent }), "what was refused was not written");
}

/// Set in a child that is to print what it holds.
#[cfg(feature = "cli")]
const PRINTS: &str = "DEADBEAT_TEST_PRINTS_WHAT_IT_HOLDS";

/// What a program holds that is started in a guardian's place, in another directory and with a file that is open to
/// every child: its directory, its descriptors, its session.
#[cfg(feature = "cli")]
#[test]
fn a_guardian_that_is_forked_holds_nothing_of_the_callers_from_its_first_instruction_on() {
    if std::env::var_os(PRINTS).is_some() {
        let listed = Command::new("ls").args(["-l", &format!("/proc/{}/fd/", std::process::id())]).output().unwrap();
        let session = nix::unistd::getsid(None).unwrap().as_raw() == std::process::id() as i32;
        let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
        println!("dir={} session={session}\n{listed}", std::env::current_dir().unwrap().display());
        return;
    }
    let file = std::fs::File::open("/etc/passwd").unwrap();
    rustix::io::fcntl_setfd(&file, rustix::io::FdFlags::empty()).unwrap();
    let test = "guardian::connection::tests::\
                a_guardian_that_is_forked_holds_nothing_of_the_callers_from_its_first_instruction_on";
    let printed = |mut command: Command| {
        command.args(["--exact", test, "--nocapture"]).env(PRINTS, "1").current_dir("/usr");
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    let control = printed(Command::new("/proc/self/exe"));
    assert!(control.contains("dir=/usr session=false") && control.contains("/etc/passwd"), "{control}");
    let printed = printed(GuardianProgram::This { forked: true }.command().unwrap());
    assert!(printed.contains("dir=/ session=true") && !printed.contains("/etc/passwd"), "{printed}");
}

#[test]
fn a_guardian_is_known_by_its_answer() {
    let why = |answer: &[u8]| {
        let (mut connection, mut guardians) = Connection::to_test();
        guardians.write_all(answer).unwrap();
        guardians.shutdown(Shutdown::Write).unwrap();
        connection.shake_hands().err().map(|error| error.to_string())
    };
    assert_eq!(why(&HANDSHAKE_REPLY), None);
    for (answer, expected) in [
        (&b"DEADBEAT"[..], "its answer was none"),
        (&HANDSHAKE_REPLY[1..], "it ended without an answer"),
        (b"", "it ended without an answer"),
    ] {
        let why = why(answer).expect("taken for a guardian");
        assert!(why.contains(expected), "{answer:?}: {why}");
    }
}

#[test]
fn an_answer_may_come_in_pieces() {
    let (mut connection, mut guardians) = Connection::to_test();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            let mut message = [0; LENGTH];
            guardians.read_exact(&mut message).unwrap();
            assert_eq!(Message::decode(&message), Some(Message::Handshake));
            for byte in HANDSHAKE_REPLY {
                guardians.write_all(&[byte]).unwrap();
                std::thread::yield_now();
            }
        });
        connection.shake_hands().unwrap();
    });
}

#[test]
fn a_program_that_ends_with_our_message_unread_is_no_guardian() {
    let (mut connection, guardians) = Connection::to_test();
    std::thread::scope(|scope| {
        scope.spawn(move || wait_readable(&mut [PollFd::new(guardians.as_fd(), PollFlags::POLLIN)], SOON));
        let why = connection.shake_hands().unwrap_err().to_string();
        assert!(why.contains("it ended without an answer"), "{why}");
    });
}
