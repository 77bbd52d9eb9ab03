//! The command as a job of ours: what stops us stops it, and the terminal is lent to it once it asks for that.
//!
//! A command in a group of its own is in the terminal's background. Until it asks, by being stopped for reading the
//! terminal or setting it, that is as it should be: the foreground, and Ctrl-C, stay with the group that we are in.
//!
//! 1. The command reads the terminal: SIGTTIN stops it (SIGTTOU if it sets it).
//! 2. If our group has the foreground it is lent to the command's, which is continued. If not, the same signal stops our
//!    own group, which the shell sees; when we are continued we begin again with 2.
//!    Where another deadbeat of our group has lent it already we wait until that one has it back.
//! 3. Ctrl-Z stops the command. We take the terminal back and stop our own group. `fg` continues us, and we lend it again;
//!    `bg` only continues.
//! 4. Another process of our group reads the terminal: SIGTTIN comes to us. We take the terminal back and continue our
//!    group; the command asks again if it needs to.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal as Named, kill};
use nix::unistd::{Pid, getpgid};
use rustix::process::{WaitId, WaitIdOptions, waitid};

use super::events::{Alarm, Event};
use super::lending::Lending;
use super::origin;
use super::terminal::{Holder, Terminal, Turn};
use crate::group::descendants;
use crate::group::stop::{Stopped, stop_by, stopped_by};
use crate::signal::Signal;

/// Between two looks at whether a process of the command's asks for the terminal without its leader.
const LOOK: Duration = Duration::from_millis(200);

/// For another deadbeat to take the terminal back from its command that has ended, be it kept from the CPU.
const PATIENCE: Duration = Duration::from_secs(5);

/// The command while it is there: its pid, which is its group's number, and how that group is signalled.
pub(super) struct Command<'a> {
    pub(super) pid: i32,
    pub(super) send: &'a dyn Fn(Signal),
}

#[derive(Debug)]
pub(super) struct Job {
    terminal: Option<Terminal>,
    alarm: Alarm,
    /// It was lent the terminal at some time.
    was_lent: bool,
    /// Who attends it since then.
    lending: Option<Lending>,
    /// It has asked for the terminal, and no other process of our group has since.
    wants: bool,
    /// It has asked in vain, and we are not to stop or cannot: until our group has the foreground, or its time is over.
    waits: bool,
    /// Since when it waits for a terminal that no process has.
    vacant: Option<Instant>,
    /// How many times we were continued, of those that were heeded.
    heeded: u32,
}

impl Job {
    /// `None` for a terminal where the command is in our own group.
    pub(super) fn new(terminal: Option<Terminal>, alarm: Alarm) -> Job {
        if terminal.is_some() {
            alarm.set(Event::Look, LOOK);
        }
        let heeded = origin::continued();
        Job { terminal, alarm, was_lent: false, lending: None, wants: false, waits: false, vacant: None, heeded }
    }

    /// We were sent SIGTSTP, SIGTTIN or SIGTTOU. No command: it is not there yet, or not any more.
    pub(super) fn heed_stop(&mut self, signal: Signal, command: Option<&Command<'_>>) {
        if let (Some(terminal), Some(command), true) = (self.terminal, command, self.was_lent) {
            let is_lent = is_lent(terminal.holder(command.pid));
            if is_lent && terminal.take().is_ok() && signal.as_raw() != Named::SIGTSTP as i32 {
                self.wants = false;
                let _ = kill(Pid::from_raw(0), Named::SIGCONT);
                self.heeded = origin::continued();
                return;
            }
        }
        if let Some(command) = command {
            (command.send)(signal);
        }
        if let Ok(named) = Named::try_from(signal.as_raw()) {
            self.stop(named, Stopped::Alone);
        }
        self.resume(command);
    }

    /// We were continued, perhaps by a stop's end that is heeded already.
    pub(super) fn heed_continued(&mut self, command: Option<&Command<'_>>) {
        let continued = origin::continued();
        if continued != self.heeded {
            self.heeded = continued;
            self.resume(command);
        }
    }

    /// A child of ours has ended or was stopped.
    pub(super) fn heed_child(&mut self, command: &Command<'_>) {
        let Some(terminal) = self.terminal else { return };
        match leader_stop(command.pid) {
            Some(signal @ (Named::SIGTTIN | Named::SIGTTOU)) => self.was_asked(terminal, signal, command),
            Some(Named::SIGTSTP) => {
                if self.was_lent && terminal.holder(command.pid) == Holder::Command {
                    let _ = terminal.take();
                }
                // All of the job, as Ctrl-Z would have. Where nothing could continue us the system does not stop us.
                self.stop(Named::SIGTSTP, Stopped::Group);
                self.resume(Some(command));
            }
            // By a SIGSTOP it is stopped for its sender to continue.
            _ => {}
        }
    }

