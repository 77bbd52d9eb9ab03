//! The process table, as `/proc` shows it: who is in which group, and who can still run.

use std::fs;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::libc::SIGKILL;
use nix::sys::signal::kill;
use nix::time::ClockId;
use nix::unistd::{Pid, getpgid};
use rustix::fs::{CWD, Mode, OFlags, RawDir, openat};

use super::super::child::has_exited;
use super::super::member::Member;
use super::spare_fd;

/// `PF_KTHREAD`: it is the kernel's own, and has no program.
const OF_KERNEL: u64 = 0x20_0000;

/// `PF_EXITING`: it runs no code of its own any more.
const EXITING: u64 = 0x4;

/// Whether this `/proc` shows this process's own pid namespace, with the processes of all users. Probed once: after
/// `unshare --pid` without a mount it shows another namespace, and with `hidepid` only the processes that this one may
/// trace.
pub(in crate::group) fn available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| {
        let is_us = fs::read_link("/proc/self").is_ok_and(|link| link == Path::new(&std::process::id().to_string()));
        // Where the mounts cannot be read, the first process at least is root's, as a rule, and not this user's.
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        is_us && fs::metadata("/proc/1").is_ok() && shows_all_users(&mounts, may_trace_all_users)
    })
}

/// Whether it is mounted with a `hidepid`.
#[cfg(feature = "cli")]
pub(in crate::group) fn hides_processes() -> bool {
    has_hidepid(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
}

fn shows_all_users(mounts: &str, may_trace: fn() -> bool) -> bool {
    !has_hidepid(mounts) || may_trace()
}

/// Whether the `/proc` of these `proc_pid_mountinfo(5)` is mounted with a `hidepid`, which is an option of its file
/// system (`proc(5)`): after the ` - `, the type and the source. Of several mounts on one place the last is seen.
fn has_hidepid(mounts: &str) -> bool {
    let proc = mounts.lines().rfind(|line| line.split(' ').nth(4) == Some("/proc"));
    let options = proc.and_then(|line| line.split_once(" - ")?.1.split(' ').nth(2)).unwrap_or_default();
    let hidepid = options.split(',').find_map(|option| option.strip_prefix("hidepid="));
    hidepid.is_some_and(|value| !matches!(value, "0" | "off"))
}

/// What `hidepid` asks for before it shows another user's process: `ptrace(2)`'s access, which root of a container may
/// lack.
fn may_trace_all_users() -> bool {
    let ours = rustix::thread::capabilities(None);
    ours.is_ok_and(|ours| ours.effective.contains(rustix::thread::CapabilitySet::SYS_PTRACE))
}

/// The members that can still run, with what `ps` would say of them.
pub(in crate::group) fn members(pgid: i32) -> io::Result<Vec<Member>> {
    members_where(|_, group| group == pgid)
}

/// The processes that can still run and are `wanted(pid, pgid)`.
pub(in crate::group) fn members_where(wanted: impl Fn(i32, i32) -> bool) -> io::Result<Vec<Member>> {
    let mut members = Vec::new();
    walk(|pid, pgid| {
        if wanted(pid, pgid) {
            members.extend(read_stat(pid).filter(|stat| stat.runs(pid)).map(|stat| Member {
                pid,
                state: stat.state,
                command: command(pid, &stat.name),
                signalable: kill(Pid::from_raw(pid), None) != Err(Errno::EPERM),
            }));
        }
    })?;
    Ok(members)
}

/// The id of this thread.
pub(in crate::group) fn this_thread() -> i32 {
    rustix::thread::gettid().as_raw_nonzero().get()
}

/// The time since the system was started, suspended or not, as the starts of processes are counted.
pub(in crate::group) fn since_boot() -> Duration {
    // Only an unknown clock fails.
    ClockId::CLOCK_BOOTTIME.now().map_or(Duration::ZERO, Duration::from)
}

/// When the process was started, rounded down to the clock ticks that `proc_pid_stat(5)` counts in.
pub(in crate::group) fn started_at(pid: i32) -> Option<Duration> {
    let ticks_per_second = rustix::param::clock_ticks_per_second().max(1);
    read_stat(pid).map(|stat| Duration::from_nanos(stat.started.saturating_mul(1_000_000_000 / ticks_per_second)))
}

/// Its state, as in `proc_pid_stat(5)`.
pub(in crate::group) fn state(pid: i32) -> Option<char> {
    read_stat(pid).map(|stat| stat.state)
}

/// Its parent now.
#[cfg(feature = "cli")]
pub(in crate::group) fn parent(pid: i32) -> Option<i32> {
    read_stat(pid).map(|stat| stat.parent)
}

/// What tells of one process which it is and where it comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kin {
    /// Its parent now.
    pub(crate) parent: i32,
    /// The number of the process that opened its session, itself or an ancestor.
    pub(crate) session: i32,
    /// In clock ticks since the system was started.
    pub(crate) started: u64,
    /// Whether any of its threads can run again.
    pub(crate) runs: bool,
    /// It is a thread of the kernel.
    pub(crate) is_of_kernel: bool,
}

