//! The kill thread against a model, with real groups: whatever is handed over, in whatever order, and whichever
//! caller stops waiting, each group handed over dies, each answer is about its own group, and no other is touched.
//!
//! `PROPTEST_CASES=200 cargo test --test kill kill_thread_model` tries more; a failure is written down, and tried first
//! from then on.

use std::collections::VecDeque;
use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use deadbeat::group::{Backend, backend};
use deadbeat::kill::{KillThread, PendingKill};
use deadbeat::{KillErrorKind, KillReport, Outcome, Signal};
use proptest::prelude::*;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use super::support::{eventually, policy};

const GRACE: Duration = Duration::from_millis(60);

/// What is to be true of one group.
#[derive(Clone, Debug)]
struct Expected {
    stubborn: bool,
    /// Has ended by itself, before it was handed over.
    ended: bool,
    /// How often it was handed over.
    kills: usize,
    /// To the kill thread of now, or to the one that the last step shut down.
    to_the_last: bool,
    /// Answers that are still waited for.
    awaited: usize,
}

#[derive(Clone, Debug, Default)]
struct Model {
    groups: Vec<Expected>,
}

#[derive(Clone, Debug)]
enum Step {
    Start {
        stubborn: bool,
    },
    Exit(usize),
    Kill(usize),
    /// What becomes of it is not waited for.
    KillAndForget(usize),
    /// Every group at once.
    KillMany,
    /// The first answer of that group.
    Await(usize),
    /// Not handed over, so it must not be signalled.
    KillRefused(i32),
    /// Dropped with whatever it has under way, and another in its place.
    Replace,
    /// Shut down, and another in its place.
    Shutdown,
}

impl ReferenceStateMachine for Model {
    type State = Model;
    type Transition = Step;

    fn init_state() -> BoxedStrategy<Model> {
        Just(Model::default()).boxed()
    }

    fn transitions(model: &Model) -> BoxedStrategy<Step> {
        let start = any::<bool>().prop_map(|stubborn| Step::Start { stubborn });
        if model.groups.is_empty() {
            return start.boxed();
        }
        let one = || 0..model.groups.len();
        prop_oneof![
            6 => start,
            2 => one().prop_map(Step::Exit),
            5 => one().prop_map(Step::Kill),
            2 => one().prop_map(Step::KillAndForget),
            1 => Just(Step::KillMany),
            3 => one().prop_map(Step::Await),
            1 => prop_oneof![Just(0), Just(1), i32::MIN..0].prop_map(Step::KillRefused),
            1 => Just(Step::Replace),
            1 => Just(Step::Shutdown),
        ]
        .boxed()
    }

    fn preconditions(model: &Model, step: &Step) -> bool {
        let group = |i: usize| model.groups.get(i);
        match step {
            Step::Start { .. } | Step::KillMany | Step::KillRefused(_) | Step::Replace | Step::Shutdown => true,
            Step::Exit(i) => group(*i).is_some_and(|it| !it.ended && it.kills == 0),
            Step::Kill(i) | Step::KillAndForget(i) => group(*i).is_some(),
            Step::Await(i) => group(*i).is_some_and(|it| it.awaited > 0),
        }
    }

    fn apply(mut model: Model, step: &Step) -> Model {
        let hand_over = |it: &mut Expected, awaited: usize| {
            it.kills += 1;
            it.to_the_last = true;
            it.awaited += awaited;
        };
        match *step {
            Step::Start { stubborn } => {
                model.groups.push(Expected { stubborn, ended: false, kills: 0, to_the_last: false, awaited: 0 });
            }
            Step::Exit(i) => model.groups[i].ended = true,
            Step::Kill(i) => hand_over(&mut model.groups[i], 1),
            Step::KillAndForget(i) => hand_over(&mut model.groups[i], 0),
            Step::KillMany => model.groups.iter_mut().for_each(|it| hand_over(it, 1)),
            Step::Await(i) => model.groups[i].awaited -= 1,
            // What a replaced one has under way goes on, and cannot be waited for as a whole.
            Step::Replace => model.groups.iter_mut().for_each(|it| it.to_the_last = false),
            // Those that are dead now stay so.
            Step::KillRefused(_) | Step::Shutdown => {}
        }
        model
    }
}

/// Ends when it is told so; dead and reaped when dropped.
struct Group {
    leader: Child,
    stdin: Option<ChildStdin>,
    pending: VecDeque<PendingKill>,
}

