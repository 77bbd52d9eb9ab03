//! A failed assertion is worth reading: budget, stall, split, culprit, remedy.

use std::time::Duration;

use deadbeat::heartbeat::{Flavor, Heartbeat, Lab};

use crate::support::{LONG, block, starved};

#[test]
fn a_report_says_what_happened_and_what_to_do() {
    let heartbeat = Heartbeat::new().interval(Duration::from_millis(7)).budget(Duration::from_millis(40));
    let lab = Lab::new(Flavor::CurrentThread).heartbeat(heartbeat);
    let report = starved(|| lab.run_root(|| async { block(LONG) }).unwrap().pulse).to_string();
    for part in [
        "starved",
        "every 7.0 ms",
        "budget       40.0 ms",
        "lateness     p50",
        "charged",
        "on a CPU",
        "blocked",
        "spawn_blocking",
    ] {
        assert!(report.contains(part), "no {part:?} in\n{report}");
    }
    #[cfg(all(target_os = "linux", not(deadbeat_portable)))]
    assert!(report.contains("150 ms asked for"), "{report}");
    assert!(report.lines().all(|line| line.chars().count() <= 80 || line.contains("culprit")), "{report}");
}

#[tokio::test]
async fn stalls_are_told_in_the_order_in_which_they_began() {
    let mut seen = 0;
    // On a busy machine a watch may see none.
    for _ in 0..5 {
        let watch = Heartbeat::new().watch(async {
            tokio::spawn(async { block(LONG) }).await.unwrap();
            // Right after its sibling: no beat comes in between, and this one is found first.
            block(LONG);
        });
        let pulse = tokio::spawn(watch).await.unwrap().pulse;
        assert!(pulse.stalls.is_sorted_by_key(|stall| stall.at), "{pulse}");
        seen += pulse.stalls.len();
        if seen > 0 {
            return;
        }
    }
    panic!("in five times no stall was seen");
}

#[test]
#[cfg(feature = "serde")]
fn a_pulse_serializes_in_milliseconds() {
    let pulse = starved(|| Lab::new(Flavor::CurrentThread).run_root(|| async { block(LONG) }).unwrap().pulse);
    let json = serde_json::to_value(&pulse).unwrap();
    let stall = &json["stalls"][0];
    for key in ["at_ms", "wall_ms", "on_cpu_ms"] {
        assert!(stall[key].is_number(), "no {key} in {json}");
    }
    // What the whole process stood still in it was taken off.
    assert!((75.0..75_000.0).contains(&stall["wall_ms"].as_f64().unwrap()), "{json}");
    assert_eq!(json["budget_ms"], 50.0);
    assert!(json["lateness"]["p99_ms"].is_number(), "{json}");
}

#[tokio::test]
async fn lateness_is_corrected_for_the_beats_that_a_stall_displaced() {
    let watched = Heartbeat::new().watch(async {
        tokio::time::sleep(Duration::from_millis(20)).await;
        block(LONG);
        tokio::time::sleep(Duration::from_millis(20)).await;
    });
    let pulse = watched.await.pulse;
    let lateness = &pulse.lateness;
    assert!(lateness.max() > LONG / 2, "{lateness:?}");
    assert!(lateness.len() > pulse.beats + 10, "{lateness:?} from {} beats", pulse.beats);
}
