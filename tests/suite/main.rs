//! The suite under test: right subjects pass, and wrong ones are caught, each by the fixture made for it.

#[cfg(all(target_os = "linux", not(deadbeat_portable)))]
#[path = "../common/inside.rs"]
mod inside;
#[cfg(all(target_os = "linux", not(deadbeat_portable)))]
mod starved;

use std::collections::HashSet;
use std::time::{Duration, Instant};

use deadbeat::fixture;
use deadbeat::group::{Backend, backend};
use deadbeat::report::{CellVerdict, Report};
use deadbeat::suite::{RUNTIMES, Subject, Suite, built_in};
use deadbeat::{KillPolicy, Signal};
use nix::errno::Errno;
use nix::sys::signal::{self, killpg};
use nix::unistd::Pid;
use rstest::rstest;

/// A grace of which half is still a long time for a loaded machine.
const GRACE: Duration = Duration::from_secs(4);

/// A budget far above what a hundred processes that start at once do to a worker here, and far below the grace.
const BUDGET: Duration = Duration::from_millis(1500);

fn run(suite: &Suite) -> Report {
    suite.run(|_| {})
}

fn complaints(report: &Report) -> Vec<String> {
    let failed = report.cells.iter().filter(|cell| cell.verdict != CellVerdict::Pass);
    failed.map(|cell| format!("{} {}: {}", cell.verdict, cell.name(), cell.why)).collect()
}

/// The report without the cells that stayed inconclusive: this process starts hundreds, on a machine that may have
/// other work.
fn faults(report: &Report) -> Vec<String> {
    let doubts = [
        "waited for memory",
        "the hypervisor took",
        "that looks at the workers",
        "kept the suite waiting too",
        "of the subject's process waited",
        "or the group was slow",
        "no look was taken then",
        "the whole process stood still",
        "the machine was suspended",
        "waited for another thread",
        "a control thread was",
        "too busy to see",
        "may have been meant to take the worker over",
        "was not seen all the time",
    ];
    let by_machine = |why: &String| doubts.iter().any(|doubt| why.contains(doubt));
    complaints(report).into_iter().filter(|why| !(why.starts_with("inconclusive ") && by_machine(why))).collect()
}

#[rstest]
fn every_fixture_is_as_expected_of(
    #[values("inline", "spawn-blocking", "kill-thread", "async-sleep")] subject: &str,
    #[values(0, 1, 2)] runtime: usize,
) {
    let subject = built_in().into_iter().find(|known| known.name() == subject).expect("no such subject");
    let suite = Suite::new()
        .subjects([subject])
        .runtimes([RUNTIMES[runtime]])
        .grace(GRACE)
        .budget(BUDGET)
        .jobs(fixture::ALL.len());
    // An inconclusive cell shows nothing. All others are as expected, and most cells are conclusive at some time.
    let mut passed = HashSet::new();
    for _ in 0..5 {
        let report = run(&suite);
        assert_eq!(faults(&report), [""; 0]);
        let passes = report.cells.iter().filter(|cell| cell.verdict == CellVerdict::Pass);
        passed.extend(passes.map(|cell| cell.fixture.clone()));
        if passed.len() > fixture::ALL.len() / 2 {
            return;
        }
        println!("{:?}", complaints(&report));
    }
    panic!("in five times no more than these were proved: {passed:?}");
}

#[test]
fn the_built_in_subjects_are_those_above() {
    let names: Vec<_> = built_in().iter().map(|subject| subject.name().to_owned()).collect();
    assert_eq!(names, ["inline", "spawn-blocking", "kill-thread", "async-sleep"]);
    assert_eq!(RUNTIMES.len(), 3);
}

async fn right(pgid: i32) {
    let _ = KillPolicy::default().grace(GRACE).kill(pgid).await;
}

async fn term_only(pgid: i32) {
    let group = Pid::from_raw(pgid);
    if killpg(group, signal::Signal::SIGTERM).is_ok() {
        let _ = killpg(group, signal::Signal::SIGCONT);
        wait_for_esrch(group).await;
    }
}

async fn leader_only(pgid: i32) {
    let _ = signal::kill(Pid::from_raw(pgid), signal::Signal::SIGTERM);
    tokio::time::sleep(GRACE).await;
    let _ = signal::kill(Pid::from_raw(pgid), signal::Signal::SIGKILL);
}

async fn kill_at_once(pgid: i32) {
    let _ = KillPolicy::default().signal(Signal::KILL).kill(pgid).await;
}

async fn half_the_patience(pgid: i32) {
    let _ = KillPolicy::default().grace(GRACE / 16).kill(pgid).await;
}

