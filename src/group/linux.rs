//! What Linux can tell of a group: its members from `/proc`, their exits from pidfds.
//!
//! A group is gone when two walks through `/proc` in a row, the second begun after the first had ended, each saw at
//! least one member and none that can run, while no pid was handed out that may have been a member's; or when the kernel
//! says `ESRCH`. A walk is not atomic: a member can fork into the part already walked and die before the walk reaches it.
//! Two walks make that unlikely, and a chain that forks all the time makes it likely again; the pids handed out tell.
//!
//! Between walks one live member, the *witness*, is held by its pidfd: while it has not exited and is still in the
//! group, the group is not gone, and no walk is needed to know that. When it exits, the next known member takes over;
//! when none is left, the table is walked again. So a kill costs a descriptor or two, however many members there are,
//! and all kills together never take more than half of what this process may open: beyond that they poll.

use std::collections::HashMap;
use std::fmt;
use std::fs;
use std::io::{self, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags};
use nix::sys::signal::kill;
use nix::time::ClockId;
use nix::unistd::{Pid, getpgid};
use rustix::fs::{CWD, Mode, OFlags, RawDir, openat};
use rustix::process::{PidfdFlags, pidfd_open};

use nix::libc::SIGKILL;

use super::{Member, portable, raw, wait_readable};

/// `PF_EXITING`: it runs no code of its own any more.
const EXITING: u64 = 0x4;

/// Whether this `/proc` shows the world that our pids live in, with everybody's processes. Probed once: after
/// `unshare --pid` without a mount it shows another namespace, and with `hidepid` it shows our own processes only.
pub(super) fn available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| {
        let is_us = fs::read_link("/proc/self").is_ok_and(|link| link == Path::new(&std::process::id().to_string()));
        is_us && fs::metadata("/proc/1").is_ok()
    })
}

/// What a look at one group said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sight {
    Alive,
    Gone,
}

/// The watch kept on one group.
#[derive(Debug)]
pub(super) struct Watch {
    pgid: i32,
    /// The leader's pidfd, if there was a leader to open: it reaches the group even after the leader was reaped.
    leader: Option<Pidfd>,
    /// Seen alive by the last walk and not yet seen dead; excludes the witness.
    known: Vec<i32>,
    witness: Option<Witness>,
    /// This `/proc` does not show the group: only the kernel is asked.
    blind: bool,
    /// The last look could not tell, and the next is worth having soon.
    undecided: bool,
}

#[derive(Debug)]
enum Witness {
    /// Held by the pidfd that is there anyway.
    Leader,
    Member(i32, Pidfd),
}

impl Watch {
    pub(super) fn new(pgid: i32) -> Watch {
        // While anything carries the number as its pgid, no stranger can carry it as its pid.
        // A leader that is alive is a witness as good as any, and saves the first walk.
        Watch { pgid, leader: open(pgid).ok(), known: vec![pgid], witness: None, blind: false, undecided: false }
    }

    pub(super) fn signal(&self, signal: i32) -> Result<(), Errno> {
        match &self.leader {
            Some(leader) if pidfds_reach_groups() => raw::pidfd_killpg(leader.fd.as_fd(), signal),
            // By number, which is the group's for as long as its leader is un-reaped or a member is alive.
            Some(leader) if is_reaped(leader) && !self.witness_lives() => Err(Errno::ESRCH),
            _ => raw::killpg(self.pgid, signal),
        }
    }

    /// Whether the next look is worth having before the poll interval is over.
    pub(super) fn is_undecided(&self) -> bool {
        self.undecided
    }

    pub(super) fn witness_fd(&self) -> Option<BorrowedFd<'_>> {
        match self.witness.as_ref()? {
            Witness::Leader => self.leader.as_ref().map(|leader| leader.fd.as_fd()),
            Witness::Member(_, pidfd) => Some(pidfd.fd.as_fd()),
        }
    }

    /// The kernel's word that the group is empty, by the leader's pidfd, which cannot be mistaken for a stranger's.
    fn is_empty(&self) -> bool {
        let Some(leader) = &self.leader else { return false };
        pidfds_reach_groups() && raw::pidfd_killpg(leader.fd.as_fd(), 0) == Err(Errno::ESRCH)
    }

    /// Whether the witness is alive and still in the group, at the price of two system calls.
    fn witness_lives(&self) -> bool {
        let pid = match self.witness {
            Some(Witness::Leader) => self.pgid,
            Some(Witness::Member(pid, _)) => pid,
            None => return false,
        };
        self.witness_fd().is_some_and(|fd| !has_exited(fd)) && is_member(pid, self.pgid)
    }

    /// Whether some member is known to be alive.
    fn has_witness(&mut self) -> bool {
        loop {
            if self.witness_lives() {
                return true;
            }
            self.witness = None;
            let Some(pid) = self.known.pop() else { return false };
            if pid == self.pgid && self.leader.is_some() {
                self.witness = Some(Witness::Leader);
                continue;
            }
            match open(pid) {
                // The pidfd came first, so a number that was reused meanwhile is told by its group.
                Ok(pidfd) => self.witness = Some(Witness::Member(pid, pidfd)),
                Err(Errno::ESRCH) => {}
                // No descriptor to be had: is it still alive? The next look walks again.
                Err(_) => {
                    self.known.clear();
                    return is_member(pid, self.pgid) && runs(pid);
                }
            }
        }
    }
}

