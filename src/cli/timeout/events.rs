//! What can happen while a command runs, in one queue: signals, its time, its end and its stops.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use signal_hook::consts::{FORBIDDEN, SIGALRM, SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::shutdown::not_ignored;
use crate::signal::Signal;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    TimeIsUp,
    /// SIGTERM, SIGINT or SIGHUP: to end.
    Ask(Signal),
    /// Any other signal that is the command's affair.
    Pass(Signal),
    /// We were stopped and are continued.
    Continued,
    /// The command is stopped, and we may be in the terminal's foreground by now.
    Look,
    /// Some child of ours has ended, or was stopped.
    Child,
}

#[derive(Debug)]
pub(super) struct Events {
    sender: UnboundedSender<(Event, Option<u64>)>,
    receiver: UnboundedReceiver<(Event, Option<u64>)>,
    armed: Arc<AtomicU64>,
}

/// The signals to listen to: those that are ignored by inheritance stay ignored, but for the two that we need.
pub(super) fn awaited(chosen: Option<Signal>) -> Vec<i32> {
    let mut signals = vec![SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGCONT];
    let chosen = chosen.map(Signal::as_raw).filter(|signal| !FORBIDDEN.contains(signal));
    signals.extend(chosen.filter(|signal| !signals.contains(signal) && ![SIGALRM, SIGCHLD].contains(signal)));
    let mut signals = not_ignored(signals);
    signals.extend([SIGALRM, SIGCHLD]);
    signals
}

impl Events {
    /// From here on these signals do nothing but to appear in the queue.
    pub(super) fn listen(signals: &[i32]) -> io::Result<Events> {
        let (sender, receiver) = unbounded_channel();
        for number in signals.iter().copied() {
            let Some(name) = Signal::from_raw(number) else { continue };
            let event = match number {
                SIGTERM | SIGINT | SIGHUP => Event::Ask(name),
                SIGALRM => Event::TimeIsUp,
                SIGCHLD => Event::Child,
                SIGCONT => Event::Continued,
                _ => Event::Pass(name),
            };
            let (mut stream, sender) = (signal(SignalKind::from_raw(number))?, sender.clone());
            tokio::spawn(async move { while stream.recv().await.is_some() && sender.send((event, None)).is_ok() {} });
        }
        Ok(Events { sender, receiver, armed: Arc::default() })
    }

    pub(super) fn alarm(&self) -> Alarm {
        Alarm { sender: self.sender.clone(), armed: Arc::clone(&self.armed) }
    }

    pub(super) fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        loop {
            // We hold a sender ourselves, so there is always a next one.
            match ready!(self.receiver.poll_recv(cx)).unwrap_or((Event::TimeIsUp, None)) {
                // It was set anew meanwhile.
                (_, Some(alarm)) if alarm != self.armed.load(Ordering::SeqCst) => {}
                (event, _) => return Poll::Ready(event),
            }
        }
    }
}

/// Puts an event into the queue when its time has come.
#[derive(Clone, Debug)]
pub(super) struct Alarm {
    sender: UnboundedSender<(Event, Option<u64>)>,
    /// Which time was set last: it is the only one that counts.
    armed: Arc<AtomicU64>,
}

impl Alarm {
    /// In place of what was set before. Zero sets nothing.
    pub(super) fn set(&self, after: Duration) {
        if !after.is_zero() {
            let alarm = self.armed.fetch_add(1, Ordering::SeqCst) + 1;
            self.send_after(after, Event::TimeIsUp, Some(alarm));
        }
    }

    pub(super) fn look_soon(&self) {
        self.send_after(Duration::from_millis(100), Event::Look, None);
    }

    fn send_after(&self, after: Duration, event: Event, alarm: Option<u64>) {
        let sender = self.sender.clone();
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            // The run may have ended just now.
            let _ = sender.send((event, alarm));
        });
    }
}