    /// Looks for what no signal tells.
    pub(super) fn heed_look(&mut self, command: Option<&Command<'_>>) {
        let start = Instant::now();
        if let (Some(terminal), Some(command)) = (self.terminal, command) {
            let holder = terminal.holder(command.pid);
            if holder != Holder::Vacant {
                self.vacant = None;
            }
            match (holder, self.waits) {
                (Holder::Vacant, true) => self.wait_in_vain(command),
                (Holder::Command | Holder::CommandsOwn | Holder::Vacant, _) => {}
                // A shell that brings us to the foreground does not tell one that it has not seen stopped.
                (Holder::Us, true) => self.resume(Some(command)),
                (Holder::Sibling | Holder::Another, true) => {}
                (_, false) => {
                    if let Some(signal) = asking_member(command.pid) {
                        self.was_asked(terminal, signal, command);
                    }
                }
            }
        }
        // A fiftieth of the time at most, however many processes the command has.
        self.alarm.set(Event::Look, LOOK.max(start.elapsed() * 50));
    }

    /// The command is over: takes the terminal back. Tells whether the command had it to the end, keys sent signals, and the
    /// rest of our job has not had them.
    pub(super) fn end(&mut self, pid: i32) -> bool {
        let Some(terminal) = self.terminal.filter(|_| self.was_lent) else { return false };
        let is_told = self.lending.take().is_some_and(Lending::end);
        is_lent(terminal.holder(pid)) && terminal.take().is_ok() && terminal.sends_signals() && !is_told
    }

    /// `signal` stopped it for want of the terminal.
    fn was_asked(&mut self, terminal: Terminal, signal: Named, command: &Command<'_>) {
        self.wants = true;
        match terminal.holder(command.pid) {
            // It asked before it was lent.
            Holder::Command => (command.send)(Signal::CONT),
            Holder::Us => self.resume(Some(command)),
            // They have it one after the other: our job is in the foreground, and is not to be stopped.
            Holder::Sibling | Holder::Vacant => self.waits = true,
            Holder::CommandsOwn | Holder::Another if self.stop(signal, Stopped::Group) => self.resume(Some(command)),
            Holder::CommandsOwn | Holder::Another => self.waits = true,
        }
    }

    /// No process has the terminal that the command waits for. If it stays so, a stop lets our shell take it back.
    fn wait_in_vain(&mut self, command: &Command<'_>) {
        if self.vacant.get_or_insert_with(Instant::now).elapsed() >= PATIENCE {
            self.vacant = None;
            if self.stop(Named::SIGTTIN, Stopped::Group) {
                self.resume(Some(command));
            }
        }
    }

    /// Stops us, and returns when we are continued: whether we were stopped at all.
    fn stop(&mut self, signal: Named, who: Stopped) -> bool {
        let before = match who {
            Stopped::Alone => origin::continued_before_stop(),
            Stopped::Group => origin::continued(),
        };
        let _ = stop_by(signal, who, || origin::continued() != before);
        self.heeded = origin::continued();
        self.heeded != before
    }

    fn resume(&mut self, command: Option<&Command<'_>>) {
        let Some(command) = command else { return };
        // It was stopped together with us: there is nothing more to be made of that.
        let _ = leader_stop(command.pid);
        self.waits = false;
        if let Some(terminal) = self.terminal.filter(|_| self.wants) {
            let Some(_turn) = Turn::take() else {
                self.waits = true;
                return;
            };
            if terminal.is_ours() {
                if !self.was_lent {
                    self.lending = Lending::begin(terminal, command.pid);
                }
                // A command that has just ended takes nothing.
                self.was_lent |= terminal.give(Pid::from_raw(command.pid)).is_ok();
            }
        }
        (command.send)(Signal::CONT);
    }
}

/// Whether what has the terminal has it from us, if it was lent.
fn is_lent(holder: Holder) -> bool {
    matches!(holder, Holder::Command | Holder::CommandsOwn | Holder::Vacant)
}

/// By what the leader was stopped, told once a stop.
fn leader_stop(pid: i32) -> Option<Named> {
    let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
    let leader = rustix::process::Pid::from_raw(pid)?;
    let signal = waitid(WaitId::Pid(leader), options).ok()??.stopping_signal()?;
    Named::try_from(signal).ok()
}

/// What stopped a member of the command's group for want of the terminal, where its leader ignores that signal or only a
/// child stopped itself, as programs do that ask for a password. One that has opened a group of its own is in the
/// background of a shell of the command's.
fn asking_member(pgid: i32) -> Option<Named> {
    descendants::running(&[]).into_iter().find_map(|pid| {
        let signal = Named::try_from(stopped_by(pid)?).ok()?;
        let asks = [Named::SIGTTIN, Named::SIGTTOU].contains(&signal);
        (asks && getpgid(Some(Pid::from_raw(pid))) == Ok(Pid::from_raw(pgid))).then_some(signal)
    })
}
