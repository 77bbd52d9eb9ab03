//! A test that cannot fail proves nothing: the control runs first, in the same process and under the same load, and
//! must be caught.

use crate::retry::while_inconclusive;

use crate::heartbeat::pulse::Pulse;
use crate::heartbeat::verdict::Verdict;

/// Runs a known-bad implementation and then the real one, and returns the real one's pulse.
///
/// Both closures run whatever is under test and return its pulse; `bad` must be [`Starved`](Verdict::Starved), `good`
/// must be [`Steady`](Verdict::Steady). One that proves nothing because of what the machine did meanwhile is run again,
/// three times in all; what failed never is.
///
/// ```
/// use std::time::Duration;
/// use deadbeat::heartbeat::{Flavor, Lab, with_teeth};
///
/// let lab = Lab::new(Flavor::CurrentThread);
/// let nap = Duration::from_millis(120);
/// with_teeth(
///     || lab.run(move || async move { std::thread::park_timeout(nap) }).unwrap().pulse,
///     || lab.run(move || async move { tokio::time::sleep(nap).await }).unwrap().pulse,
/// );
/// ```
///
/// # Panics
///
/// If the control was not caught: then the test has no teeth, and what it says of the real thing is worth nothing. If
/// the real thing was not steady: with its report.
#[track_caller]
pub fn with_teeth(bad: impl FnMut() -> Pulse, good: impl FnMut() -> Pulse) -> Pulse {
    let control = while_inconclusive(bad, proves_nothing_for_now);
    match control.verdict() {
        Verdict::Starved => {}
        Verdict::Steady => panic!("no teeth: the known-bad control was not caught\n{control}"),
        Verdict::Inconclusive { .. } => panic!("no teeth: the known-bad control proves nothing\n{control}"),
    }
    let pulse = while_inconclusive(good, proves_nothing_for_now);
    pulse.assert_steady();
    pulse
}

/// Whether the machine kept the watch from proving something, so that the same may prove something the next time.
pub(crate) fn proves_nothing_for_now(pulse: &Pulse) -> bool {
    matches!(pulse.verdict(), Verdict::Inconclusive { why } if why.is_the_machines())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::heartbeat::config::Heartbeat;
    use crate::heartbeat::verdict::Why;

    #[test]
    fn a_doubt_that_the_machine_left_is_looked_into_again_and_no_other() {
        let holder = Why::LockHolder { waited: Duration::from_millis(70) };
        for (why, times) in [(Why::Memory, 3), (holder, 3), (Why::Unobserved, 3), (Why::MultiThread, 1)] {
            let mut measured = 0;
            let measure = || {
                measured += 1;
                Pulse { uncovered: Some(why.clone()), ..Pulse::empty(Heartbeat::new()) }
            };
            while_inconclusive(measure, proves_nothing_for_now);
            assert_eq!(measured, times, "{why}");
        }
    }
}
