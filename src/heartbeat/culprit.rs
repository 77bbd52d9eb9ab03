//! What a stuck thread is stuck in, seen from outside: no signal is sent to it and nothing of it is stopped.
//!
//! A sample is a guess about one moment. The culprit of a stall is what most of its samples say, and it says how many.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::boundaries::TaskLook;
use super::doubt::Looks;
use super::reading::ThreadId;
use super::reading::thread::{Account, Status};
use super::stall::Spent;
use super::takeover::WorkersLook;

#[cfg(all(target_os = "linux", not(deadbeat_portable), any(feature = "cli", feature = "conformance")))]
mod elsewhere;
#[cfg(all(target_os = "linux", not(deadbeat_portable)))]
mod memory;
#[cfg(all(target_os = "linux", not(deadbeat_portable), feature = "backtrace"))]
mod source_line;
#[cfg(not(all(target_os = "linux", not(deadbeat_portable), feature = "backtrace")))]
#[path = "culprit/no_stack.rs"]
mod stack;
#[cfg(all(target_os = "linux", not(deadbeat_portable), feature = "backtrace"))]
mod stack;
#[cfg(all(target_os = "linux", not(deadbeat_portable), feature = "backtrace"))]
mod symbols;
#[cfg(all(target_os = "linux", not(deadbeat_portable)))]
mod syscall;
mod turns;
#[cfg(all(target_os = "linux", not(deadbeat_portable), feature = "backtrace"))]
mod unwind;

#[cfg(all(target_os = "linux", not(deadbeat_portable), any(feature = "cli", feature = "conformance")))]
pub(crate) use elsewhere::what_its_threads_do;
pub(super) use stack::Evidence;
#[cfg(not(all(target_os = "linux", not(deadbeat_portable), feature = "backtrace")))]
pub(super) use stack::find_lines;
#[cfg(all(target_os = "linux", not(deadbeat_portable), feature = "backtrace"))]
pub(super) use symbols::find_lines;
#[cfg(fuzzing)]
pub use syscall::system_call;

use stack::Stack;

/// What the threads of another process are stuck in; here nobody can tell.
#[cfg(all(not(all(target_os = "linux", not(deadbeat_portable))), any(feature = "cli", feature = "conformance")))]
pub(crate) fn what_its_threads_do(_: i32) -> Vec<String> {
    Vec::new()
}

/// A thread that runs has it in its account after so long: a tick of the slowest kernel.
const BOOKED: Duration = Duration::from_millis(10);

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
    /// Needs the feature `backtrace` and debug info. `None` for a thread that was running: the kernel shows the registers
    /// of a thread only while it waits.
    pub line: Option<String>,
    /// Whether `line` is a guess. The calls that a thread is in are unwound from a copy of its stack; where that ends too
    /// early, the first word on the stack that looks like a return address is taken for one, and may be left over from a
    /// call that was over.
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
    evidence: Evidence,
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
const PAGE_FAULT: &str = "a page fault";

/// What a thread is said to wait for in `futex` if it is a lock of the C library.
const C_LIBRARY: &str = "a lock of the C library's (malloc, thread stacks; or stdio, name lookups)";

/// What a thread is said to wait for in `futex` if only another thread can end the wait.
const LOCK: &str = "a lock, a channel, a condition variable or a join";

/// What a thread is said to wait for in `futex` if it set a time limit itself.
const LOCK_WITH_LIMIT: &str = "a lock, a channel or a condition variable, with a time limit";

/// What a thread is said to do in `clone3` or `clone` if it starts one of its own process.
const NEW_THREAD: &str = "starting a thread";

impl Culprit {
    /// Whether it was running, rather than waiting in a system call.
    pub fn is_running(&self) -> bool {
        self.syscall.is_none()
    }

    pub(super) fn running_by_the_clocks() -> Self {
        Self::seen(None, None, (0, 0), Evidence::default())
    }

    /// One that waits, with a stack of one word where one is copied.
    #[cfg(test)]
    pub(super) fn with_a_stack() -> Self {
        #[cfg(all(target_os = "linux", not(deadbeat_portable), feature = "backtrace"))]
        let stacks = [Arc::new(Stack::new(stack::Registers::of_wait(0, 0), vec![0]))];
        #[cfg(not(all(target_os = "linux", not(deadbeat_portable), feature = "backtrace")))]
        let stacks = [];
        Self::seen(Some("flock".to_owned()), None, (1, 1), Evidence::of(stacks.into_iter()))
    }

    /// `counts`: how many samples said so, and out of how many.
    pub(super) fn seen(
        syscall: Option<String>,
        detail: Option<String>,
        counts: (u32, u32),
        evidence: Evidence,
    ) -> Self {
        let (samples, of) = counts;
        Self { syscall, detail, line: None, guessed: false, no_line: None, samples, of, evidence }
    }

