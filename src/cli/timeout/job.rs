//! The command as a job: what stops deadbeat stops the command, and the terminal is lent to it once it asks for that.
//!
//! A command in a group of its own is in the terminal's background. That is as it should be until it asks, by being
//! stopped for reading the terminal or setting it: the foreground, and Ctrl-C, stay with deadbeat's group.
//!
//! 1. The command reads the terminal: SIGTTIN stops it (SIGTTOU if it sets it).
//! 2. If deadbeat's group has the foreground, that is lent to the command's group, which is continued. If not, deadbeat
//!    stops its own group by the same signal, which the shell sees; when it is continued it begins again with 2. Where
//!    another deadbeat of the same group has lent the terminal already, this one waits until that one has it back.
//! 3. Ctrl-Z stops the command. deadbeat takes the terminal back and stops its own group. `fg` continues deadbeat,
//!    which lends the terminal again; `bg` only continues.
//! 4. Another process of deadbeat's group reads the terminal: SIGTTIN comes to deadbeat, which takes the terminal back
//!    and continues its group; the command asks again if it needs to.

use std::time::{Duration, Instant};

use nix::sys::signal::{Signal as Named, kill};
use nix::unistd::{Pid, getpgid};
use rustix::process::{WaitId, WaitIdOptions, waitid};

use super::events::{Alarm, Event};
use super::signal_origin;
use super::terminal::{Holder, Terminal, TerminalLock};
use super::terminal_helpers::TerminalHelpers;
use crate::group::descendants;
use crate::group::stop::{Stopped, stop_by, stopped_by};
use crate::signal::Signal;

/// Between two looks at whether a process of the command's asks for the terminal without its leader.
const JOB_LOOK: Duration = Duration::from_millis(200);

/// How long another deadbeat may take to take the terminal back from its dead command: it may have to wait for a CPU.
const VACANT_TIMEOUT: Duration = Duration::from_secs(5);

/// The command while it runs: its pid, which is its group's number, and how that group is signalled.
pub(super) struct JobCommand<'a> {
    pub(super) pid: i32,
    pub(super) send: &'a dyn Fn(Signal),
}

#[derive(Debug)]
pub(super) struct Job {
    terminal: Option<Terminal>,
    alarm: Alarm,
    /// The command was lent the terminal at some time.
    was_lent: bool,
    /// The processes that see to the loan since then.
    helpers: Option<TerminalHelpers>,
    /// The command has asked for the terminal, and no other process of deadbeat's group has since.
    wants: bool,
    /// The command has asked in vain, and deadbeat cannot or must not stop: it waits until deadbeat's group has the
    /// foreground, or its time is over.
    waits: bool,
    /// Since when the command waits for a terminal that no process has.
    vacant: Option<Instant>,
    /// How many times deadbeat had been continued when that was handled last.
    handled: u32,
}

impl Job {
    /// `terminal` is `None` if there is none, or the command is in the group of this process.
    pub(super) fn new(terminal: Option<Terminal>, alarm: Alarm) -> Job {
        if terminal.is_some() {
            alarm.set(Event::Look, JOB_LOOK);
        }
        let handled = signal_origin::continued();
        Job { terminal, alarm, was_lent: false, helpers: None, wants: false, waits: false, vacant: None, handled }
    }

