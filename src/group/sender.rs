//! The sender of a signal, which only its handler is told: so it is noted there.

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

/// Has `note` called in the handler of each such signal, before what is registered for it later. `note` must do no more
/// than read and write atomics.
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

/// `sigqueue(3)`: a signal with a number that its receiver can read.
#[cfg(target_os = "linux")]
pub(crate) fn send_with(pid: i32, signal: nix::sys::signal::Signal, number: i32) -> Result<(), Errno> {
    // The other member of the union, which the binding lacks, is the first half of this one.
    let half = number as u32 as usize;
    let whole = if cfg!(target_endian = "big") { half << (usize::BITS - 32) } else { half };
    let value = libc::sigval { sival_ptr: std::ptr::without_provenance_mut(whole) };
    #[expect(unsafe_code, reason = "nix has no such call")]
    // SAFETY: takes three numbers; the pointer is one, and is not followed.
    Errno::result(unsafe { libc::sigqueue(pid, signal as i32, value) }).map(drop)
}