    /// What one look showed that is sure to be of that stretch.
    pub(super) fn certain(sample: Sample) -> Self {
        let (syscall, detail) = match sample.doing {
            Doing::Running => (None, None),
            Doing::Waiting { syscall, detail } => (Some(syscall), detail),
        };
        Self::seen(syscall, detail, (1, 1), Evidence::of(sample.stack.into_iter()))
    }

    /// Whether it is a call that any code may be in now and then, without meaning to: the runtime has locks too.
    pub(super) fn is_of_any_code(&self) -> bool {
        let Self { syscall: Some(syscall), detail, .. } = self else { return false };
        let doing = Doing::Waiting { syscall: syscall.clone(), detail: detail.clone() };
        doing.waits_for_memory() || doing.waits_for_lock()
    }

    /// What its line can be told from, until that was told.
    pub(super) fn evidence(&self) -> &Evidence {
        &self.evidence
    }

    /// Whether a line is to be expected, and nothing is known of it: not even why it is not there.
    pub(super) fn lacks_line(&self) -> bool {
        let known = self.line.is_some() || self.no_line.is_some();
        cfg!(feature = "backtrace") && !self.is_running() && !known
    }

    pub(super) fn is_at(&mut self, line: Result<Line, NoLine>) {
        self.evidence = Evidence::default();
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

/// What one look at a thread showed.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub(super) thread: ThreadId,
    pub(super) at: Instant,
    doing: Doing,
    /// The top of its stack, if it was copied.
    stack: Option<Arc<Stack>>,
    /// The kernel's account of it, read after the look, of a thread whose time is weighed.
    pub(super) account: Option<Account>,
    /// Who traces it, and how often it has lost its CPU; read after the account.
    pub(super) status: Option<Status>,
    /// If its runtime has no other worker.
    pub(super) tasks: Option<TaskLook>,
    /// If it has, and they can be seen.
    pub(super) workers: Option<WorkersLook>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Doing {
    Running,
    #[cfg_attr(
        all(not(test), any(not(target_os = "linux"), deadbeat_portable)),
        expect(dead_code, reason = "nobody can see it there")
    )]
    Waiting {
        syscall: String,
        detail: Option<String>,
    },
}

impl Sample {
    /// Looks at a thread of this process: some 10 µs. With `deep`, copies the top of its stack too.
    #[cfg(all(target_os = "linux", not(deadbeat_portable)))]
    pub(super) fn of(thread: ThreadId, deep: bool) -> Option<Self> {
        let at = Instant::now();
        let state = syscall::State::of(thread)?;
        let stack = deep.then(|| copy_of_stack(&state)).flatten();
        let doing = match state.call {
            None => Doing::Running,
            Some(call) => Doing::Waiting { syscall: call.name(), detail: call.detail() },
        };
        Some(Self { thread, at, doing, stack, account: None, status: None, tasks: None, workers: None })
    }

    #[cfg(not(all(target_os = "linux", not(deadbeat_portable))))]
    pub(super) fn of(_: ThreadId, _: bool) -> Option<Self> {
        None
    }

    #[cfg(test)]
    pub(super) fn running(thread: ThreadId, at: Instant) -> Self {
        Self { thread, at, doing: Doing::Running, stack: None, account: None, status: None, tasks: None, workers: None }
    }

    /// With its stack, where one is copied.
    #[cfg(test)]
    pub(super) fn copied(thread: ThreadId, at: Instant) -> Self {
        let stack = Culprit::with_a_stack().evidence.stacks().first().cloned();
        Self { stack, ..Self::running(thread, at) }
    }

    #[cfg(test)]
    pub(super) fn asleep(thread: ThreadId, at: Instant, account: Account) -> Self {
        let doing = Doing::Waiting { syscall: "poll".to_owned(), detail: None };
        Self { doing, account: Some(account), ..Self::running(thread, at) }
    }

    pub(super) fn has_stack(&self) -> bool {
        self.stack.is_some()
    }

    /// Running, or ready to.
    pub(super) fn is_running(&self) -> bool {
        self.doing == Doing::Running
    }

    /// As a thread does that has not come to what it was started for.
    pub(super) fn begins(&self) -> bool {
        self.is_running() || self.doing.waits_for_memory()
    }

    /// Waiting for another thread of this process, with no limit of its own.
    pub(super) fn waits_for_lock(&self) -> bool {
        self.doing.waits_for_lock()
    }

    /// Waiting where any code may have to.
    pub(super) fn waits_for_memory(&self) -> bool {
        self.doing.waits_for_memory()
    }

    /// The call as the look before this one saw it, where the thread has had no CPU since and so is in it still: another
    /// thread may have closed its descriptor meanwhile, and the number may have become another file's.
    pub(super) fn keeps_to(&mut self, before: &CallSeen) {
        let same =
            self.account.is_some_and(|account| account.turns == before.turns) && self.doing.same_call(&before.doing);
        if same {
            self.doing = before.doing.clone();
        }
    }

