//! A program whose children do not outlive it, even if it is killed by SIGKILL.
//!
//! `cargo run --example guarded -- sleep 1000`, and kill it with `kill -KILL` from elsewhere: the command is gone too.

use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use deadbeat::KillPolicy;
use deadbeat::guardian::{self, Guardian};

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    // First of all: this is where the guardian, which is this program too, turns off.
    guardian::main_if_requested();

    let mut args = std::env::args_os().skip(1);
    let program = args.next().ok_or("usage: guarded COMMAND [ARG]...")?;

    let guardian = Guardian::of_this_program()?;
    let mut guarded = guardian.announce(&KillPolicy::default())?;
    let (name, value) = guarded.mark();
    let mut child = Command::new(program).args(args).env(name, value).process_group(0).spawn()?;
    guarded.guard(child.id().try_into()?)?;
    println!("{} runs in group {0}, guarded by {}", child.id(), guardian.pid().unwrap_or_default());

    // Its end is seen first, then the guard is taken off, and only then is the child reaped: until then its number is
    // not given out again.
    let pid = rustix::process::Pid::from_child(&child);
    let options = rustix::process::WaitIdOptions::EXITED | rustix::process::WaitIdOptions::NOWAIT;
    rustix::process::waitid(rustix::process::WaitId::Pid(pid), options)?;
    guarded.release();
    let status = child.wait()?;
    Ok(ExitCode::from(status.code().and_then(|code| u8::try_from(code).ok()).unwrap_or(1)))
}
