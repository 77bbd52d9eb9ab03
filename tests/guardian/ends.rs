//! Runs that end in every way there is, at random moments: no process is left of any.
//!
//! `DEADBEAT_ENDS` sets how many (24 by default; if it is set, they are also held to the second that they have after
//! the grace), `DEADBEAT_SEED` replays them.

use std::hash::{BuildHasher, RandomState};
use std::os::fd::AsFd;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};

use super::support::{Parent, SOON, eventually};

/// Of the runs' policy.
pub(crate) const GRACE: Duration = Duration::from_millis(300);

/// After the grace, all have to be dead within this.
const AFTERWARDS: Duration = Duration::from_secs(1);

/// Between two looks. Where five times as much goes by we were kept from a CPU, as all others were: it counts for no
/// more.
const STEP: Duration = Duration::from_millis(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum End {
    Timeout,
    Request,
    Term,
    Int,
    /// Of the runner, by SIGKILL.
    Killed,
    /// The run's future.
    Dropped,
    RuntimeDropped,
    /// In the task that runs it.
    Panic,
    /// In `main`.
    DeadlyPanic,
}

impl End {
    pub(crate) const ALL: [End; 9] = [
        End::Timeout,
        End::Request,
        End::Term,
        End::Int,
        End::Killed,
        End::Dropped,
        End::RuntimeDropped,
        End::Panic,
        End::DeadlyPanic,
    ];
}

const STAYING: [&str; 9] =
    ["sleep", "ignore-term", "stubborn-child", "deep-tree", "double-fork", "orphan", "late-fork", "respawn", "stopped"];
const ESCAPING: [&str; 3] = ["setsid-escape", "polite-escapee", "family"];

#[derive(Clone, Copy, Debug)]
struct Run {
    end: End,
    guarded: bool,
    program: &'static str,
    moment: Duration,
}

/// Numbers that a seed determines.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }

    fn of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len() as u64) as usize]
    }
}

fn random_run(random: &mut Random, i: usize) -> Run {
    // In turn, so that a few runs show each.
    let end = End::ALL[i % End::ALL.len()];
    let guarded = end == End::Killed || random.below(3) > 0;
    let program = match guarded && random.below(2) == 0 {
        true => random.of(&ESCAPING),
        false => random.of(&STAYING),
    };
    // While the command starts there is more to go wrong than later.
    let longest = random.of(&[3_000, 20_000, 400_000]);
    Run { end, guarded, program, moment: Duration::from_micros(random.below(longest)) }
}

/// What became of a run: how many of its processes there were when its end began, and how long after that, without
/// the times in which the machine had no CPU for us, the last of them was seen.
struct Seen {
    left_to_be_ended: usize,
    last: Duration,
}

fn perform(run: Run) -> Seen {
    let mut runner = Parent::start_as(super::runner::ROLE);
    let guard = if run.guarded { "guarded" } else { "alone" };
    let (moment, grace) = (run.moment.as_micros(), GRACE.as_millis());
    runner.tell(&format!("{guard} {:?} {moment} {grace} {}", run.end, run.program));
    let guardian: i32 = runner.hear("guardian").parse().unwrap();
    runner.hear("go");
    let from = Instant::now();
    while let Some(left) = run.moment.checked_sub(from.elapsed()) {
        std::thread::park_timeout(left);
    }
    let pid = Pid::from_raw(runner.pid());
    let others = [runner.pid(), guardian];
    let members =
        |runner: &Parent| runner.tree.alive().into_iter().filter(|(pid, _)| !others.contains(pid)).collect::<Vec<_>>();
    let left_to_be_ended = members(&runner).len();
    match run.end {
        // Our child, not waited for yet.
        End::Term => kill(pid, Signal::SIGTERM).unwrap(),
        End::Int => kill(pid, Signal::SIGINT).unwrap(),
        End::Killed => runner.kill(),
        _ => {}
    }
    let start = Instant::now();
    let (mut last, mut clock, mut previous) = (Duration::ZERO, Duration::ZERO, start);
    // Twice: one look can miss who is forked meanwhile.
    let mut is_dead_soon = |runner: &Parent| {
        let mut looks = 0;
        while looks < 2 {
            let alive = members(runner);
            looks = if alive.is_empty() { looks + 1 } else { 0 };
            clock += previous.elapsed().min(STEP * 5);
            previous = Instant::now();
            if looks == 0 {
                last = clock;
            }
            assert!(start.elapsed() < SOON, "{run:?}: {alive:?} survived");
            std::thread::park_timeout(STEP);
        }
    };
    is_dead_soon(&runner);
    let lives_on = !matches!(run.end, End::Killed | End::DeadlyPanic);
    if lives_on {
        assert_eq!(runner.hear("ended"), "registry []", "{run:?}");
        // Its own clock may say that the moment came later.
        is_dead_soon(&runner);
    }
    if lives_on {
        assert!(runner.end("exit").success(), "{run:?}");
    }
    eventually("runner and guardian have ended", || runner.tree.alive().is_empty());
    Seen { left_to_be_ended, last }
}

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

