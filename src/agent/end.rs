//! How a run ended: by itself, or not.

use std::fmt;
use std::io;
use std::process::ExitStatus;
use std::time::Duration;

use super::start::StartError;
use crate::error::KillError;
use crate::kill::KillReport;

/// How a run ended whose command ended by itself.
#[derive(Debug)]
#[non_exhaustive]
pub struct AgentExit {
    /// The leader's.
    pub status: ExitStatus,
    /// The kill of the members it left behind, if there were any and they were to be killed. Always `None` on the
    /// portable back-end, where they are killed without being seen.
    pub leftovers: Option<Result<KillReport, KillError>>,
}

/// How a run ended whose command did not end by itself.
#[derive(Debug)]
#[non_exhaustive]
pub enum AgentError {
    /// The command was not started; the error says which step of the start failed.
    Spawn(StartError),
    /// The command ran into its timeout; its group was killed.
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
    /// The command ended, and the kill of the members it left behind failed; it is tried again on the kill thread,
    /// which reaps the leader too.
    Leftovers(KillError),
    /// The leader cannot be waited for: other code in this process has reaped it. Its group was killed.
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
                f.write_str("the command's exit was collected by other code in this process ")?;
                write!(f, "(do not wait for -1 or pgids): {error}")
            }
        }
    }
}

impl std::error::Error for AgentError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            AgentError::Spawn(error) => Some(error),
            AgentError::Wait(error) => Some(error),
            AgentError::Leftovers(error) | AgentError::TimedOut { kill: Err(error), .. } => Some(error),
            AgentError::ShutdownRequested { kill: Some(Err(error)), .. } => Some(error),
            AgentError::TimedOut { .. } | AgentError::ShutdownRequested { .. } | AgentError::KilledWithAll { .. } => {
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;
    use std::os::unix::process::ExitStatusExt;

    use super::*;
    use crate::kill::{KillErrorKind, Outcome};

    #[test]
    fn each_end_says_what_ended_it_what_became_of_the_group_and_what_stood_in_the_way() {
        let status = Some(ExitStatus::from_raw(15));
        let report = || {
            let (signals, survivors) = (Vec::new(), Vec::new());
            KillReport { pgid: 4242, outcome: Outcome::Killed, signals, elapsed: Duration::ZERO, survivors }
        };
        let panicked = || KillError::new(4242, KillErrorKind::Panicked);
        let io = || io::Error::other("out of luck");
        let timed_out = |kill| AgentError::TimedOut { timeout: Duration::from_secs(7), kill, status };
        let requested = |kill| AgentError::ShutdownRequested { kill, status };
        let killed = "process group 4242 was killed";
        // And whether another error is behind it.
        let ends: [(AgentError, &[&str], bool); 10] = [
            (AgentError::Spawn(StartError::in_preparation(io())), &["not started", "prepared", "out of luck"], true),
            (timed_out(Ok(report())), &["timeout of 7s", killed], false),
            (timed_out(Err(panicked())), &["timeout of 7s", "4242 panicked"], true),
            (requested(Some(Ok(report()))), &["shutdown request", killed], false),
            (requested(Some(Err(panicked()))), &["shutdown request", "4242 panicked"], true),
            (requested(None), &["not started", "shutdown"], false),
            (AgentError::KilledWithAll { status }, &["kill_all_children", "signal: 15"], false),
            (AgentError::KilledWithAll { status: None }, &["not started", "kill_all_children"], false),
            (AgentError::Leftovers(panicked()), &["still being killed", "4242 panicked"], true),
            (AgentError::Wait(io()), &["by other code", "out of luck"], true),
        ];
        for (end, words, has_source) in ends {
            let text = end.to_string();
            assert!(words.iter().all(|word| text.contains(word)), "{text}");
            let source = end.source().map(ToString::to_string);
            assert_eq!(source.is_some(), has_source, "{text}");
            assert!(source.is_none_or(|source| text.contains(&source)), "{text}");
        }
    }
}
