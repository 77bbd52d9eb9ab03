//! Code that does not come back, described from outside.

use std::time::Duration;

use crate::heartbeat::judge::{root_blocked, stalls};
use crate::heartbeat::lab::runtime::WatchedRuntime;
use crate::heartbeat::lab::time_budget::TimeBudget;
use crate::heartbeat::lab::unfinished;
use crate::heartbeat::observer::ask::ask_or_look;
use crate::heartbeat::pulse::{Findings, Pulse};
use crate::heartbeat::stretch::Stretch;
use crate::heartbeat::watch::state::WatchState;

/// What can be said within `time`. Without a stuck thread there is no stall: the future waits for something that never
/// comes.
pub(crate) fn describe(runtime: &WatchedRuntime, state: &WatchState, time: TimeBudget) -> Pulse {
    let (mut pulse, budget) = (state.pulse(state.began.elapsed()), state.config.budget);
    let since = |base| Stretch::between(&base, &unfinished::reading(&base, time.half(), || false)?, base.at);
    let unfinished = state.away_since().and_then(since);
    if runtime.workers().is_some() {
        runtime.close(&mut pulse, time);
        // The watched future is the root, whose thread is no worker.
        let root = unfinished.filter(|root| root.is_too_long(budget));
        let root = root.as_slice();
        let observed = ask_or_look(runtime.observer(), root, time.half());
        pulse.uncovered = root.iter().zip(observed).map(root_blocked).next().or(pulse.uncovered);
    } else {
        let mut found = state.so_far().ledger.too_long().to_vec();
        found.extend(unfinished);
        let observed = ask_or_look(runtime.observer(), &found, time.half());
        let stalls = stalls(&found, observed, state.began, budget);
        let longest = unfinished.map_or(Duration::ZERO, |stretch| stretch.split.charged());
        pulse.add(Findings { stalls, longest, uncovered: None });
    }
    pulse
}
