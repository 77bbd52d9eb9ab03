//! Reads what Rust's runtime changes before `main`: it ignores SIGPIPE, and opens `/dev/null` in the place of a closed
//! standard stream.

use std::sync::atomic::{AtomicBool, Ordering};

use deadbeat::cli::{Pipe, ProgramStart};
use nix::libc;

static PIPE_IGNORED: AtomicBool = AtomicBool::new(false);
static STDOUT_WRITABLE: AtomicBool = AtomicBool::new(false);

/// The loader calls this before `main`, and before Rust's runtime begins.
#[expect(unsafe_code, reason = "nothing later can tell: by the first line of main it is changed")]
#[used]
#[cfg_attr(not(target_vendor = "apple"), unsafe(link_section = ".init_array"))]
#[cfg_attr(target_vendor = "apple", unsafe(link_section = "__DATA,__mod_init_func"))]
static LOOK: extern "C" fn() = look;

#[expect(unsafe_code, reason = "nix can only ask for a signal's action by setting another")]
extern "C" fn look() {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: asks only, and writes into `action`, which is of the right type and valid when it is all zeros.
    let action = unsafe {
        libc::sigaction(libc::SIGPIPE, std::ptr::null(), action.as_mut_ptr());
        action.assume_init()
    };
    PIPE_IGNORED.store(action.sa_sigaction == libc::SIG_IGN, Ordering::Relaxed);
    // SAFETY: asks only, and of a number.
    let flags = unsafe { libc::fcntl(libc::STDOUT_FILENO, libc::F_GETFL) };
    STDOUT_WRITABLE.store(flags != -1 && flags & libc::O_ACCMODE != libc::O_RDONLY, Ordering::Relaxed);
}

pub(crate) fn seen() -> ProgramStart {
    let pipe = if PIPE_IGNORED.load(Ordering::Relaxed) { Pipe::Ignored } else { Pipe::Default };
    ProgramStart { pipe, stdout_writable: STDOUT_WRITABLE.load(Ordering::Relaxed) }
}
