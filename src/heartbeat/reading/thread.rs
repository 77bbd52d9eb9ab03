//! The kernel's own account of a thread, from inside and from outside: `/proc/self/task/TID/schedstat`.
//!
//! From inside the run-queue wait is exact, because a thread that reads it has just been given a CPU. From outside
//! a wait that has not ended is not in it yet.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// The kernel's number of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct ThreadId(pub(crate) u32);

impl ThreadId {
    pub(crate) fn here() -> Self {
        Self(nix::unistd::gettid().as_raw().unsigned_abs())
    }
}

/// An open account of one thread.
#[derive(Debug)]
pub(crate) struct Clocks {
    id: ThreadId,
    schedstat: Option<File>,
}

impl Clocks {
    /// The calling thread's.
    pub(crate) fn open() -> Self {
        let id = ThreadId::here();
        let link = std::fs::read_link("/proc/thread-self").ok();
        let own = link.is_some_and(|link| names(&link, id));
        Self { id, schedstat: own.then(|| File::open("/proc/thread-self/schedstat").ok()).flatten() }
    }

    /// Without an open file: for a thread whose locals are being torn down.
    pub(crate) fn bare() -> Self {
        Self { id: ThreadId::here(), schedstat: None }
    }

    /// Another thread's of this process; `None` when it is gone or the kernel keeps no account.
    pub(crate) fn of(id: ThreadId) -> Option<Self> {
        let file = File::open(format!("/proc/self/task/{}/schedstat", id.0)).ok()?;
        Some(Self { id, schedstat: Some(file) })
    }

    pub(crate) fn id(&self) -> ThreadId {
        self.id
    }

    pub(crate) fn run_queue(&self) -> Option<Duration> {
        self.account().map(|account| account.run_queue)
    }

    /// On-CPU time as of the last tick or switch, and run-queue wait as of the last time it got a CPU.
    pub(crate) fn account(&self) -> Option<Account> {
        let mut text = [0; 80];
        let read = self.schedstat.as_ref()?.read_at(&mut text, 0).ok()?;
        Account::parse(&text[..read])
    }
}

/// A thread's time on a CPU up to this moment, whether it runs or not: 0.3 µs. `None` when it is gone.
pub(crate) fn cpu_time(id: ThreadId) -> Option<Duration> {
    // As clock_getcpuclockid(3) numbers the clocks of processes: the complement of the number, then three bits. Here
    // they say that it is a thread's (4), and its time on a CPU (2).
    let number: nix::libc::clockid_t = id.0.try_into().ok()?;
    clock_gettime(ClockId::from_raw((!number << 3) | 6)).ok().map(Duration::from)
}

/// What else the kernel says of a thread: see proc_pid_status(5).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Status {
    /// The process that traces this thread: a debugger, strace(1).
    pub(crate) tracer: Option<u32>,
    /// How often it lost its CPU while it was ready to run: preempted, or by `sched_yield`.
    pub(crate) displaced: u64,
}

impl Status {
    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse::<u64>().ok());
        let tracer = field("TracerPid:").and_then(|pid| pid.try_into().ok()).filter(|pid| *pid != 0);
        Some(Self { tracer, displaced: field("nonvoluntary_ctxt_switches:")? })
    }
}

/// An open status of one thread: a reading takes some 7 µs.
#[derive(Debug)]
pub(crate) struct StatusFile(File);

impl StatusFile {
    /// `None` when the thread is gone.
    pub(crate) fn of(id: ThreadId) -> Option<Self> {
        File::open(format!("/proc/self/task/{}/status", id.0)).ok().map(Self)
    }

    pub(crate) fn read(&self) -> Option<Status> {
        let mut text = [0; 4096];
        let read = self.0.read_at(&mut text, 0).ok()?;
        Status::parse(&String::from_utf8_lossy(&text[..read]))
    }
}

/// A clock tick of `/proc`: `USER_HZ` is 100 on every architecture tokio runs on.
const PROC_TICK: Duration = Duration::from_millis(10);

