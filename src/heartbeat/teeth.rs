//! A test that cannot fail proves nothing: the control runs first, in the same process and under the same load, and
//! must be caught.

use super::pulse::Pulse;
use super::verdict::Verdict;

/// Runs a known-bad implementation and then the real one, and returns the real one's pulse.
///
/// Both closures get a fresh chance to run whatever is under test and return its pulse; `bad` must be
/// [`Starved`](Verdict::Starved), `good` must be [`Steady`](Verdict::Steady).
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
pub fn with_teeth(bad: impl FnOnce() -> Pulse, good: impl FnOnce() -> Pulse) -> Pulse {
    let control = bad();
    match control.verdict() {
        Verdict::Starved => {}
        Verdict::Steady => panic!("no teeth: the known-bad control was not caught\n{control}"),
        Verdict::Inconclusive { .. } => panic!("no teeth: the known-bad control proves nothing\n{control}"),
    }
    let pulse = good();
    pulse.assert_steady();
    pulse
}
