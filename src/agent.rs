//! Runs one command in a group of its own, and sees to it that nothing of the group outlives the run.
//!
//! However a run ends (by itself, at its timeout, at a shutdown request, dropped half-way, with its runtime), the order is
//! the same: the whole group is killed while the leader is un-reaped and pins its number; then the leader is reaped and
//! its group taken off the registry, in one step.

use std::fmt;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use tokio::process::{Child, Command};
use tokio::signal::unix::{SignalKind, signal};

use crate::error::{KillError, KillErrorKind};
use crate::group::{Backend, ProcessGroup, backend, family};
use crate::guardian::{Guardian, Ward};
use crate::kill::blocking::{climb_off_worker, climb_off_worker_and};
use crate::kill::climb::Climb;
use crate::kill::{KillPolicy, KillReport, Outcome, Undertaker};
use crate::registry::Registry;
use crate::shutdown::Shutdown;
use crate::signal::Signal;

/// What a command reads.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stdin {
    /// Nothing. In a group of its own a child that reads the terminal is stopped by SIGTTIN.
    #[default]
    Null,
    /// What this process reads. The caller takes care of the terminal.
    Inherit,
    /// A pipe, to be taken from the child in [`AgentOptions::on_spawn`].
    Piped,
}

/// What becomes of members that are left when the leader has ended by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Leftovers {
    /// They are killed by the policy, before the leader is reaped.
    #[default]
    Kill,
    /// They live on, unregistered: nobody will kill them.
    Leave,
}

/// Where the ward of a run is kept when its group is dead, for whoever ends those who have left it, and releases it then.
pub(crate) type Strays = Arc<Mutex<Option<Ward>>>;

type OnSpawn = Arc<dyn Fn(&mut Child) + Send + Sync>;

/// How to run a command.
#[derive(Clone)]
#[non_exhaustive]
pub struct AgentOptions {
    timeout: Option<Duration>,
    policy: KillPolicy,
    stdin: Stdin,
    leftovers: Leftovers,
    on_spawn: Option<OnSpawn>,
    guardian: Option<Guardian>,
    /// Whoever leaves the group is ended by the caller.
    strays: Option<Strays>,
    registry: Arc<Registry>,
    shutdown: Arc<Shutdown>,
}

impl Default for AgentOptions {
    /// No timeout, the default policy, nothing to read, leftovers killed, no guardian, the process's own registry and
    /// shutdown.
    fn default() -> AgentOptions {
        AgentOptions {
            timeout: None,
            policy: KillPolicy::default(),
            stdin: Stdin::default(),
            leftovers: Leftovers::default(),
            on_spawn: None,
            guardian: None,
            strays: None,
            registry: Arc::clone(Registry::global()),
            shutdown: Arc::clone(Shutdown::global()),
        }
    }
}

impl fmt::Debug for AgentOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut options = f.debug_struct("AgentOptions");
        options.field("timeout", &self.timeout).field("policy", &self.policy);
        options.field("stdin", &self.stdin).field("leftovers", &self.leftovers);
        options.field("guardian", &self.guardian).finish_non_exhaustive()
    }
}

