//! Why a kill could not be carried out. Timeouts and survivors are outcomes, not errors.

use std::fmt;
use std::io;

/// What stood in the way of a kill. Opaque: match on [`kind`](KillError::kind), print it for people.
#[derive(Debug)]
pub struct KillError {
    pgid: i32,
    kind: KillErrorKind,
    source: Option<io::Error>,
}

/// The reasons a [`KillError`] can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KillErrorKind {
    /// The pgid is 0, 1, negative or the caller's own: to `killpg(3)` these mean the caller's group or every process.
    InvalidGroup,
    /// The child leads no group of its own, so a group kill would miss it.
    NotLeader,
    /// The child was waited for already; its pid may belong to a stranger by now.
    AlreadyReaped,
    /// `EPERM`: not one member may be signalled by this process.
    NotPermitted,
    /// The runtime shut down before the kill could start; nothing was signalled. Only of a kill on tokio's blocking
    /// pool, that is of [`kill_process_group`](crate::kill_process_group), which logs it.
    Cancelled,
    /// The kill panicked half-way; the group may live.
    Panicked,
    /// There is no tokio runtime here: to reap the child in, or to make the kill in where no thread can be started.
    NoRuntime,
    /// The system refused something else; see [`source`](std::error::Error::source).
    Os,
}

impl KillError {
    pub(crate) fn new(pgid: i32, kind: KillErrorKind) -> KillError {
        KillError { pgid, kind, source: None }
    }

    pub(crate) fn os(pgid: i32, source: io::Error) -> KillError {
        KillError { pgid, kind: KillErrorKind::Os, source: Some(source) }
    }

    /// The reason, for code.
    pub fn kind(&self) -> KillErrorKind {
        self.kind
    }

    /// The group (or, for a child that leads none, the process) the error is about; -1 for a child whose pid tokio has
    /// forgotten, because it was waited for.
    pub fn pgid(&self) -> i32 {
        self.pgid
    }
}

impl KillErrorKind {
    /// The name used in reports: `invalid_group`, `not_permitted`, ..
    pub fn as_str(self) -> &'static str {
        match self {
            KillErrorKind::InvalidGroup => "invalid_group",
            KillErrorKind::NotLeader => "not_leader",
            KillErrorKind::AlreadyReaped => "already_reaped",
            KillErrorKind::NotPermitted => "not_permitted",
            KillErrorKind::Cancelled => "cancelled",
            KillErrorKind::Panicked => "panicked",
            KillErrorKind::NoRuntime => "no_runtime",
            KillErrorKind::Os => "os",
        }
    }
}

impl fmt::Display for KillError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pgid = self.pgid;
        match self.kind {
            KillErrorKind::InvalidGroup => {
                let meaning = match pgid {
                    0 => "stands for the caller's own group",
                    1 => "stands for every process there is",
                    i32::MIN..=-1 => "is negative",
                    _ => "is the caller's own group",
                };
                write!(
                    f,
                    "refused to signal process group {pgid}: it {meaning}; pass the pid of another group's leader"
                )
            }
            KillErrorKind::NotLeader => {
                write!(f, "process {pgid} leads no process group: start it with Command::process_group(0)")
            }
            KillErrorKind::AlreadyReaped if pgid < 0 => {
                f.write_str("the child was waited for already: kill it before the first wait() returns")
            }
            KillErrorKind::AlreadyReaped => {
                write!(f, "the child {pgid} was waited for already: kill it before the first wait() returns")
            }
            KillErrorKind::NotPermitted => {
                write!(f, "no member of process group {pgid} may be signalled (EPERM): run as their user")
            }
            KillErrorKind::Cancelled => write!(
                f,
                "the kill of process group {pgid} never started, the runtime was shutting down: \
                 use kill_blocking or a KillThread"
            ),
            KillErrorKind::Panicked => {
                write!(f, "the kill of process group {pgid} panicked: the group may live, kill it again")
            }
            KillErrorKind::NoRuntime => {
                write!(f, "process group {pgid} was not killed, there is no tokio runtime here: use kill_blocking")
            }
            KillErrorKind::Os => match &self.source {
                Some(source) => write!(f, "the system refused a step in killing process group {pgid}: {source}"),
                None => write!(f, "the system refused a step in killing process group {pgid}"),
            },
        }
    }
}

impl std::error::Error for KillError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|e| e as _)
    }
}
