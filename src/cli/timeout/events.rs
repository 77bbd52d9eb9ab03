//! What can happen while a command runs, in one queue: signals, its time, its end and its stops.

use std::future::{Future, poll_fn};
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use signal_hook::consts::{
    FORBIDDEN, SIGALRM, SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGTSTP, SIGTTIN, SIGTTOU, SIGUSR1,
    SIGUSR2, SIGWINCH,
};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

use super::origin;
use crate::shutdown::not_ignored;
use crate::signal::Signal;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    TimeIsUp,
    /// Those who were asked to end have had their grace.
    GraceIsOver,
    /// SIGTERM, SIGINT or SIGHUP: to end.
    Ask(Signal),
    /// SIGINT or SIGQUIT of the terminal's: it asks nothing of us.
    Typed(Signal),
    /// SIGTSTP, SIGTTIN or SIGTTOU: to stop, and the command with us.
    Stop(Signal),
    /// Any other signal that is the command's affair.
    Pass(Signal),
    /// We were stopped and are continued.
    Continued,
    /// What no signal tells: some process of the command's may ask for the terminal, or we be in its foreground by now.
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
/// that the command is to end of, which the command can then be ended with. A command with a group of its own `is_job`: what
/// the system tells our group it does not tell the command's.
pub(super) fn awaited(chosen: Option<Signal>, is_job: bool, has_terminal: bool) -> Vec<i32> {
    let needed =
        [Some(SIGALRM), Some(SIGCHLD), chosen.map(Signal::as_raw).filter(|signal| !FORBIDDEN.contains(signal))];
    let mut signals = not_ignored([SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGCONT]);
    if is_job {
        signals.extend(not_ignored([SIGTSTP, SIGTTIN, SIGTTOU]));
    }
    if is_job && has_terminal {
        signals.extend(not_ignored([SIGWINCH]));
    }
    for signal in needed.into_iter().flatten() {
        if !signals.contains(&signal) {
            signals.push(signal);
        }
    }
    signals
}

impl Events {
    /// From here on these signals do nothing but to appear in the queue.
    pub(super) fn listen(signals: &[i32], is_job: bool) -> io::Result<Events> {
        // Before the streams, so that what is noted is there when they wake.
        origin::note(signals)?;
        let (sender, receiver) = unbounded_channel();
        for number in signals.iter().copied() {
            let Some(name) = Signal::from_raw(number) else { continue };
            let event = match number {
                SIGTERM | SIGINT | SIGHUP => Event::Ask(name),
                SIGTSTP | SIGTTIN | SIGTTOU if is_job => Event::Stop(name),
                SIGALRM => Event::TimeIsUp,
                SIGCHLD => Event::Child,
                SIGCONT => Event::Continued,
                _ => Event::Pass(name),
            };
            let (mut stream, sender) = (signal(SignalKind::from_raw(number))?, sender.clone());
            tokio::spawn(async move {
                while stream.recv().await.is_some() {
                    let events = match number {
                        SIGINT | SIGQUIT => by_origin(name, event),
                        _ => [Some(event), None],
                    };
                    if events.into_iter().flatten().any(|event| sender.send(event).is_err()) {
                        return;
                    }
                }
            });
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

/// What a SIGINT or a SIGQUIT is, which is a `request` if a process sent it.
fn by_origin(signal: Signal, request: Event) -> [Option<Event>; 2] {
    let (typed, requested) = origin::take(signal.as_raw());
    [typed.then_some(Event::Typed(signal)), requested.then_some(request)]
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
}
