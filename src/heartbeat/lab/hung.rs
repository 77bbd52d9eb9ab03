//! Code that does not come back, described from outside.

use std::time::Duration;

use super::unfinished;

use crate::heartbeat::judge::{root_blocked, stalls};
use crate::heartbeat::lab::runtime::WatchedRuntime;
use crate::heartbeat::lab::time_budget::TimeBudget;
use crate::heartbeat::observer::ask::ask_or_look;
use crate::heartbeat::pulse::Pulse;
use crate::heartbeat::stall::Stall;
use crate::heartbeat::stretch::Stretch;
use crate::heartbeat::watch::state::WatchState;

/// What can be said by the end of `patience`. Without a stuck thread there is no stall: the future waits for something
/// that never comes.
pub(crate) fn describe(runtime: &WatchedRuntime, state: &WatchState, time: TimeBudget) -> Pulse {
    let (mut pulse, mut found) = state.pulse_so_far();
    let open = |base| Stretch::between(&base, &unfinished::reading(&base, time.half(), || false)?, base.at);
    let open = state.away_since().and_then(open);
    match (runtime.workers(), open) {
        (Some(_), open) => {
            runtime.close(&mut pulse, time);
            let root = open.filter(|root| root.is_too_long(pulse.budget));
            let root = root.as_slice();
            pulse.uncovered = root
                .iter()
                .zip(ask_or_look(runtime.observer(), root, time.half()))
                .map(root_blocked)
                .next()
                .or(pulse.uncovered);
        }
        (None, open) => {
            found.extend(open);
            pulse.stalls =
                stalls(&found, ask_or_look(runtime.observer(), &found, time.half()), state.began, pulse.budget);
            let charged = open.map(|stretch| stretch.split.charged());
            pulse.longest = pulse.stalls.iter().map(Stall::charged).chain(charged).fold(pulse.longest, Duration::max);
        }
    }
    pulse
}
