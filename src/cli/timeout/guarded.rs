//! The run of which nothing survives: `run_subprocess_agent` kills the command's group, a guardian does if deadbeat is
//! killed, and the subreaper kills what has escaped from the group.

use std::pin::pin;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use nix::sys::signal::Signal as Named;

use super::end::{RunFailure, TimeoutEnd};
use super::events::{Alarm, Event, Events};
use super::grammar::TimeoutCall;
use super::inherited::Inherited;
use super::job::{self, Job};
use super::kill_escaped::EscapedProcess;
use super::requests::{Action, EndRequests};
use super::say::{say, say_sending};
use super::signal_origin;
use super::subreaper::{EscapedReport, Subreaper};
use super::terminal::Terminal;
use crate::agent::{AgentError, AgentExit, AgentOptions, Escaped, Stdin, run_subprocess_agent};
use crate::group::ProcessGroup;
use crate::guardian::Guardian;
use crate::kill::{KillError, KillErrorKind, KillPolicy, KillReport, Outcome};
use crate::registry::Registry;
use crate::shutdown::Shutdown;
use crate::signal::Signal;

/// Between two looks at whose each process is, where descent alone does not tell that.
const OWNERS_LOOK: Duration = Duration::from_millis(100);

/// A run under way, and what it takes to pass something on to its command.
struct GuardedRun<'a> {
    call: &'a TimeoutCall,
    job: Job,
    alarm: Alarm,
    registry: Arc<Registry>,
    shutdown: Arc<Shutdown>,
    subreaper: Arc<Subreaper>,
    /// The command's pid; 0 before it is started.
    pid: Arc<AtomicI32>,
    requests: EndRequests,
    /// What the command was sent.
    sent: Vec<Signal>,
}

/// The signal that ends the run. Signal 0 asks for nothing; but SIGCONT follows it, as it follows any other signal.
fn first_signal(chosen: Option<Signal>) -> Signal {
    chosen.unwrap_or(Signal::CONT)
}

pub(super) async fn run(
    call: &TimeoutCall,
    guardian: Option<Guardian>,
    inherited: &Inherited,
    terminal: Option<Terminal>,
    events: &mut Events,
) -> Result<TimeoutEnd, RunFailure> {
    let policy = KillPolicy::default().signal(first_signal(call.signal)).grace(call.kill_after);
    let subreaper = Subreaper::new(guardian.clone(), policy.clone());
    let mut run = GuardedRun {
        call,
        job: Job::new(terminal, events.alarm()),
        alarm: events.alarm(),
        registry: Arc::new(Registry::new(policy.clone())),
        shutdown: Arc::default(),
        subreaper: Arc::clone(&subreaper),
        pid: Arc::default(),
        requests: EndRequests::default(),
        sent: Vec::new(),
    };
    let escaped = Escaped::default();
    let (pid, alarm, timeout) = (Arc::clone(&run.pid), run.alarm.clone(), call.timeout);
    let follower = guardian.clone().filter(|_| terminal.is_some() || !timeout.is_zero());
    // Before the command is there, so that a stop that comes with its start is followed too; and again when it is, for
    // the exact time.
    follower.iter().for_each(|guardian| guardian.follow_stops(timeout));
    // Without a guardian, the command itself at least does not outlive deadbeat.
    let death = guardian.is_none().then_some(Named::SIGKILL);
    let options = match guardian {
        Some(guardian) => AgentOptions::default().guardian(guardian),
        None => AgentOptions::default(),
    };
    if subreaper.finder().has_strangers() {
        run.alarm.set(Event::Owners, OWNERS_LOOK);
    }
    let options = options
        .policy(policy)
        .stdin(Stdin::Inherit)
        .own_escaped(Arc::clone(&escaped))
        .registry(Arc::clone(&run.registry))
        .shutdown(Arc::clone(&run.shutdown))
        .on_spawn(move |child| {
            let number = child.id().and_then(|pid| i32::try_from(pid).ok()).unwrap_or(0);
            pid.store(number, Ordering::SeqCst);
            subreaper.finder().set_leader(number);
            alarm.set(Event::TimeIsUp, timeout);
            follower.iter().for_each(|guardian| guardian.follow_stops(timeout));
        });
    let agent = pin!(run_subprocess_agent(inherited.command(call, death), &options));
    let end = events.handle_until(agent, |event| run.handle(event)).await;
    let had_terminal = run.job.end(run.pid.load(Ordering::SeqCst));
    // The escaped processes have the rest of their grace, and signals are handled meanwhile.
    run.requests.set_group_dead();
    let rest = pin!(run.subreaper.end());
    let report = events.handle_until(rest, |event| run.handle(event)).await;
    if let Some(child) = escaped.lock().unwrap_or_else(PoisonError::into_inner).take() {
        child.release();
    }
    run.settle(end, report, had_terminal)
}

