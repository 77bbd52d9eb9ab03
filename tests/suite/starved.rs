//! A right kill function is not blamed for what the machine did to the members of its group, and a wrong one still is.
//!
//! Only with `/proc`: without it an un-reaped leader looks alive to the end, and a member's wait for a CPU is not seen.

use std::process::{Child, Command};
use std::time::Duration;

use deadbeat::report::{CellReport, CellVerdict};
use deadbeat::suite::{RUNTIMES, Subject, Suite};
use deadbeat::{KillPolicy, fixture};

use crate::inside::{inside, skip};

/// A grace so short that members which get one or two hundredths of a CPU take longer to die.
const GRACE: Duration = Duration::from_millis(100);

/// The command that starts the members: on the first CPU, behind everything else there.
const STARVED: &str = "nice -n 19 taskset -c 0 sh";

/// A process that computes for ever on the first CPU.
struct Hog(Child);

impl Hog {
    fn on_the_first_cpu() -> Hog {
        let mut command = Command::new("taskset");
        Hog(command.args(["-c", "0", "sh", "-c", "while :; do :; done"]).spawn().unwrap())
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn cell(subject: Subject, fixture: &str) -> CellReport {
    let fixture = fixture::named(fixture).expect("no such fixture");
    let suite =
        Suite::new().subjects([subject]).fixtures([fixture]).runtimes([RUNTIMES[0]]).shells([STARVED.to_owned()]);
    suite.grace(GRACE).budget(GRACE / 3).run(|_| {}).cells.remove(0)
}

/// A right kill, after a delay.
fn after(delay: Duration) -> Subject {
    Subject::new("ours", move |pgid| async move {
        tokio::time::sleep(delay).await;
        drop(KillPolicy::default().grace(GRACE).kill(pgid).await);
    })
}

/// The report on one cell, from a process of its own, in which no other test's threads wait for a CPU.
#[test]
fn a_kill_is_not_accused_of_the_time_that_members_without_a_cpu_take_and_is_of_its_own() {
    const PLACE: [&str; 3] = ["taskset", "-c", "1"];
    if !inside(a_kill_is_not_accused_of_the_time_that_members_without_a_cpu_take_and_is_of_its_own, &PLACE) {
        return;
    }
    if !Command::new("taskset").args(["-c", "0", "true"]).status().is_ok_and(|status| status.success()) {
        return skip("there is no CPU to keep the members on");
    }
    let _hog = Hog::on_the_first_cpu();
    let right = cell(after(Duration::ZERO), "forking");
    assert_ne!(right.verdict, CellVerdict::Fail, "{}", right.why);
    let late = cell(after(GRACE * 20), "forking");
    assert_eq!(late.verdict, CellVerdict::Fail, "{}", late.why);
    assert!(late.why.contains("a member waited up to"), "it does not say what the machine did: {}", late.why);
}
