//! The registry against a model, with real groups: whatever is done to it in whatever order, it lists who was entered
//! and not yet taken off, kills those and no others, and says what became of them.
//!
//! `PROPTEST_CASES=200 cargo test --test agent registry_model` tries more; a failure is written down, and tried first
//! from then on.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use deadbeat::group::{Backend, backend};
use deadbeat::registry::Registry;
use deadbeat::{KillReport, Outcome, Signal};
use proptest::prelude::*;
use proptest_state_machine::{ReferenceStateMachine, StateMachineTest, prop_state_machine};
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use super::support::{eventually, policy};

const GRACE: Duration = Duration::from_millis(60);

/// What is to be true of one group.
#[derive(Clone, Debug)]
struct Expected {
    stubborn: bool,
    alive: bool,
    entered: bool,
    reaped: bool,
}

#[derive(Clone, Debug, Default)]
struct Model {
    groups: Vec<Expected>,
    closed: bool,
}

#[derive(Clone, Debug)]
enum Step {
    Start {
        stubborn: bool,
    },
    Register(usize),
    Unregister(usize),
    /// It ends by itself.
    Exit(usize),
    /// Under the registry's lock; nothing is reaped of one that lives.
    Reap(usize),
    /// The same, with a panic in place of a wait.
    PanicWhileReaping(usize),
    KillAll,
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
            return prop_oneof![9 => start, 1 => Just(Step::KillAll)].boxed();
        }
        let one = || 0..model.groups.len();
        prop_oneof![
            6 => start,
            8 => one().prop_map(Step::Register),
            2 => one().prop_map(Step::Unregister),
            3 => one().prop_map(Step::Exit),
            3 => one().prop_map(Step::Reap),
            2 => one().prop_map(Step::PanicWhileReaping),
            1 => Just(Step::KillAll),
        ]
        .boxed()
    }

    fn preconditions(model: &Model, step: &Step) -> bool {
        let group = |i: usize| model.groups.get(i);
        match step {
            Step::Start { .. } | Step::KillAll => true,
            Step::Unregister(i) => group(*i).is_some(),
            // Only an un-reaped leader holds its number.
            Step::Register(i) | Step::Reap(i) | Step::PanicWhileReaping(i) => group(*i).is_some_and(|it| !it.reaped),
            Step::Exit(i) => group(*i).is_some_and(|it| it.alive),
        }
    }

    fn apply(mut model: Model, step: &Step) -> Model {
        match *step {
            Step::Start { stubborn } => {
                model.groups.push(Expected { stubborn, alive: true, entered: false, reaped: false });
            }
            Step::Register(i) => {
                model.groups[i].entered = true;
                // What comes after the end of all is killed on the spot.
                model.groups[i].alive &= !model.closed;
            }
            Step::Unregister(i) => model.groups[i].entered = false,
            Step::Exit(i) => model.groups[i].alive = false,
            Step::Reap(i) if !model.groups[i].alive => {
                (model.groups[i].reaped, model.groups[i].entered) = (true, false);
            }
            Step::Reap(_) | Step::PanicWhileReaping(_) => {}
            Step::KillAll => {
                let closed = std::mem::replace(&mut model.closed, true);
                model.groups.iter_mut().filter(|it| it.entered && !closed).for_each(|it| it.alive = false);
            }
        }
        model
    }
}

/// Ends when it is told so; dead and reaped when dropped.
struct Group {
    leader: Child,
    stdin: Option<ChildStdin>,
    reaped: bool,
}

impl Group {
    fn start(stubborn: bool) -> Group {
        let script = if stubborn { "trap '' TERM; echo up; exec cat" } else { "echo up; exec cat" };
        let mut command = Command::new("sh");
        command.args(["-c", script]).process_group(0).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut leader = command.spawn().unwrap();
        BufReader::new(leader.stdout.take().unwrap()).read_line(&mut String::new()).unwrap();
        Group { stdin: leader.stdin.take(), leader, reaped: false }
    }

    fn pgid(&self) -> i32 {
        self.leader.id() as i32
    }