/// Whether a process is still the one that is meant, for a number that may have been given to another.
type IsIt = Box<dyn Fn(i32) -> bool + Send>;

/// The watch kept on a single process, whatever group it is in.
pub(super) struct Stray {
    pid: i32,
    /// `None` where there is none to be had; then it is looked at again before each signal.
    pidfd: Option<Pidfd>,
    is_it: IsIt,
}

impl Stray {
    /// Holds the process by its pidfd, and only then looks whether it is the one that is meant.
    pub(super) fn hold(pid: i32, is_it: IsIt) -> Option<Stray> {
        let pidfd = match open(pid) {
            Ok(pidfd) => Some(pidfd),
            Err(Errno::ESRCH) => return None,
            Err(_) => None,
        };
        is_it(pid).then_some(Stray { pid, pidfd, is_it })
    }

    pub(super) fn is_gone(&self) -> bool {
        match self.fd() {
            Some(fd) => has_exited(fd),
            None => !((self.is_it)(self.pid) && runs(self.pid)),
        }
    }

    pub(super) fn signal(&self, signal: i32) -> Result<(), Errno> {
        match self.fd() {
            Some(fd) => raw::pidfd_kill(fd, signal),
            // The instant between the look and the signal is all that is left to chance.
            None if (self.is_it)(self.pid) => raw::kill(self.pid, signal),
            None => Err(Errno::ESRCH),
        }
    }

    pub(super) fn fd(&self) -> Option<BorrowedFd<'_>> {
        self.pidfd.as_ref().map(|pidfd| pidfd.fd.as_fd())
    }
}

impl fmt::Debug for Stray {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Stray({})", self.pid)
    }
}

/// A pidfd, counted against this process's share of descriptors.
#[derive(Debug)]
struct Pidfd {
    fd: OwnedFd,
}

static PIDFDS: AtomicUsize = AtomicUsize::new(0);

/// Half of what this process may open: the other half is its own.
fn most_pidfds() -> usize {
    static MOST: OnceLock<usize> = OnceLock::new();
    *MOST.get_or_init(|| {
        let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        limit.map_or(usize::MAX, |limit| usize::try_from(limit / 2).unwrap_or(usize::MAX))
    })
}

/// `pidfd_open(2)`: `ESRCH` for a process that is not there, `EMFILE` also when our own share is used up.
fn open(pid: i32) -> Result<Pidfd, Errno> {
    let pid = rustix::process::Pid::from_raw(pid).ok_or(Errno::ESRCH)?;
    if PIDFDS.fetch_add(1, Ordering::Relaxed) >= most_pidfds() {
        PIDFDS.fetch_sub(1, Ordering::Relaxed);
        return Err(Errno::EMFILE);
    }
    match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(fd) => Ok(Pidfd { fd }),
        Err(error) => {
            PIDFDS.fetch_sub(1, Ordering::Relaxed);
            Err(Errno::from_raw(error.raw_os_error()))
        }
    }
}

