//! A test that cannot fail is refused.

use std::panic::{AssertUnwindSafe, catch_unwind};

use deadbeat::heartbeat::{Flavor, Lab, Pulse, with_teeth};

use crate::support::{LONG, block};

fn bad() -> Pulse {
    Lab::new(Flavor::CurrentThread).run_root(|| async { block(LONG) }).unwrap().pulse
}

fn good() -> Pulse {
    Lab::new(Flavor::CurrentThread).run_root(|| tokio::time::sleep(LONG)).unwrap().pulse
}

fn vacuous() -> Pulse {
    Lab::new(Flavor::MultiThread(2)).run_root(|| async { block(LONG) }).unwrap().pulse
}

fn panic_of(test: impl FnOnce()) -> String {
    let panic = catch_unwind(AssertUnwindSafe(test)).expect_err("it should have panicked");
    let literal = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    literal.unwrap_or_else(|| *panic.downcast::<String>().expect("a message"))
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

async fn blocks() {
    block(LONG);
}

async fn sleeps() {
    tokio::time::sleep(LONG).await;
}

async fn panics() {
    panic!("at once")
}

#[test]
fn a_lab_holds_a_subject_to_a_control_that_has_to_be_caught() {
    for flavor in [Flavor::CurrentThread, Flavor::MultiThread(2)] {
        assert!(Lab::new(flavor).with_teeth(blocks, sleeps).stalls.is_empty());
    }
    let lab = Lab::new(Flavor::MultiThread(2));
    let message = panic_of(|| drop(lab.with_teeth(sleeps, sleeps)));
    assert!(message.contains("no teeth"), "{message}");
    let message = panic_of(|| drop(lab.with_teeth(blocks, blocks)));
    assert!(message.contains("the runtime was starved"), "{message}");
}

/// What ends at once blocks nothing: neither a panic nor an error may be dropped with the output.
#[test]
fn a_subject_that_panics_or_fails_at_once_fails_the_test() {
    let lab = Lab::new(Flavor::MultiThread(2));
    let message = panic_of(|| drop(lab.with_teeth(blocks, panics)));
    assert_eq!(message, "at once");
    let message = panic_of(|| drop(lab.with_teeth(blocks, || async { Err::<(), _>("no such file") })));
    assert!(message.contains(r#"the subject failed: "no such file""#), "{message}");
    let message = panic_of(|| drop(lab.with_teeth(panics, sleeps)));
    assert_eq!(message, "at once");
    let message = panic_of(|| drop(lab.with_teeth(|| async { Err::<(), _>("not begun") }, sleeps)));
    assert!(message.contains(r#"the control failed: "not begun""#), "{message}");
    lab.with_teeth(blocks, || async { Ok::<_, std::io::Error>(7) });
}
