//! One descriptor in reserve: whether somebody is dead must not depend on how many files this process has open.

use std::fs::File;
use std::io;
use std::sync::{Mutex, PoisonError};

use nix::errno::Errno;

static RESERVE: Mutex<Option<File>> = Mutex::new(None);

/// Takes the reserve while there are descriptors to be had.
pub(super) fn keep() {
    let mut reserve = RESERVE.lock().unwrap_or_else(PoisonError::into_inner);
    if reserve.is_none() {
        *reserve = File::open("/dev/null").ok();
    }
}

/// What `read` opens, reads and closes again; where no descriptor is to be had, with the one in reserve.
pub(super) fn or_with_the_reserve<T>(read: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let result = read();
    match &result {
        Err(error) if matches!(Errno::from_raw(error.raw_os_error().unwrap_or(0)), Errno::EMFILE | Errno::ENFILE) => {}
        _ => return result,
    }
    let mut reserve = RESERVE.lock().unwrap_or_else(PoisonError::into_inner);
    if reserve.take().is_none() {
        return result;
    }
    // Another thread may snatch it in between; then nothing was read, and the next look may do better.
    let result = read();
    *reserve = File::open("/dev/null").ok();
    result
}