    /// Asks without reaping.
    fn has_ended(&self) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG | WaitIdOptions::NOWAIT;
        self.reaped || waitid(WaitId::Pid(Pid::from_child(&self.leader)), options).unwrap().is_some()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.reaped {
            let _ = self.leader.kill();
            let _ = self.leader.wait();
        }
    }
}

struct System {
    registry: Registry,
    groups: Vec<Group>,
    /// The model as it was before the step.
    before: Model,
}

impl StateMachineTest for System {
    type SystemUnderTest = System;
    type Reference = Model;

    fn init_test(model: &Model) -> System {
        System { registry: Registry::new(policy().grace(GRACE)), groups: Vec::new(), before: model.clone() }
    }

    fn apply(mut system: System, model: &Model, step: Step) -> System {
        match step {
            Step::Start { stubborn } => system.groups.push(Group::start(stubborn)),
            Step::Register(i) => system.registry.register(system.groups[i].pgid()).unwrap(),
            Step::Unregister(i) => system.registry.unregister(system.groups[i].pgid()),
            Step::Exit(i) => {
                drop(system.groups[i].stdin.take());
                eventually("it has ended", || system.groups[i].has_ended());
            }
            Step::Reap(i) => {
                let group = &mut system.groups[i];
                let status = system.registry.reap(group.pgid(), || group.leader.try_wait()).unwrap();
                group.reaped = status.is_some();
                assert_eq!(group.reaped, model.groups[i].reaped);
            }
            Step::PanicWhileReaping(i) => {
                let pgid = system.groups[i].pgid();
                let reap = || system.registry.reap(pgid, || -> Result<Option<()>, ()> { resume_unwind(Box::new(())) });
                assert!(catch_unwind(AssertUnwindSafe(reap)).is_err());
            }
            Step::KillAll => system.check_reports(system.registry.kill_all()),
        }
        system.before = model.clone();
        system
    }

    fn check_invariants(system: &System, model: &Model) {
        let entered = model.groups.iter().zip(&system.groups).filter(|(expected, _)| expected.entered);
        let mut entered: Vec<i32> = entered.map(|(_, group)| group.pgid()).collect();
        entered.sort_unstable();
        assert_eq!(system.registry.list(), entered);
        for (expected, group) in model.groups.iter().zip(&system.groups) {
            if expected.alive {
                assert!(!group.has_ended(), "killed, and not asked for: {expected:?}");
            } else {
                eventually("it is dead", || group.has_ended());
            }
        }
    }
}

impl System {
    fn check_reports(&self, reports: Vec<KillReport>) {
        let entered = self.before.groups.iter().zip(&self.groups).filter(|(it, _)| it.entered && !self.before.closed);
        let mut expected: Vec<_> = entered.map(|(it, group)| (group.pgid(), it)).collect();
        assert_eq!(reports.len(), expected.len(), "{reports:?}");
        for report in reports {
            let i = expected.iter().position(|(pgid, _)| *pgid == report.pgid).expect("one that was not entered");
            let (_, it) = expected.swap_remove(i);
            let kill = report.signals.iter().find(|sent| sent.signal == Signal::KILL);
            // The obedient may not have come to it in their grace, on a busy machine.
            let as_expected = match report.outcome {
                Outcome::AlreadyGone => !it.alive && report.signals.is_empty(),
                Outcome::Terminated => it.alive && !it.stubborn && kill.is_none(),
                Outcome::Killed => it.alive && kill.is_some_and(|kill| kill.at >= GRACE),
                _ => false,
            };
            // Without `/proc` an un-reaped leader looks alive to the end.
            assert!(as_expected || backend() != Backend::Proc, "{it:?}: {report:?}");
        }
    }
}

fn config() -> ProptestConfig {
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(12);
    ProptestConfig { cases, max_shrink_iters: 200, max_shrink_time: 20_000, ..ProptestConfig::default() }
}

prop_state_machine! {
    #![proptest_config(config())]

    #[test]
    fn in_any_order_it_lists_and_kills_those_entered_and_nobody_else(sequential 1..40 => System);
}
