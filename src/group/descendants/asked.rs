//! Children without a `/proc`: `waitid(2)` says of any number whether it is a child's.
//!
//! Only numbers that were handed out since our start can be: from our own to that of a thread that is started to see
//! how far they have come. If they have come round and beyond our own, a child can have been missed: where the kernel
//! says that there is one and none is found, all the numbers there are get asked, for a second.

use nix::unistd::getpid;
use rustix::process::{WaitId, WaitIdOptions, waitid};
use rustix::thread::gettid;

use crate::group::child::is_child;

/// Numbers are smaller: `proc_sys_kernel_pid_max(5)`.
const LIMIT: i32 = 1 << 22;

/// The children of this process, those that have ended among them.
pub(super) fn children() -> Vec<i32> {
    if has_none() {
        return Vec::new();
    }
    let last = std::thread::Builder::new().spawn(|| gettid().as_raw_nonzero().get()).ok();
    let last = last.and_then(|thread| thread.join().ok()).unwrap_or(LIMIT - 1);
    let found: Vec<_> = handed_out(getpid().as_raw(), last).filter(|pid| is_child(*pid)).collect();
    if found.is_empty() { (2..LIMIT).filter(|pid| is_child(*pid)).collect() } else { found }
}

/// The kernel's word, for one instant, that this process has no child.
fn has_none() -> bool {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
    waitid(WaitId::All, options).is_err_and(|error| error == rustix::io::Errno::CHILD)
}

/// The numbers after `own`, up to and with `last`.
fn handed_out(own: i32, last: i32) -> impl Iterator<Item = i32> {
    let (until_the_end, anew) = if last < own { (own + 1..LIMIT, 2..last + 1) } else { (own + 1..last + 1, 2..2) };
    until_the_end.chain(anew)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_after_our_own_are_asked_and_those_of_the_next_round() {
        assert_eq!(handed_out(7, 9).collect::<Vec<_>>(), [8, 9]);
        assert_eq!(handed_out(7, 7).count(), 0);
        assert_eq!(handed_out(LIMIT - 2, 3).collect::<Vec<_>>(), [LIMIT - 1, 2, 3]);
    }
}
