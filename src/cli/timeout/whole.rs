//! The run of which nothing survives: `run_subprocess_agent`, a guardian for our own death, and the command's whole
//! family.

use std::pin::pin;
use std::sync::atomic::{AtomicI32, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use nix::sys::signal::Signal as Named;

use super::end::{End, Failure};
use super::events::{Alarm, Event, Events};
use super::family::{Family, Fate, Outsider};
use super::grammar::Call;
use super::inherited::{Inherited, Start};
use super::job::{self, Job};
use super::terminal::Terminal;
use super::{command, origin, say, signals};
use crate::agent::{AgentError, AgentExit, AgentOptions, Escaped, Stdin, run_subprocess_agent};
use crate::group::ProcessGroup;
use crate::guardian::Guardian;
use crate::kill::{KillError, KillErrorKind, KillPolicy, KillReport, Outcome};
use crate::registry::Registry;
use crate::shutdown::Shutdown;
use crate::signal::Signal;

/// Between two looks at whose each process is, where that is not told by descent alone.
const KIN: Duration = Duration::from_millis(100);

/// Whatever is to be passed on to a command that is under way.
struct Run<'a> {
    call: &'a Call,
    job: Job,
    alarm: Alarm,
    registry: Arc<Registry>,
    shutdown: Arc<Shutdown>,
    family: Arc<Family>,
    signal: Signal,
    /// The command; 0 before it is started.
    pid: Arc<AtomicI32>,
    timed_out: bool,
    /// How many times we were told to end.
    asked: u32,
    /// What we have sent the command.
    told: Vec<Signal>,
    /// The command and its group are dead: what is left is those who had left it.
    is_over: bool,
}

pub(super) async fn run(
    call: &Call,
    guardian: Option<Guardian>,
    inherited: &Inherited,
    terminal: Option<Terminal>,
    events: &mut Events,
) -> Result<End, Failure> {
    // Signal 0 asks for nothing, but those who are stopped are continued with it, as with any other.
    let signal = call.signal.unwrap_or(Signal::CONT);
    let policy = KillPolicy::default().signal(signal).grace(call.kill_after);
    let family = Family::new(guardian.clone(), policy.clone());
    let mut run = Run {
        call,
        job: Job::new(terminal, events.alarm()),
        alarm: events.alarm(),
        registry: Arc::new(Registry::new(policy.clone())),
        shutdown: Arc::default(),
        family: Arc::clone(&family),
        signal,
        pid: Arc::default(),
        timed_out: false,
        asked: 0,
        told: Vec::new(),
        is_over: false,
    };
    let escaped = Escaped::default();
    let (pid, alarm, timeout) = (Arc::clone(&run.pid), run.alarm.clone(), call.timeout);
    let follower = guardian.clone().filter(|_| terminal.is_some() || !timeout.is_zero());
    // Before the command is there, so that a stop that comes with its start is followed too; and again when it is, for the
    // exact time.
    follower.iter().for_each(|guardian| guardian.follow_stops(timeout));
    // Without a guardian the command itself at least is not to outlive us.
    let death = guardian.is_none().then_some(Named::SIGKILL);
    let options = match guardian {
        Some(guardian) => AgentOptions::default().guardian(guardian),
        None => AgentOptions::default(),
    };
    if family.has_strangers() {
        run.alarm.set(Event::Kin, KIN);
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
            family.has_leader(number);
            alarm.set(Event::TimeIsUp, timeout);
            follower.iter().for_each(|guardian| guardian.follow_stops(timeout));
        });
    let mut command = command(call);
    inherited.give_to(&mut command, Start { death });
    let agent = pin!(run_subprocess_agent(command, &options));
    let end = events.heed_until(agent, |event| run.heed(event)).await;
    let had_terminal = run.job.end(run.pid.load(Ordering::SeqCst));
    // Those who had left the group have the rest of their grace, in which we listen on.
    run.is_over = true;
    let hunt = pin!(run.family.end());
    let fate = events.heed_until(hunt, |event| run.heed(event)).await;
    if let Some(ward) = escaped.lock().unwrap_or_else(PoisonError::into_inner).take() {
        ward.release();
    }
    run.settle(end, fate, had_terminal)
}

