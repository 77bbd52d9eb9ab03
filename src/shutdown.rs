//! The request to end: a flag, a future that resolves with it, and the signals that raise it.
//!
//! The first SIGTERM, SIGINT or SIGHUP is a request: every run kills its group by its policy. The second kills all
//! groups at once.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicI32, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError, mpsc};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::iterator::Signals;
use tokio::sync::Notify;

use crate::group::ignores;
use crate::registry::Registry;
use crate::signal::Signal;

/// A request to end, made once and never taken back. The free functions of this module use [`Shutdown::global`].
#[derive(Debug, Default)]
pub struct Shutdown {
    requested: AtomicBool,
    /// 0 is none.
    signal: AtomicI32,
    notify: Notify,
}

impl Shutdown {
    /// Not requested yet.
    pub fn new() -> Shutdown {
        Shutdown::default()
    }

    /// The one of this process.
    pub fn global() -> &'static Arc<Shutdown> {
        static GLOBAL: LazyLock<Arc<Shutdown>> = LazyLock::new(Arc::default);
        &GLOBAL
    }

    /// Requests the end. Every [`requested`](Shutdown::requested) resolves, those called later too.
    pub fn request(&self) {
        // The flag first: a waiter that misses the notification has yet to look at it.
        self.requested.store(true, Ordering::SeqCst);
        self.notify.notify_waiters();
    }

    /// Requests the end, and has every run that it ends be sent this signal instead of its policy's: what this process
    /// was sent is passed on, as a shell does with Ctrl-C.
    pub fn request_with(&self, signal: Signal) {
        self.signal.store(signal.as_raw(), Ordering::SeqCst);
        self.request();
    }

    /// The signal that runs are to be sent first, instead of their policies'.
    pub(crate) fn signal(&self) -> Option<Signal> {
        Signal::from_raw(self.signal.load(Ordering::SeqCst))
    }

    /// Whether the end was requested.
    pub fn is_requested(&self) -> bool {
        self.requested.load(Ordering::SeqCst)
    }

    /// Resolves once the end is requested. Needs no particular runtime.
    pub async fn requested(&self) {
        let mut notified = std::pin::pin!(self.notify.notified());
        // Registered before the flag is read, so that no request falls in between.
        notified.as_mut().enable();
        if !self.is_requested() {
            notified.await;
        }
    }
}

/// From here on the first SIGTERM, SIGINT or SIGHUP is a [`request_shutdown`]; at a second one every group of the
/// [global registry](Registry::global) is sent SIGKILL and this process ends by that signal, as it would have without
/// us. Called again it does nothing.
///
/// A signal that this process was started to ignore, as `nohup` does with SIGHUP, stays ignored.
///
/// # Errors
///
/// The system's, when the handlers or their thread cannot be had.
pub fn install_signal_handlers() -> io::Result<()> {
    static INSTALLED: Mutex<bool> = Mutex::new(false);
    let mut installed = INSTALLED.lock().unwrap_or_else(PoisonError::into_inner);
    if *installed {
        return Ok(());
    }
    // The thread first: a handler without a thread behind it would swallow the signals.
    let (told, tell) = mpsc::channel();
    std::thread::Builder::new().name("deadbeat-signals".into()).spawn(move || {
        match Signals::new(heeded()) {
            Ok(signals) => {
                // The receiver may have gone.
                let _ = told.send(Ok(()));
                serve(signals);
            }
            Err(error) => drop(told.send(Err(error))),
        }
    })?;
    tell.recv().unwrap_or_else(|_| Err(io::Error::other("the signal thread has died")))?;
    *installed = true;
    Ok(())
}

fn serve(mut signals: Signals) {
    let mut asked = false;
    for signal in signals.forever() {
        if !asked {
            asked = true;
            request_shutdown();
            continue;
        }
        Registry::global().kill_all_now();
        // Restores the default action and raises the signal again; does not come back for these three.
        let _ = signal_hook::low_level::emulate_default_handler(signal);
    }
}

/// The signals that request the end, without those that are ignored.
pub(crate) fn heeded() -> Vec<i32> {
    not_ignored([SIGTERM, SIGINT, SIGHUP])
}

/// Of these signals, those that this process was not started to ignore.
pub(crate) fn not_ignored(signals: impl IntoIterator<Item = i32>) -> Vec<i32> {
    signals.into_iter().filter(|signal| !ignores(*signal)).collect()
}

/// Requests the end of this process's runs; see [`Shutdown::request`].
pub fn request_shutdown() {
    Shutdown::global().request();
}

/// Whether it was requested; see [`Shutdown::is_requested`].
pub fn is_shutdown_requested() -> bool {
    Shutdown::global().is_requested()
}

/// Resolves once it is; see [`Shutdown::requested`].
pub async fn shutdown_requested() {
    Shutdown::global().requested().await;
}
