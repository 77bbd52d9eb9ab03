//! The protocol between a guardian and its parent: messages of one length, so that one message is one write, and no
//! reader has to guess where it ends.

use std::time::Duration;

use crate::kill::KillPolicy;
use crate::signal::Signal;

/// The version of the protocol: it changes whenever a message does. Both ends have to name the same.
pub(super) const VERSION: &str = "5";

/// The length of every message, in bytes.
pub(super) const LENGTH: usize = 40;

/// A guardian's answer to [`Message::Handshake`].
pub(super) const HANDSHAKE_REPLY: [u8; 8] = *b"deadbeat";

/// One message. `id` is the number of a guarded child, which its parent counts from 1; its mark has it as value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// Asks the program to prove that it is a guardian, by [`HANDSHAKE_REPLY`].
    Handshake,
    /// From here on there may be processes with this child's mark; the policy says how to kill them.
    Announce { id: u64, policy: KillPolicy },
    /// The group that the child leads. It had this number `at` this time since boot.
    Guard { id: u64, pgid: i32, at: Duration },
    /// The parent is killing the child's group: the guardian is to kill the processes that carry its mark and have left
    /// it.
    KillEscaped { id: u64 },
    /// The child's group is dead and its leader about to be reaped: its number is not to be signalled any more.
    /// Processes with its mark stay under guard.
    ReleaseGroup { id: u64 },
    /// The child is guarded no more, neither its group nor its mark. A kill of escaped processes that has begun goes
    /// on.
    Release { id: u64 },
    /// What stops the parent is to stop the guarded groups. They have `limit`, counted from `at` since boot, in which a
    /// stopped parent cannot end them itself; zero is no limit.
    FollowStops { limit: Duration, at: Duration },
    /// From the guardian: the child's escaped processes are dead, and process `pid` may or may not be another of them.
    Unattributed { id: u64, pid: i32 },
}

impl Message {
    pub(super) fn encode(&self) -> [u8; LENGTH] {
        let (kind, flag, number, id, times) = match self {
            Message::Handshake => (0, 0, 0, 0, [Duration::ZERO; 3]),
            Message::Announce { id, policy } => {
                let times = [policy.grace, policy.poll_interval, policy.confirm];
                (1, u8::from(policy.continue_stopped), policy.signal.as_raw(), *id, times)
            }
            Message::Guard { id, pgid, at } => (2, 0, *pgid, *id, [*at, Duration::ZERO, Duration::ZERO]),
            Message::Release { id } => (3, 0, 0, *id, [Duration::ZERO; 3]),
            Message::KillEscaped { id } => (4, 0, 0, *id, [Duration::ZERO; 3]),
            Message::ReleaseGroup { id } => (5, 0, 0, *id, [Duration::ZERO; 3]),
            Message::Unattributed { id, pid } => (6, 0, *pid, *id, [Duration::ZERO; 3]),
            Message::FollowStops { limit, at } => (7, 0, 0, 0, [*limit, *at, Duration::ZERO]),
        };
        let mut bytes = [0; LENGTH];
        bytes[0] = kind;
        bytes[1] = flag;
        bytes[4..8].copy_from_slice(&number.to_ne_bytes());
        bytes[8..16].copy_from_slice(&id.to_ne_bytes());
        for (field, time) in bytes[16..].chunks_exact_mut(8).zip(times) {
            // A longer grace than fits here is cut to five hundred years, which makes no difference.
            field.copy_from_slice(&u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).to_ne_bytes());
        }
        bytes
    }

    pub(super) fn decode(bytes: &[u8; LENGTH]) -> Option<Message> {
        let eight = |from: usize| bytes[from..].first_chunk().copied().map(u64::from_ne_bytes);
        let time = |i: usize| eight(16 + 8 * i).map(Duration::from_nanos);
        let number = bytes[4..].first_chunk().copied().map(i32::from_ne_bytes)?;
        let id = eight(8)?;
        match bytes[0] {
            0 => Some(Message::Handshake),
            1 => {
                let policy = KillPolicy::default()
                    .signal(Signal::from_raw(number)?)
                    .continue_stopped(bytes[1] == 1)
                    .grace(time(0)?)
                    .poll_interval(time(1)?)
                    .confirm(time(2)?);
                Some(Message::Announce { id, policy })
            }
            2 => Some(Message::Guard { id, pgid: number, at: time(0)? }),
            3 => Some(Message::Release { id }),
            4 => Some(Message::KillEscaped { id }),
            5 => Some(Message::ReleaseGroup { id }),
            6 => Some(Message::Unattributed { id, pid: number }),
            7 => Some(Message::FollowStops { limit: time(0)?, at: time(1)? }),
            _ => None,
        }
    }
}

/// Decodes a message and encodes it again, for the fuzz target.
#[cfg(fuzzing)]
pub fn message(bytes: &[u8; LENGTH]) -> Option<[u8; LENGTH]> {
    Message::decode(bytes).map(|message| message.encode())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_is_read_as_it_was_written() {
        let policy = KillPolicy::default().signal(Signal::from_raw(40).unwrap()).continue_stopped(false);
        let policy = policy.grace(Duration::from_millis(1500)).confirm(Duration::ZERO);
        for message in [
            Message::Handshake,
            Message::Announce { id: u64::MAX, policy },
            Message::Guard { id: 7, pgid: -4242, at: Duration::from_nanos(12_345_678_901) },
            Message::KillEscaped { id: 1 << 40 },
            Message::ReleaseGroup { id: 1 << 40 },
            Message::Release { id: 1 << 40 },
            Message::Unattributed { id: 1 << 40, pid: 4242 },
            Message::FollowStops { limit: Duration::from_millis(1500), at: Duration::from_nanos(12_345_678_901) },
        ] {
            assert_eq!(Message::decode(&message.encode()), Some(message));
        }
    }

    #[test]
    fn a_grace_without_end_stays_longer_than_any_process_lives() {
        let message = Message::Announce { id: 1, policy: KillPolicy::default().grace(Duration::MAX) };
        let Some(Message::Announce { policy, .. }) = Message::decode(&message.encode()) else { panic!("{message:?}") };
        assert!(policy.grace > Duration::from_secs(500 * 365 * 24 * 3600), "{policy:?}");
    }

    #[test]
    fn what_is_no_message_is_refused() {
        let mut bytes = Message::Release { id: 1 }.encode();
        bytes[0] = 9;
        assert_eq!(Message::decode(&bytes), None);
        let mut bytes = Message::Announce { id: 1, policy: KillPolicy::default() }.encode();
        bytes[4..8].copy_from_slice(&0_i32.to_ne_bytes());
        assert_eq!(Message::decode(&bytes), None);
    }
}