async fn no_cont(pgid: i32) {
    let _ = KillPolicy::default().grace(GRACE).continue_stopped(false).kill(pgid).await;
}

async fn esrch_is_gone(pgid: i32) {
    let group = Pid::from_raw(pgid);
    if killpg(group, signal::Signal::SIGTERM).is_ok() {
        let _ = killpg(group, signal::Signal::SIGCONT);
        wait_for_esrch(group).await;
        let _ = killpg(group, signal::Signal::SIGKILL);
    }
}

/// Waits until `killpg` finds no group, or the grace is over.
async fn wait_for_esrch(group: Pid) {
    let start = Instant::now();
    while start.elapsed() < GRACE && killpg(group, None) != Err(Errno::ESRCH) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

fn judge(subject: Subject, fixture: &str) -> Report {
    let fixture = fixture::named(fixture).expect("no such fixture");
    run(&Suite::new().subjects([subject]).fixtures([fixture]).runtimes([RUNTIMES[0]]).grace(GRACE).budget(BUDGET))
}

/// Judges as [`judge`] does, again and again until the verdict is conclusive. The suite tries three times, but all
/// these tests begin at once, and a busy machine may be late for longer than that takes.
fn judge_for_certain(subject: &Subject, fixture: &str) -> Report {
    let mut reports = (0..5).map(|_| judge(subject.clone(), fixture));
    reports.find(|report| report.summary.inconclusive == 0).expect("nothing was proven in five times")
}

#[rstest]
#[case::term_only(Subject::new("term-only", term_only), "ignore-term", "left in the group")]
#[case::leader_only(Subject::new("leader-only", leader_only), "forking", "left in the group")]
#[case::kill_at_once(Subject::new("kill-at-once", kill_at_once), "slow-exit", "outcome killed")]
#[case::half_the_patience(
    Subject::new("half-the-patience", half_the_patience),
    "second-term",
    "before half of the 4s of grace"
)]
#[case::no_cont(Subject::new("no-cont", no_cont), "stopped", "outcome killed")]
#[case::esrch_is_gone(Subject::new("esrch-is-gone", esrch_is_gone), "fast-exit", "though the group was gone after")]
fn a_wrong_killer_is_caught(#[case] wrong: Subject, #[case] fixture: &str, #[case] complaint: &str) {
    if backend() != Backend::Proc {
        // Zombies cannot be told from the living, and the right killer fails these cells too.
        return;
    }
    let report = judge_for_certain(&wrong, fixture);
    let [cell] = &report.cells[..] else { panic!("{report:?}") };
    assert_eq!(cell.verdict, CellVerdict::Fail, "{cell:?}");
    assert!(cell.why.contains(complaint), "{}", cell.why);
    // The control: the right one passes the same cell.
    assert_eq!(faults(&judge_for_certain(&Subject::new("right", right), fixture)), [""; 0]);
}

#[test]
fn a_program_is_judged_in_this_process_too_and_nothing_of_it_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let pids = dir.path().join("pids");
    let stray = format!("'echo $$ >>{0}; exec sleep 100'", pids.display());
    let both = format!("until [ $(cat {0} 2>/dev/null | wc -l) -eq 2 ]; do sleep .05; done", pids.display());
    let kill = format!("setsid sh -c {stray} & sh -c {stray} & kill -KILL -{{pgid}}; {both}; exit 3");
    let report = judge(Subject::program("program", &kill).unwrap(), "fast-exit");
    let [cell] = &report.cells[..] else { panic!("{report:?}") };
    assert_eq!((cell.verdict, &*cell.runtime), (CellVerdict::Fail, "none"), "{cell:?}");
    assert!(cell.why.contains("the command ended with exit status: 3"), "{}", cell.why);
    if backend() == Backend::Proc {
        let pids = std::fs::read_to_string(pids).unwrap();
        assert_eq!(pids.lines().count(), 2, "{pids}");
        for pid in pids.lines() {
            let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            assert!(!line.contains("sleep"), "{pid} still runs");
        }
    }
    // A template that names no group is refused.
    assert!(Subject::program("program", "kill $1").unwrap_err().to_string().contains("has no {pgid}"));
}

#[test]
fn a_known_bad_subject_that_is_not_caught_fails_the_suite() {
    let inline = built_in().remove(0);
    let fixture = fixture::named("fast-exit").unwrap();
    // With such a budget nothing is a stall.
    let blind = Suite::new().subjects([inline]).fixtures([fixture]).runtimes([RUNTIMES[0]]).grace(GRACE);
    let report = run(&blind.budget(Duration::from_secs(3600)));
    assert_eq!(report.summary.fail, 1, "{report:?}");
    assert!(report.cells[0].why.contains("lost its teeth"), "{}", report.cells[0].why);
}
