//! The guardian's own `main`: goes into a corner of its own, reads letters until the line ends, and acts on what is left.

use std::ffi::OsString;
use std::io;
use std::os::fd::AsFd;

use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};

use super::ANSWER;
use super::hunt::Hunt;
use super::letter::{LENGTH, Letter, VERSION};
use super::retreat;

/// What the parent wants to hear of it nobody hears: its status is for people who start it by hand.
pub(super) fn main(mut args: impl Iterator<Item = OsString>) -> i32 {
    let stdin = io::stdin();
    if rustix::net::sockopt::socket_type(stdin.as_fd()).is_err() {
        eprintln!("deadbeat: this is the guardian's entrance: it is started by the program it guards, not by hand");
        return 2;
    }
    let version = args.next();
    let Some(mark) = args.next().and_then(|mark| mark.into_string().ok()) else { return 2 };
    if version.is_none_or(|version| version != VERSION) {
        return 2;
    }
    retreat::leave_everything();
    let mut hunt = Hunt::new(mark);
    // From a parent that speaks otherwise nothing can be believed.
    if serve(&mut hunt).is_err() {
        return 2;
    }
    hunt.parent_has_gone();
    loop {
        hunt.step();
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
        hunt.sleep(Some(line.as_fd()));
        let mut chunk = [0; 64 * LENGTH];
        match recv(&line, &mut chunk, RecvFlags::DONTWAIT) {
            Ok((_, 0)) => return Ok(()),
            Ok((_, length)) => unread.extend_from_slice(&chunk[..length]),
            Err(Errno::AGAIN | Errno::INTR) => continue,
            // A reset, where the parent left an answer of ours unread; it has gone either way.
            Err(_) => return Ok(()),
        }
        let whole = unread.len() - unread.len() % LENGTH;
        for letter in unread.drain(..whole).as_slice().chunks_exact(LENGTH) {
            let letter = letter.first_chunk().and_then(Letter::decode).ok_or(io::ErrorKind::InvalidData)?;
            obey(hunt, letter)?;
        }
    }
}

fn obey(hunt: &mut Hunt, letter: Letter) -> io::Result<()> {
    match letter {
        Letter::Answer => drop(rustix::io::write(io::stdin(), &ANSWER)?),
        Letter::Expect { ward, policy } => hunt.expect(ward, policy),
        Letter::Guard { ward, pgid, at } => hunt.guard(ward, pgid, at),
        Letter::EndStrays { ward } => hunt.end_strays(ward),
        Letter::LetGo { ward } => hunt.let_go(ward),
        Letter::Release { ward } => hunt.release(ward),
    }
    Ok(())
}