impl AgentOptions {
    /// How long the command may run; for ever by default.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> AgentOptions {
        self.timeout = Some(timeout);
        self
    }

    /// How its group is killed.
    #[must_use]
    pub fn policy(mut self, policy: KillPolicy) -> AgentOptions {
        self.policy = policy;
        self
    }

    /// What it reads. Replaces what the `Command` says.
    #[must_use]
    pub fn stdin(mut self, stdin: Stdin) -> AgentOptions {
        self.stdin = stdin;
        self
    }

    /// What becomes of members that the leader leaves behind.
    #[must_use]
    pub fn leftovers(mut self, leftovers: Leftovers) -> AgentOptions {
        self.leftovers = leftovers;
        self
    }

    /// Called with the child once it runs: the place to take its pipes and read them in a task. A pipe that nobody reads
    /// blocks the command when it is full. It must neither wait for the child nor keep it.
    #[must_use]
    pub fn on_spawn(mut self, f: impl Fn(&mut Child) + Send + Sync + 'static) -> AgentOptions {
        self.on_spawn = Some(Arc::new(f));
        self
    }

    /// Who kills what is left of it when this process dies, even by SIGKILL; nobody by default.
    ///
    /// The guardian is told of the run before the command is started, and the command carries the run's
    /// [mark](crate::guardian::Ward::mark) in its environment, so whoever calls `setsid`, or is forked before the group
    /// is told of, dies with this process too. With the run such escapees die as well: whenever its group is killed, and
    /// unless it is told to [leave](Leftovers::Leave) its leftovers, the guardian takes them up the policy's ladder; the
    /// run does not wait for that. A run that no guardian can be told of is not started ([`AgentError::Spawn`]).
    ///
    /// To start a guardian takes a millisecond or two, which is not for a worker: do it before the runtime is, or in a
    /// `spawn_blocking`. Later on no worker is blocked, not even when the guardian has died and another is needed.
    #[must_use]
    pub fn guardian(mut self, guardian: Guardian) -> AgentOptions {
        self.guardian = Some(guardian);
        self
    }

    /// Whoever leaves the group is the caller's to end, as long as this process lives; until then its ward is kept here.
    #[cfg(feature = "cli")]
    #[must_use]
    pub(crate) fn own_strays(mut self, strays: Strays) -> AgentOptions {
        self.strays = Some(strays);
        self
    }

    /// Where its group is registered while it lives; [`Registry::global`] by default.
    #[must_use]
    pub fn registry(mut self, registry: Arc<Registry>) -> AgentOptions {
        self.registry = registry;
        self
    }

    /// Whose request ends it; [`Shutdown::global`] by default.
    #[must_use]
    pub fn shutdown(mut self, shutdown: Arc<Shutdown>) -> AgentOptions {
        self.shutdown = shutdown;
        self
    }
}

/// How a run ended that ended by itself.
#[derive(Debug)]
#[non_exhaustive]
pub struct AgentExit {
    /// The leader's.
    pub status: ExitStatus,
    /// The kill of the members it left behind, if there were any and they were to be killed. Never told on the portable
    /// back-end, where they are killed without being seen.
    pub leftovers: Option<Result<KillReport, KillError>>,
}

/// How a run ended that did not end by itself.
#[derive(Debug)]
#[non_exhaustive]
pub enum AgentError {
    /// The command was not started.
    Spawn(io::Error),
    /// It ran into its timeout; its group was killed.
    TimedOut {
        /// How long it was allowed.
        timeout: Duration,
        /// What became of the group.
        kill: Result<KillReport, KillError>,
        /// How the leader ended; `None` if it could not be made to. Its group stays registered then.
        status: Option<ExitStatus>,
    },
    /// The shutdown was requested; its group was killed.
    ShutdownRequested {
        /// What became of the group; `None` if the request came first and the command was not started.
        kill: Option<Result<KillReport, KillError>>,
        /// How the leader ended; `None` if it could not be made to, or never ran.
        status: Option<ExitStatus>,
    },
    /// [`kill_all_children`](crate::registry::kill_all_children) was called, of the registry that the run is in.
    KilledWithAll {
        /// How the leader ended; `None` if the call came first and the command was not started.
        status: Option<ExitStatus>,
    },
    /// The command ended, and the kill of what it left behind came to nothing here: it is done on a thread of its own, in
    /// which the leader is reaped too.
    Leftovers(KillError),
    /// The leader cannot be waited for: somebody else has reaped it. Its group was killed.
    Wait(io::Error),
}

impl fmt::Display for AgentError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let became = |f: &mut fmt::Formatter<'_>, kill: &Result<KillReport, KillError>| match kill {
            Ok(report) => write!(f, "its process group {} was {}", report.pgid, report.outcome),
            Err(error) => error.fmt(f),
        };
        match self {
            AgentError::Spawn(error) => write!(f, "the command was not started: {error}"),
            AgentError::TimedOut { timeout, kill, .. } => {
                write!(f, "the command ran into its timeout of {timeout:?}: ")?;
                became(f, kill)
            }
            AgentError::ShutdownRequested { kill: Some(kill), .. } => {
                f.write_str("the command was ended by a shutdown request: ")?;
                became(f, kill)
            }
            AgentError::ShutdownRequested { kill: None, .. } => {
                f.write_str("the command was not started: the shutdown was requested before")
            }
            AgentError::KilledWithAll { status: Some(status) } => {
                write!(f, "the command was ended with all others, by kill_all_children: {status}")
            }
            AgentError::KilledWithAll { status: None } => {
                f.write_str("the command was not started: kill_all_children was called before")
            }
            AgentError::Leftovers(error) => write!(f, "what the command left behind is still being killed: {error}"),
            AgentError::Wait(error) => {
                write!(f, "the command's exit was collected by somebody else (do not wait for -1 or pgids): {error}")
            }
        }
    }
}

