//! What a thread was stuck in, as most looks at it say.
//!
//! A sample is a guess about one moment. The culprit of a stall is what most of its samples say, and it says how many.

use std::fmt;

#[cfg(not(all(target_os = "linux", not(deadbeat_portable), feature = "backtrace")))]
#[path = "culprit/no_stack.rs"]
pub(super) mod stack;
#[cfg(all(target_os = "linux", not(deadbeat_portable), feature = "backtrace"))]
pub(super) mod stack;

use stack::StackCopies;

/// What a thread was doing while it did not return to its scheduler.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[non_exhaustive]
pub struct Culprit {
    /// The system call it waited in (`clock_nanosleep`, `futex`, `wait4`, ..); `None` for a thread that was running:
    /// a computation or a spin.
    pub syscall: Option<String>,
    /// The call's telling argument: the child waited for, the time asked for, the file behind the descriptor.
    pub detail: Option<String>,
    /// The source line of the innermost call that is neither the standard library's, tokio's nor another dependency's.
    /// Needs the feature `backtrace` and debug info. `None` for a thread that was running: the kernel shows the
    /// registers of a thread only while it waits.
    pub line: Option<String>,
    /// Whether `line` is a guess. The calls that a thread is in are unwound from a copy of its stack; where that ends
    /// too early, the first word on the stack that looks like a return address is taken for one, and may be left over
    /// from a call that was over.
    #[cfg_attr(feature = "serde", serde(default))]
    pub guessed: bool,
    /// Why `line` is not there, though it was looked for.
    #[cfg_attr(feature = "serde", serde(default))]
    pub no_line: Option<NoLine>,
    /// How many samples said so. Zero if none could be taken and the clocks alone say that it was running.
    pub samples: u32,
    /// Out of how many.
    pub of: u32,
    /// Until the line is known: what it can be told from.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub(crate) evidence: StackCopies,
}

/// Why the source line of a thread that waited is not known.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize), serde(rename_all = "snake_case"))]
#[non_exhaustive]
pub enum NoLine {
    /// The report was due before the symbols were read. That is done afterwards and never counts against the code.
    NotInTime,
    /// The program has symbols, but no line tables.
    NoDebugInfo,
    /// The program has no symbols.
    Stripped,
    /// The program's file was replaced or removed since it was started.
    Replaced,
    /// None of the calls that were found on the top of the stack is of the code under watch.
    NotOnStack,
    /// No copy was made of its stack: it was seen too seldom, or its memory could not be read.
    NotCopied,
    /// The symbols could not be read: no thread was to be had, or what reads them failed.
    Unreadable,
}

impl fmt::Display for NoLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotInTime => "not read in time",
            Self::NoDebugInfo => {
                "unknown, since the program has no debug info (`debug = \"line-tables-only\"` in its profile adds it)"
            }
            Self::Stripped => {
                "unknown, since the program is stripped (`strip = false` in its profile keeps its symbols)"
            }
            Self::Replaced => "unknown, since the program's file was replaced or removed after its start",
            Self::NotOnStack => "unknown, since no call of the code under watch is on the top of the stack",
            Self::NotCopied => "unknown, since no copy was made of the stack",
            Self::Unreadable => "unknown, since the symbols could not be read",
        })
    }
}

/// A source line that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Line {
    /// File and number.
    pub(super) text: String,
    /// Whether it may be left over from a call that was over.
    pub(super) guessed: bool,
}

/// Of each that was asked for.
pub(super) type Lines = Vec<Result<Line, NoLine>>;

/// What a thread is said to wait in if it waits in no call.
pub(super) const PAGE_FAULT: &str = "a page fault";

/// What a thread is said to wait for in `futex` if it is a lock of the C library.
pub(super) const C_LIBRARY: &str = "a lock of the C library's (malloc, thread stacks; or stdio, name lookups)";

/// What a thread is said to wait for in `futex` if only another thread can end the wait.
pub(super) const LOCK: &str = "a lock, a channel, a condition variable or a join";

