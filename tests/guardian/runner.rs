//! A program with a tokio runtime and one `run_subprocess_agent` in it, which ends in the way it is told to.
//!
//! It is told by one line, `guarded|alone END MOMENT GRACE PROGRAM`, and then only to `exit`. The moment, in
//! microseconds, begins when it says `go`; the grace is in milliseconds.

use std::io::BufRead;
use std::time::Duration;

use deadbeat::agent::{AgentOptions, run_subprocess_agent};
use deadbeat::guardian::Guardian;
use deadbeat::registry::{Registry, kill_all_children};
use deadbeat::shutdown::{install_signal_handlers, request_shutdown, shutdown_requested};
use deadbeat::{KillPolicy, fixture};
use tokio::process::Command;
use tokio::runtime::Runtime;

use super::ends::{End, GRACE};
use super::parent::PROGRAMS;
use super::support::eventually;

/// Set in a process that is to play this part.
pub(crate) const ROLE: &str = "DEADBEAT_TEST_RUNNER";

/// What is panicked with.
const PURPOSE: &str = "on purpose";

pub(crate) fn main() {
    let mut lines = std::io::stdin().lock().lines();
    let line = lines.next().unwrap().unwrap();
    let words: Vec<&str> = line.split(' ').collect();
    let [guard, end, moment, grace, program] = words[..] else { panic!("what is {line:?}?") };
    let moment = Duration::from_micros(moment.parse().unwrap());
    let guardian = (guard == "guarded").then(|| Guardian::of_this_program().unwrap());
    println!("guardian {}", guardian.as_ref().and_then(Guardian::pid).unwrap_or(0));
    let (hook, alone) = (std::panic::take_hook(), guardian.is_none());
    std::panic::set_hook(Box::new(move |panic| {
        if panic.payload().downcast_ref() != Some(&PURPOSE) {
            hook(panic);
        }
        // What a program does that has no guardian: the net for everything but SIGKILL.
        if alone {
            println!("swept {}", kill_all_children().len());
        }
    }));
    install_signal_handlers().unwrap();
    let end = End::ALL.into_iter().find(|known| format!("{known:?}") == end).unwrap();
    let policy = KillPolicy::default().grace(Duration::from_millis(grace.parse().unwrap()));
    let options = AgentOptions::default().policy(policy).on_spawn(|child| println!("child {}", child.id().unwrap()));
    let options = match guardian {
        Some(guardian) => options.guardian(guardian),
        None => options,
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.spawn(async {
        shutdown_requested().await;
        println!("requested now");
    });
    println!("go now");
    run(end, moment, options, command(program), runtime);
    eventually("the registry is empty", || Registry::global().list().is_empty());
    println!("ended registry {:?}", Registry::global().list());
    while lines.next().is_some_and(|line| line.unwrap() != "exit") {}
}

fn command(program: &str) -> Command {
    let own = PROGRAMS.iter().find(|(name, _)| *name == program).map(|(_, text)| *text);
    let text = own.or_else(|| fixture::named(program).map(|fixture| fixture.source)).expect(program);
    let mut command = Command::new("sh");
    command.args(["-c", text, program]).stderr(std::process::Stdio::null());
    command
}

fn run(end: End, moment: Duration, options: AgentOptions, command: Command, runtime: Runtime) {
    // What interrupts the run from without finds it in its kill about as often as before.
    let options = match end {
        End::Timeout => options.timeout(moment),
        End::Dropped | End::RuntimeDropped | End::Panic | End::DeadlyPanic | End::Killed => {
            options.timeout(moment / 2 + GRACE / 4)
        }
        End::Request | End::Term | End::Int => options,
    };
    let run = async move { run_subprocess_agent(command, &options).await };
    match end {
        End::Timeout | End::Term | End::Int | End::Killed => drop(runtime.block_on(run)),
        End::Request => {
            let asked = async {
                tokio::time::sleep(moment).await;
                request_shutdown();
            };
            drop(runtime.block_on(async { tokio::join!(run, asked) }));
        }
        End::Dropped => runtime.block_on(async { drop(tokio::time::timeout(moment, run).await) }),
        End::RuntimeDropped => {
            runtime.spawn(run);
            runtime.block_on(async { tokio::time::sleep(moment).await });
            drop(runtime);
        }
        End::Panic => {
            let panics = runtime.spawn(with_panic(run, moment));
            assert!(runtime.block_on(panics).unwrap_err().is_panic());
        }
        End::DeadlyPanic => runtime.block_on(with_panic(run, moment)),
    }
}

async fn with_panic(run: impl Future, moment: Duration) {
    let _ = tokio::time::timeout(moment, async { drop(run.await) }).await;
    std::panic::panic_any(PURPOSE);
}