impl Run<'_> {
    fn heed(&mut self, event: Event) {
        let pid = self.pid.load(Ordering::SeqCst);
        match event {
            Event::Stop(signal) => self.with_job(|job, command| job.heed_stop(signal, command)),
            // They have been asked, and are no group that could be told anything.
            Event::Ask(_) | Event::Typed(_) if self.is_over => {
                self.tell(Some(Signal::KILL));
                self.family.kill_at_once();
            }
            _ if self.is_over => {}
            // Who was asked already has its grace, whatever was left of the time.
            Event::TimeIsUp if self.asked > 0 => self.timed_out = true,
            Event::TimeIsUp if self.timed_out => {}
            Event::TimeIsUp => {
                self.timed_out = true;
                self.tell(self.call.signal);
                self.end(self.signal);
            }
            Event::Ask(signal) => {
                self.asked += 1;
                match (self.asked, self.timed_out) {
                    (1, false) => {
                        self.tell(Some(signal));
                        self.end(signal);
                    }
                    (1, true) => self.pass(signal),
                    _ => {
                        self.tell(Some(Signal::KILL));
                        self.registry.kill_all_now();
                        self.family.kill_at_once();
                    }
                }
            }
            // A command that tidies up then has its time.
            Event::Typed(signal) | Event::Pass(signal) => self.pass(signal),
            // The policy's.
            Event::GraceIsOver => {}
            Event::Continued => self.with_job(Job::heed_continued),
            Event::Look => self.with_job(Job::heed_look),
            Event::Kin => {
                self.family.look();
                self.alarm.set(Event::Kin, KIN);
            }
            Event::Child => {
                // Before it is reaped: what it leaves behind may be known by it.
                self.family.look();
                self.family.reap();
                self.family.pursue();
                self.with_job(|job, command| command.into_iter().for_each(|command| job.heed_child(command)));
                if ProcessGroup::new(pid).is_ok_and(ProcessGroup::leader_has_exited) {
                    self.family.begin_end(self.signal);
                }
            }
        }
    }

    fn pass(&mut self, signal: Signal) {
        self.told.push(signal);
        self.registry.signal_all(signal);
    }

    fn end(&mut self, signal: Signal) {
        self.told.push(signal);
        self.shutdown.request_with(signal);
        self.family.begin_end(signal);
    }

    fn with_job(&mut self, heed: impl FnOnce(&mut Job, Option<&job::Command<'_>>)) {
        let (pid, registry) = (self.pid.load(Ordering::SeqCst), &self.registry);
        let command = job::Command { pid, send: &|signal| registry.signal_all(signal) };
        heed(&mut self.job, Some(&command).filter(|_| pid > 0 && !self.is_over));
    }

    fn tell(&self, signal: Option<Signal>) {
        if self.call.verbose {
            let (name, command) = (signals::name(signal), self.call.command.to_string_lossy());
            say(&format_args!("sending signal {name} to command '{command}'"));
        }
    }

    /// All have come to their end.
    fn settle(&self, end: Result<AgentExit, AgentError>, fate: Fate, had_terminal: bool) -> Result<End, Failure> {
        let (status, timed_out) = match end {
            Ok(exit) => {
                if let Some(leftovers) = exit.leftovers {
                    self.tell_of(&leftovers, "what it left behind");
                    complain_of(&leftovers, true);
                }
                (Some(exit.status), self.family.guardian().is_some_and(origin::timed_by))
            }
            Err(AgentError::ShutdownRequested { kill, status }) => {
                if let Some(kill) = kill {
                    // The second signal has told of its own.
                    let forced = kill.as_ref().is_ok_and(|report| needed_kill(report) && self.signal != Signal::KILL);
                    if forced && self.asked < 2 {
                        self.tell(Some(Signal::KILL));
                    }
                    complain_of(&kill, status.is_some());
                }
                (status, self.timed_out)
            }
            Err(AgentError::Spawn(error)) => return Err(Failure::of_start(&self.call.command, &error)),
            Err(error) => return Err(Failure::of_ours(&error)),
        };
        for outsider in fate.outsiders {
            self.tell_of(&outsider.kill, &format!("process {}, which had left its group", outsider.pid));
            complain_of_outsider(&outsider);
        }
        for (pid, command) in fate.left_alone {
            say(&format_args!(
                "process {pid} ({command}) is left alone: it may be the command's, or come from a process that was started before deadbeat"
            ));
        }
        if fate.is_unsure {
            say(
                &"processes that were started before deadbeat fork on: one of the command's that left its group may live on among them",
            );
        }
        Ok(End::new(status, timed_out, had_terminal, &self.told))
    }

    fn tell_of(&self, kill: &Result<KillReport, KillError>, who: &str) {
        if let Ok(report) = kill {
            if self.call.verbose && report.outcome != Outcome::AlreadyGone {
                let sent: Vec<_> = report.signals.iter().map(|sent| sent.signal.to_string()).collect();
                let (command, outcome) = (self.call.command.to_string_lossy(), report.outcome);
                say(&format_args!("command '{command}': {who}: {outcome} ({})", sent.join(", ")));
            }
        }
    }
}

/// What is never kept quiet about.
fn complain_of(kill: &Result<KillReport, KillError>, leader_has_ended: bool) {
    match kill {
        // Where zombies cannot be told from the living nobody is known to be left when the leader has ended.
        Ok(report) if report.outcome == Outcome::Survived && !(leader_has_ended && report.survivors.is_empty()) => {
            let names: Vec<_> = report.survivors.iter().map(ToString::to_string).collect();
            let pgid = report.pgid;
            say(&format_args!("SIGKILL does not end process group {pgid}: {}", names.join("; ")));
        }
        Ok(_) => {}
        Err(error) => say(error),
    }
}

/// The same of one that had left the group: it is no group that is spoken of.
fn complain_of_outsider(outsider: &Outsider) {
    let Outsider { pid, command, kill } = outsider;
    match kill {
        Ok(report) if report.outcome == Outcome::Survived => {
            say(&format_args!("SIGKILL does not end process {pid} ({command})"))
        }
        Ok(_) => {}
        Err(error) if error.kind() == KillErrorKind::NotPermitted => {
            say(&format_args!(
                "process {pid} ({command}), which had left the command's group, may not be signalled: it lives on (EPERM: it runs as another user)"
            ));
        }
        Err(error) => say(&format_args!("process {pid} ({command}) is not killed: {error}")),
    }
}

fn needed_kill(report: &KillReport) -> bool {
    report.signals.iter().any(|sent| sent.signal == Signal::KILL)
}