    /// What the next look is to be compared with.
    pub(super) fn call_seen(&self) -> Option<CallSeen> {
        let account = self.account.filter(|_| !self.is_running())?;
        Some(CallSeen { doing: self.doing.clone(), turns: account.turns })
    }

    /// How long the thread had been blocked since `from`, at least. One that is in a call waits for no CPU, so what it waited
    /// for one before is all in its account, and this sleep is not, however it will be booked at its end.
    fn blocked(&self, from: Instant, since: Spent) -> Option<Duration> {
        let account = self.account.filter(|_| !self.is_running())?;
        let (on_cpu, queued) =
            (account.on_cpu.checked_sub(since.on_cpu)?, account.run_queue.checked_sub(since.run_queue)?);
        self.at.checked_duration_since(from)?.checked_sub(on_cpu + queued)
    }

    fn tracer(&self) -> Option<u32> {
        self.status.and_then(|status| status.tracer)
    }

    /// Waiting for events, as an idle worker does.
    fn is_parked(&self) -> bool {
        matches!(&self.doing, Doing::Waiting { syscall, .. } if syscall.starts_with("epoll_"))
    }

    /// As a worker waits for events and a thread of the blocking pool for work, the latter with a limit: such a thread holds
    /// no lock.
    pub(super) fn is_idle(&self) -> bool {
        let with_limit = |detail: &Option<String>| detail.as_deref() == Some(LOCK_WITH_LIMIT);
        self.is_parked() || matches!(&self.doing, Doing::Waiting { detail, .. } if with_limit(detail))
    }

    /// In a call that a worker idles in too: for events, or for whoever turns the driver.
    fn may_idle(&self) -> bool {
        self.is_parked() || matches!(&self.doing, Doing::Waiting { syscall, .. } if syscall == "futex")
    }
}

/// The call that a thread was in, and how often it had been given a CPU by then.
#[derive(Debug)]
pub(super) struct CallSeen {
    doing: Doing,
    turns: u64,
}

/// The majority among `samples`. Waiting for events counts only if it is nearly all there is to see: else it was the
/// runtime's own, right before the stall or after it. One lone look at a call that workers idle in may have been just
/// that, and names nobody.
///
/// `waited`: whether the clocks say that it waited rather than computed, if they do. They are exact, and a thread that has
/// to wait for a CPU after its block looks as if it ran; so only looks that agree with them count.
pub(super) fn majority<'a>(samples: impl Iterator<Item = &'a Sample>, waited: Option<bool>) -> Option<Culprit> {
    let agrees = |sample: &&Sample| waited.is_none_or(|waited| sample.is_running() != waited);
    let all: Vec<&Sample> = samples.filter(agrees).collect();
    let busy: Vec<&Sample> = all.iter().copied().filter(|sample| !sample.is_parked()).collect();
    let seen = if busy.len() <= all.len() / 8 { all } else { busy };
    let winner = most_frequent(seen.iter().copied(), |one, other| one.doing.same_call(&other.doing))?;
    let for_it: Vec<&Sample> = seen.iter().copied().filter(|sample| sample.doing.same_call(&winner.doing)).collect();
    let (syscall, detail) = match &winner.doing {
        Doing::Running => (None, None),
        Doing::Waiting { syscall, .. } => {
            let often =
                most_frequent(for_it.iter().filter_map(|sample| sample.doing.detail()), |one, other| one == other);
            (Some(syscall.clone()), often.map(str::to_owned))
        }
    };
    if for_it.len() == 1 && winner.may_idle() {
        return None;
    }
    let count = |samples: &[&Sample]| samples.len().try_into().unwrap_or(u32::MAX);
    let (samples, of) = (count(&for_it), count(&seen));
    let evidence = Evidence::of(for_it.iter().filter_map(|sample| sample.stack.clone()));
    Some(Culprit::seen(syscall, detail, (samples, of), evidence))
}

/// Those of one thread, in order, that its clocks do not contradict: a thread that has to wait for a CPU looks as if it
/// ran, and on a busy machine that may take longer than its block.
pub(super) fn credible(samples: &[Sample]) -> impl Iterator<Item = &Sample> {
    let waited = || {
        let (first, last) = (samples.first()?, samples.last()?);
        let (then, now) = (first.account?, last.account?);
        let on_cpu = now.on_cpu.checked_sub(then.on_cpu)?;
        let queued = now.run_queue.checked_sub(then.run_queue)?;
        // Blocked, or waiting for a CPU that it has not got yet.
        let off_cpu = (last.at - first.at).checked_sub(on_cpu + queued)?;
        Some(off_cpu > on_cpu + BOOKED)
    };
    let waited = waited().unwrap_or_default();
    samples.iter().filter(move |sample| !(waited && sample.is_running()))
}

