//! How long after its code a lab or a watch comes back, on a machine that has no time for it.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use deadbeat::heartbeat::{Flavor, Heartbeat, Lab, Pulse, Verdict};

use crate::support::{assert_not_accused, spin};

/// Code of 0.1 to 50 ms, part of it a computation.
async fn code(nth: u32) -> Instant {
    let time = Duration::from_micros([100, 500, 2_000, 5_000, 10_000, 25_000, 50_000][nth as usize % 7]);
    spin(time / 10);
    tokio::time::sleep(time - time / 10).await;
    Instant::now()
}

const FLAVORS: [Flavor; 3] = [Flavor::CurrentThread, Flavor::MultiThread(2), Flavor::MultiThread(4)];

/// What came of one, and how long after its code.
fn lab(nth: u32) -> (Pulse, Duration) {
    let lab = Lab::new(FLAVORS[nth as usize % FLAVORS.len()]);
    let watched = lab.run(move || code(nth)).unwrap();
    (watched.pulse, watched.output.elapsed())
}

fn watch(nth: u32) -> (Pulse, Duration) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let watched = runtime.block_on(Heartbeat::new().watch(code(nth)));
    (watched.pulse, watched.output.elapsed())
}

/// Processes that spin, killed and reaped when dropped.
struct Hogs(Vec<Child>);

impl Hogs {
    fn start(count: usize) -> Self {
        let hog = |_| Command::new("sh").args(["-c", "while :; do :; done"]).stdin(Stdio::null()).spawn().unwrap();
        Self((0..count).map(hog).collect())
    }
}

impl Drop for Hogs {
    fn drop(&mut self) {
        for hog in &mut self.0 {
            let _ = hog.kill();
            let _ = hog.wait();
        }
    }
}

fn number(name: &str, otherwise: u32) -> u32 {
    std::env::var(name).map_or(otherwise, |number| number.parse().expect("a number"))
}

/// `COUNT=200 HOGS=16 cargo test --test heartbeat soon_after -- --ignored --nocapture`: hogs to a core. The same under
/// `chrt --idle 0`, with no hogs, is a process that every other one on the machine goes before.
#[test]
#[ignore = "a minute of load"]
fn labs_and_watches_are_back_soon_after_their_code_and_none_is_accused() {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let _hogs = Hogs::start(number("HOGS", 0) as usize * cores);
    for (name, run) in [("labs", lab as fn(u32) -> (Pulse, Duration)), ("watches", watch)] {
        let all: Vec<_> = (0..number("COUNT", 200)).map(run).collect();
        let count = |is: fn(&Verdict) -> bool| all.iter().filter(|(pulse, _)| is(&pulse.verdict())).count();
        let accused = count(|verdict| *verdict == Verdict::Starved);
        let unsure = count(|verdict| matches!(verdict, Verdict::Inconclusive { .. }));
        let late = all.iter().filter(|(_, after)| *after > Duration::from_secs(1)).count();
        let latest = all.iter().map(|(_, after)| *after).max().unwrap_or_default();
        println!(
            "{name}: of {}, {accused} accused, {unsure} inconclusive, {late} back after more than 1 s, the last \
             {latest:.1?}",
            all.len()
        );
        all.iter().for_each(|(pulse, _)| assert_not_accused(pulse));
        assert_eq!(late, 0, "{name} that were not back in time");
    }
}
