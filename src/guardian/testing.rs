//! Tools for the tests of this folder: a guardian's end of the socket in the hand of the test.

use std::io::{self, Read};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::message::{LENGTH, Message};

/// What must come, comes well within this; it bounds a broken test, not a slow machine.
pub(super) const SOON: Duration = Duration::from_secs(40);

/// All messages that the parent has sent and the test has not read yet.
pub(super) fn sent(mut guardian: &UnixStream) -> Vec<Message> {
    let mut bytes = Vec::new();
    guardian.set_nonblocking(true).unwrap();
    let error = guardian.read_to_end(&mut bytes).expect_err("the socket has ended");
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
    guardian.set_nonblocking(false).unwrap();
    messages(&bytes)
}

/// The next message of the parent, which is waited for.
pub(super) fn next_sent(mut guardian: &UnixStream) -> Message {
    guardian.set_read_timeout(Some(SOON)).unwrap();
    let mut message = [0; LENGTH];
    guardian.read_exact(&mut message).unwrap();
    Message::decode(&message).unwrap()
}

pub(super) fn messages(bytes: &[u8]) -> Vec<Message> {
    bytes.chunks_exact(LENGTH).map(|message| Message::decode(message.first_chunk().unwrap()).unwrap()).collect()
}
