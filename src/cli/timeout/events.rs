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

use super::signal_origin;
use crate::shutdown::not_ignored;
use crate::signal::Signal;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Event {
    TimeIsUp,
    /// The command was asked to end and has had its grace.
    GraceIsOver,
    /// SIGTERM, SIGINT or SIGHUP from a process: deadbeat is to end.
    EndRequest(Signal),
    /// SIGINT or SIGQUIT by a key of the terminal: it is meant for the command, and asks nothing of deadbeat.
    Key(Signal),
    /// SIGTSTP, SIGTTIN or SIGTTOU: deadbeat is to stop, and the command with it.
    Stop(Signal),
    /// Any other signal: it is meant for the command.
    Pass(Signal),
    /// This process was stopped and is continued.
    Continued,
    /// It is time to look for what no signal tells: a process of the command's asks for the terminal, or this process
    /// has come to its foreground.
    Look,
    /// It is time to look whose each process is: later it may not be seen any more.
    Owners,
    /// A child of this process has ended, or was stopped.
    Child,
}

#[derive(Debug)]
pub(super) struct Events {
    sender: UnboundedSender<Event>,
    receiver: UnboundedReceiver<Event>,
}

/// The signals to listen to. Those that are ignored by inheritance stay ignored, except for the two that are needed,
/// and for the `chosen` one, with which the command can then be ended. A command in a group of its own `is_job`: it
/// does not receive what the system sends to the group of this process.
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
    /// Makes these signals do nothing but appear in the queue.
    pub(super) fn listen(signals: &[i32], is_job: bool) -> io::Result<Events> {
        // Before the streams: what the handlers note has to be there when the streams wake.
        signal_origin::note(signals)?;
        let (sender, receiver) = unbounded_channel();
        for number in signals.iter().copied() {
            let Some(name) = Signal::from_raw(number) else { continue };
            let event = match number {
                SIGTERM | SIGINT | SIGHUP => Event::EndRequest(name),
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

    /// Handles events until the future is ready. The future is polled first each time: it reaps the command, and an
    /// event that is handled after that must not signal it.
    pub(super) async fn handle_until<T>(
        &mut self,
        mut awaited: Pin<&mut impl Future<Output = T>>,
        mut handle: impl FnMut(Event),
    ) -> T {
        poll_fn(|cx| {
            loop {
                if let Poll::Ready(end) = awaited.as_mut().poll(cx) {
                    return Poll::Ready(end);
                }
                match self.poll(cx) {
                    Poll::Ready(event) => handle(event),
                    Poll::Pending => return Poll::Pending,
                }
            }
        })
        .await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Event> {
        // The queue holds a sender itself, so it never ends.
        self.receiver.poll_recv(cx).map(|event| event.unwrap_or(Event::TimeIsUp))
    }
}

/// The events of a SIGINT or a SIGQUIT: a key, a `request` if a process sent it, or both since the last one.
fn by_origin(signal: Signal, request: Event) -> [Option<Event>; 2] {
    let (by_key, requested) = signal_origin::take(signal.as_raw());
    [by_key.then_some(Event::Key(signal)), requested.then_some(request)]
}

/// Puts events into the queue after a time.
#[derive(Clone, Debug)]
pub(super) struct Alarm {
    sender: UnboundedSender<Event>,
}

impl Alarm {
    /// Puts the event into the queue after this time; zero is never.
    pub(super) fn set(&self, event: Event, after: Duration) {
        if after.is_zero() {
            return;
        }
        let sender = self.sender.clone();
        tokio::spawn(async move {
            tokio::time::sleep(after).await;
            // The receiver is gone if the run has ended.
            let _ = sender.send(event);
        });
    }
}