/// The threads of this process that are no older than `age`, or a tick, and have the same name as `like`: those of a
/// runtime are all called the same.
pub(crate) fn younger_than(age: Duration, like: ThreadId) -> Vec<ThreadId> {
    let Ok(now) = clock_gettime(ClockId::CLOCK_BOOTTIME) else { return Vec::new() };
    let born = (Duration::from(now).saturating_sub(age).as_millis() / PROC_TICK.as_millis()).saturating_sub(1);
    let stat =
        |thread: u32| ThreadStat::parse(&std::fs::read_to_string(format!("/proc/self/task/{thread}/stat")).ok()?);
    let Some(old) = stat(like.0) else { return Vec::new() };
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let threads = tasks.filter_map(|task| task.file_name().to_str()?.parse().ok());
    let young = |thread: &u32| stat(*thread).is_some_and(|stat| stat.name == old.name && stat.born >= born);
    threads.filter(|thread| *thread != like.0).filter(young).map(ThreadId).collect()
}

/// The threads of this process but these; a bounded number of them, so that a look at all takes a bounded time.
pub(crate) fn others_than(these: &[ThreadId]) -> Vec<ThreadId> {
    const MOST_THREADS: usize = 1024;
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let threads = tasks.filter_map(|task| task.file_name().to_str()?.parse().ok()).map(ThreadId);
    threads.filter(|thread| !these.contains(thread)).take(MOST_THREADS).collect()
}

/// Whether it is a thread of this crate's own that runs no code under test. A lab's own thread does: the root future;
/// and so do the workers of its runtime and the threads of its blocking pool.
pub(crate) fn is_a_watchers(thread: ThreadId) -> bool {
    let name = std::fs::read(format!("/proc/self/task/{}/comm", thread.0)).unwrap_or_default();
    name.starts_with(b"deadbeat-") && !name.starts_with(b"deadbeat-lab")
}

/// A thread's name, and in which tick since boot it was born.
struct ThreadStat {
    name: String,
    born: u128,
}

impl ThreadStat {
    fn parse(stat: &str) -> Option<Self> {
        // The name may contain anything.
        let (name, rest) = stat.split_once('(')?.1.rsplit_once(") ")?;
        Some(Self { name: name.to_owned(), born: rest.split_ascii_whitespace().nth(19)?.parse().ok()? })
    }
}

/// A schedstat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) on_cpu: Duration,
    pub(crate) run_queue: Duration,
    /// How often it was given a CPU.
    pub(crate) turns: u64,
}

impl Account {
    fn parse(text: &[u8]) -> Option<Self> {
        let mut fields = std::str::from_utf8(text).ok()?.split_ascii_whitespace();
        let mut number = || fields.next()?.parse::<u64>().ok();
        let (on_cpu, run_queue, turns) = (number()?, number()?, number()?);
        Some(Self { on_cpu: Duration::from_nanos(on_cpu), run_queue: Duration::from_nanos(run_queue), turns })
    }
}

/// On-CPU time, run-queue wait, and turns.
#[cfg(fuzzing)]
pub fn schedstat(text: &[u8]) -> Option<(Duration, Duration, u64)> {
    Account::parse(text).map(|account| (account.on_cpu, account.run_queue, account.turns))
}

