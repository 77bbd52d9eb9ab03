//! The killer itself stopped in the middle of a grace: the grace is by the clock, nothing is sent meanwhile, and
//! what is done afterwards follows from a look that was taken afterwards.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::support::{Group, Held, deadbeat, eventually, report, sent_at};

/// In which the killer has to be stopped after it has asked.
const GRACE: Duration = Duration::from_secs(4);

/// Says when it was asked to end. The second process ends when it is told so, and ignores SIGTERM from its birth.
const ASKED: &str =
    "exec 3<&0; trap '' TERM; (read end <&3) & trap 'echo asked' TERM; echo $!; while :; do wait $! && exit; done";

/// A `deadbeat kill` that is stopped from when its group was asked to end until long after the grace.
struct Stopped {
    killer: Group,
    group: Group,
    held: [Held; 2],
}

impl Stopped {
    fn past_the_grace() -> Stopped {
        let mut group = Group::of(ASKED);
        let held = group.members();
        let killer = Group::start(&mut deadbeat(&format!("kill --format json --grace 4s {}", group.pgid())));
        assert_eq!(group.line(), "asked");
        killer.signal_leader(Signal::STOP);
        eventually("the killer is stopped", || killer.leader_state() == 'T');
        let stopped = Instant::now();
        while stopped.elapsed() < GRACE + Duration::from_millis(50) {
            std::thread::park_timeout(GRACE);
        }
        assert!(!held.iter().any(Held::has_ended), "killed by a process that is stopped");
        Stopped { killer, group, held }
    }

    /// What it says in the end.
    fn goes_on(&mut self) -> serde_json::Value {
        self.killer.signal_leader(Signal::CONT);
        let report = report(self.killer.line().as_bytes());
        assert_eq!(self.killer.reap().code(), Some(0), "{report}");
        report
    }
}

#[test]
fn who_outlived_the_grace_is_killed_when_it_goes_on() {
    let mut stopped = Stopped::past_the_grace();
    let report = stopped.goes_on();
    assert_eq!(report["outcome"], "killed", "{report}");
    assert!(sent_at(&report, "SIGKILL").unwrap() >= GRACE.as_millis() as f64, "{report}");
    assert!(stopped.held.iter().all(Held::has_ended));
}

#[test]
fn who_ended_meanwhile_is_sent_no_sigkill() {
    let mut stopped = Stopped::past_the_grace();
    stopped.group.go();
    eventually("the group has ended", || stopped.held.iter().all(Held::has_ended));
    let report = stopped.goes_on();
    assert_eq!(report["outcome"], "terminated", "{report}");
    assert_eq!(sent_at(&report, "SIGKILL"), None, "{report}");
}