/// A hanging thread is looked at thousands of times, in hardly more than one call.
fn most_frequent<T: Copy>(all: impl Iterator<Item = T>, same: impl Fn(T, T) -> bool) -> Option<T> {
    let mut counts: Vec<(T, usize)> = Vec::new();
    for one in all {
        match counts.iter_mut().find(|(other, _)| same(one, *other)) {
            Some((_, count)) => *count += 1,
            None => counts.push((one, 1)),
        }
    }
    counts.into_iter().max_by_key(|(_, count)| *count).map(|(one, _)| one)
}

/// Where the thread was in `samples`, which are all there are from `from` to `to`, and what it had spent `since` before, and
/// `until` the end.
pub(super) fn looks<'a>(
    samples: impl Iterator<Item = &'a Sample>,
    (from, to): (Instant, Instant),
    (since, until): (Option<Spent>, Option<Spent>),
) -> Looks {
    let all: Vec<&Sample> = samples.collect();
    // A thread that is ready to run is blocked nowhere: a look at it says nothing of where it was blocked before or after.
    let waiting: Vec<&Sample> = all.iter().copied().filter(|sample| !sample.is_running()).collect();
    let blocked = |since| waiting.iter().filter_map(|sample| sample.blocked(from, since)).max();
    let count = |samples: &[&Sample]| samples.len().try_into().unwrap_or(u32::MAX);
    Looks {
        all: count(&all),
        waiting: count(&waiting),
        for_memory: time_in(&waiting, (from, to), Sample::waits_for_memory),
        for_lock: time_in(&waiting, (from, to), Sample::waits_for_lock),
        before_lock: Duration::ZERO,
        blocked: since.and_then(blocked).unwrap_or_default(),
        tracer: all.iter().find_map(|sample| sample.tracer()),
        traced: time_in(&all, (from, to), |sample| sample.tracer().is_some()),
        yielded: turns::yielded(&all),
        unseen: unseen(&all, &waiting, (from, to), until),
    }
}

/// How long the thread may have waited so, at most: a look speaks for the time from the look before it to the one after.
fn time_in(samples: &[&Sample], (from, to): (Instant, Instant), waits: fn(&Sample) -> bool) -> Duration {
    let mut time = Duration::ZERO;
    let (mut last, mut waited) = (from, false);
    for sample in samples {
        let waits = waits(sample);
        if waits || waited {
            time += sample.at - last;
        }
        (last, waited) = (sample.at, waits);
    }
    if waited { time + (to - last) } else { time }
}

/// Looks come closer to each other than this as long as the observer is given a CPU.
const HELD_UP: Duration = Duration::from_millis(10);

/// How long the thread may have been blocked while the observer, held up itself, did not look. Where it was in one call
/// before and after, it is taken to have been there in between.
fn unseen(all: &[&Sample], waiting: &[&Sample], (from, to): (Instant, Instant), until: Option<Spent>) -> Duration {
    let (Some(first), Some(last)) = (waiting.first(), waiting.last()) else {
        return to - from;
    };
    let between = waiting.windows(2).filter(|pair| !pair[0].doing.same_call(&pair[1].doing));
    let spent =
        |sample: &Sample| sample.account.map(|account| Spent { on_cpu: account.on_cpu, run_queue: account.run_queue });
    let between = between.map(|pair| lost(pair[1].at - pair[0].at, spent(pair[0]), spent(pair[1])));
    // The first look comes when patience is over, which is a small part of any stall.
    let before = Some(first.at - from).filter(|time| *time > (to - from) / 2);
    let after = lost(to - last.at, spent(last), until);
    let pause = HELD_UP.max(Duration::from_millis(u64::try_from(all.len() / 16).unwrap_or(u64::MAX)));
    let beside = between.filter(|time| *time > HELD_UP).chain(before).sum::<Duration>();
    (beside + if after > pause { after } else { Duration::ZERO }).min(to - from)
}

/// What a thread did not spend on a CPU or waiting for one, of a time at whose beginning and end that is known.
fn lost(time: Duration, then: Option<Spent>, now: Option<Spent>) -> Duration {
    let Some((then, now)) = then.zip(now) else { return time };
    let spent = now.on_cpu.saturating_sub(then.on_cpu) + now.run_queue.saturating_sub(then.run_queue);
    time.saturating_sub(spent)
}

/// Of a thread that waits; the kernel does not show where one is that runs.
#[cfg(all(target_os = "linux", not(deadbeat_portable), feature = "backtrace"))]
fn copy_of_stack(state: &syscall::State) -> Option<Arc<Stack>> {
    state.call?;
    let registers = stack::Registers::of_wait(state.program_counter, state.stack_pointer);
    let words = memory::stack(state.stack_pointer);
    (!words.is_empty()).then(|| Arc::new(Stack::new(registers, words)))
}

