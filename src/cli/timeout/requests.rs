//! What follows from the time's end and from a signal to deadbeat: whether the command is asked to end, killed, or
//! passed the signal. Pure: told each event, it answers with the one thing to do.

use super::events::Event;
use crate::signal::Signal;

/// What is to be done with the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    Nothing,
    /// Ask it to end by this signal, and begin its grace; `None` is signal 0, which asks nothing.
    End(Option<Signal>),
    /// Ask it to end by this signal too: it was asked when its time was over, and has its grace from then.
    EndAlso(Signal),
    Pass(Signal),
    /// Kill it, and all that has escaped from its group.
    Kill,
}

/// The requests so far that the command end.
#[derive(Debug, Default)]
pub(super) struct EndRequests {
    timed_out: bool,
    /// How many signals have asked deadbeat to end.
    signals: u32,
    group_is_dead: bool,
}

impl EndRequests {
    pub(super) fn timed_out(&self) -> bool {
        self.timed_out
    }

    /// Whether a second signal has had the command killed.
    pub(super) fn is_forced(&self) -> bool {
        self.signals > 1
    }

    pub(super) fn group_is_dead(&self) -> bool {
        self.group_is_dead
    }

    /// The command and its group are dead; what is left are the processes that have escaped from it.
    pub(super) fn set_group_dead(&mut self) {
        self.group_is_dead = true;
    }

    /// `signal` is the one that the call has for the time's end. `has_grace`: a SIGKILL follows it.
    pub(super) fn decide(&mut self, event: Event, signal: Option<Signal>, has_grace: bool) -> Action {
        match event {
            // Escaped processes have been asked, and are no group that could be passed a signal.
            Event::EndRequest(_) | Event::Key(_) if self.group_is_dead => Action::Kill,
            _ if self.group_is_dead => Action::Nothing,
            // A command that was asked already has its grace, whatever was left of the time. Without a grace all that
            // can be done is to ask it again.
            Event::TimeIsUp if self.signals > 0 && has_grace => {
                self.timed_out = true;
                Action::Nothing
            }
            Event::TimeIsUp if self.timed_out => Action::Nothing,
            Event::TimeIsUp => {
                self.timed_out = true;
                Action::End(signal)
            }
            Event::GraceIsOver => Action::Kill,
            Event::EndRequest(signal) => {
                self.signals += 1;
                match (self.signals, self.timed_out) {
                    (1, false) => Action::End(Some(signal)),
                    (1, true) => Action::EndAlso(signal),
                    _ => Action::Kill,
                }
            }
            // A command that tidies up at a key's signal has its time for that.
            Event::Key(signal) | Event::Pass(signal) => Action::Pass(signal),
            Event::Stop(_) | Event::Continued | Event::Look | Event::Owners | Event::Child => Action::Nothing,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHOSEN: Option<Signal> = Some(Signal::USR1);
    const REQUEST: Event = Event::EndRequest(Signal::TERM);

    /// What is done at each of these events, one after the other.
    fn actions<const N: usize>(has_grace: bool, events: [Event; N]) -> [Action; N] {
        let mut requests = EndRequests::default();
        events.map(|event| requests.decide(event, CHOSEN, has_grace))
    }

    #[test]
    fn the_time_ends_the_command_once_by_the_chosen_signal() {
        assert_eq!(actions(true, [Event::TimeIsUp, Event::TimeIsUp]), [Action::End(CHOSEN), Action::Nothing]);
        let mut requests = EndRequests::default();
        assert_eq!(requests.decide(Event::TimeIsUp, None, true), Action::End(None));
        assert!(requests.timed_out() && !requests.is_forced());
    }

    #[test]
    fn the_first_request_ends_the_command_and_each_further_one_kills() {
        let expected = [Action::End(Some(Signal::TERM)), Action::Kill, Action::Kill];
        assert_eq!(actions(true, [REQUEST, Event::EndRequest(Signal::INT), REQUEST]), expected);
        assert_eq!(actions(false, [REQUEST, Event::EndRequest(Signal::INT), REQUEST]), expected);
    }

    #[test]
    fn a_request_after_the_time_leaves_the_grace_as_it_is_and_the_next_kills() {
        let expected = [Action::End(CHOSEN), Action::EndAlso(Signal::TERM), Action::Kill];
        assert_eq!(actions(true, [Event::TimeIsUp, REQUEST, REQUEST]), expected);
    }

    #[test]
    fn time_that_is_up_after_a_request_changes_the_status_alone_if_there_is_a_grace() {
        for (has_grace, then) in [(true, Action::Nothing), (false, Action::End(CHOSEN))] {
            let mut requests = EndRequests::default();
            requests.decide(REQUEST, CHOSEN, has_grace);
            assert!(!requests.timed_out());
            assert_eq!(requests.decide(Event::TimeIsUp, CHOSEN, has_grace), then);
            assert!(requests.timed_out());
        }
    }

    #[test]
    fn keys_and_other_signals_are_passed_on_and_ask_for_nothing() {
        let (key, other) = (Event::Key(Signal::INT), Event::Pass(Signal::USR2));
        let expected = [Action::Pass(Signal::INT), Action::Pass(Signal::USR2), Action::End(Some(Signal::TERM))];
        assert_eq!(actions(true, [key, other, REQUEST]), expected);
        let rest = [Event::Stop(Signal::TERM), Event::Continued, Event::Look, Event::Owners, Event::Child];
        assert_eq!(actions(true, rest), [Action::Nothing; 5]);
    }

    #[test]
    fn a_grace_that_is_over_kills() {
        assert_eq!(actions(true, [REQUEST, Event::GraceIsOver])[1], Action::Kill);
    }

    #[test]
    fn when_the_group_is_dead_a_request_or_a_key_kills_what_has_escaped() {
        let mut requests = EndRequests::default();
        requests.set_group_dead();
        let mut decide = |event| requests.decide(event, CHOSEN, true);
        assert_eq!([decide(REQUEST), decide(Event::Key(Signal::INT))], [Action::Kill; 2]);
        assert_eq!([decide(Event::TimeIsUp), decide(Event::Pass(Signal::USR1))], [Action::Nothing; 2]);
        assert!(!requests.timed_out() && !requests.is_forced());
    }
}
