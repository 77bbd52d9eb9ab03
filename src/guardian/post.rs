//! The guardian's own `main`: goes into a corner of its own, reads letters until the line ends, and acts on what is left.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io::{self, Read};
use std::os::fd::AsFd;

use super::ANSWER;
use super::hunt::{Ward, hunt, patient};
use super::letter::{LENGTH, Letter, VERSION};
use super::retreat;
use crate::group::{ProcessGroup, was_started_after};
use crate::kill::climb::Climb;

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
    match read_letters(&mut stdin.lock()) {
        Ok(wards) => {
            hunt(&mark, wards);
            0
        }
        Err(_) => 2,
    }
}

/// Who is to be killed now that the parent has gone: every ward that was not released.
fn read_letters(line: &mut impl Read) -> io::Result<BTreeMap<u64, Ward>> {
    let mut wards: BTreeMap<u64, Ward> = BTreeMap::new();
    loop {
        let mut letter = [0; LENGTH];
        // The end, or a reset where the parent left an answer of ours unread; it has gone either way.
        if line.read_exact(&mut letter).is_err() {
            return Ok(wards);
        }
        // From a parent that speaks otherwise nothing can be believed.
        let letter = Letter::decode(&letter).ok_or(io::ErrorKind::InvalidData)?;
        match letter {
            Letter::Answer => drop(rustix::io::write(io::stdin(), &ANSWER)?),
            Letter::Expect { ward, policy } => {
                wards.insert(ward, Ward { policy: patient(policy), group: None });
            }
            Letter::Guard { ward, pgid, at } => {
                let Some(ward) = wards.get_mut(&ward) else { continue };
                let Ok(group) = ProcessGroup::new(pgid) else { continue };
                // 1. The parent told of the group, and died before we read that.
                // 2. The leader ended, and was reaped by whoever inherited it.
                // 3. Its number was given to a stranger, who was therefore started later than we were told.
                // Held before it is asked, so that nothing can change in between.
                let climb = Climb::new(group, &ward.policy);
                ward.group = (!was_started_after(pgid, at)).then_some(climb);
            }
            Letter::Release { ward } => {
                wards.remove(&ward);
            }
        }
    }
}