pub(in crate::group) fn kin(pid: i32) -> Option<Kin> {
    read_stat(pid).map(|stat| Kin {
        parent: stat.parent,
        session: stat.session,
        started: stat.started,
        runs: stat.runs(pid),
        is_of_kernel: stat.flags & OF_KERNEL != 0,
    })
}

/// Calls `visit(pid, pgid)` for each process in the table.
pub(in crate::group) fn walk(mut visit: impl FnMut(i32, i32)) -> Result<(), Errno> {
    let errno = |error: rustix::io::Errno| Errno::from_raw(error.raw_os_error());
    let flags = OFlags::DIRECTORY | OFlags::CLOEXEC;
    // One is kept open for when no descriptor is left; its position is shared, so its users take turns.
    static SPARE: OnceLock<Mutex<OwnedFd>> = OnceLock::new();
    let open = || openat(CWD, c"/proc", flags, Mode::empty());
    if SPARE.get().is_none() {
        if let Ok(dir) = open() {
            SPARE.get_or_init(|| Mutex::new(dir));
        }
    }
    match (open(), SPARE.get()) {
        (Ok(dir), _) => walk_in(&dir, &mut visit),
        (Err(_), Some(spare)) => {
            let dir = spare.lock().unwrap_or_else(PoisonError::into_inner);
            rustix::fs::seek(&*dir, rustix::fs::SeekFrom::Start(0)).map_err(errno)?;
            walk_in(&dir, &mut visit)
        }
        (Err(error), None) => Err(errno(error)),
    }
}

fn walk_in(dir: &OwnedFd, visit: &mut impl FnMut(i32, i32)) -> Result<(), Errno> {
    let mut buffer = [MaybeUninit::<u8>::uninit(); 16 * 1024];
    let mut entries = RawDir::new(dir, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry.map_err(|error| Errno::from_raw(error.raw_os_error()))?;
        // An entry that is no number (`meminfo`, `sys`, ..) is no process.
        let Some(pid) = entry.file_name().to_str().ok().and_then(|name| name.parse().ok()) else { continue };
        // Asking for the group is some thirty times cheaper than reading a stat.
        if let Ok(pgid) = getpgid(Some(Pid::from_raw(pid))) {
            visit(pid, pgid.as_raw());
        }
    }
    Ok(())
}

/// Whether any thread of the process can run again. A process that cannot be read is taken to run: late beats wrong.
pub(in crate::group) fn runs(pid: i32) -> bool {
    match read_stat(pid) {
        Some(stat) => stat.runs(pid),
        // A child of this process can be asked without a descriptor.
        None => is_in_table(pid) && has_exited(pid) != Ok(true),
    }
}

/// Whether it has been sent SIGKILL and has only not died of it yet: on a busy machine that takes its time.
pub(in crate::group) fn is_dying(pid: i32) -> bool {
    let status = spare_fd::or_with_spare(|| fs::read_to_string(format!("/proc/{pid}/status"))).unwrap_or_default();
    is_sent_sigkill(&status) || read_stat(pid).is_some_and(|stat| stat.is_exiting())
}

