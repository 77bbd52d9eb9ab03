//! The run that ends with the command alone, as timeout(1) has it: for `--foreground`, where its children are not timed
//! out, and for a grace of zero, after which nothing is killed.

use std::io;
use std::pin::pin;

use nix::sys::signal::Signal as Named;
use nix::unistd::{Pid, getpgid, getpgrp};

use super::end::{RunFailure, TimeoutEnd};
use super::events::{Alarm, Event, Events};
use super::grammar::TimeoutCall;
use super::inherited::Inherited;
use super::job::{self, Job};
use super::requests::{Action, EndRequests};
use super::say::say_sending;
use super::terminal::Terminal;
use crate::agent::{Preparation, StartError, Stdin};
use crate::group::{ProcessGroup, signal_process};
use crate::signal::Signal;

struct PlainRun<'a> {
    call: &'a TimeoutCall,
    job: Job,
    alarm: Alarm,
    pid: i32,
    requests: EndRequests,
    /// What the command was sent.
    sent: Vec<Signal>,
}

pub(super) async fn run(
    call: &TimeoutCall,
    inherited: &Inherited,
    terminal: Option<Terminal>,
    events: &mut Events,
) -> Result<TimeoutEnd, RunFailure> {
    let death = call.signal.and_then(|signal| Named::try_from(signal.as_raw()).ok());
    let mut command = inherited.command(call, death);
    if !call.foreground {
        command.process_group(0);
    }
    let mut child = command.spawn().map_err(|error| {
        let own = Preparation { stdin: Stdin::Inherit, leads: !call.foreground };
        RunFailure::of_start(&call.command, &StartError::find_out(&mut command, error, own))
    })?;
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
    let pid = pid.ok_or_else(|| RunFailure::of_ours(&"the command has no process id"))?;
    let alarm = events.alarm();
    alarm.set(Event::TimeIsUp, call.timeout);
    let job = Job::new(terminal, alarm.clone());
    let mut run = PlainRun { call, job, alarm, pid, requests: EndRequests::default(), sent: Vec::new() };
    let status = events.handle_until(pin!(child.wait()), |event| run.handle(event)).await;
    let had_terminal = run.job.end(pid);
    let status = status.map_err(|error| RunFailure::of_ours(&error))?;
    Ok(TimeoutEnd::new(Some(status), run.requests.timed_out(), had_terminal, &run.sent))
}

impl PlainRun<'_> {
    fn handle(&mut self, event: Event) {
        match event {
            // The key's signal came to the command as well, which is in this process's group.
            Event::Key(_) if self.call.foreground && getpgid(Some(Pid::from_raw(self.pid))) == Ok(getpgrp()) => {}
            Event::Stop(signal) => self.with_job(|job, command| job.handle_stop(signal, Some(command))),
            // What continued this process continued all of its group.
            Event::Continued if self.call.foreground => {}
            Event::Continued => self.with_job(|job, command| job.handle_continued(Some(command))),
            Event::Look => self.with_job(|job, command| job.handle_look(Some(command))),
            Event::Child => self.with_job(Job::handle_child),
            request => self.act(request),
        }
    }

    fn act(&mut self, event: Event) {
        match self.requests.decide(event, self.call.signal, !self.call.kill_after.is_zero()) {
            Action::Nothing => {}
            Action::End(signal) => {
                self.ask(signal);
                self.alarm.set(Event::GraceIsOver, self.call.kill_after);
            }
            Action::EndAlso(signal) => self.ask(Some(signal)),
            Action::Pass(signal) => self.send(signal),
            Action::Kill => self.ask(Some(Signal::KILL)),
        }
    }

    fn ask(&mut self, signal: Option<Signal>) {
        say_sending(self.call, signal);
        if let Some(signal) = signal {
            self.send(signal);
        }
        if !self.call.foreground && signal != Some(Signal::KILL) {
            // A stopped command would not see the signal.
            self.send(Signal::CONT);
        }
    }

    fn with_job(&mut self, handle: impl FnOnce(&mut Job, &job::JobCommand<'_>)) {
        let (pid, foreground) = (self.pid, self.call.foreground);
        handle(&mut self.job, &job::JobCommand { pid, send: &|signal| send(pid, foreground, signal) });
    }

    fn send(&mut self, signal: Signal) {
        self.sent.push(signal);
        send(self.pid, self.call.foreground, signal);
    }
}

/// Sends the command a signal, which does nothing if it has ended and is not reaped yet.
fn send(pid: i32, foreground: bool, signal: Signal) {
    let _ = match foreground {
        true => signal_process(pid, signal),
        false => ProcessGroup::new(pid).map_err(io::Error::other).and_then(|group| group.signal(signal)),
    };
}
