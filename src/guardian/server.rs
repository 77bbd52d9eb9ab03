//! The guardian's own `main`: detaches from the parent, obeys its messages until the socket ends, and then kills what
//! is left.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::cleanup::Cleanup;
use super::daemonize::daemonize;
use super::identity::MARK_PREFIX;
use super::message::{HANDSHAKE_REPLY, LENGTH, Message, VERSION};

/// Runs the guardian. The exit status is of use to a person who starts it by hand; the parent does not read it.
pub(super) fn main(mut args: impl Iterator<Item = OsString>) -> i32 {
    let stdin = io::stdin();
    if rustix::net::sockopt::socket_type(stdin.as_fd()).is_err() {
        eprintln!("deadbeat: this is the guardian's entrance: it is started by the program it guards, not by hand");
        return 2;
    }
    let version = args.next();
    let Some(run) = args.next().and_then(|run| run.into_string().ok()) else { return 2 };
    if version.is_none_or(|version| version != VERSION) {
        return 2;
    }
    daemonize();
    let mut cleanup = Cleanup::new(format!("{MARK_PREFIX}{run}"));
    // A parent that sends something else may have sent anything before: nothing is killed for it.
    if serve(&mut cleanup).is_err() {
        return 2;
    }
    cleanup.parent_died();
    loop {
        cleanup.step();
        send_unattributed(&mut cleanup);
        if cleanup.is_over() {
            return 0;
        }
        cleanup.sleep(None);
    }
}

/// Obeys the parent's messages until the socket ends.
fn serve(cleanup: &mut Cleanup) -> io::Result<()> {
    let socket = io::stdin();
    let mut unread = Vec::new();
    loop {
        cleanup.step();
        send_unattributed(cleanup);
        cleanup.sleep(Some(socket.as_fd()));
        let mut chunk = [0; 4096];
        match recv(&socket, &mut chunk, RecvFlags::DONTWAIT) {
            Ok((_, 0)) => return Ok(()),
            Ok((_, length)) => unread.extend_from_slice(&chunk[..length]),
            Err(Errno::AGAIN | Errno::INTR) => continue,
            // A reset: the parent has ended and left a message of ours unread.
            Err(_) => return Ok(()),
        }
        for message in take_messages(&mut unread)? {
            obey(cleanup, message)?;
        }
    }
}

/// Sends the parent the processes that could not be attributed. It never blocks: the parent may be gone, or not read.
/// After the end of the socket it may still succeed, for a parent that has closed only its sending half.
fn send_unattributed(cleanup: &mut Cleanup) {
    let flags = SendFlags::DONTWAIT;
    #[cfg(not(target_vendor = "apple"))]
    let flags = flags | SendFlags::NOSIGNAL;
    for (id, pid) in cleanup.take_unattributed() {
        let _ = send(io::stdin(), &Message::Unattributed { id, pid }.encode(), flags);
    }
}

/// Takes the complete messages out of what was read, and leaves the beginning of the next one.
fn take_messages(unread: &mut Vec<u8>) -> io::Result<Vec<Message>> {
    let complete = unread.len() - unread.len() % LENGTH;
    let taken = unread.drain(..complete);
    let messages = taken.as_slice().chunks_exact(LENGTH).map(|message| {
        let message = message.first_chunk().and_then(Message::decode);
        message.ok_or_else(|| io::ErrorKind::InvalidData.into())
    });
    messages.collect()
}

fn obey(cleanup: &mut Cleanup, message: Message) -> io::Result<()> {
    match message {
        Message::Handshake => drop(rustix::io::write(io::stdin(), &HANDSHAKE_REPLY)?),
        Message::Announce { id, policy } => cleanup.announce(id, policy),
        Message::Guard { id, pgid, at } => cleanup.guard(id, pgid, at),
        Message::KillEscaped { id } => cleanup.kill_escaped(id),
        Message::ReleaseGroup { id } => cleanup.release_group(id),
        Message::Release { id } => cleanup.release(id),
        Message::FollowStops { limit, at } => cleanup.follow_stops(limit, at),
        // Only a guardian sends this.
        Message::Unattributed { .. } => return Err(io::ErrorKind::InvalidData.into()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kill::KillPolicy;

    #[test]
    fn messages_are_read_whole_however_they_come() {
        let messages = [
            Message::Announce { id: 1, policy: KillPolicy::default() },
            Message::KillEscaped { id: 1 },
            Message::Release { id: 1 },
        ];
        let text: Vec<u8> = messages.iter().flat_map(Message::encode).collect();
        for size in [1, LENGTH - 1, LENGTH, LENGTH + 1, 3 * LENGTH] {
            let (mut unread, mut read) = (Vec::new(), Vec::new());
            for chunk in text.chunks(size) {
                unread.extend_from_slice(chunk);
                read.extend(take_messages(&mut unread).unwrap());
                assert!(unread.len() < LENGTH, "{} bytes are left, {size} at a time", unread.len());
            }
            assert_eq!((read.as_slice(), unread.len()), (&messages[..], 0), "{size} at a time");
        }
    }

    #[test]
    fn from_a_parent_that_speaks_otherwise_nothing_is_taken() {
        let mut unread = [Message::Release { id: 1 }.encode(), [0xff; LENGTH]].concat();
        assert_eq!(take_messages(&mut unread).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn each_message_is_obeyed() {
        let mut cleanup = Cleanup::new("DEADBEAT_TEST_SERVER".to_owned());
        let mut obey = |message| obey(&mut cleanup, message).map(|()| cleanup.is_over()).unwrap();
        assert!(!obey(Message::Announce { id: 1, policy: KillPolicy::default() }));
        assert!(obey(Message::Release { id: 1 }));
    }
}