/// By the signals pending for its main thread, and for whichever thread, in a `proc_pid_status(5)`.
fn is_sent_sigkill(status: &str) -> bool {
    let mut pending = status.lines().filter_map(|line| line.strip_prefix("SigPnd:").or(line.strip_prefix("ShdPnd:")));
    pending.any(|mask| u64::from_str_radix(mask.trim(), 16).is_ok_and(|mask| mask & (1 << (SIGKILL - 1)) != 0))
}

/// Whether it is dying and only waits for a CPU. A process that is stuck in the kernel or frozen is not: SIGKILL has
/// not come to it yet, and may never.
pub(in crate::group) fn is_leaving(pid: i32) -> bool {
    read_stat(pid).is_none_or(|stat| stat.is_leaving(|| is_dying(pid)))
}

fn is_in_table(pid: i32) -> bool {
    kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH)
}

/// The fields of `proc_pid_stat(5)` that tell the living from the dead.
#[derive(Debug, PartialEq, Eq)]
struct StatLine {
    name: String,
    state: char,
    parent: i32,
    session: i32,
    /// The kernel's `PF_*`.
    flags: u64,
    threads: u32,
    /// In clock ticks since the system was started.
    started: u64,
}

impl StatLine {
    /// `Z` alone is no proof of death: it is the *main* thread's state, and others may run on.
    fn runs(&self, pid: i32) -> bool {
        !is_dead(self.state) || (self.threads > 1 && some_thread_runs(pid))
    }

    fn is_exiting(&self) -> bool {
        self.flags & EXITING != 0
    }

    fn is_leaving(&self, is_dying: impl FnOnce() -> bool) -> bool {
        self.is_exiting() || self.state == 'R' && is_dying()
    }
}

fn is_dead(state: char) -> bool {
    matches!(state, 'Z' | 'X' | 'x')
}

fn some_thread_runs(pid: i32) -> bool {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else {
        return is_in_table(pid);
    };
    tasks.flatten().any(|task| read_stat_at(&task.path().join("stat")).is_some_and(|stat| !is_dead(stat.state)))
}

fn read_stat(pid: i32) -> Option<StatLine> {
    read_stat_at(Path::new(&format!("/proc/{pid}/stat")))
}

fn read_stat_at(path: &Path) -> Option<StatLine> {
    // One read gives one consistent line; the longest is well below this.
    let read = || {
        let mut line = [0; 1024];
        let length = fs::File::open(path)?.read(&mut line)?;
        Ok((line, length))
    };
    let (line, length) = spare_fd::or_with_spare(read).ok()?;
    parse_stat(&line[..length])
}

/// `PID (NAME) STATE PPID ..`: the name may hold anything, parentheses and blanks included, so the last `)` ends it.
fn parse_stat(line: &[u8]) -> Option<StatLine> {
    let open = line.iter().position(|b| *b == b'(')?;
    let close = line.iter().rposition(|b| *b == b')')?;
    let name = String::from_utf8_lossy(line.get(open + 1..close)?).into_owned();
    let rest = std::str::from_utf8(line.get(close + 1..)?).ok()?;
    // From here on the state is field 3 of the page, ppid field 4, session field 6, flags field 9, num_threads field 20
    // and starttime field 22.
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    let session = fields.nth(1)?.parse().ok()?;
    let flags = fields.nth(2)?.parse().ok()?;
    let threads = fields.nth(10)?.parse().ok()?;
    let started = fields.nth(1)?.parse().ok()?;
    Some(StatLine { name, state, parent, session, flags, threads, started })
}

pub(in crate::group) fn command_of(pid: i32) -> String {
    read_stat(pid).map_or_else(String::new, |stat| command(pid, &stat.name))
}

#[cfg(fuzzing)]
type Fields = (String, char, i32, u64, u32, u64);

/// Name, state, parent, flags, threads and start.
#[cfg(fuzzing)]
pub fn stat_line(line: &[u8]) -> Option<Fields> {
    parse_stat(line).map(|stat| (stat.name, stat.state, stat.parent, stat.flags, stat.threads, stat.started))
}

fn command(pid: i32, name: &str) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<_> = line.split(|b| *b == 0).filter(|word| !word.is_empty()).map(String::from_utf8_lossy).collect();
    if words.is_empty() { format!("[{name}]") } else { words.join(" ") }
}

#[cfg(test)]
mod tests;
