//! Who sent a signal: told to its handler alone, so it is noted there.

use nix::errno::Errno;
use nix::libc;

/// The sender of a signal, as far as the kernel tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sender {
    /// A key of the terminal, or its hangup.
    Kernel,
    /// A process, by its number here; 0 for one of an outer pid namespace.
    Process(i32),
}

/// Has `note` called in the handler of each such signal, before what is registered for it later. It must do no more than
/// to read and write atomics.
pub(crate) fn on_signal(signal: i32, note: impl Fn(Sender) + Send + Sync + 'static) -> Result<(), Errno> {
    let action = move |info: &libc::siginfo_t| note(sender(info));
    #[expect(
        unsafe_code,
        reason = "the action runs in a signal handler: by the contract above it touches atomics alone"
    )]
    // SAFETY: see `reason`; the signal is checked by the callee.
    let registered = unsafe { signal_hook_registry::register_sigaction(signal, action) };
    registered.map(drop).map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(libc::EINVAL)))
}

fn sender(info: &libc::siginfo_t) -> Sender {
    #[expect(unsafe_code, reason = "the field is part of a union")]
    // SAFETY: any bytes are a number, and a signal without a sender has zeros there.
    let pid = unsafe { info.si_pid() };
    match info.si_code {
        #[cfg(target_os = "linux")]
        libc::SI_KERNEL => Sender::Kernel,
        // Elsewhere a key's signal has no number of its own, but no sender either.
        _ if cfg!(not(target_os = "linux")) && pid == 0 => Sender::Kernel,
        _ => Sender::Process(pid),
    }
}