impl GuardedRun<'_> {
    fn handle(&mut self, event: Event) {
        let is_running = !self.requests.group_is_dead();
        match event {
            Event::Stop(signal) => self.with_job(|job, command| job.handle_stop(signal, command)),
            Event::Continued if is_running => self.with_job(Job::handle_continued),
            Event::Look if is_running => self.with_job(Job::handle_look),
            Event::Owners if is_running => {
                self.subreaper.finder().look();
                self.alarm.set(Event::Owners, OWNERS_LOOK);
            }
            Event::Child if is_running => self.handle_child(),
            request => self.act(request),
        }
    }

    fn act(&mut self, event: Event) {
        match self.requests.decide(event, self.call.signal, true) {
            Action::Nothing => {}
            Action::End(signal) => {
                say_sending(self.call, signal);
                self.end(first_signal(signal));
            }
            Action::EndAlso(signal) | Action::Pass(signal) => {
                self.sent.push(signal);
                self.registry.signal_all(signal);
            }
            Action::Kill => {
                say_sending(self.call, Some(Signal::KILL));
                if !self.requests.group_is_dead() {
                    self.registry.kill_all_now();
                }
                self.subreaper.kill_at_once();
            }
        }
    }

    fn end(&mut self, signal: Signal) {
        self.sent.push(signal);
        self.shutdown.request_with(signal);
        self.subreaper.begin_end(signal);
    }

    /// A child of this process has ended or was stopped.
    fn handle_child(&mut self) {
        // First the look: whose the orphans are may be told by a child that is reaped next.
        self.subreaper.finder().look();
        self.subreaper.finder().reap();
        self.subreaper.kill_orphans();
        self.with_job(|job, command| command.into_iter().for_each(|command| job.handle_child(command)));
        if ProcessGroup::new(self.pid.load(Ordering::SeqCst)).is_ok_and(ProcessGroup::leader_has_exited) {
            self.subreaper.begin_end(first_signal(self.call.signal));
        }
    }

    fn with_job(&mut self, handle: impl FnOnce(&mut Job, Option<&job::JobCommand<'_>>)) {
        let (pid, registry) = (self.pid.load(Ordering::SeqCst), &self.registry);
        let command = job::JobCommand { pid, send: &|signal| registry.signal_all(signal) };
        let is_there = pid > 0 && !self.requests.group_is_dead();
        handle(&mut self.job, Some(&command).filter(|_| is_there));
    }

    /// Says what needs saying of a run that is over, and returns its end.
    fn settle(
        &self,
        end: Result<AgentExit, AgentError>,
        escaped: EscapedReport,
        had_terminal: bool,
    ) -> Result<TimeoutEnd, RunFailure> {
        let (status, timed_out) = match end {
            Ok(exit) => {
                if let Some(leftovers) = exit.leftovers {
                    self.say_killed(&leftovers, "what it left behind");
                    say_failed(&leftovers, true);
                }
                (Some(exit.status), self.subreaper.finder().guardian().is_some_and(signal_origin::timed_by))
            }
            Err(AgentError::ShutdownRequested { kill, status }) => {
                if let Some(kill) = kill {
                    // A second signal has said so already.
                    let forced = kill
                        .as_ref()
                        .is_ok_and(|report| needed_kill(report) && first_signal(self.call.signal) != Signal::KILL);
                    if forced && !self.requests.is_forced() {
                        say_sending(self.call, Some(Signal::KILL));
                    }
                    say_failed(&kill, status.is_some());
                }
                (status, self.requests.timed_out())
            }
            Err(AgentError::Spawn(error)) => return Err(RunFailure::of_start(&self.call.command, &error)),
            Err(error) => return Err(RunFailure::of_ours(&error)),
        };
        for process in escaped.killed {
            self.say_killed(&process.kill, &format!("process {}, which had left its group", process.pid));
            say_escaped_failed(&process);
        }
        for (pid, command) in escaped.left_alone {
            say(&format_args!(
                "process {pid} ({command}) is left alone: it may be the command's, or come from a process that was \
                 started before deadbeat"
            ));
        }
        if escaped.is_unsure {
            say(&"processes that were started before deadbeat fork on: \
                 one of the command's that left its group may live on among them");
        }
        Ok(TimeoutEnd::new(status, timed_out, had_terminal, &self.sent))
    }

    /// With `--verbose`, says what it took to kill processes that the command left behind.
    fn say_killed(&self, kill: &Result<KillReport, KillError>, who: &str) {
        if let Ok(report) = kill {
            if self.call.verbose && report.outcome != Outcome::AlreadyGone {
                let sent: Vec<_> = report.signals.iter().map(|sent| sent.signal.to_string()).collect();
                let (command, outcome) = (self.call.command.to_string_lossy(), report.outcome);
                say(&format_args!("command '{command}': {who}: {outcome} ({})", sent.join(", ")));
            }
        }
    }
}

/// Says that a kill of the command's group has failed, with or without `--verbose`.
fn say_failed(kill: &Result<KillReport, KillError>, leader_has_ended: bool) {
    match kill {
        // Where zombies cannot be told from running processes, no process is known to be left when the leader has
        // ended.
        Ok(report) if report.outcome == Outcome::Survived && !(leader_has_ended && report.survivors.is_empty()) => {
            let names: Vec<_> = report.survivors.iter().map(ToString::to_string).collect();
            let pgid = report.pgid;
            say(&format_args!("SIGKILL does not end process group {pgid}: {}", names.join("; ")));
        }
        Ok(_) => {}
        Err(error) => say(error),
    }
}

/// Says that the kill of an escaped process has failed, with or without `--verbose`.
fn say_escaped_failed(process: &EscapedProcess) {
    let EscapedProcess { pid, command, kill } = process;
    match kill {
        Ok(report) if report.outcome == Outcome::Survived => {
            say(&format_args!("SIGKILL does not end process {pid} ({command})"))
        }
        Ok(_) => {}
        Err(error) if error.kind() == KillErrorKind::NotPermitted => {
            say(&format_args!(
                "process {pid} ({command}), which had left the command's group, may not be signalled: it lives on \
                 (EPERM: it runs as another user)"
            ));
        }
        Err(error) => say(&format_args!("process {pid} ({command}) is not killed: {error}")),
    }
}

fn needed_kill(report: &KillReport) -> bool {
    report.signals.iter().any(|sent| sent.signal == Signal::KILL)
}
