//! A test that cannot fail is refused.

use std::panic::{AssertUnwindSafe, catch_unwind};

use deadbeat::heartbeat::{Flavor, Lab, Pulse, with_teeth};

use crate::support::{LONG, block};

fn bad() -> Pulse {
    Lab::new(Flavor::CurrentThread).run(|| async { block(LONG) }).unwrap().pulse
}

fn good() -> Pulse {
    Lab::new(Flavor::CurrentThread).run(|| tokio::time::sleep(LONG)).unwrap().pulse
}

fn vacuous() -> Pulse {
    Lab::new(Flavor::MultiThread(2)).run(|| async { block(LONG) }).unwrap().pulse
}

fn panic_of(test: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(test)).expect_err("it should have panicked");
    *panic.downcast::<String>().expect("a message")
}

#[test]
fn a_control_that_is_caught_lets_the_real_thing_speak() {
    let pulse = with_teeth(bad, good);
    assert!(pulse.stalls.is_empty());
}

#[test]
fn a_control_that_is_not_caught_fails_the_test() {
    let message = panic_of(|| drop(with_teeth(good, good)));
    assert!(message.starts_with("no teeth: the known-bad control was not caught"), "{message}");
}

#[test]
fn a_control_that_proves_nothing_fails_the_test() {
    let mut times = 0;
    let control = || {
        times += 1;
        vacuous()
    };
    let message = panic_of(|| drop(with_teeth(control, good)));
    assert_eq!(times, 1, "it will prove nothing the next time either");
    assert!(message.starts_with("no teeth: the known-bad control proves nothing"), "{message}");
}

#[test]
fn a_real_thing_that_blocks_fails_the_test() {
    let message = panic_of(|| drop(with_teeth(bad, bad)));
    assert!(message.starts_with("the runtime was starved"), "{message}");
}

#[test]
fn a_real_thing_that_proves_nothing_fails_with_a_remedy() {
    let message = panic_of(|| drop(with_teeth(bad, vacuous)));
    assert!(message.starts_with("the watch proves nothing") && message.contains("tokio::spawn"), "{message}");
}

/// The examples of README.md and of the crate's pages, of which a test is copied more often than it is written.
const EXAMPLES: [(&str, &str); 4] = [
    ("README.md", include_str!("../../README.md")),
    ("src/lib.rs", include_str!("../../src/lib.rs")),
    ("src/heartbeat.rs", include_str!("../../src/heartbeat.rs")),
    ("src/heartbeat/teeth.rs", include_str!("../../src/heartbeat/teeth.rs")),
];

/// What ends at once blocks nothing, so a panic must not be dropped with the output.
#[test]
fn a_real_thing_that_panics_at_once_fails_the_test_as_the_examples_are_written() {
    let panics = || async { tokio::spawn(async { panic!("at once") }).await.unwrap() };
    let message = panic_of(|| drop(with_teeth(bad, || Lab::new(Flavor::MultiThread(2)).run(panics).unwrap().pulse)));
    assert!(message.contains("at once"), "{message}");
    let spawns = |line: &&str| line.contains(".run(") && line.contains("tokio::spawn(");
    let mut shown = 0;
    for (file, text) in EXAMPLES {
        for line in text.lines().filter(spawns) {
            shown += 1;
            assert!(line.contains(".await.unwrap() })"), "{file} drops a panic: {line}");
        }
    }
    assert!(shown >= 4, "of {shown} examples");
}