pub(crate) fn however_a_run_ends_nobody_is_left() {
    let seed = setting("DEADBEAT_SEED").unwrap_or_else(|| RandomState::new().hash_one(0));
    let full = setting("DEADBEAT_ENDS");
    let count = full.unwrap_or(24) as usize;
    println!("{count} ends; replay with DEADBEAT_SEED={seed}");
    let mut random = Random(seed);
    let runs: Vec<Run> = (0..count).map(|i| random_run(&mut random, i)).collect();
    let (next, seen) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| {
                while let Some(run) = runs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let became = perform(*run);
                    seen.lock().unwrap().push((*run, became));
                }
            });
        }
    });
    let seen = seen.into_inner().unwrap();
    let with_members = seen.iter().filter(|(_, became)| became.left_to_be_ended > 0).count();
    let (run, last) = seen.iter().max_by_key(|(_, became)| became.last).unwrap();
    let last = last.last;
    println!(
        "{} runs ended ({with_members} with members then), 0 survivors, the last seen after {last:.0?}, grace \
         {GRACE:?}",
        seen.len()
    );
    assert_eq!(seen.len(), count, "seed {seed}");
    assert!(with_members > 0, "seed {seed}: each was over before it could be ended");
    // A busy machine can only make it later, so it is asked of those alone who asked for it.
    assert!(full.is_none() || last <= GRACE + AFTERWARDS, "seed {seed}: {last:?}: {run:?}");
}

pub(crate) fn the_control_without_a_guardian_a_killed_runner_leaves_survivors() {
    let mut runner = Parent::start_as(super::runner::ROLE);
    runner.tell("alone Request 60000000 300 setsid-escape");
    let leader: i32 = runner.hear("child").parse().unwrap();
    runner.hear("ready");
    runner.kill();
    assert!(runner.tree.lives(leader), "none was left: the others may have died without a guardian too");
    // For as long as the others have in all.
    let start = Instant::now();
    while start.elapsed() < GRACE + AFTERWARDS {
        // One in the middle of its exec shows no mark.
        assert!(!runner.tree.alive().is_empty(), "the control died too");
        std::thread::park_timeout(Duration::from_millis(50));
    }
    eventually("leader and escapee are seen", || runner.tree.alive().len() == 2);
}

pub(crate) fn who_has_lost_its_mark_dies_with_its_group() {
    // The runners are kept: dropping one kills its guardian too.
    let [(guarded, _guarded), (control, _control)] = ["guarded", "alone"].map(|guard| {
        let mut runner = Parent::start_as(super::runner::ROLE);
        runner.tell(&format!("{guard} Killed 60000000 300 unmarked"));
        let leader: i32 = runner.hear("child").parse().unwrap();
        runner.hear("ready");
        assert!(!runner.tree.lives(leader), "it is still marked");
        let leader = Unmarked::hold(leader);
        runner.kill();
        (leader, runner)
    });
    eventually("it is dead", || !guarded.lives());
    assert!(control.lives(), "it died without a guardian too");
}

/// Held by its pidfd, since there is no mark to know it by. Dropping it kills it.
struct Unmarked(std::os::fd::OwnedFd);

impl Unmarked {
    fn hold(pid: i32) -> Unmarked {
        Unmarked(pidfd_open(rustix::process::Pid::from_raw(pid).unwrap(), PidfdFlags::empty()).unwrap())
    }

    fn lives(&self) -> bool {
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).unwrap() == 0
    }
}

impl Drop for Unmarked {
    fn drop(&mut self) {
        let _ = pidfd_send_signal(&self.0, rustix::process::Signal::KILL);
    }
}

pub(crate) fn who_escaped_from_a_run_dies_with_it_and_is_let_finish() {
    let (mut runner, mut control) = (Parent::start_as(super::runner::ROLE), Parent::start_as(super::runner::ROLE));
    let escapees = [("guarded", &mut runner), ("alone", &mut control)].map(|(guard, runner)| {
        runner.tell(&format!("{guard} Term 0 60000 polite-escapee"));
        runner.hear("ready");
        let escapee: i32 = runner.hear("escaped").parse().unwrap();
        kill(Pid::from_raw(runner.pid()), Signal::SIGTERM).unwrap();
        runner.hear("ended");
        escapee
    });
    assert_eq!(runner.hear("asked"), "escapee");
    eventually("the escapee is dead", || !runner.tree.lives(escapees[0]));
    assert!(runner.tree.lives(runner.pid()));
    assert!(control.tree.lives(escapees[1]), "it died without a guardian too");
}

pub(crate) fn who_escaped_from_one_that_leaves_its_leftovers_lives_on() {
    use deadbeat::agent::{AgentOptions, Leftovers, run_subprocess_agent};
    use deadbeat::guardian::Guardian;
    // The reverse of each other: what ends the one is shown to have been at work when the other is looked at.
    let mut parent = Parent::start();
    let mark = parent.tree.mark();
    let guardian = Guardian::of_this_program().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let run = |leftovers: Leftovers, name: &str| {
        let mut command = tokio::process::Command::new("sh");
        command.args(["-c", &format!("setsid sleep {name} & exit 0")]).env(&mark.0, &mark.1);
        let options = AgentOptions::default().guardian(guardian.clone()).leftovers(leftovers);
        runtime.block_on(run_subprocess_agent(command, &options)).unwrap();
    };
    let sleeps =
        |parent: &Parent, name: &str| parent.tree.alive().iter().any(|(_, line)| line.ends_with(&format!("{name} ")));
    run(Leftovers::Leave, "121");
    eventually("the one that is left has escaped", || sleeps(&parent, "121"));
    run(Leftovers::Kill, "122");
    run(Leftovers::Kill, "123");
    eventually("the others are dead", || !sleeps(&parent, "122") && !sleeps(&parent, "123"));
    assert!(sleeps(&parent, "121"), "it was to be left");
    parent.kill();
}