impl std::error::Error for AgentError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            AgentError::Spawn(error) | AgentError::Wait(error) => Some(error),
            AgentError::Leftovers(error) | AgentError::TimedOut { kill: Err(error), .. } => Some(error),
            AgentError::ShutdownRequested { kill: Some(Err(error)), .. } => Some(error),
            AgentError::TimedOut { .. } | AgentError::ShutdownRequested { .. } | AgentError::KilledWithAll { .. } => {
                None
            }
        }
    }
}

/// Runs `command` in a process group of its own, until it ends, its time is over or the shutdown is requested; returns
/// when its whole group is dead and its leader reaped.
///
/// Dropping the future, at any moment, kills the group all the same: the polite signal is sent at once, and the rest goes
/// on in a thread of its own, in which the group is unregistered too. That thread ends with the process: before `main`
/// returns it has to call [`kill_all_children`](crate::registry::kill_all_children), which waits, unless the run has a
/// [guardian](AgentOptions::guardian).
///
/// ```no_run
/// use deadbeat::agent::{AgentOptions, run_subprocess_agent};
/// use deadbeat::{registry, shutdown};
///
/// fn main() -> std::io::Result<()> {
///     shutdown::install_signal_handlers()?;
///     let runtime = tokio::runtime::Runtime::new()?;
///     runtime.block_on(async {
///         let options = AgentOptions::default();
///         tokio::select! {
///             exit = run_subprocess_agent(tokio::process::Command::new("make"), &options) => println!("{exit:?}"),
///             () = shutdown::shutdown_requested() => {} // the run is dropped here
///         }
///     });
///     registry::kill_all_children(); // waits until whatever is left is dead
///     Ok(())
/// }
/// ```
///
/// Nothing in here blocks the worker but the start of the command itself, which `fork` and
/// `exec` it.
///
/// ```no_run
/// # use std::time::Duration;
/// # use deadbeat::agent::{AgentError, AgentOptions, run_subprocess_agent};
/// # async fn example() -> Result<(), AgentError> {
/// let mut make = tokio::process::Command::new("make");
/// make.arg("test");
/// let options = AgentOptions::default().timeout(Duration::from_secs(600));
/// let exit = run_subprocess_agent(make, &options).await?;
/// println!("{} {:?}", exit.status, exit.leftovers);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// [`AgentError`]: it could not be started, ran out of time, or was ended by a shutdown request or with all others.
///
/// # Panics
///
/// Outside a tokio runtime with its I/O and time drivers enabled.
pub async fn run_subprocess_agent(mut command: Command, options: &AgentOptions) -> Result<AgentExit, AgentError> {
    if options.shutdown.is_requested() {
        return Err(AgentError::ShutdownRequested { kill: None, status: None });
    }
    if options.registry.has_swept(None) {
        return Err(AgentError::KilledWithAll { status: None });
    }
    // Before the child: with SIGCHLD ignored by inheritance the kernel would reap it behind our back.
    let mut children = signal(SignalKind::child()).map_err(AgentError::Spawn)?;
    let stdin = match options.stdin {
        Stdin::Null => Stdio::null(),
        Stdin::Inherit => Stdio::inherit(),
        Stdin::Piped => Stdio::piped(),
    };
    command.process_group(0).kill_on_drop(false).stdin(stdin);
    let ward = match &options.guardian {
        Some(guardian) => Some(guardian.ward_off_worker(&options.policy).await.map_err(AgentError::Spawn)?),
        None => None,
    };
    if let Some((name, value)) = ward.as_ref().map(Ward::mark) {
        command.env(name, value);
    }
    let mut run = match command.spawn() {
        Ok(child) => Run::begin(child, ward, options)?,
        Err(error) => {
            release(ward).await;
            return Err(AgentError::Spawn(error));
        }
    };
    if let (Some(on_spawn), Some(child)) = (&options.on_spawn, run.child()) {
        on_spawn(child);
    }

    let group = run.group;
    let mut exited = pin!(async {
        // Without reaping: until everything else is dead the leader has to pin the pgid.
        while !group.leader_has_exited() {
            children.recv().await;
        }
    });
    let mut timeout = pin!(async {
        match options.timeout {
            Some(timeout) => {
                tokio::time::sleep(timeout).await;
                timeout
            }
            None => std::future::pending().await,
        }
    });
    let mut request = pin!(options.shutdown.requested());
    // A command that has ended has ended, even if its time is over by now.
    let end = poll_fn(|cx| {
        if exited.as_mut().poll(cx).is_ready() {
            return Poll::Ready(End::Exited);
        }
        if let Poll::Ready(after) = timeout.as_mut().poll(cx) {
            return Poll::Ready(End::TimedOut(after));
        }
        request.as_mut().poll(cx).map(|()| End::ShutdownRequested)
    });
    match end.await {
        End::Exited => {
            let with_all = options.registry.has_swept(Some(group));
            let leftovers = run.kill_leftovers(options.leftovers).await;
            let leftovers = match leftovers {
                // What remains is dropped, and so goes to the undertaker; who may not be signalled will not be by that one.
                Some(Err(error)) if error.kind() != KillErrorKind::NotPermitted => {
                    return Err(AgentError::Leftovers(error));
                }
                leftovers => leftovers,
            };
            release(run.remains.as_mut().and_then(Remains::take_ward)).await;
            let reaped = run.remains.take().map_or(Ok(None), |mut remains| remains.reap());
            let status = reaped.map_err(AgentError::Wait)?;
            let status = status.ok_or_else(|| AgentError::Wait(io::Error::other("it has not ended")))?;
            match with_all {
                true => Err(AgentError::KilledWithAll { status: Some(status) }),
                false => Ok(AgentExit { status, leftovers }),
            }
        }
        End::TimedOut(timeout) => {
            let (kill, status) = run.kill().await;
            Err(AgentError::TimedOut { timeout, kill, status })
        }
        End::ShutdownRequested => {
            if let (Some(signal), Some(remains)) = (options.shutdown.signal(), &mut run.remains) {
                remains.policy = remains.policy.clone().signal(signal);
            }
            let (kill, status) = run.kill().await;
            Err(AgentError::ShutdownRequested { kill: Some(kill), status })
        }
    }
}