/// What a thread is said to wait for in `futex` if it set a time limit itself.
pub(super) const LOCK_WITH_LIMIT: &str = "a lock, a channel or a condition variable, with a time limit";

/// What a thread is said to do in `clone3` or `clone` if it starts one of its own process.
pub(super) const NEW_THREAD: &str = "starting a thread";

impl Culprit {
    /// Whether it was running, rather than waiting in a system call.
    pub fn is_running(&self) -> bool {
        self.syscall.is_none()
    }

    pub(super) fn running_by_the_clocks() -> Self {
        Self::seen(None, None, (0, 0), StackCopies::default())
    }

    /// One that waits, with a stack of one word where one is copied.
    #[cfg(test)]
    pub(super) fn with_a_stack() -> Self {
        #[cfg(all(target_os = "linux", not(deadbeat_portable), feature = "backtrace"))]
        let stacks = [std::sync::Arc::new(stack::Stack::new(stack::Registers::of_wait(0, 0), vec![0]))];
        #[cfg(not(all(target_os = "linux", not(deadbeat_portable), feature = "backtrace")))]
        let stacks = [];
        Self::seen(Some("flock".to_owned()), None, (1, 1), StackCopies::of(stacks.into_iter()))
    }

    /// `counts`: how many samples said so, and out of how many.
    pub(super) fn seen(
        syscall: Option<String>,
        detail: Option<String>,
        counts: (u32, u32),
        evidence: StackCopies,
    ) -> Self {
        let (samples, of) = counts;
        Self { syscall, detail, line: None, guessed: false, no_line: None, samples, of, evidence }
    }

    /// Whether it is a call that any code may be in now and then, without meaning to: the runtime has locks too.
    pub(super) fn is_of_any_code(&self) -> bool {
        let Self { syscall: Some(syscall), detail, .. } = self else { return false };
        waits_for_memory(syscall, detail.as_deref()) || waits_for_lock(syscall, detail.as_deref())
    }

    /// What its line can be told from, until that was told.
    pub(super) fn evidence(&self) -> &StackCopies {
        &self.evidence
    }

    /// Whether a line is to be expected, and nothing is known of it: not even why it is not there.
    pub(super) fn lacks_line(&self) -> bool {
        let known = self.line.is_some() || self.no_line.is_some();
        cfg!(feature = "backtrace") && !self.is_running() && !known
    }

    pub(super) fn is_at(&mut self, line: Result<Line, NoLine>) {
        self.evidence = StackCopies::default();
        match line {
            Ok(Line { text, guessed }) => (self.line, self.guessed) = (Some(text), guessed),
            Err(why) => self.no_line = Some(why),
        }
    }
}

impl fmt::Display for Culprit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.syscall {
            Some(syscall) => write!(f, "waiting in {syscall}")?,
            None => f.write_str("running: a computation or a spin")?,
        }
        if let Some(detail) = &self.detail {
            write!(f, ": {detail}")?;
        }
        if self.of > 0 {
            write!(f, " ({} of {} samples)", self.samples, self.of)?;
        }
        match (&self.line, &self.no_line) {
            (Some(line), _) if self.guessed => write!(f, ", probably at {line}"),
            (Some(line), _) => write!(f, ", at {line}"),
            (None, Some(why)) => write!(f, "; source line {why}"),
            (None, None) => Ok(()),
        }
    }
}

/// Blocked where any code may be: no code calls `mmap` or `malloc` or starts a thread in order to wait. Neither the
/// page that a fault waits for nor the lock of the C library's can be told, so a read of a mapped file and `getpwnam`
/// are taken for that too.
pub(super) fn waits_for_memory(syscall: &str, detail: Option<&str>) -> bool {
    [PAGE_FAULT, "mmap", "munmap", "mprotect", "mremap", "madvise", "brk"].contains(&syscall)
        || matches!(detail, Some(C_LIBRARY | NEW_THREAD))
}

pub(super) fn waits_for_lock(syscall: &str, detail: Option<&str>) -> bool {
    syscall == "futex" && detail == Some(LOCK)
}
