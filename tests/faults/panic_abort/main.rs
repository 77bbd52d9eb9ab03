//! A program whose panics abort it, where no thread can be started: `tests/faults/panic_abort.rs` builds and runs it.
//!
//! Says `CASE done` of each of its cases. Last it does what it must not, and aborts: it asks tokio's blocking pool.

use std::future::Future;
use std::io::{BufRead, BufReader};
use std::pin::pin;
use std::sync::mpsc::{Sender, channel};
use std::task::{Context, Waker};
use std::time::Duration;

use deadbeat::{KillPolicy, Outcome, ProcessGroup, kill_process_group};
use tokio::process::{Child, Command};
use tokio::runtime::{Builder, Runtime};

const STUBBORN: &str = "trap '' TERM; echo up; exec sleep 60";
const OBEDIENT: &str = "echo up; exec sleep 60";

/// Leaders of groups of their own, which are up; killed and reaped when the program's namespace ends, at the latest.
struct Groups(Vec<Child>);

impl Groups {
    fn start(runtime: &Runtime, count: usize, script: &str) -> Groups {
        let _entered = runtime.enter();
        let start = |_| {
            let mut up = std::process::Command::new("sh");
            std::os::unix::process::CommandExt::process_group(&mut up, 0);
            up.args(["-c", script]).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::null());
            let mut child = Command::from(up).spawn().expect("a process");
            let stdout = child.stdout.take().expect("piped").into_owned_fd().expect("a descriptor");
            BufReader::new(std::fs::File::from(stdout)).read_line(&mut String::new()).expect("a line");
            child
        };
        Groups((0..count).map(start).collect())
    }

    fn pgids(&self) -> Vec<i32> {
        self.0.iter().map(|child| child.id().expect("not reaped") as i32).collect()
    }

    fn wait_until_gone(&self) {
        for pgid in self.pgids() {
            while !ProcessGroup::new(pgid).expect("another group").is_gone() {
                std::thread::park_timeout(Duration::from_millis(5));
            }
        }
    }
}

fn policy() -> KillPolicy {
    KillPolicy::default().grace(Duration::from_millis(150)).confirm(Duration::from_secs(40))
}

fn runtime() -> Runtime {
    Builder::new_current_thread().enable_all().build().expect("a runtime")
}

/// Threads that take every number there is.
fn fill() -> Vec<Sender<()>> {
    let mut filling = Vec::new();
    loop {
        let (release, released) = channel::<()>();
        let idle = std::thread::Builder::new().stack_size(16 * 1024).spawn(move || released.recv());
        if idle.is_err() {
            return filling;
        }
        filling.push(release);
    }
}

/// All of them at once.
fn kill_all(runtime: &Runtime, groups: &Groups) {
    let kill = |pgid| runtime.spawn(async move { policy().kill(pgid).await });
    let kills: Vec<_> = groups.pgids().into_iter().map(kill).collect();
    for kill in kills {
        let report = runtime.block_on(kill).expect("no panic").expect("killed");
        assert_eq!(report.outcome, Outcome::Killed);
    }
    groups.wait_until_gone();
}

fn kill_all_as_the_seed_does(runtime: &Runtime, groups: &Groups) {
    let kills: Vec<_> = groups.pgids().into_iter().map(|pgid| runtime.spawn(kill_process_group(pgid))).collect();
    for kill in kills {
        runtime.block_on(kill).expect("no panic");
    }
    groups.wait_until_gone();
}

/// One poll, and then there is neither a future nor a runtime.
fn begin_and_end_the_runtime(groups: &Groups) {
    let ending = runtime();
    let policy = policy();
    for pgid in groups.pgids() {
        let _entered = ending.enter();
        let kill = pin!(policy.kill(pgid));
        assert!(kill.poll(&mut Context::from_waker(Waker::noop())).is_pending());
    }
    drop(ending);
    groups.wait_until_gone();
}

fn main() {
    let home = runtime();
    let some = |script| Groups::start(&home, 8, script);
    let (first, second, third, fourth) = (some(STUBBORN), some(STUBBORN), some(OBEDIENT), some(STUBBORN));
    let (fifth, sixth, seventh) = (some(STUBBORN), some(OBEDIENT), some(OBEDIENT));
    let mut with_child = some(STUBBORN);
    let timerless = Builder::new_current_thread().build().expect("a runtime");
    let begin = |case: &str, run: &mut dyn FnMut()| {
        run();
        println!("{case} done");
    };

    let filling = fill();
    begin("without the kill thread", &mut || kill_all(&home, &first));
    begin("without a timer", &mut || kill_all(&timerless, &second));
    begin("without the kill thread, kill_process_group", &mut || kill_all_as_the_seed_does(&home, &third));
    begin("the runtime ends", &mut || begin_and_end_the_runtime(&fourth));
    drop(filling);

    // Places are free again when the threads have gone; then the kill thread is started, and there are none again.
    while std::process::Command::new("true").status().is_err() {}
    begin("with threads", &mut || kill_all(&home, &fifth));
    begin("with threads, kill_process_group", &mut || kill_all_as_the_seed_does(&runtime(), &seventh));
    let filling = fill();
    begin("with the kill thread alone, kill_process_group", &mut || kill_all_as_the_seed_does(&home, &sixth));
    for child in &mut with_child.0 {
        let killed = home.block_on(policy().kill_child(child)).expect("killed");
        assert_eq!(killed.report.outcome, Outcome::Killed);
    }
    println!("kill_child done");
    home.block_on(async { drop(tokio::task::spawn_blocking(|| {}).await) });
    println!("the control was not caught: spawn_blocking can start a thread");
    drop(filling);
}