async fn release(ward: Option<Ward>) {
    if let Some(ward) = ward {
        ward.release_off_worker().await;
    }
}

/// Why a run is over.
enum End {
    Exited,
    TimedOut(Duration),
    ShutdownRequested,
}

/// A run under way.
struct Run<'a> {
    remains: Option<Remains>,
    group: ProcessGroup,
    options: &'a AgentOptions,
}

impl<'a> Run<'a> {
    fn begin(mut child: Child, ward: Option<Ward>, options: &'a AgentOptions) -> Result<Run<'a>, AgentError> {
        let group = match ProcessGroup::led_by(&child) {
            Ok(group) => group,
            Err(error) => {
                let _ = child.start_kill();
                // The ward is not released: whoever carries its mark dies with us at the latest.
                return Err(AgentError::Spawn(io::Error::other(error)));
            }
        };
        let (policy, registry) = (options.policy.clone(), Arc::clone(&options.registry));
        if let Some(ward) = &ward {
            ward.guard_off_worker(group);
        }
        let strays = options.strays.clone();
        let remains = Remains { child: Some(child), group, ward, strays, policy, registry };
        let run = Run { remains: Some(remains), group, options };
        options.registry.enter(group, &options.policy);
        Ok(run)
    }

    fn child(&mut self) -> Option<&mut Child> {
        self.remains.as_mut()?.child.as_mut()
    }

    /// The leader has ended by itself.
    async fn kill_leftovers(&mut self, leftovers: Leftovers) -> Option<Result<KillReport, KillError>> {
        let guardian: Vec<i32> = self.options.guardian.as_ref().and_then(Guardian::pid).into_iter().collect();
        if leftovers == Leftovers::Leave || family::has_died_out(&guardian) {
            return None;
        }
        self.remains.as_ref().into_iter().for_each(Remains::end_strays);
        let policy = match backend() {
            Backend::Proc => self.options.policy.clone(),
            // Its zombie looks alive to the end: without seeing whether anybody is left there is nothing to wait for.
            Backend::Probe => self.options.policy.clone().signal(Signal::KILL).confirm(Duration::ZERO),
        };
        match climb_off_worker(self.options.registry.climb(self.group, &policy)).await {
            Ok(report) if report.outcome == Outcome::AlreadyGone || backend() == Backend::Probe => None,
            result => Some(result),
        }
    }

    /// The group, then its leader. From the first signal on it does not matter whether anybody waits for this.
    async fn kill(mut self) -> (Result<KillReport, KillError>, Option<ExitStatus>) {
        let Some(mut remains) = self.remains.take() else { unreachable!("only a run that is over has none") };
        let climb = remains.begin_kill();
        remains.end_strays();
        match climb_off_worker_and(climb, move |kill| (kill, remains.reap())).await {
            Ok((kill, status)) => (kill, status.unwrap_or(None)),
            // It never began; what remains was dropped, and so went to the undertaker.
            Err(error) => (Err(error), None),
        }
    }
}

/// A child that has to be killed with its group, reaped and unregistered, by whoever has it. Dropped before that, it
/// goes to the undertaker.
struct Remains {
    child: Option<Child>,
    group: ProcessGroup,
    ward: Option<Ward>,
    strays: Option<Strays>,
    policy: KillPolicy,
    registry: Arc<Registry>,
}

impl Remains {
    /// The kill, of which the first signal is sent: should this process end now, the obedient are dead.
    fn begin_kill(&self) -> Climb {
        self.registry.begin(self.group, &self.policy).then_its_leader(self.policy.reap_within())
    }