impl Drop for Pidfd {
    fn drop(&mut self) {
        PIDFDS.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How many walks one look may take before a group whose members change all the time is just called alive.
const WALKS: usize = 6;

/// Looks at many groups at once; only those without a witness cost a walk, and they share it.
pub(super) fn look<K: Copy>(watches: &mut [(K, &mut Watch)]) -> Vec<(K, Sight)> {
    let mut sights: Vec<Option<Sight>> = Vec::with_capacity(watches.len());
    // How many walks in a row saw members and none that can run, or none at all.
    let mut rows = vec![(0, 0); watches.len()];
    // How many walks saw nobody alive and nobody born in the group, whoever else came and went meanwhile.
    let mut quiet = vec![0; watches.len()];
    for (_, watch) in watches.iter_mut() {
        watch.undecided = false;
        sights.push(watch.glance());
    }
    let mut born_since = last_pid();
    for _ in 0..WALKS {
        let open = |sights: &[Option<Sight>], i: usize| sights[i].is_none();
        let mut seen: HashMap<i32, Vec<Seen>> = HashMap::new();
        for (i, (_, watch)) in watches.iter().enumerate() {
            if open(&sights, i) {
                seen.insert(watch.pgid, Vec::new());
            }
        }
        if seen.is_empty() {
            break;
        }
        let walked = walk(|pid, pgid| {
            if let Some(members) = seen.get_mut(&pgid) {
                members.push(Seen { pid, runs: runs(pid) })
            }
        });
        if walked.is_err() {
            // Out of descriptors or memory, say: it decides nothing, and the next look may do better.
            break;
        }
        let born = Born::since(born_since);
        for (i, (_, watch)) in watches.iter_mut().enumerate() {
            if !open(&sights, i) {
                continue;
            }
            let members = &seen[&watch.pgid];
            let (dead, unseen) = &mut rows[i];
            if members.iter().any(|member| member.runs) {
                (*dead, *unseen) = (0, 0);
                watch.known.extend(members.iter().filter(|member| member.runs).map(|member| member.pid));
                sights[i] = watch.has_witness().then_some(Sight::Alive);
            } else if !members.is_empty() {
                (*dead, *unseen) = (*dead + 1, 0);
                quiet[i] += usize::from(!born.is_seen_in(watch.pgid));
                // On a machine that forks all the time somebody always vanishes; six walks in vain are an answer too.
                if quiet[i] == WALKS {
                    sights[i] = Some(Sight::Gone);
                } else if born.may_be_in(watch.pgid) {
                    *dead = 0;
                } else if *dead >= 2 {
                    sights[i] = Some(Sight::Gone);
                }
            } else if raw::killpg(watch.pgid, 0) == Err(Errno::ESRCH) {
                sights[i] = Some(Sight::Gone);
            } else {
                (*dead, *unseen) = (0, *unseen + 1);
                if *unseen == 2 {
                    watch.blind = true;
                    sights[i] = Some(Sight::Alive);
                }
            }
        }
        if rows.iter().all(|(dead, _)| *dead != 1) {
            // Nobody is in the middle of a row: the next one starts here.
            born_since = last_pid();
        }
    }
    let mut all = Vec::with_capacity(watches.len());
    for ((key, watch), sight) in watches.iter_mut().zip(sights) {
        watch.undecided = sight.is_none();
        all.push((*key, sight.unwrap_or(Sight::Alive)));
    }
    all
}

impl Watch {
    /// What can be said without a walk.
    fn glance(&mut self) -> Option<Sight> {
        if self.blind {
            let gone = raw::killpg(self.pgid, 0) == Err(Errno::ESRCH);
            return Some(if gone { Sight::Gone } else { Sight::Alive });
        }
        if self.has_witness() {
            return Some(Sight::Alive);
        }
        self.is_empty().then_some(Sight::Gone)
    }
}

/// The pid handed out last in this namespace, to processes and threads alike: the last field of `proc_loadavg(5)`. Kept
/// open, for the day when no descriptor is to be had.
fn last_pid() -> Option<i32> {
    static LOADAVG: OnceLock<Option<fs::File>> = OnceLock::new();
    let mut line = [0; 128];
    let length = LOADAVG.get_or_init(|| fs::File::open("/proc/loadavg").ok()).as_ref()?.read_at(&mut line, 0).ok()?;
    std::str::from_utf8(&line[..length]).ok()?.split_ascii_whitespace().last()?.parse().ok()
}

/// Whom the system has given birth to in a stretch of time.
enum Born {
    /// By group; a pid that is in no group any more has died meanwhile, and may have been anybody's.
    Known { groups: Vec<i32>, vanished: bool },
    /// Too many, or the numbers have wrapped.
    Anybody,
}

impl Born {
    fn since(before: Option<i32>) -> Born {
        const MANY: i32 = 256;
        let (Some(before), Some(now)) = (before, last_pid()) else { return Born::Anybody };
        if now < before || now - before > MANY {
            return Born::Anybody;
        }
        let pgids = (before + 1..=now).map(|pid| getpgid(Some(Pid::from_raw(pid))));
        let (mut groups, mut vanished) = (Vec::new(), false);
        for pgid in pgids {
            match pgid {
                Ok(pgid) => groups.push(pgid.as_raw()),
                Err(_) => vanished = true,
            }
        }
        Born::Known { groups, vanished }
    }

    fn is_seen_in(&self, pgid: i32) -> bool {
        matches!(self, Born::Known { groups, .. } if groups.contains(&pgid))
    }

    fn may_be_in(&self, pgid: i32) -> bool {
        match self {
            Born::Known { groups, vanished } => *vanished || groups.contains(&pgid),
            Born::Anybody => true,
        }
    }
}

struct Seen {
    pid: i32,
    runs: bool,
}

/// The members that can still run, with what `ps` would say of them.
pub(super) fn members(pgid: i32) -> io::Result<Vec<Member>> {
    members_where(|_, group| group == pgid)
}

/// The processes that can still run and are `wanted(pid, pgid)`.
pub(super) fn members_where(wanted: impl Fn(i32, i32) -> bool) -> io::Result<Vec<Member>> {
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

/// SIGKILL to one process, which is held by its pidfd while `sure` looks at it once more.
pub(super) fn kill_if(pid: i32, sure: impl Fn() -> bool) {
    match open(pid) {
        Ok(pidfd) if sure() => {
            // It may be gone by now, which is as good.
            let _ = raw::pidfd_kill(pidfd.fd.as_fd(), nix::libc::SIGKILL);
        }
        Ok(_) | Err(Errno::ESRCH) => {}
        // No descriptor to hold it by: the instant between the look and the signal is all that is left to chance.
        Err(_) if sure() => {
            let _ = kill(Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
        Err(_) => {}
    }
}

/// The time since the system was started, suspended or not, as the starts of processes are counted.
pub(super) fn since_boot() -> Duration {
    // Only an unknown clock fails.
    ClockId::CLOCK_BOOTTIME.now().map_or(Duration::ZERO, Duration::from)
}

/// When the process was started, rounded down to the clock ticks that `proc_pid_stat(5)` counts in.
pub(super) fn started_at(pid: i32) -> Option<Duration> {
    let ticks_per_second = rustix::param::clock_ticks_per_second().max(1);
    read_stat(pid).map(|stat| Duration::from_nanos(stat.started.saturating_mul(1_000_000_000 / ticks_per_second)))
}

/// Calls `visit(pid, pgid)` for each process in the table.
pub(super) fn walk(mut visit: impl FnMut(i32, i32)) -> Result<(), Errno> {
    let errno = |error: rustix::io::Errno| Errno::from_raw(error.raw_os_error());
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    // One is kept for the day when no descriptor is to be had; its position is shared, so its users take turns.
    static SPARE: OnceLock<Option<Mutex<OwnedFd>>> = OnceLock::new();
    let spare = SPARE.get_or_init(|| openat(CWD, c"/proc", flags, Mode::empty()).ok().map(Mutex::new));
    match (openat(CWD, c"/proc", flags, Mode::empty()), spare) {
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
        // All that is no number (`meminfo`, `sys`, ..) is no process.
        let Some(pid) = entry.file_name().to_str().ok().and_then(|name| name.parse().ok()) else { continue };
        // Asking for the group is some thirty times cheaper than reading a stat.
        if let Ok(pgid) = getpgid(Some(Pid::from_raw(pid))) {
            visit(pid, pgid.as_raw());
        }
    }
    Ok(())
}

/// Whether the kernel can signal a group by its leader's pidfd (6.9). Without the flag it is `EINVAL`; a leader that
/// leads nobody is `ESRCH`.
fn pidfds_reach_groups() -> bool {
    static REACH: OnceLock<bool> = OnceLock::new();
    *REACH.get_or_init(|| {
        let us = rustix::process::getpid();
        let own = pidfd_open(us, PidfdFlags::empty());
        own.is_ok_and(|own| matches!(raw::pidfd_killpg(own.as_fd(), 0), Ok(()) | Err(Errno::ESRCH)))
    })
}

/// A zombie still takes the null signal; once it was waited for there is nobody to take it.
fn is_reaped(leader: &Pidfd) -> bool {
    raw::pidfd_kill(leader.fd.as_fd(), 0) == Err(Errno::ESRCH)
}

/// A pidfd is readable from the exit of the last thread on, whether or not anybody has waited.
fn has_exited(pidfd: BorrowedFd<'_>) -> bool {
    wait_readable(&mut [PollFd::new(pidfd, PollFlags::POLLIN)], Duration::ZERO)
}

fn is_member(pid: i32, pgid: i32) -> bool {
    getpgid(Some(Pid::from_raw(pid))) == Ok(Pid::from_raw(pgid))
}

/// Whether any thread of the process can run again. What cannot be read is taken to run: late beats wrong.
pub(super) fn runs(pid: i32) -> bool {
    match read_stat(pid) {
        Some(stat) => stat.runs(pid),
        // Our own child can be asked without a descriptor.
        None => is_in_table(pid) && portable::has_exited(pid) != Ok(true),
    }
}

/// Whether it has been sent a SIGKILL and has only not come to die of it: on a busy machine that takes its time.
pub(super) fn is_dying(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let pending = status.lines().filter_map(|line| line.strip_prefix("SigPnd:").or(line.strip_prefix("ShdPnd:")));
    let has_kill = |mask: &str| u64::from_str_radix(mask.trim(), 16).is_ok_and(|mask| mask & (1 << (SIGKILL - 1)) != 0);
    pending.into_iter().any(has_kill) || read_stat(pid).is_some_and(|stat| stat.flags & EXITING != 0)
}

fn is_in_table(pid: i32) -> bool {
    kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH)
}

/// The fields of `proc_pid_stat(5)` that tell the living from the dead.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    name: String,
    state: char,
    /// The kernel's `PF_*`.
    flags: u64,
    threads: u32,
    /// In clock ticks since the system was started.
    started: u64,
}

impl Stat {
    /// `Z` alone is no proof of death: it is the *main* thread's state, and others may run on.
    fn runs(&self, pid: i32) -> bool {
        !is_dead(self.state) || (self.threads > 1 && some_thread_runs(pid))
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

fn read_stat(pid: i32) -> Option<Stat> {
    read_stat_at(Path::new(&format!("/proc/{pid}/stat")))
}

fn read_stat_at(path: &Path) -> Option<Stat> {
    // One read gives one consistent line; the longest is well below this.
    let mut line = [0; 1024];
    let length = fs::File::open(path).and_then(|mut file| file.read(&mut line)).ok()?;
    parse_stat(&line[..length])
}

/// `PID (NAME) STATE PPID ..`: the name may hold anything, parentheses and blanks included, so the last `)` ends it.
fn parse_stat(line: &[u8]) -> Option<Stat> {
    let open = line.iter().position(|b| *b == b'(')?;
    let close = line.iter().rposition(|b| *b == b')')?;
    let name = String::from_utf8_lossy(line.get(open + 1..close)?).into_owned();
    let rest = std::str::from_utf8(line.get(close + 1..)?).ok()?;
    // From here on the state is field 3 of the page, flags field 9, num_threads field 20 and starttime field 22.
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let flags = fields.nth(5)?.parse().ok()?;
    let threads = fields.nth(10)?.parse().ok()?;
    let started = fields.nth(1)?.parse().ok()?;
    Some(Stat { name, state, flags, threads, started })
}

fn command(pid: i32, name: &str) -> String {
    let line = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let words: Vec<_> = line.split(|b| *b == 0).filter(|word| !word.is_empty()).map(String::from_utf8_lossy).collect();
    if words.is_empty() { format!("[{name}]") } else { words.join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stat_line_is_read_past_the_worst_of_names() {
        let line = b"42 (a) S (b) 1 ) Z 1 42 42 0 -1 4228364 0 0 0 0 0 0 0 0 20 0 3 0 99 0 0\n";
        let (name, flags) = ("a) S (b) 1 ".into(), 4_228_364);
        assert_eq!(parse_stat(line), Some(Stat { name, state: 'Z', flags, threads: 3, started: 99 }));
    }

    #[test]
    fn one_that_was_sent_sigkill_is_dying_and_one_that_was_not_is_not() {
        let mut cat = std::process::Command::new("cat");
        let mut cat = cat.stdin(std::process::Stdio::piped()).spawn().unwrap();
        let pid = cat.id() as i32;
        assert!(!is_dying(pid));
        cat.kill().unwrap();
        // At once, on its way out, and as a zombie.
        while portable::has_exited(pid) != Ok(true) {
            assert!(is_dying(pid));
        }
        assert!(is_dying(pid));
        cat.wait().unwrap();
    }

    #[test]
    fn a_broken_stat_line_is_nothing_rather_than_dead() {
        for line in [
            &b""[..],
            b"42",
            b"42 (a",
            b"42 a)",
            b")(",
            b"42 (a)",
            b"42 (a) Z 1 2",
            b"42 (a) Z 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 x",
            b"42 (a) Z 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 1 0",
        ] {
            assert_eq!(parse_stat(line), None, "{}", String::from_utf8_lossy(line));
        }
    }

    #[test]
    fn we_are_in_our_own_group_and_run() {
        let pgid = nix::unistd::getpgrp().as_raw();
        let us = i32::try_from(std::process::id()).unwrap();
        let members = members(pgid).unwrap();
        let me = members.iter().find(|member| member.pid == us).expect("not listed");
        assert!(me.signalable && !me.command.is_empty(), "{me}");
    }
}
