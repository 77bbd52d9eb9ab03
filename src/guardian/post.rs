//! The guardian's own `main`: goes into a corner of its own, reads letters until the line ends, and acts on what is left.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use super::hunt::Hunt;
use super::letter::{LENGTH, Letter, VERSION};
use super::{ANSWER, MARKS, retreat};

/// What the parent wants to hear of it nobody hears: its status is for people who start it by hand.
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
    retreat::leave_everything();
    let mut hunt = Hunt::new(format!("{MARKS}{run}"));
    // From a parent that speaks otherwise nothing can be believed.
    if serve(&mut hunt).is_err() {
        return 2;
    }
    hunt.parent_has_gone();
    loop {
        hunt.step();
        tell_of_doubts(&mut hunt);
        if hunt.is_over() {
            return 0;
        }
        hunt.sleep(None);
    }
}

/// Until the line ends.
fn serve(hunt: &mut Hunt) -> io::Result<()> {
    let line = io::stdin();
    let mut unread = Vec::new();
    loop {
        hunt.step();
        tell_of_doubts(hunt);
        hunt.sleep(Some(line.as_fd()));
        let mut chunk = [0; 4096];
        match recv(&line, &mut chunk, RecvFlags::DONTWAIT) {
            Ok((_, 0)) => return Ok(()),
            Ok((_, length)) => unread.extend_from_slice(&chunk[..length]),
            Err(Errno::AGAIN | Errno::INTR) => continue,
            // A reset, where the parent left an answer of ours unread; it has gone either way.
            Err(_) => return Ok(()),
        }
        for letter in take_letters(&mut unread)? {
            obey(hunt, letter)?;
        }
    }
}

/// To a parent that may be gone, or not listen: it is not waited for. One that has only let go of us may.
fn tell_of_doubts(hunt: &mut Hunt) {
    let flags = SendFlags::DONTWAIT;
    #[cfg(not(target_vendor = "apple"))]
    let flags = flags | SendFlags::NOSIGNAL;
    for (ward, pid) in hunt.take_doubtful() {
        let _ = send(io::stdin(), &Letter::Doubt { ward, pid }.encode(), flags);
    }
}

/// Of what was read, the letters that are there in whole. The beginning of another stays.
fn take_letters(unread: &mut Vec<u8>) -> io::Result<Vec<Letter>> {
    let whole = unread.len() - unread.len() % LENGTH;
    let taken = unread.drain(..whole);
    let letters = taken.as_slice().chunks_exact(LENGTH).map(|letter| {
        let letter = letter.first_chunk().and_then(Letter::decode);
        letter.ok_or_else(|| io::ErrorKind::InvalidData.into())
    });
    letters.collect()
}

fn obey(hunt: &mut Hunt, letter: Letter) -> io::Result<()> {
    match letter {
        Letter::Answer => drop(rustix::io::write(io::stdin(), &ANSWER)?),
        Letter::Expect { ward, policy } => hunt.expect(ward, policy),
        Letter::Guard { ward, pgid, at } => hunt.guard(ward, pgid, at),
        Letter::EndStrays { ward } => hunt.end_strays(ward),
        Letter::LetGo { ward } => hunt.let_go(ward),
        Letter::Release { ward } => hunt.release(ward),
        Letter::Follow { limit, at } => hunt.follow(limit, at),
        // It is ours to say.
        Letter::Doubt { .. } => return Err(io::ErrorKind::InvalidData.into()),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kill::KillPolicy;

    #[test]
    fn letters_are_read_whole_however_they_come() {
        let letters = [
            Letter::Expect { ward: 1, policy: KillPolicy::default() },
            Letter::EndStrays { ward: 1 },
            Letter::Release { ward: 1 },
        ];
        let text: Vec<u8> = letters.iter().flat_map(Letter::encode).collect();
        for size in [1, LENGTH - 1, LENGTH, LENGTH + 1, 3 * LENGTH] {
            let (mut unread, mut read) = (Vec::new(), Vec::new());
            for chunk in text.chunks(size) {
                unread.extend_from_slice(chunk);
                read.extend(take_letters(&mut unread).unwrap());
                assert!(unread.len() < LENGTH, "{} bytes are left, {size} at a time", unread.len());
            }
            assert_eq!((read.as_slice(), unread.len()), (&letters[..], 0), "{size} at a time");
        }
    }

    #[test]
    fn from_a_parent_that_speaks_otherwise_nothing_is_taken() {
        let mut unread = [Letter::Release { ward: 1 }.encode(), [0xff; LENGTH]].concat();
        assert_eq!(take_letters(&mut unread).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn what_it_is_told_is_done() {
        let mut hunt = Hunt::new("DEADBEAT_TEST_POST".to_owned());
        let mut obey = |letter| obey(&mut hunt, letter).map(|()| hunt.is_over()).unwrap();
        assert!(!obey(Letter::Expect { ward: 1, policy: KillPolicy::default() }));
        assert!(obey(Letter::Release { ward: 1 }));
    }
}