impl Group {
    fn start(stubborn: bool) -> Group {
        let script = if stubborn { "trap '' TERM; echo up; exec cat" } else { "echo up; exec cat" };
        let mut command = Command::new("sh");
        command.args(["-c", script]).process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut leader = command.spawn().unwrap();
        BufReader::new(leader.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
        Group { stdin: leader.stdin.take(), leader, pending: VecDeque::new() }
    }

    fn pgid(&self) -> i32 {
        self.leader.id() as i32
    }

    /// Asks without reaping.
    fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(Pid::from_child(&self.leader)), options).unwrap().is_some()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = self.leader.kill();
        let _ = self.leader.wait();
    }
}

struct System {
    kill_thread: KillThread,
    groups: Vec<Group>,
}

fn kill_thread() -> KillThread {
    let policy = policy().grace(GRACE);
    KillThread::new(match backend() {
        Backend::Proc => policy,
        // An un-reaped leader looks alive to the end.
        _ => policy.confirm(GRACE),
    })
    .unwrap()
}

impl StateMachineTest for System {
    type SystemUnderTest = System;
    type Reference = Model;

    fn init_test(_: &Model) -> System {
        System { kill_thread: kill_thread(), groups: Vec::new() }
    }

    fn apply(mut system: System, model: &Model, step: Step) -> System {
        match step {
            Step::Start { stubborn } => system.groups.push(Group::start(stubborn)),
            Step::Exit(i) => {
                drop(system.groups[i].stdin.take());
                eventually("it has ended", || system.groups[i].has_ended());
            }
            Step::Kill(i) => system.kill(i),
            Step::KillAndForget(i) => drop(system.kill_thread.kill(system.groups[i].pgid())),
            Step::KillMany => (0..system.groups.len()).for_each(|i| system.kill(i)),
            Step::Await(i) => {
                let pending = system.groups[i].pending.pop_front().unwrap();
                check(pending, &model.groups[i], &system.groups[i]);
            }
            Step::KillRefused(pgid) => {
                let error = system.kill_thread.kill(pgid).wait_blocking().unwrap_err();
                assert_eq!((error.kind(), error.pgid()), (KillErrorKind::InvalidGroup, pgid));
            }
            Step::Replace => system.kill_thread = kill_thread(),
            Step::Shutdown => {
                std::mem::replace(&mut system.kill_thread, kill_thread()).shutdown_blocking();
                for (expected, group) in model.groups.iter().zip(&system.groups) {
                    assert!(!expected.to_the_last || group.has_ended() || backend() != Backend::Proc);
                }
            }
        }
        system
    }

    fn check_invariants(system: &System, model: &Model) {
        for (expected, group) in model.groups.iter().zip(&system.groups) {
            let alive = !expected.ended && expected.kills == 0;
            assert!(!alive || !group.has_ended(), "killed, and not asked for: {expected:?}");
        }
    }

    fn teardown(mut system: System, model: Model) {
        drop(system.kill_thread);
        for (expected, group) in model.groups.iter().zip(&mut system.groups) {
            assert_eq!(group.pending.len(), expected.awaited);
            while let Some(pending) = group.pending.pop_front() {
                check(pending, expected, group);
            }
            if expected.kills > 0 {
                eventually("it is dead", || group.has_ended());
            }
        }
    }
}

impl System {
    fn kill(&mut self, i: usize) {
        let pending = self.kill_thread.kill(self.groups[i].pgid());
        self.groups[i].pending.push_back(pending);
    }
}

/// The answer of a kill that has ended.
fn check(pending: PendingKill, expected: &Expected, group: &Group) {
    assert_eq!(pending.pgid(), group.pgid());
    let report = pending.wait_blocking().unwrap();
    assert_eq!(report.pgid, group.pgid());
    if backend() == Backend::Proc {
        assert!(group.has_ended(), "{expected:?}: {report:?}");
        assert!(is_as_expected(&report, expected), "{expected:?}: {report:?}");
    }
}

/// Several kills may be under way at once, so that one of them finds done what another did.
fn is_as_expected(report: &KillReport, expected: &Expected) -> bool {
    let kill = report.signals.iter().find(|sent| sent.signal == Signal::KILL);
    match report.outcome {
        Outcome::AlreadyGone => (expected.ended || expected.kills > 1) && report.signals.is_empty(),
        Outcome::Terminated => !expected.ended && (!expected.stubborn || expected.kills > 1) && kill.is_none(),
        Outcome::Killed => !expected.ended && kill.is_some_and(|kill| kill.at >= GRACE),
        _ => false,
    }
}

fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(12);
    ProptestConfig { cases, max_shrink_iters: 200, max_shrink_time: 20_000, ..ProptestConfig::default() }
}

prop_state_machine! {
    #![proptest_config(config())]

    #[test]
    fn in_any_order_all_handed_over_die_and_nobody_else(sequential 1..40 => System);
}
