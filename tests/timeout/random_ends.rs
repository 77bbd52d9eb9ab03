//! Runs that end at a random moment, over trees of every kind: nothing of them survives unnamed, and no other process
//! is hit.
//!
//! In a pid namespace of its own, so that every process is known: one that is not the test's and no bystander is a
//! survivor. `DEADBEAT_RANDOM_ENDS` is the number of runs (20 unless it is said), `DEADBEAT_RANDOM_SEED` that of the
//! first of them.

mod plan;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::inside::{inside, skip};
use crate::support::SOON;
use plan::{Before, End, Plan};

/// The first process waits for the second and reaps whatever is orphaned meanwhile.
const NAMESPACE: [&str; 9] =
    ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-c", "\"$@\"; exit $?", "sh"];

/// How long a guardian may take for what its parent has left, and a killed process to die: far more than either needs.
const GONE_WITHIN: Duration = Duration::from_secs(8);

#[test]
fn nothing_survives_a_random_end_and_no_bystander_is_hit() {
    if Command::new("perl")
        .args(["-MTime::HiRes", "-e", "1"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|it| it.success())
    {
        if !inside(nothing_survives_a_random_end_and_no_bystander_is_hit, &NAMESPACE) {
            return;
        }
    } else {
        return skip("random_ends: needs perl");
    }
    let first = fs::read_to_string("/proc/1/comm").unwrap();
    assert_eq!(first, "sh\n", "this is no namespace of its own, in which every other process may be ended");
    let number = |name| std::env::var(name).ok().map(|text| text.parse::<u64>().expect("a number"));
    let runs = number("DEADBEAT_RANDOM_ENDS").unwrap_or(20);
    let first = number("DEADBEAT_RANDOM_SEED").unwrap_or_else(|| RandomState::new().hash_one(0) >> 32);
    let dir = tempfile::tempdir().unwrap();
    let mut place = Place { known: living(), bystanders: BTreeMap::new(), children: Vec::new() };
    place.start_bystanders(40);
    let (mut wrong, mut named, mut hit) = (Vec::new(), 0, 0);
    for seed in first..first + runs {
        let seen = place.run(&Plan::of(seed), &dir.path().join(seed.to_string()));
        named += seen.named;
        hit += seen.hit.len();
        if !seen.is_right() {
            println!("DEADBEAT_RANDOM_ENDS=1 DEADBEAT_RANDOM_SEED={seed}: {seen:?} {:?}", Plan::of(seed));
            wrong.push(seed);
        }
    }
    let bystanders = hit + place.bystanders.len();
    println!(
        "{runs} runs from seed {first}: {} wrong, {named} survivors named, {hit} of {bystanders} bystanders hit",
        wrong.len()
    );
    place.end_bystanders();
    assert!(wrong.is_empty(), "survivors that were not named, or bystanders hit, with the seeds {wrong:?}");
}

/// What came of a run.
#[derive(Debug, Default)]
struct Seen {
    /// Who was there when deadbeat itself had not ended for long, and was killed.
    hung: Vec<String>,
    survivors: Vec<String>,
    named: usize,
    hit: Vec<String>,
    stderr: String,
}

impl Seen {
    fn is_right(&self) -> bool {
        self.hung.is_empty() && self.survivors.is_empty() && self.hit.is_empty()
    }
}

/// The namespace, and the processes that have nothing to do with any run in it.
struct Place {
    known: BTreeSet<i32>,
    /// By pid, what each is.
    bystanders: BTreeMap<i32, &'static str>,
    children: Vec<Child>,
}

impl Place {
    /// Of the test's own group, of a group of their own, of a session of their own.
    fn start_bystanders(&mut self, count: usize) {
        for number in 0..count {
            let (what, mut command) = match number % 3 {
                0 => ("of our group", Command::new("sleep")),
                1 => ("of its own group", Command::new("sleep")),
                _ => ("of its own session", Command::new("setsid")),
            };
            match number % 3 {
                1 => drop(command.process_group(0)),
                2 => drop(command.arg("sleep")),
                _ => {}
            }
            let child = command.arg("100000").stdin(Stdio::null()).spawn().unwrap();
            self.bystanders.insert(child.id() as i32, what);
            self.children.push(child);
        }
    }

    fn run(&mut self, plan: &Plan, files: &Path) -> Seen {
        fs::create_dir(files).unwrap();
        let mut tool = start(plan, files);
        let came = self.expect_child_from_before(plan, files);
        let begun = Instant::now();
        if let End::Sent(signal) = plan.end {
            std::thread::park_timeout(Duration::from_millis(plan.after).saturating_sub(begun.elapsed()));
            let _ = kill_process(Pid::from_child(&tool), signal);
        }
        let hung = self.unless_ended(&mut tool);
        let mut seen = Seen { hung, stderr: fs::read_to_string(files.join("stderr")).unwrap(), ..Seen::default() };
        let is_named = |pid: &i32| seen.stderr.split(|c: char| !c.is_ascii_digit()).any(|word| word == pid.to_string());
        let left = self.strangers_after(GONE_WITHIN);
        let (named, survivors): (Vec<_>, Vec<_>) = left.into_iter().partition(is_named);
        seen.named = named.len();
        seen.survivors = survivors.iter().map(|pid| describe(*pid)).collect();
        seen.hit = self.hit();
        seen.hit.extend(came.err());
        self.clear();
        seen
    }

    /// Who is there when it does not end in time; it is killed then.
    fn unless_ended(&self, tool: &mut Child) -> Vec<String> {
        let start = Instant::now();
        while tool.try_wait().unwrap().is_none() {
            if start.elapsed() > SOON {
                let there = self.strangers().into_iter().map(describe).collect();
                tool.kill().unwrap();
                tool.wait().unwrap();
                return there;
            }
            std::thread::park_timeout(Duration::from_millis(2));
        }
        Vec::new()
    }

    /// It is a bystander from here on. `Err`: it was ended before it could say who it is.
    fn expect_child_from_before(&mut self, plan: &Plan, files: &Path) -> Result<(), String> {
        let what = match plan.before {
            Before::Nothing => return Ok(()),
            Before::Child => "a child from before the exec",
            Before::ChildOfOneThatEnds => "whose parent, from before the exec, has ended",
        };
        let start = Instant::now();
        while start.elapsed() < GONE_WITHIN {
            let told = fs::read_to_string(files.join("before")).unwrap_or_default();
            if let Some(pid) = told.strip_suffix('\n').and_then(|pid| pid.parse().ok()) {
                self.bystanders.insert(pid, what);
                return Ok(());
            }
            std::thread::park_timeout(Duration::from_millis(1));
        }
        Err(format!("before it was there: one {what}"))
    }

    /// Who runs and should not, once that has not changed for the better in time.
    fn strangers_after(&self, time: Duration) -> Vec<i32> {
        let start = Instant::now();
        loop {
            let left: Vec<_> = self.strangers();
            if left.is_empty() || start.elapsed() > time {
                return left;
            }
            std::thread::park_timeout(Duration::from_millis(5));
        }
    }

    fn strangers(&self) -> Vec<i32> {
        // A chain may be between two links of which a walk sees neither.
        let seen: BTreeSet<_> = (0..3).flat_map(|_| living()).collect();
        let ours = |pid: &i32| self.known.contains(pid) || self.bystanders.contains_key(pid);
        seen.into_iter().filter(|pid| !ours(pid)).collect()
    }

    /// The bystanders that are gone; told once.
    fn hit(&mut self) -> Vec<String> {
        let alive = living();
        let hit: Vec<_> = self.bystanders.keys().copied().filter(|pid| !alive.contains(pid)).collect();
        hit.iter().map(|pid| format!("{pid}, {}", self.bystanders.remove(pid).unwrap())).collect()
    }

    /// What is left of one run must not be counted for the next.
    fn clear(&self) {
        let start = Instant::now();
        loop {
            let left = self.strangers();
            if left.is_empty() {
                return;
            }
            assert!(start.elapsed() < SOON, "{left:?} cannot be ended");
            left.into_iter().for_each(kill);
        }
    }

    fn end_bystanders(&mut self) {
        let pids = std::mem::take(&mut self.bystanders);
        pids.into_keys().for_each(kill);
        self.children.iter_mut().for_each(|child| drop(child.wait()));
    }
}

fn start(plan: &Plan, files: &Path) -> Child {
    // One is of deadbeat's own group, the other a daemon.
    let stay = format!("sh -c 'echo $$ >\"{}\"; exec sleep 100000'", files.join("before").display());
    let before = match plan.before {
        Before::Nothing => String::new(),
        Before::Child => format!("{stay} & "),
        Before::ChildOfOneThatEnds => format!("(sleep .03; setsid {stay} &) & "),
    };
    let program = env!("CARGO_BIN_EXE_deadbeat");
    let mut command = Command::new("sh");
    command.args(["-c", &format!("{before}exec {program} timeout {}", plan.arguments())]).process_group(0);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(files.join("stderr")).unwrap());
    command.spawn().unwrap()
}

/// It may have ended by itself.
fn kill(pid: i32) {
    let _ = kill_process(Pid::from_raw(pid).unwrap(), Signal::KILL);
}

/// The processes of this namespace that can run, by the main thread's state.
fn living() -> BTreeSet<i32> {
    let entries = fs::read_dir("/proc").unwrap().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid| fields(*pid).is_some_and(|(state, _)| !"ZX".contains(state))).collect()
}

fn fields(pid: i32) -> Option<(char, String)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (name, rest) = stat.rsplit_once(") ")?;
    Some((rest.chars().next()?, name.split_once('(')?.1.to_owned()))
}

fn describe(pid: i32) -> String {
    let command = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words = String::from_utf8_lossy(&command).replace('\0', " ");
    format!("{pid} ({}): {:.60}", fields(pid).map_or("gone".to_owned(), |(_, name)| name), words)
}