    /// Those that have left the group, which only the guardian can find.
    fn end_strays(&self) {
        self.ward.iter().filter(|_| self.strays.is_none()).for_each(Ward::end_strays_off_worker);
    }

    /// The ward to be released, before the leader is reaped. The mark of one whose strays are somebody else's to end is
    /// guarded on.
    fn take_ward(&mut self) -> Option<Ward> {
        let ward = self.ward.take()?;
        #[cfg(feature = "cli")]
        if let Some(strays) = &self.strays {
            // That somebody is this program, on a thread of its own.
            ward.let_go_of_group();
            *strays.lock().unwrap_or_else(std::sync::PoisonError::into_inner) = Some(ward);
            return None;
        }
        Some(ward)
    }

    /// Collects the leader's exit and unregisters its group, in one step. `None`: it has not ended, does not, and stays
    /// registered for the last sweep, and guarded.
    ///
    /// For threads that may block, or for a run that is not guarded any more.
    fn reap(&mut self) -> io::Result<Option<ExitStatus>> {
        let Some(mut child) = self.child.take() else { return Ok(None) };
        let pgid = self.group.pgid();
        if self.group.leader_has_exited() {
            // Before its number can become a stranger's.
            self.take_ward().into_iter().for_each(Ward::release);
        }
        let reaped = self.registry.reap(pgid, || child.try_wait());
        match &reaped {
            Ok(Some(_)) => {}
            Ok(None) => {
                tracing::warn!(pgid, "the leader of a killed group does not end");
                // tokio would reap it some day, behind the registry's back.
                std::mem::forget(child);
            }
            Err(error) => {
                // ECHILD: there is nothing left to wait for, now or ever.
                tracing::warn!(pgid, "a command's exit was collected by somebody else: {error}");
                self.registry.unregister(pgid);
            }
        }
        reaped
    }
}

impl Drop for Remains {
    fn drop(&mut self) {
        let Some(child) = self.child.take() else { return };
        self.end_strays();
        let climb = self.begin_kill();
        let mut remains = Remains {
            child: Some(child),
            group: self.group,
            ward: self.ward.take(),
            strays: self.strays.clone(),
            policy: self.policy.clone(),
            registry: Arc::clone(&self.registry),
        };
        let Ok(undertaker) = Undertaker::global() else {
            // No thread to be had: no grace, and the leader stays a zombie that pins its number.
            let _ = climb.cut_short();
            std::mem::forget(remains.child.take());
            return;
        };
        undertaker.begin(climb, move |result| {
            if let Err(error) = result {
                tracing::warn!(pgid = error.pgid(), "a run was dropped and its group not killed: {error}");
            }
            let _ = remains.reap();
        });
    }
}
