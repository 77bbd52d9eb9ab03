//! Random trees of processes with random dispositions: none of them survives, and no other process is hit.
//!
//! `DEADBEAT_TREES` sets how many (40 by default), `DEADBEAT_SEED` replays a run; the seed of each is printed.

use std::io::{BufRead, BufReader};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime};

use deadbeat::ProcessGroup;
use deadbeat::kill::KillThread;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::support::{Bystander, eventually, policy};

#[derive(Clone, Copy, Debug)]
enum Disposition {
    Obeys,
    Ignores,
    Slow,
    Stops,
    ForksOnTerm,
    Exits,
}

#[derive(Clone, Debug)]
struct Tree {
    disposition: Disposition,
    children: Vec<Tree>,
}

fn trees() -> impl Strategy<Value = Tree> {
    use Disposition::*;
    let disposition = || {
        prop_oneof![
            3 => Just(Obeys),
            2 => Just(Ignores),
            1 => Just(Slow),
            1 => Just(Stops),
            1 => Just(ForksOnTerm),
            1 => Just(Exits),
        ]
    };
    let leaf = disposition().prop_map(|disposition| Tree { disposition, children: Vec::new() });
    leaf.prop_recursive(3, 8, 3, move |inner| {
        (disposition(), proptest::collection::vec(inner, 0..3))
            .prop_map(|(disposition, children)| Tree { disposition, children })
    })
}

/// A node starts its children, says that it is up, and then does what its disposition is.
///
/// SIGHUP is ignored: the kernel sends it to a group that its leader's exit orphans while a member is stopped, which
/// would end nodes before they are up.
const NODE: &str = r#"
eval "set -- \$NODE_$1"
disposition=$1; shift
trap '' HUP
case $disposition in
    Ignores) trap '' TERM ;;
    Slow) trap 'sleep 0.05; exit 0' TERM ;;
    ForksOnTerm) trap 'trap "" TERM; sleep 60 & exit 0' TERM ;;
esac
for child in "$@"; do sh -c "$NODE" node "$child" & done
echo up
case $disposition in
    Exits) exit 0 ;;
    Stops) kill -STOP $$; exec sleep 60 ;;
    Slow|ForksOnTerm) sleep 60 & wait; wait ;;
    *) exec sleep 60 ;;
esac
"#;

struct Grown {
    leader: Child,
    group: ProcessGroup,
    /// Keeps the pipe open that the tree writes to.
    _stdout: BufReader<std::process::ChildStdout>,
}

fn grow(tree: &Tree) -> Grown {
    fn number(tree: &Tree, command: &mut Command, next: &mut usize) -> usize {
        let mine = *next;
        *next += 1;
        let mut words = format!("{:?}", tree.disposition);
        for child in &tree.children {
            words += &format!(" {}", number(child, command, next));
        }
        command.env(format!("NODE_{mine}"), words);
        mine
    }
    let mut command = Command::new("sh");
    let mut nodes = 0;
    number(tree, &mut command, &mut nodes);
    command.args(["-c", NODE, "node", "0"]).env("NODE", NODE).process_group(0).stdin(Stdio::null());
    let mut leader = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let group = ProcessGroup::new(leader.id() as i32).unwrap();
    let mut stdout = BufReader::new(leader.stdout.take().unwrap());
    for _ in 0..nodes {
        let mut line = String::new();
        assert_eq!((stdout.read_line(&mut line).unwrap(), &*line), (3, "up\n"));
    }
    Grown { leader, group, _stdout: stdout }
}

impl Drop for Grown {
    fn drop(&mut self) {
        // Un-reaped until here, so the group is still ours.
        let _ = self.group.signal(deadbeat::Signal::KILL);
        let _ = self.leader.wait();
    }
}

fn has_ended(leader: ProcessGroup) -> bool {
    use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};
    let leader = Id::Pid(nix::unistd::Pid::from_raw(leader.pgid()));
    let flags = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
    waitid(leader, flags).unwrap() != WaitStatus::StillAlive
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

#[test]
fn of_random_trees_nobody_survives_and_no_stranger_is_hit() {
    #[expect(clippy::disallowed_methods, reason = "a seed, and it is printed")]
    let now = SystemTime::UNIX_EPOCH.elapsed().unwrap();
    let seed = setting("DEADBEAT_SEED", now.as_nanos() as u64);
    let count = setting("DEADBEAT_TREES", 40) as usize;
    println!("{count} trees; replay with DEADBEAT_SEED={seed}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let mut runner = TestRunner::new_with_rng(Config::default(), TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let shapes: Vec<Tree> = (0..count).map(|_| trees().new_tree(&mut runner).unwrap().current()).collect();

    let mut bystanders = [Bystander::start(), Bystander::start()];
    let kill_thread = KillThread::new(policy().grace(Duration::from_millis(200))).unwrap();
    let mut survivors = 0;
    for batch in shapes.chunks(20) {
        let mut grown: Vec<Grown> = batch.iter().map(grow).collect();
        let pending: Vec<_> = grown.iter().map(|tree| kill_thread.kill(tree.group.pgid())).collect();
        for ((pending, tree), shape) in pending.into_iter().zip(&mut grown).zip(batch) {
            let report = pending.wait_blocking().unwrap();
            match deadbeat::group::backend() {
                deadbeat::group::Backend::Proc => {
                    let left = tree.group.members().unwrap();
                    survivors += left.len();
                    assert!(left.is_empty(), "seed {seed}: {left:?} of {shape:?}: {report:?}");
                }
                // Without reaping it: it pins the number until the tree is dropped.
                _ => eventually("the leader is dead", || has_ended(tree.group)),
            }
        }
    }
    assert!(bystanders.iter_mut().all(Bystander::is_alive), "seed {seed}: a stranger was hit");
    println!("{count} trees, {survivors} survivors, 0 strangers hit");
}

#[test]
fn the_control_a_kill_without_sigkill_leaves_survivors() {
    // Trees in which a process ignores SIGTERM, killed by SIGTERM alone.
    let stubborn = Tree { disposition: Disposition::Ignores, children: Vec::new() };
    let tree = grow(&Tree { disposition: Disposition::Obeys, children: vec![stubborn] });
    let group = nix::unistd::Pid::from_raw(tree.group.pgid());
    nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGTERM).unwrap();
    eventually("the leader is dead", || has_ended(tree.group));
    assert!(!tree.group.is_gone(), "the control was not caught");
}

#[test]
fn the_control_would_hit_the_bystander() {
    let mut bystander = Bystander::start();
    bystander.group().signal(deadbeat::Signal::KILL).unwrap();
    eventually("the bystander is seen to be dead", || !bystander.is_alive());
}
