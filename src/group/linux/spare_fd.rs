//! One descriptor in reserve: whether a process is dead must not depend on how many files this process has open.

use std::fs::File;
use std::io;
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;

static SPARE_FD: Mutex<Option<File>> = Mutex::new(None);

/// Opens the spare descriptor, while there are descriptors left.
pub(super) fn keep() {
    let mut spare = SPARE_FD.lock().unwrap_or_else(PoisonError::into_inner);
    if spare.is_none() {
        *spare = File::open("/dev/null").ok();
    }
}

/// Calls `read`, which opens, reads and closes a file; where no descriptor is left for it, the spare one is given up
/// for that.
pub(super) fn or_with_spare<T>(read: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let result = read();
    match &result {
        Err(error) if matches!(Errno::from_raw(error.raw_os_error().unwrap_or(0)), Errno::EMFILE | Errno::ENFILE) => {}
        _ => return result,
    }
    let mut spare = SPARE_FD.lock().unwrap_or_else(PoisonError::into_inner);
    if spare.take().is_none() {
        return result;
    }
    // Another thread may take the descriptor in between; then nothing was read, and the next look may do better.
    let result = read();
    *spare = File::open("/dev/null").ok();
    result
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn only_a_read_for_want_of_a_descriptor_is_tried_again_with_the_spare_one() {
        keep();
        let reads = |first: Errno| {
            let tries = Cell::new(0);
            let read = || {
                tries.set(tries.get() + 1);
                if tries.get() == 1 { Err(io::Error::from(first)) } else { Ok(7) }
            };
            let result = or_with_spare(read);
            (result.map_err(|error| error.raw_os_error()), tries.get())
        };
        // Twice: what was given up is taken back.
        for wanting in [Errno::EMFILE, Errno::ENFILE, Errno::EMFILE] {
            assert_eq!(reads(wanting), (Ok(7), 2), "{wanting}");
        }
        assert_eq!(reads(Errno::ENOENT), (Err(Some(Errno::ENOENT as i32)), 1), "it would be the same again");
    }
}