/// Whether `/proc` calls this thread what the kernel calls it here: in a container it can be the view of another pid
/// namespace.
fn names(link: &Path, thread: ThreadId) -> bool {
    link.file_name().and_then(|name| name.to_str()?.parse().ok()) == Some(thread.0)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn a_schedstat_is_cpu_time_run_queue_wait_and_turns() {
        let account = Account::parse(b"1500 2500000 12\n").unwrap();
        assert_eq!(account.on_cpu, Duration::from_nanos(1500));
        assert_eq!(account.run_queue, Duration::from_micros(2500));
        assert_eq!(account.turns, 12);
    }

    #[test]
    fn a_thread_younger_than_another_of_its_name_is_found_and_an_old_one_is_not() {
        let named = |name: &str| std::thread::Builder::new().name(name.to_owned());
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let (tell, told) = std::sync::mpsc::channel();
        let stopped = std::sync::Arc::new(std::sync::Mutex::new(stopped));
        let begun = std::time::Instant::now();
        let threads = ["a (pool) x", "a (pool) x", "another"].map(|name| {
            let (tell, stopped) = (tell.clone(), stopped.clone());
            named(name).spawn(move || {
                tell.send(ThreadId::here()).unwrap();
                stopped.lock().unwrap().recv().unwrap_err();
            })
        });
        let ids: Vec<ThreadId> = told.iter().take(3).collect();
        let found = ids.iter().map(|id| younger_than(begun.elapsed(), *id).len());
        let mut found: Vec<usize> = found.collect();
        found.sort_unstable();
        assert_eq!(found, [0, 1, 1]);
        let me = ThreadId::here();
        assert!(!younger_than(begun.elapsed(), me).contains(&me));
        while begun.elapsed() < PROC_TICK * 4 {
            std::thread::yield_now();
        }
        assert!(ids.iter().all(|id| younger_than(Duration::ZERO, *id).is_empty()), "they are older than that");
        drop(stop);
        threads.into_iter().for_each(|thread| thread.unwrap().join().unwrap());
    }

    #[test]
    fn a_labs_threads_run_code_under_test_and_the_observer_does_not() {
        let is = |name: &str| {
            let thread = std::thread::Builder::new().name(name.to_owned());
            thread.spawn(|| is_a_watchers(ThreadId::here())).unwrap().join().unwrap()
        };
        assert_eq!(["deadbeat-observer", "deadbeat-sampler"].map(is), [true, true]);
        assert_eq!(["deadbeat-lab", "deadbeat-lab-worker", "tokio-rt-worker", "x"].map(is), [false; 4]);
    }

    #[test]
    fn a_proc_that_numbers_this_thread_otherwise_is_somebody_elses() {
        for (link, own) in [("7/task/12", true), ("7/task/13", false), ("12/task", false), ("", false)] {
            assert_eq!(names(Path::new(link), ThreadId(12)), own, "{link:?}");
        }
    }

    #[test]
    fn a_thread_that_sleeps_and_works_has_both_in_its_account_as_told_from_inside_and_from_outside() {
        let (clocks, over) = (Clocks::open(), AtomicBool::new(false));
        let begun = clocks.account().unwrap();
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let later = std::thread::scope(|scope| {
            // On a machine with nothing to do it would get its CPU at once.
            for _ in 0..cores * 2 {
                scope.spawn(|| {
                    while !over.load(Ordering::Relaxed) {
                        std::hint::spin_loop()
                    }
                });
            }
            let waited =
                |now: &Account| now.turns > begun.turns && now.on_cpu > begun.on_cpu && !now.run_queue.is_zero();
            let later = (0..1000).find_map(|_| {
                std::thread::park_timeout(Duration::from_millis(1));
                clocks.account().filter(waited)
            });
            over.store(true, Ordering::Relaxed);
            later.expect("it has waited, and been capped_at a CPU")
        });
        assert!(clocks.run_queue() >= Some(later.run_queue), "{later:?}");
        let outside = Clocks::of(clocks.id()).and_then(|clocks| clocks.account()).unwrap();
        assert!(outside.turns >= later.turns && outside.run_queue >= later.run_queue, "{outside:?} {later:?}");
        assert_eq!(Clocks::bare().run_queue(), None);
    }

    #[test]
    fn the_cpu_time_of_a_thread_is_told_to_the_moment_and_of_one_that_is_gone_it_is_not() {
        let (tell, told) = std::sync::mpsc::channel();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            tell.send(ThreadId::here()).unwrap();
            stopped.recv().unwrap_err();
        });
        let other = told.recv().unwrap();
        assert!(cpu_time(other).is_some_and(|time| time > Duration::ZERO));
        let mine = || cpu_time(ThreadId::here()).unwrap();
        let (before, after) = (mine(), mine());
        assert!(before < after, "{before:?} {after:?}");
        drop(stop);
        thread.join().unwrap();
        // What it leaves in the kernel can be there for a moment more.
        let gone = (0..10_000).any(|_| {
            std::thread::yield_now();
            cpu_time(other).is_none()
        });
        assert!(gone);
    }

    #[test]
    fn a_status_names_the_tracer_if_there_is_one_and_counts_lost_cpus() {
        let status = |tracer: &str| {
            let text = format!("Name:\ta\nTracerPid:\t{tracer}\nvoluntary_ctxt_switches:\t7\n");
            Status::parse(&(text + "nonvoluntary_ctxt_switches:\t12\n")).unwrap()
        };
        assert_eq!(status("0"), Status { tracer: None, displaced: 12 });
        assert_eq!(status("42"), Status { tracer: Some(42), displaced: 12 });
        assert_eq!(Status::parse("Name:\ta\n"), None);
        let own = StatusFile::of(ThreadId::here()).unwrap();
        assert!(own.read().is_some(), "of a thread that runs");
        assert!(StatusFile::of(ThreadId(u32::MAX)).is_none(), "of one that there is not");
    }

    #[test]
    fn a_schedstat_that_is_not_one_is_refused() {
        assert_eq!(Account::parse(b""), None);
        assert_eq!(Account::parse(b"12 x 3"), None);
    }
}
