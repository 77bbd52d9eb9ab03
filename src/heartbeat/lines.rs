//! Source lines, added to a pulse when all else is judged and no deadline runs: reading symbols takes long.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::mpsc::channel;
use std::task::{Poll, Waker};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

#[cfg(all(target_os = "linux", not(deadbeat_portable), feature = "backtrace"))]
mod source_line;
#[cfg(all(target_os = "linux", not(deadbeat_portable), feature = "backtrace"))]
mod symbols;
#[cfg(all(target_os = "linux", not(deadbeat_portable), feature = "backtrace"))]
mod unwind;

use crate::heartbeat::culprit::stack::StackCopies;
use crate::heartbeat::culprit::{Lines, NoLine};
#[cfg(all(target_os = "linux", not(deadbeat_portable), feature = "backtrace"))]
use crate::heartbeat::lines::symbols::find_lines;
use crate::heartbeat::observer::Observer;
use crate::heartbeat::pulse::Pulse;

/// How long the lines are waited for where nothing else presses. The first read of a program's symbols takes some
/// tenths of a second of CPU time, for which a busy machine takes many seconds; those after it take a few milliseconds.
pub(super) const LINES: Duration = Duration::from_secs(30);

#[cfg(not(all(target_os = "linux", not(deadbeat_portable), feature = "backtrace")))]
/// Drops `answer`, so that its caller does not wait for it in vain.
fn find_lines(_: Vec<StackCopies>, _: Instant, _: impl FnOnce(Lines) + Send + 'static) {}

/// On a thread that may wait.
pub(super) fn add_by(pulse: &mut Pulse, until: Instant) {
    let Some(evidence) = evidence(pulse) else { return };
    let (sender, answer) = channel();
    find_lines(evidence, until, move |lines| drop(sender.send(lines)));
    let lines = answer.recv_timeout(until.saturating_duration_since(Instant::now()));
    take(pulse, lines.ok(), until);
}

/// On a runtime, whose timers need not run: the observer ends the wait.
pub(super) async fn add(pulse: &mut Pulse, observer: Option<&Observer>) {
    let Some(evidence) = evidence(pulse) else { return };
    let until = Instant::now() + LINES;
    let (sender, answer) = oneshot::channel();
    find_lines(evidence, until, move |lines| drop(sender.send(lines)));
    let lines = answer_by(answer, observer, until).await;
    take(pulse, lines, until);
}

async fn answer_by<T>(answer: oneshot::Receiver<T>, observer: Option<&Observer>, until: Instant) -> Option<T> {
    let mut answer = pin!(answer);
    let mut woken: Option<Waker> = None;
    poll_fn(|cx| match answer.as_mut().poll(cx) {
        Poll::Ready(answer) => Poll::Ready(answer.ok()),
        Poll::Pending if Instant::now() >= until => Poll::Ready(None),
        Poll::Pending => {
            // A task can be moved, and is woken by another waker then.
            if !woken.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
                observer.into_iter().for_each(|observer| observer.alarm(until, cx.waker().clone()));
                woken = Some(cx.waker().clone());
            }
            Poll::Pending
        }
    })
    .await
}

/// Of every culprit that may have a line, in order; `None` if there is none. Any other that waited has its reason now.
fn evidence(pulse: &mut Pulse) -> Option<Vec<StackCopies>> {
    for culprit in pulse.culprits().filter(|culprit| culprit.lacks_line() && culprit.evidence().is_empty()) {
        culprit.is_at(Err(NoLine::NotCopied));
    }
    let all: Vec<_> = pulse.culprits().map(|culprit| culprit.evidence().clone()).filter(|it| !it.is_empty()).collect();
    (!all.is_empty()).then_some(all)
}

/// Each of them has its line now, or the reason why it has none.
fn take(pulse: &mut Pulse, lines: Option<Lines>, until: Instant) {
    let missing = if Instant::now() < until { NoLine::Unreadable } else { NoLine::NotInTime };
    let mut lines = lines.unwrap_or_default().into_iter();
    for culprit in pulse.culprits().filter(|culprit| !culprit.evidence().is_empty()) {
        culprit.is_at(lines.next().unwrap_or_else(|| Err(missing.clone())));
    }
}

#[cfg(test)]
#[cfg(all(target_os = "linux", not(deadbeat_portable), feature = "backtrace"))]
mod tests {
    use super::*;
    use crate::heartbeat::config::Heartbeat;
    use crate::heartbeat::culprit::{Culprit, Line};
    use crate::heartbeat::stall::Stall;

    fn stall() -> Stall {
        let (at, wall, on_cpu) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
        Stall { at, wall, on_cpu, run_queue: None, blocked: None, culprit: None, doubt: None }
    }

    /// With a stall whose thread ran, and two whose threads waited and had their stacks copied.
    fn pulse() -> Pulse {
        let mut pulse = Pulse::empty(Heartbeat::new());
        let culprits = [Culprit::running_by_the_clocks(), Culprit::with_a_stack(), Culprit::with_a_stack()];
        pulse.stalls = culprits.map(|culprit| Stall { culprit: Some(culprit), ..stall() }).into();
        pulse
    }

    fn said(pulse: &mut Pulse) -> Vec<(Option<String>, Option<NoLine>)> {
        pulse.culprits().map(|culprit| (culprit.line.clone(), culprit.no_line.clone())).collect()
    }

    #[test]
    fn a_line_goes_to_the_culprit_whose_stack_it_was_found_on() {
        let mut pulse = pulse();
        assert_eq!(evidence(&mut pulse).unwrap().len(), 2);
        let line = Line { text: "one".to_owned(), guessed: false };
        take(&mut pulse, Some(vec![Err(NoLine::Stripped), Ok(line)]), Instant::now());
        let expected = [(None, None), (None, Some(NoLine::Stripped)), (Some("one".to_owned()), None)];
        assert_eq!(said(&mut pulse), expected);
        assert!(evidence(&mut pulse).is_none(), "it is not asked for again");
        assert_eq!(said(&mut pulse), expected);
    }

    #[test]
    fn a_wait_of_which_no_stack_was_copied_has_that_for_a_reason() {
        let mut pulse = pulse();
        pulse.culprits().next().unwrap().syscall = Some("flock".to_owned());
        assert_eq!(evidence(&mut pulse).unwrap().len(), 2);
        assert_eq!(said(&mut pulse)[0], (None, Some(NoLine::NotCopied)));
    }

    #[test]
    fn where_there_is_no_answer_it_is_said_whether_there_was_no_time_or_none_will_come() {
        let now = Instant::now();
        for (until, why) in [(now, NoLine::NotInTime), (now + LINES * 60, NoLine::Unreadable)] {
            let mut pulse = pulse();
            take(&mut pulse, None, until);
            assert_eq!(said(&mut pulse)[1..], [(None, Some(why.clone())), (None, Some(why))]);
        }
    }

    #[test]
    fn an_answer_that_does_not_come_is_waited_for_until_then_though_no_timer_runs() {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (_sender, answer) = oneshot::channel::<()>();
        let until = Instant::now() + Duration::from_millis(20);
        let observer = Observer::get();
        assert_eq!(runtime.block_on(answer_by(answer, observer.as_ref(), until)), None);
        assert!(Instant::now() >= until);
        let (sender, answer) = oneshot::channel();
        sender.send(7).unwrap();
        assert_eq!(runtime.block_on(answer_by(answer, None, Instant::now())), Some(7));
    }
}
