//! What can happen while a command runs, in one queue: signals, its time, its end and its stops.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use signal_hook::consts::{FORBIDDEN, SIGALRM, SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use crate::shutdown::not_ignored;
use crate::signal::Signal;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    TimeIsUp,
    /// Those who were asked to end have had their grace.
    GraceIsOver,
    /// SIGTERM, SIGINT or SIGHUP: to end.
    Ask(Signal),
    /// Any other signal that is the command's affair.
    Pass(Signal),
    /// We were stopped and are continued.
    Continued,
    /// The command is stopped, and we may be in the terminal's foreground by now.
    Look,
    /// Whose each process is may be seen now and not later.
    Kin,
    /// Some child of ours has ended, or was stopped.
    Child,
}

#[derive(Debug)]
pub(super) struct Events {
    sender: UnboundedSender<Event>,
    receiver: UnboundedReceiver<Event>,
}

/// The signals to listen to: those that are ignored by inheritance stay ignored, but for the two that we need and the one
/// that the command is to end of, which the command can then be ended with.
pub(super) fn awaited(chosen: Option<Signal>) -> Vec<i32> {
    let needed =
        [Some(SIGALRM), Some(SIGCHLD), chosen.map(Signal::as_raw).filter(|signal| !FORBIDDEN.contains(signal))];
    let mut signals = not_ignored([SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGCONT]);
    for signal in needed.into_iter().flatten() {
        if !signals.contains(&signal) {
            signals.push(signal);
        }
    }
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
            tokio::spawn(async move { while stream.recv().await.is_some() && sender.send(event).is_ok() {} });
        }
        Ok(Events { sender, receiver })
    }

    pub(super) fn alarm(&self) -> Alarm {
        Alarm { sender: self.sender.clone() }
    }

    /// Polls what is awaited first, since what is heeded may be for one that is not reaped yet, and hears what happens
    /// meanwhile.
    pub(super) async fn heed_until<T>(
        &mut self,
        mut awaited: Pin<&mut impl Future<Output = T>>,
        mut heed: impl FnMut(Event),
    ) -> T {
        poll_fn(|cx| {
            loop {
                if let Poll::Ready(end) = awaited.as_mut().poll(cx) {
                    return Poll::Ready(end);
                }
                match self.poll(cx) {
                    Poll::Ready(event) => heed(event),
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        // We hold a sender ourselves, so there is always a next one.
        self.receiver.poll_recv(cx).map(|event| event.unwrap_or(Event::TimeIsUp))
    }
}

/// Puts an event into the queue when its time has come.
#[derive(Clone, Debug)]
pub(super) struct Alarm {
    sender: UnboundedSender<Event>,
}

impl Alarm {
    /// Zero is never.
    pub(super) fn set(&self, event: Event, after: Duration) {
        if after.is_zero() {
            return;
        }
        let sender = self.sender.clone();
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            // The run may have ended just now.
            let _ = sender.send(event);
        });
    }

    pub(super) fn look_soon(&self) {
        self.set(Event::Look, Duration::from_millis(100));
    }
}
