//! Ctrl-C during a suite: every fixture is killed, and the status says which signal it was.

use tokio::signal::unix::{SignalKind, signal};

/// From here on SIGINT, SIGTERM and SIGHUP end the program after the fixtures, with status 128 + signal.
pub(super) fn kill_fixtures_on_signal() -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let mut streams = {
        // Streams register with the runtime they are created in.
        let _entered = runtime.enter();
        [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()]
            .map(|kind| signal(kind).map(|stream| (kind, stream)))
    };
    std::thread::Builder::new().name("deadbeat-signals".into()).spawn(move || {
        let raw = runtime.block_on(std::future::poll_fn(|cx| {
            for (kind, stream) in streams.iter_mut().flatten() {
                if stream.poll_recv(cx).is_ready() {
                    return std::task::Poll::Ready(kind.as_raw_value());
                }
            }
            std::task::Poll::Pending
        }));
        crate::fixture::kill_all();
        anstream::eprintln!("\ndeadbeat: interrupted, every fixture was killed");
        std::process::exit(128 + raw);
    })?;
    Ok(())
}