    /// Handles a SIGTSTP, SIGTTIN or SIGTTOU to this process. `command` is `None` before its start and after its end.
    pub(super) fn handle_stop(&mut self, signal: Signal, command: Option<&JobCommand<'_>>) {
        if let (Some(terminal), Some(command), true) = (self.terminal, command, self.was_lent) {
            let is_lent = is_lent(terminal.holder(command.pid));
            if is_lent && terminal.take().is_ok() && signal.as_raw() != Named::SIGTSTP as i32 {
                self.wants = false;
                let _ = kill(Pid::from_raw(0), Named::SIGCONT);
                self.handled = signal_origin::continued();
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

    /// Handles that this process was continued; the end of a stop may have been handled already.
    pub(super) fn handle_continued(&mut self, command: Option<&JobCommand<'_>>) {
        let continued = signal_origin::continued();
        if continued != self.handled {
            self.handled = continued;
            self.resume(command);
        }
    }

    /// Handles that a child of this process has ended or was stopped.
    pub(super) fn handle_child(&mut self, command: &JobCommand<'_>) {
        let Some(terminal) = self.terminal else { return };
        match leader_stop(command.pid) {
            Some(signal @ (Named::SIGTTIN | Named::SIGTTOU)) => self.was_asked(terminal, signal, command),
            Some(Named::SIGTSTP) => {
                if self.was_lent && terminal.holder(command.pid) == Holder::Command {
                    let _ = terminal.take();
                }
                // It stops all of the job, as Ctrl-Z would. If no shell could continue the job, the system does not
                // stop it.
                self.stop(Named::SIGTSTP, Stopped::Group);
                self.resume(Some(command));
            }
            // A SIGSTOP is for its sender to follow with a SIGCONT.
            _ => {}
        }
    }

    /// Looks for what no signal tells.
    pub(super) fn handle_look(&mut self, command: Option<&JobCommand<'_>>) {
        let start = Instant::now();
        if let (Some(terminal), Some(command)) = (self.terminal, command) {
            let holder = terminal.holder(command.pid);
            if holder != Holder::Vacant {
                self.vacant = None;
            }
            match (holder, self.waits) {
                (Holder::Vacant, true) => self.wait_in_vain(command),
                (Holder::Command | Holder::CommandsOwn | Holder::Vacant, _) => {}
                // A shell that brings this job to the foreground sends SIGCONT only if it has seen the job stop.
                (Holder::Own, true) => self.resume(Some(command)),
                (Holder::Sibling | Holder::Another, true) => {}
                (_, false) => {
                    if let Some(signal) = asking_member(command.pid) {
                        self.was_asked(terminal, signal, command);
                    }
                }
            }
        }
        // However many processes the command has, the looks take a fiftieth of the time at most.
        self.alarm.set(Event::Look, JOB_LOOK.max(start.elapsed() * 50));
    }

    /// Takes the terminal back from a command that is over. Returns whether the command had it to the end, its keys
    /// sent signals, and the rest of deadbeat's job has not received them.
    pub(super) fn end(&mut self, pid: i32) -> bool {
        let Some(terminal) = self.terminal.filter(|_| self.was_lent) else { return false };
        let is_sent_on = self.helpers.take().is_some_and(TerminalHelpers::end);
        is_lent(terminal.holder(pid)) && terminal.take().is_ok() && terminal.sends_signals() && !is_sent_on
    }

    /// `signal` stopped the command for want of the terminal.
    fn was_asked(&mut self, terminal: Terminal, signal: Named, command: &JobCommand<'_>) {
        self.wants = true;
        match terminal.holder(command.pid) {
            // It asked before the terminal was lent.
            Holder::Command => (command.send)(Signal::CONT),
            Holder::Own => self.resume(Some(command)),
            // The commands of several deadbeats have it one after the other. Their job is in the foreground and must go
            // on.
            Holder::Sibling | Holder::Vacant => self.waits = true,
            Holder::CommandsOwn | Holder::Another if self.stop(signal, Stopped::Group) => self.resume(Some(command)),
            Holder::CommandsOwn | Holder::Another => self.waits = true,
        }
    }

    /// No process has the terminal that the command waits for. If that lasts, a stop lets the shell take it back.
    fn wait_in_vain(&mut self, command: &JobCommand<'_>) {
        if self.vacant.get_or_insert_with(Instant::now).elapsed() >= VACANT_TIMEOUT {
            self.vacant = None;
            if self.stop(Named::SIGTTIN, Stopped::Group) {
                self.resume(Some(command));
            }
        }
    }

    /// Stops this process, and returns when it is continued: whether it was stopped at all.
    fn stop(&mut self, signal: Named, who: Stopped) -> bool {
        let before = match who {
            Stopped::Alone => signal_origin::continued_before_stop(),
            Stopped::Group => signal_origin::continued(),
        };
        let _ = stop_by(signal, who, || signal_origin::continued() != before);
        self.handled = signal_origin::continued();
        self.handled != before
    }

    fn resume(&mut self, command: Option<&JobCommand<'_>>) {
        let Some(command) = command else { return };
        // Its own stop, together with this process, is over: it is not to be handled later.
        let _ = leader_stop(command.pid);
        self.waits = false;
        if let Some(terminal) = self.terminal.filter(|_| self.wants) {
            let Some(_lock) = TerminalLock::take() else {
                self.waits = true;
                return;
            };
            if terminal.is_ours() {
                if !self.was_lent {
                    self.helpers = TerminalHelpers::start(terminal, command.pid);
                }
                // A command that has just ended cannot be given the terminal.
                self.was_lent |= terminal.give(Pid::from_raw(command.pid)).is_ok();
            }
        }
        (command.send)(Signal::CONT);
    }
}

/// Whether the group that has the terminal has it from this process, if that has lent it.
fn is_lent(holder: Holder) -> bool {
    matches!(holder, Holder::Command | Holder::CommandsOwn | Holder::Vacant)
}

/// The signal that has stopped the leader; it is told once for each stop.
fn leader_stop(pid: i32) -> Option<Named> {
    let options = WaitIdOptions::STOPPED | WaitIdOptions::NOHANG;
    let leader = rustix::process::Pid::from_raw(pid)?;
    let signal = waitid(WaitId::Pid(leader), options).ok()??.stopping_signal()?;
    Named::try_from(signal).ok()
}

/// The signal that has stopped a member of the command's group for want of the terminal. Its leader may ignore that
/// signal, or only a child stopped itself, as programs do that ask for a password. A process that has opened a group of
/// its own does not count: it is in the background of a shell within the command.
fn asking_member(pgid: i32) -> Option<Named> {
    descendants::running(&[]).into_iter().find_map(|pid| {
        let signal = Named::try_from(stopped_by(pid)?).ok()?;
        let asks = [Named::SIGTTIN, Named::SIGTTOU].contains(&signal);
        (asks && getpgid(Some(Pid::from_raw(pid))) == Ok(Pid::from_raw(pgid))).then_some(signal)
    })
}