#[cfg(all(target_os = "linux", not(deadbeat_portable), not(feature = "backtrace")))]
fn copy_of_stack(_: &syscall::State) -> Option<Arc<Stack>> {
    None
}

impl Doing {
    fn same_call(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Running, Self::Running) => true,
            (Self::Waiting { syscall: one, .. }, Self::Waiting { syscall: two, .. }) => one == two,
            _ => false,
        }
    }

    /// Blocked where any code may be: nobody calls `mmap` or `malloc` or starts a thread in order to wait. Neither the page
    /// that a fault waits for nor the lock of the C library's can be told, so a read of a mapped file and `getpwnam` are
    /// taken for that too.
    fn waits_for_memory(&self) -> bool {
        let memory = [PAGE_FAULT, "mmap", "munmap", "mprotect", "mremap", "madvise", "brk"];
        match self {
            Self::Running => false,
            Self::Waiting { syscall, detail } => {
                memory.contains(&syscall.as_str()) || matches!(detail.as_deref(), Some(C_LIBRARY | NEW_THREAD))
            }
        }
    }

    fn waits_for_lock(&self) -> bool {
        matches!(self, Self::Waiting { syscall, detail } if syscall == "futex" && detail.as_deref() == Some(LOCK))
    }

    fn detail(&self) -> Option<&str> {
        match self {
            Self::Running => None,
            Self::Waiting { detail, .. } => detail.as_deref(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(doing: Doing) -> Sample {
        Sample { doing, ..Sample::running(ThreadId(1), Instant::now()) }
    }

    fn waiting(syscall: &str, detail: Option<&str>) -> Sample {
        sample(Doing::Waiting { syscall: syscall.to_owned(), detail: detail.map(str::to_owned) })
    }

    #[test]
    fn the_culprit_is_what_most_samples_say() {
        let samples = [waiting("futex", None), sample(Doing::Running), waiting("futex", None)];
        let culprit = majority(samples.iter(), None).unwrap();
        assert_eq!((culprit.syscall.as_deref(), culprit.samples, culprit.of), (Some("futex"), 2, 3));
    }

    #[test]
    fn an_idle_worker_before_and_after_does_not_outvote_the_stall() {
        let samples = [waiting("epoll_wait", None), waiting("epoll_wait", None), waiting("wait4", Some("pid 7"))];
        assert_eq!(majority(samples.iter(), None).unwrap().to_string(), "waiting in wait4: pid 7 (1 of 1 samples)");
    }

    #[test]
    fn who_waits_for_events_by_hand_is_seen_to() {
        let mut samples = vec![waiting("epoll_wait", None); 40];
        samples.push(sample(Doing::Running));
        assert_eq!(majority(samples.iter(), None).unwrap().syscall.as_deref(), Some("epoll_wait"));
    }

    #[test]
    fn who_is_asleep_has_been_blocked_for_what_it_has_not_spent_on_a_cpu_or_waiting_for_one() {
        let (start, ms) = (Instant::now(), Duration::from_millis(1));
        let since = Spent { on_cpu: ms * 1000, run_queue: ms * 2000 };
        let slept = |at: u32, on_cpu: u32, queued: u32| {
            let account = Account { on_cpu: ms * (1000 + on_cpu), run_queue: ms * (2000 + queued), turns: 7 };
            Sample::asleep(ThreadId(1), start + ms * at, account)
        };
        let looks = |samples: &[Sample], since| looks(samples.iter(), (start, start + ms * 200), (since, None)).blocked;
        let blocked = |samples: &[Sample]| looks(samples, Some(since));
        assert_eq!(blocked(&[]), Duration::ZERO);
        assert_eq!(blocked(&[slept(100, 10, 20)]), ms * 70);
        assert_eq!(blocked(&[slept(50, 10, 20), slept(100, 10, 20), slept(160, 50, 90)]), ms * 70, "the most of them");
        assert_eq!(blocked(&[slept(20, 10, 20)]), Duration::ZERO, "some of it was before");
        // Ready to run, it may be waiting for a CPU, and nothing of that is booked yet.
        assert_eq!(blocked(&[Sample { doing: Doing::Running, ..slept(100, 10, 20) }]), Duration::ZERO);
        assert_eq!(blocked(&[Sample { account: None, ..slept(100, 10, 20) }]), Duration::ZERO);
        assert_eq!(looks(&[slept(100, 10, 20)], None), Duration::ZERO, "it was never read before");
    }

    #[test]
    fn a_lock_of_the_c_library_is_a_wait_for_memory_and_any_other_is_not() {
        let samples = [
            waiting("futex", Some(C_LIBRARY)),
            waiting("mmap", None),
            waiting("clone3", Some(NEW_THREAD)),
            waiting("futex", Some("a lock")),
            sample(Doing::Running),
        ];
        let at = samples[0].at;
        let looks = looks(samples.iter().take(3), (at, samples[2].at), (None, None));
        assert_eq!((looks.all, looks.waiting, looks.for_memory), (3, 3, samples[2].at - at));
        let looks = super::looks(samples.iter().skip(3), (samples[3].at, samples[4].at), (None, None));
        assert_eq!((looks.all, looks.waiting, looks.for_memory), (2, 1, Duration::ZERO));
    }

    #[test]
    fn a_look_at_a_wait_for_memory_speaks_for_the_time_from_the_look_before_to_the_next() {
        let (ms, from) = (Duration::from_millis(1), Instant::now());
        let for_memory = |seen: &[(u32, &str)]| {
            let sample = |(at, call): &(u32, &str)| Sample { at: from + ms * *at, ..waiting(call, None) };
            let samples: Vec<Sample> = seen.iter().map(sample).collect();
            looks(samples.iter(), (from, from + ms * 120), (None, None)).for_memory
        };
        assert_eq!(for_memory(&[(10, "flock"), (12, "mmap"), (13, "mmap"), (15, "flock"), (17, "flock")]), ms * 5);
        // Looks are close to each other at first, so most of them say little of a long stall.
        assert_eq!(for_memory(&[(10, "mmap"), (11, "mmap"), (12, "mmap"), (14, "flock")]), ms * 14);
        assert_eq!(for_memory(&[(60, "mmap")]), ms * 120, "nobody saw it elsewhere");
        // Nobody knows when in between it began, or was over.
        assert_eq!(for_memory(&[(1, "flock"), (100, "mmap")]), ms * 119);
        assert_eq!(for_memory(&[(1, "mmap"), (100, "flock")]), ms * 100);
        assert_eq!(for_memory(&[]), Duration::ZERO);
    }

    #[test]
    fn a_look_at_a_runnable_thread_speaks_neither_for_a_wait_for_memory_nor_against_one() {
        let (ms, from) = (Duration::from_millis(1), Instant::now());
        let for_memory = |seen: &[(u32, Option<&str>)]| {
            let sample = |(at, call): &(u32, Option<&str>)| {
                let sample = call.map_or_else(|| sample(Doing::Running), |call| waiting(call, None));
                Sample { at: from + ms * *at, ..sample }
            };
            let samples: Vec<Sample> = seen.iter().map(sample).collect();
            looks(samples.iter(), (from, from + ms * 442), (None, None)).for_memory
        };
        // It got no CPU after its wait, and was in the next one when it was looked at again.
        let seen = [(15, Some("mprotect")), (60, None), (140, None), (300, Some("mprotect")), (400, None)];
        assert_eq!(for_memory(&seen), ms * 442);
        assert_eq!(for_memory(&[(15, Some("mprotect")), (60, None), (140, Some("flock"))]), ms * 140);
        assert_eq!(for_memory(&[(60, None), (140, None)]), Duration::ZERO);
    }

    #[test]
    fn what_lies_between_two_looks_is_unseen_unless_they_show_one_call_or_it_was_spent_on_a_cpu_or_waiting_for_one() {
        let (ms, from) = (Duration::from_millis(1), Instant::now());
        let look = |at: u32, call, spent: u32| {
            let account = Account { on_cpu: ms * spent, run_queue: Duration::ZERO, turns: 7 };
            Sample { at: from + ms * at, account: Some(account), ..waiting(call, None) }
        };
        let unseen = |samples: &[Sample], spent: u32| {
            let until = Some(Spent { on_cpu: ms * spent, run_queue: Duration::ZERO });
            looks(samples.iter(), (from, from + ms * 120), (None, until)).unseen
        };
        assert_eq!(unseen(&[look(12, "futex", 0), look(115, "futex", 0)], 0), Duration::ZERO, "one call");
        assert_eq!(unseen(&[look(12, "mmap", 0), look(90, "futex", 0), look(115, "futex", 0)], 0), ms * 78);
        assert_eq!(unseen(&[look(12, "mmap", 0), look(90, "futex", 70), look(115, "futex", 70)], 70), Duration::ZERO);
        assert_eq!(unseen(&[look(12, "futex", 0)], 0), ms * 108, "until its end");
        assert_eq!(unseen(&[look(12, "futex", 0)], 100), Duration::ZERO, "it computed");
        assert_eq!(unseen(&[look(80, "futex", 0), look(115, "futex", 0)], 0), ms * 80, "from its beginning");
        assert_eq!(unseen(&[], 0), ms * 120);
    }

    #[test]
    fn a_call_keeps_the_words_it_was_first_seen_with_while_the_thread_has_no_cpu() {
        let look = |call, detail, turns| {
            let account = Account { on_cpu: Duration::ZERO, run_queue: Duration::ZERO, turns };
            Sample { account: Some(account), ..waiting(call, Some(detail)) }
        };
        let before = look("read", "pipe:[7]", 3).call_seen().unwrap();
        let words = |mut sample: Sample| {
            sample.keeps_to(&before);
            sample.doing.detail().map(str::to_owned)
        };
        assert_eq!(words(look("read", "/another/file", 3)).as_deref(), Some("pipe:[7]"));
        assert_eq!(words(look("read", "/another/file", 4)).as_deref(), Some("/another/file"), "it may be another call");
        assert_eq!(words(look("write", "/another/file", 3)).as_deref(), Some("/another/file"));
        assert!(Sample { doing: Doing::Running, ..look("read", "", 3) }.call_seen().is_none());
    }

    #[test]
    fn who_waited_for_a_cpu_after_its_block_did_not_compute() {
        let samples = [waiting("flock", None), sample(Doing::Running), sample(Doing::Running)];
        let culprit = |waited| Some(majority(samples.iter(), Some(waited))?.to_string());
        assert_eq!(culprit(true).as_deref(), Some("waiting in flock (1 of 1 samples)"));
        assert_eq!(culprit(false).as_deref(), Some("running: a computation or a spin (2 of 2 samples)"));
        assert!(majority(samples[1..].iter(), Some(true)).is_none(), "nobody saw it wait");
    }

    #[test]
    fn who_waited_for_a_cpu_before_its_block_did_not_compute() {
        let (start, ms) = (Instant::now(), Duration::from_millis(1));
        let account = |on_cpu: u32, queued: u32| Account { on_cpu: ms * on_cpu, run_queue: ms * queued, turns: 7 };
        let runs = |at: u32, on_cpu, queued| Sample {
            account: Some(account(on_cpu, queued)),
            ..Sample::running(ThreadId(1), start + ms * at)
        };
        let sleeps = |at: u32, on_cpu, queued| Sample::asleep(ThreadId(1), start + ms * at, account(on_cpu, queued));
        let credible = |samples: &[Sample]| {
            let seen = credible(samples).map(Sample::is_running);
            seen.collect::<Vec<_>>()
        };
        // It got its CPU after 95 ms, and slept from then on.
        assert_eq!(credible(&[runs(0, 1, 0), runs(50, 1, 0), runs(90, 1, 0), sleeps(200, 2, 95)]), [false]);
        // It computed for as long.
        assert_eq!(credible(&[runs(0, 1, 0), runs(50, 50, 0), sleeps(200, 101, 0)]), [true, true, false]);
        // What it waits for a CPU since nobody has booked yet.
        assert_eq!(credible(&[sleeps(0, 0, 0), sleeps(20, 0, 0), runs(300, 0, 0)]), [false, false]);
        assert_eq!(credible(&[runs(0, 1, 0), runs(300, 1, 0)]), [false; 0], "nobody saw it asleep");
        assert_eq!(credible(&[runs(0, 1, 0), runs(10, 1, 0)]), [true, true], "not booked yet");
        let untold = |sample| Sample { account: None, ..sample };
        assert_eq!(credible(&[untold(runs(0, 1, 0)), sleeps(200, 2, 95)]), [true, false]);
        assert_eq!(credible(&[runs(0, 1, 0), untold(sleeps(200, 2, 95))]), [true, false]);
        assert_eq!(credible(&[]), [false; 0]);
    }

    #[test]
    fn one_look_at_what_workers_idle_in_names_nobody() {
        let seen = |syscall, times| majority(vec![waiting(syscall, None); times].iter(), Some(true)).is_some();
        for idle in ["epoll_wait", "futex"] {
            assert_eq!((seen(idle, 1), seen(idle, 2)), (false, true), "{idle}");
        }
        assert!(seen("wait4", 1), "no worker idles there");
    }

    #[test]
    fn a_thread_is_idle_that_waits_for_events_or_with_a_limit_for_work() {
        let idle = [waiting("epoll_wait", None), waiting("futex", Some(LOCK_WITH_LIMIT))];
        assert!(idle.iter().all(Sample::is_idle));
        let busy = [waiting("futex", Some(LOCK)), waiting("flock", None), sample(Doing::Running)];
        assert!(!busy.iter().any(Sample::is_idle));
    }

    #[test]
    fn what_an_eighth_of_the_looks_shows_beside_a_wait_for_events_is_the_runtimes_own() {
        let call = |busy, parked| {
            let mut samples = vec![waiting("wait4", None); busy];
            samples.extend(vec![waiting("epoll_wait", None); parked]);
            majority(samples.iter(), None).unwrap().syscall.unwrap()
        };
        assert_eq!([call(1, 7), call(2, 14), call(3, 22)], ["epoll_wait"; 3]);
        assert_eq!([call(1, 6), call(3, 13), call(3, 20)], ["wait4"; 3]);
    }

    #[test]
    fn the_detail_is_what_most_of_its_looks_show() {
        for (details, most) in
            [(["pid 7", "pid 8", "pid 7", "pid 9"], "pid 7"), (["pid 7", "pid 8", "pid 8", "pid 9"], "pid 8")]
        {
            let samples = details.map(|detail| waiting("wait4", Some(detail)));
            assert_eq!(majority(samples.iter(), None).unwrap().detail.as_deref(), Some(most));
        }
    }

    #[test]
    #[cfg(all(target_os = "linux", not(deadbeat_portable), feature = "backtrace"))]
    fn a_culprits_stacks_are_those_of_its_own_looks_that_have_one() {
        let stack = |word: usize| Arc::new(Stack::new(stack::Registers::of_wait(0, 0), vec![word]));
        let with_stack = |word, sample| Sample { stack: Some(stack(word)), ..sample };
        let samples = [
            with_stack(1, waiting("flock", None)),
            with_stack(2, sample(Doing::Running)),
            waiting("flock", None),
            with_stack(4, waiting("flock", None)),
        ];
        let mut culprit = majority(samples.iter(), None).unwrap();
        assert_eq!(culprit.evidence().stacks(), [stack(1), stack(4)]);
        culprit.is_at(Err(NoLine::NotInTime));
        assert!(culprit.evidence().is_empty(), "they have served");
    }

    #[test]
    fn one_look_that_is_certain_says_it_all() {
        let culprit = Culprit::certain(waiting("flock", Some("/a/lock")));
        assert_eq!(culprit.to_string(), "waiting in flock: /a/lock (1 of 1 samples)");
        let culprit = Culprit::certain(sample(Doing::Running));
        assert_eq!(culprit.to_string(), "running: a computation or a spin (1 of 1 samples)");
    }

    #[test]
    fn what_the_clocks_alone_say_claims_no_look() {
        let culprit = Culprit::running_by_the_clocks();
        assert_eq!(culprit.to_string(), "running: a computation or a spin");
        assert!(culprit.is_running());
        let culprit = Culprit { syscall: Some("flock".to_owned()), ..culprit };
        assert!(!culprit.is_running());
    }

    #[test]
    fn a_line_is_said_to_be_a_guess_if_it_is_one_and_where_it_is_missing_why() {
        let said = |line| {
            let mut culprit = Culprit { syscall: Some("flock".to_owned()), ..Culprit::running_by_the_clocks() };
            culprit.is_at(line);
            (culprit.line.is_some(), culprit.to_string())
        };
        let line = |guessed| Ok(Line { text: "src/job.rs:7".to_owned(), guessed });
        assert_eq!(said(line(false)), (true, "waiting in flock, at src/job.rs:7".to_owned()));
        assert_eq!(said(line(true)), (true, "waiting in flock, probably at src/job.rs:7".to_owned()));
        assert_eq!(said(Err(NoLine::NotInTime)), (false, "waiting in flock; source line not read in time".to_owned()));
        for (why, what) in [
            (NoLine::NoDebugInfo, "line-tables-only"),
            (NoLine::Stripped, "stripped"),
            (NoLine::Replaced, "replaced"),
            (NoLine::NotOnStack, "no call"),
            (NoLine::NotCopied, "no copy"),
            (NoLine::Unreadable, "could not be read"),
        ] {
            assert!(said(Err(why)).1.contains(what), "{what}");
        }
    }

    #[test]
    fn a_thread_that_runs_or_waits_for_memory_may_not_have_come_to_what_it_was_started_for() {
        let begins = [sample(Doing::Running), waiting("mprotect", None), waiting("futex", Some(C_LIBRARY))];
        assert!(begins.iter().all(Sample::begins));
        let has_come = [waiting("futex", Some("a lock")), waiting("epoll_wait", None)];
        assert!(!has_come.iter().any(Sample::begins));
    }

    #[test]
    #[cfg(all(target_os = "linux", not(deadbeat_portable)))]
    fn a_look_shows_the_call_and_a_deep_one_the_stack_where_its_line_can_be_told() {
        let (tell, told) = std::sync::mpsc::channel();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            tell.send(ThreadId::here()).unwrap();
            stopped.recv().unwrap_err();
        });
        let (id, start) = (told.recv().unwrap(), Instant::now());
        // Until it has come to its wait.
        let look = |deep| loop {
            let sample = Sample::of(id, deep).unwrap();
            if sample.may_idle() {
                break sample;
            }
            assert!(start.elapsed() < Duration::from_secs(30), "{sample:?}");
            std::thread::yield_now();
        };
        assert!(look(false).stack.is_none());
        assert_eq!(look(true).stack.is_none(), !cfg!(feature = "backtrace"));
        drop(stop);
        thread.join().unwrap();
    }

    #[test]
    fn no_samples_no_culprit() {
        assert!(majority([].iter(), None).is_none());
    }
}
