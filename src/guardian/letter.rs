//! What a guardian is told, in letters of one size: one letter is one write, and no read has to guess where it ends.

use std::time::Duration;

use crate::kill::KillPolicy;
use crate::signal::Signal;

/// Changes whenever a letter does. Both ends have to name the same.
pub(super) const VERSION: &str = "5";

/// The length of every letter.
pub(super) const LENGTH: usize = 40;

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Letter {
    /// Say that you are a guardian.
    Answer,
    /// From here on there may be processes with this ward's mark; this is how to kill them.
    Expect { ward: u64, policy: KillPolicy },
    /// The ward's group. It had this number `at` this time since boot.
    Guard { ward: u64, pgid: i32, at: Duration },
    /// The ward's group is being ended: end whoever has its mark and is elsewhere.
    EndStrays { ward: u64 },
    /// The ward's group is dead and its leader about to be reaped: hands off the group, but not off the mark.
    LetGo { ward: u64 },
    /// Hands off the ward, its group and its mark; but strays that are to be ended still are.
    Release { ward: u64 },
    /// What stops the parent is to stop what is guarded, which has so much time, counted from `at` since boot; zero is no limit.
    Follow { limit: Duration, at: Duration },
    /// From the guardian: the ward's strays are ended, and this process may be one of them or not.
    Doubt { ward: u64, pid: i32 },
}

impl Letter {
    pub(super) fn encode(&self) -> [u8; LENGTH] {
        let (kind, small, number, ward, times) = match self {
            Letter::Answer => (0, 0, 0, 0, [Duration::ZERO; 3]),
            Letter::Expect { ward, policy } => {
                let times = [policy.grace, policy.poll_interval, policy.confirm];
                (1, u8::from(policy.continue_stopped), policy.signal.as_raw(), *ward, times)
            }
            Letter::Guard { ward, pgid, at } => (2, 0, *pgid, *ward, [*at, Duration::ZERO, Duration::ZERO]),
            Letter::Release { ward } => (3, 0, 0, *ward, [Duration::ZERO; 3]),
            Letter::EndStrays { ward } => (4, 0, 0, *ward, [Duration::ZERO; 3]),
            Letter::LetGo { ward } => (5, 0, 0, *ward, [Duration::ZERO; 3]),
            Letter::Doubt { ward, pid } => (6, 0, *pid, *ward, [Duration::ZERO; 3]),
            Letter::Follow { limit, at } => (7, 0, 0, 0, [*limit, *at, Duration::ZERO]),
        };
        let mut bytes = [0; LENGTH];
        bytes[0] = kind;
        bytes[1] = small;
        bytes[4..8].copy_from_slice(&number.to_ne_bytes());
        bytes[8..16].copy_from_slice(&ward.to_ne_bytes());
        for (field, time) in bytes[16..].chunks_exact_mut(8).zip(times) {
            // Five hundred years are as good as any longer grace.
            field.copy_from_slice(&u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).to_ne_bytes());
        }
        bytes
    }

    pub(super) fn decode(bytes: &[u8; LENGTH]) -> Option<Letter> {
        let eight = |from: usize| bytes[from..].first_chunk().copied().map(u64::from_ne_bytes);
        let time = |i: usize| eight(16 + 8 * i).map(Duration::from_nanos);
        let number = bytes[4..].first_chunk().copied().map(i32::from_ne_bytes)?;
        let ward = eight(8)?;
        match bytes[0] {
            0 => Some(Letter::Answer),
            1 => {
                let policy = KillPolicy::default()
                    .signal(Signal::from_raw(number)?)
                    .continue_stopped(bytes[1] == 1)
                    .grace(time(0)?)
                    .poll_interval(time(1)?)
                    .confirm(time(2)?);
                Some(Letter::Expect { ward, policy })
            }
            2 => Some(Letter::Guard { ward, pgid: number, at: time(0)? }),
            3 => Some(Letter::Release { ward }),
            4 => Some(Letter::EndStrays { ward }),
            5 => Some(Letter::LetGo { ward }),
            6 => Some(Letter::Doubt { ward, pid: number }),
            7 => Some(Letter::Follow { limit: time(0)?, at: time(1)? }),
            _ => None,
        }
    }
}

/// What was read, as it is written.
#[cfg(fuzzing)]
pub fn letter(bytes: &[u8; LENGTH]) -> Option<[u8; LENGTH]> {
    Letter::decode(bytes).map(|letter| letter.encode())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_letter_is_read_as_it_was_written() {
        let policy = KillPolicy::default().signal(Signal::from_raw(40).unwrap()).continue_stopped(false);
        let policy = policy.grace(Duration::from_millis(1500)).confirm(Duration::ZERO);
        for letter in [
            Letter::Answer,
            Letter::Expect { ward: u64::MAX, policy },
            Letter::Guard { ward: 7, pgid: -4242, at: Duration::from_nanos(12_345_678_901) },
            Letter::EndStrays { ward: 1 << 40 },
            Letter::LetGo { ward: 1 << 40 },
            Letter::Release { ward: 1 << 40 },
            Letter::Doubt { ward: 1 << 40, pid: 4242 },
            Letter::Follow { limit: Duration::from_millis(1500), at: Duration::from_nanos(12_345_678_901) },
        ] {
            assert_eq!(Letter::decode(&letter.encode()), Some(letter));
        }
    }

    #[test]
    fn a_grace_without_end_stays_longer_than_anybody_lives() {
        let letter = Letter::Expect { ward: 1, policy: KillPolicy::default().grace(Duration::MAX) };
        let Some(Letter::Expect { policy, .. }) = Letter::decode(&letter.encode()) else { panic!("{letter:?}") };
        assert!(policy.grace > Duration::from_secs(500 * 365 * 24 * 3600), "{policy:?}");
    }

    #[test]
    fn what_is_no_letter_is_nothing() {
        let mut bytes = Letter::Release { ward: 1 }.encode();
        bytes[0] = 9;
        assert_eq!(Letter::decode(&bytes), None);
        let mut bytes = Letter::Expect { ward: 1, policy: KillPolicy::default() }.encode();
        bytes[4..8].copy_from_slice(&0_i32.to_ne_bytes());
        assert_eq!(Letter::decode(&bytes), None);
    }
}
