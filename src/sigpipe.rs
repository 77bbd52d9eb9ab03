//! Whether SIGPIPE was ignored when the program was started, seen before Rust's runtime ignores it in any case.

use std::sync::atomic::{AtomicBool, Ordering};

use deadbeat::cli::Pipe;
use nix::libc;

static IGNORED: AtomicBool = AtomicBool::new(false);

/// Called by the loader, before `main` and what comes before it.
#[expect(unsafe_code, reason = "nothing later can tell: by the first line of main it is ignored")]
#[used]
#[cfg_attr(not(target_vendor = "apple"), unsafe(link_section = ".init_array"))]
#[cfg_attr(target_vendor = "apple", unsafe(link_section = "__DATA,__mod_init_func"))]
static LOOK: extern "C" fn() = look;

#[expect(unsafe_code, reason = "nix can only ask by setting another")]
extern "C" fn look() {
    let mut action = std::mem::MaybeUninit::<libc::sigaction>::zeroed();
    // SAFETY: asks only, and writes into `action`, which is of the right type and valid when it is all zeros.
    let action = unsafe {
        libc::sigaction(libc::SIGPIPE, std::ptr::null(), action.as_mut_ptr());
        action.assume_init()
    };
    IGNORED.store(action.sa_sigaction == libc::SIG_IGN, Ordering::Relaxed);
}

pub(crate) fn inherited() -> Pipe {
    if IGNORED.load(Ordering::Relaxed) { Pipe::Ignored } else { Pipe::Default }
}
