//! The run that ends with the command alone, as timeout(1) has it: for `--foreground`, where its children are not timed
//! out, and for a grace of zero, after which nothing is killed.

use std::io;
use std::pin::pin;

use nix::sys::signal::Signal as Named;
use nix::unistd::{Pid, getpgid, getpgrp};

use super::end::{End, Failure};
use super::events::{Alarm, Event, Events};
use super::grammar::Call;
use super::inherited::{Inherited, Start};
use super::job::{self, Job};
use super::terminal::Terminal;
use super::{command, say, signals};
use crate::agent::{Preparation, StartError, Stdin};
use crate::group::{ProcessGroup, signal_process};
use crate::signal::Signal;

struct Run<'a> {
    call: &'a Call,
    job: Job,
    alarm: Alarm,
    pid: i32,
    timed_out: bool,
    /// How many times we were told to end.
    asked: u32,
    /// What we have sent it.
    told: Vec<Signal>,
}

pub(super) async fn run(
    call: &Call,
    inherited: &Inherited,
    terminal: Option<Terminal>,
    events: &mut Events,
) -> Result<End, Failure> {
    let mut command = command(call);
    if !call.foreground {
        command.process_group(0);
    }
    let death = call.signal.and_then(|signal| Named::try_from(signal.as_raw()).ok());
    inherited.give_to(&mut command, Start { death });
    let mut child = command.spawn().map_err(|error| {
        let own = Preparation { stdin: Stdin::Inherit, leads: !call.foreground };
        Failure::of_start(&call.command, &StartError::find_out(&mut command, error, own))
    })?;
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
    let pid = pid.ok_or_else(|| Failure::of_ours(&"the command has no process id"))?;
    let alarm = events.alarm();
    alarm.set(Event::TimeIsUp, call.timeout);
    let job = Job::new(terminal, alarm.clone());
    let mut run = Run { call, job, alarm, pid, timed_out: false, asked: 0, told: Vec::new() };
    let status = events.heed_until(pin!(child.wait()), |event| run.heed(event)).await;
    let had_terminal = run.job.end(pid);
    let status = status.map_err(|error| Failure::of_ours(&error))?;
    Ok(End::new(Some(status), run.timed_out, had_terminal, &run.told))
}

impl Run<'_> {
    fn heed(&mut self, event: Event) {
        match event {
            // Who was asked already has its grace, whatever was left of the time. With none there is nothing but to ask again.
            Event::TimeIsUp if self.asked > 0 && !self.call.kill_after.is_zero() => self.timed_out = true,
            Event::TimeIsUp if self.timed_out => {}
            Event::TimeIsUp => {
                self.timed_out = true;
                self.ask(self.call.signal);
                self.arm();
            }
            Event::GraceIsOver => self.ask(Some(Signal::KILL)),
            Event::Ask(signal) => {
                self.asked += 1;
                self.ask(Some(if self.asked == 1 { signal } else { Signal::KILL }));
                self.arm();
            }
            // It came to the command as well, which is in our group.
            Event::Typed(_) if self.call.foreground && getpgid(Some(Pid::from_raw(self.pid))) == Ok(getpgrp()) => {}
            // A command that tidies up then has its time.
            Event::Typed(signal) | Event::Pass(signal) => self.send(signal),
            Event::Stop(signal) => self.with_job(|job, command| job.heed_stop(signal, Some(command))),
            // Whatever continued us continued all of our group.
            Event::Continued if self.call.foreground => {}
            Event::Continued => self.with_job(|job, command| job.heed_continued(Some(command))),
            Event::Look => self.with_job(|job, command| job.heed_look(Some(command))),
            // Only the command is ended.
            Event::Kin => {}
            Event::Child => self.with_job(Job::heed_child),
        }
    }

    /// There is one grace, from when it was first asked.
    fn arm(&self) {
        if u32::from(self.timed_out) + self.asked == 1 {
            self.alarm.set(Event::GraceIsOver, self.call.kill_after);
        }
    }

    fn ask(&mut self, signal: Option<Signal>) {
        if self.call.verbose {
            let (name, command) = (signals::name(signal), self.call.command.to_string_lossy());
            say(&format_args!("sending signal {name} to command '{command}'"));
        }
        if let Some(signal) = signal {
            self.send(signal);
        }
        if !self.call.foreground && signal != Some(Signal::KILL) {
            // Whoever is stopped would not see it.
            self.send(Signal::CONT);
        }
    }

    fn with_job(&mut self, heed: impl FnOnce(&mut Job, &job::Command<'_>)) {
        let (pid, foreground) = (self.pid, self.call.foreground);
        heed(&mut self.job, &job::Command { pid, send: &|signal| send(pid, foreground, signal) });
    }

    fn send(&mut self, signal: Signal) {
        self.told.push(signal);
        send(self.pid, self.call.foreground, signal);
    }
}

/// To one that has ended and is not reaped yet it does nothing.
fn send(pid: i32, foreground: bool, signal: Signal) {
    let _ = match foreground {
        true => signal_process(pid, signal),
        false => ProcessGroup::new(pid).map_err(io::Error::other).and_then(|group| group.signal(signal)),
    };
}
