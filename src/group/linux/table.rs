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

use super::super::{Member, portable};
use super::spare_fd;

/// `PF_KTHREAD`: it is the kernel's own, and has no program.
const OF_KERNEL: u64 = 0x20_0000;

/// `PF_EXITING`: it runs no code of its own any more.
const EXITING: u64 = 0x4;

/// Whether this `/proc` shows the world that our pids live in, with everybody's processes. Probed once: after
/// `unshare --pid` without a mount it shows another namespace, and with `hidepid` it shows those only whom we may trace.
pub(in crate::group) fn available() -> bool {
    static AVAILABLE: OnceLock<bool> = OnceLock::new();
    *AVAILABLE.get_or_init(|| {
        let is_us = fs::read_link("/proc/self").is_ok_and(|link| link == Path::new(&std::process::id().to_string()));
        // Where the mounts cannot be told, the first process at least is nobody's but root's, as a rule.
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        is_us && fs::metadata("/proc/1").is_ok() && shows_everybody(&mounts, may_trace_everybody)
    })
}

/// Whether it is mounted with a `hidepid`.
#[cfg(feature = "cli")]
pub(in crate::group) fn hides_processes() -> bool {
    has_hidepid(&fs::read_to_string("/proc/self/mountinfo").unwrap_or_default())
}

fn shows_everybody(mounts: &str, may_trace: fn() -> bool) -> bool {
    !has_hidepid(mounts) || may_trace()
}

/// Whether the `/proc` of these `proc_pid_mountinfo(5)` is mounted with a `hidepid`, which is an option of its file system
/// (`proc(5)`): after the ` - `, the type and the source. Of several mounts on one place the last is seen.
fn has_hidepid(mounts: &str) -> bool {
    let proc = mounts.lines().rfind(|line| line.split(' ').nth(4) == Some("/proc"));
    let options = proc.and_then(|line| line.split_once(" - ")?.1.split(' ').nth(2)).unwrap_or_default();
    let hidepid = options.split(',').find_map(|option| option.strip_prefix("hidepid="));
    hidepid.is_some_and(|value| !matches!(value, "0" | "off"))
}

/// What `hidepid` asks for before it shows somebody else's process: `ptrace(2)`'s access, which root of a container may
/// lack.
fn may_trace_everybody() -> bool {
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

/// Who has it for a child now.
#[cfg(feature = "cli")]
pub(in crate::group) fn parent(pid: i32) -> Option<i32> {
    read_stat(pid).map(|stat| stat.parent)
}

/// What tells of one process whose it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Kin {
    /// Who has it for a child now.
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
    // One is kept for the day when no descriptor is to be had; its position is shared, so its users take turns.
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
        // All that is no number (`meminfo`, `sys`, ..) is no process.
        let Some(pid) = entry.file_name().to_str().ok().and_then(|name| name.parse().ok()) else { continue };
        // Asking for the group is some thirty times cheaper than reading a stat.
        if let Ok(pgid) = getpgid(Some(Pid::from_raw(pid))) {
            visit(pid, pgid.as_raw());
        }
    }
    Ok(())
}

/// Whether any thread of the process can run again. What cannot be read is taken to run: late beats wrong.
pub(in crate::group) fn runs(pid: i32) -> bool {
    match read_stat(pid) {
        Some(stat) => stat.runs(pid),
        // Our own child can be asked without a descriptor.
        None => is_in_table(pid) && portable::has_exited(pid) != Ok(true),
    }
}

/// Whether it has been sent a SIGKILL and has only not come to die of it: on a busy machine that takes its time.
pub(in crate::group) fn is_dying(pid: i32) -> bool {
    let status = spare_fd::or_with_spare(|| fs::read_to_string(format!("/proc/{pid}/status"))).unwrap_or_default();
    is_sent_sigkill(&status) || read_stat(pid).is_some_and(|stat| stat.is_exiting())
}

/// By the signals pending for its main thread, and for whichever thread, in a `proc_pid_status(5)`.
fn is_sent_sigkill(status: &str) -> bool {
    let mut pending = status.lines().filter_map(|line| line.strip_prefix("SigPnd:").or(line.strip_prefix("ShdPnd:")));
    pending.any(|mask| u64::from_str_radix(mask.trim(), 16).is_ok_and(|mask| mask & (1 << (SIGKILL - 1)) != 0))
}

/// Whether it is dying and nothing but a CPU is wanting: not one that is stuck in the kernel or frozen, to which SIGKILL
/// has not come yet and may never.
pub(in crate::group) fn is_leaving(pid: i32) -> bool {
    read_stat(pid).is_none_or(|stat| stat.is_leaving(|| is_dying(pid)))
}

fn is_in_table(pid: i32) -> bool {
    kill(Pid::from_raw(pid), None) != Err(Errno::ESRCH)
}

/// The fields of `proc_pid_stat(5)` that tell the living from the dead.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
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

impl Stat {
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

fn read_stat(pid: i32) -> Option<Stat> {
    read_stat_at(Path::new(&format!("/proc/{pid}/stat")))
}

fn read_stat_at(path: &Path) -> Option<Stat> {
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
fn parse_stat(line: &[u8]) -> Option<Stat> {
    let open = line.iter().position(|b| *b == b'(')?;
    let close = line.iter().rposition(|b| *b == b')')?;
    let name = String::from_utf8_lossy(line.get(open + 1..close)?).into_owned();
    let rest = std::str::from_utf8(line.get(close + 1..)?).ok()?;
    // From here on the state is field 3 of the page, ppid field 4, session field 6, flags field 9, num_threads field 20 and
    // starttime field 22.
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    let session = fields.nth(1)?.parse().ok()?;
    let flags = fields.nth(2)?.parse().ok()?;
    let threads = fields.nth(10)?.parse().ok()?;
    let started = fields.nth(1)?.parse().ok()?;
    Some(Stat { name, state, parent, session, flags, threads, started })
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
mod tests {
    use std::process::Command;

    use nix::libc;

    use super::super::super::tests::{OPEN, Started, failing};
    use super::*;

    #[test]
    fn a_stat_line_is_read_past_the_worst_of_names() {
        let line = b"42 (a) S (b) 1 ) Z 1 42 42 0 -1 4228364 0 0 0 0 0 0 0 0 20 0 3 0 99 0 0\n";
        let (name, flags) = ("a) S (b) 1 ".into(), 4_228_364);
        assert_eq!(
            parse_stat(line),
            Some(Stat { name, state: 'Z', parent: 1, session: 42, flags, threads: 3, started: 99 })
        );
    }

    #[test]
    fn a_proc_that_hides_processes_is_told_by_its_mount() {
        let plain = "22 27 0:21 / /proc rw,relatime - proc proc rw\n";
        let beside = "23 22 0:21 / /proc/other rw,hidepid=2 shared:1 - proc proc rw,hidepid=2\n";
        assert!(!has_hidepid("") && !has_hidepid(plain) && !has_hidepid(&format!("{plain}{beside}")));
        for (value, hides) in [("0", false), ("off", false), ("1", true), ("invisible", true), ("ptraceable", true)] {
            let last = format!("61 22 0:48 / /proc rw,relatime shared:7 - proc none rw,gid=5,hidepid={value}\n");
            assert_eq!(has_hidepid(&format!("{beside}{plain}{last}")), hides, "{value}");
            assert!(!has_hidepid(&format!("{last}{plain}")), "another is mounted over it");
        }
    }

    #[test]
    fn a_proc_that_hides_processes_shows_everybody_to_whom_may_trace_them() {
        let mounted = |option: &str| format!("22 27 0:21 / /proc rw,relatime - proc proc rw{option}\n");
        let (plain, hiding) = (mounted(""), mounted(",hidepid=2"));
        for (mounts, may_trace, shows) in [(&plain, false, true), (&hiding, true, true), (&hiding, false, false)] {
            assert_eq!(shows_everybody(mounts, if may_trace { || true } else { || false }), shows, "{mounts}");
        }
    }

    #[test]
    fn to_trace_everybody_takes_the_capability_for_it() {
        use rustix::thread::{CapabilitySet, capabilities, set_capabilities};
        let status = fs::read_to_string("/proc/thread-self/status").unwrap();
        let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:")).unwrap().trim();
        let effective = u64::from_str_radix(effective, 16).unwrap();
        assert_eq!(may_trace_everybody(), effective & (1 << 19) != 0, "{effective:x}");
        // On a thread of its own, since nothing else is to lose it.
        let without = || {
            let mut ours = capabilities(None).unwrap();
            ours.effective.remove(CapabilitySet::SYS_PTRACE);
            set_capabilities(None, ours).unwrap();
            may_trace_everybody()
        };
        assert!(!std::thread::scope(|scope| scope.spawn(without).join().unwrap()));
    }

    #[test]
    fn a_pending_sigkill_is_told_from_every_other_signal() {
        let status = |pending, shared, blocked| {
            format!(
                "Name:\tcat\nThreads:\t1\nSigPnd:\t{pending:016x}\nShdPnd:\t{shared:016x}\nSigBlk:\t{blocked:016x}\n"
            )
        };
        let kill = 0x100;
        for (pending, shared, blocked, is_sent) in [
            (kill, 0, 0, true),
            (0, kill, 0, true),
            (u64::MAX, 0, 0, true),
            (0, 0, 0, false),
            (0, 0, kill, false),
            (!kill, !kill, 0, false),
        ] {
            assert_eq!(
                is_sent_sigkill(&status(pending, shared, blocked)),
                is_sent,
                "{pending:x} {shared:x} {blocked:x}"
            );
        }
        assert!(!is_sent_sigkill("") && !is_sent_sigkill("SigPnd:\tmany\n"));
    }

    fn stat(state: char, threads: u32, flags: u64) -> Stat {
        Stat { name: "cat".into(), state, parent: 1, session: 1, flags, threads, started: 99 }
    }

    #[test]
    fn who_was_sent_sigkill_is_leaving_if_only_a_cpu_is_wanting() {
        // `PF_RANDOMIZE`, as with every program.
        let flags = 0x40_0000;
        for (state, flags, is_dying, leaves) in [
            ('R', flags, true, true),
            ('R', flags, false, false),
            // SIGKILL has not come to it there.
            ('D', flags, true, false),
            ('T', flags, true, false),
            ('D', flags | EXITING, true, true),
            ('Z', flags | EXITING, false, true),
        ] {
            assert_eq!(stat(state, 1, flags).is_leaving(|| is_dying), leaves, "{state} {flags:x} {is_dying}");
        }
    }

    #[test]
    fn one_that_was_sent_sigkill_is_dying_and_one_that_was_not_is_not() {
        let mut cat = Started::leader();
        let pid = cat.pid();
        assert!(!is_dying(pid) && !is_leaving(pid));
        cat.0.kill().unwrap();
        // At once, on its way out, and as a zombie.
        while !cat.has_ended() {
            assert!(is_dying(pid));
        }
        assert!(is_dying(pid) && is_leaving(pid));
        cat.reap();
        assert!(is_leaving(pid), "it has left");
    }

    #[test]
    fn who_ends_unasked_is_dying_too() {
        let mut cat = Started::leader();
        cat.end();
        assert!(is_dying(cat.pid()) && is_leaving(cat.pid()));
    }

    #[test]
    fn whoever_runs_is_not_leaving_for_that() {
        let busy = Started::new(Command::new("sh").args(["-c", "while :; do :; done"]));
        while read_stat(busy.pid()).is_some_and(|stat| stat.state != 'R' || stat.name != "sh") {}
        assert!(!is_leaving(busy.pid()));
    }

    #[test]
    fn a_process_runs_until_it_has_ended_whether_or_not_it_can_be_read() {
        let mut cat = Started::leader();
        let pid = cat.pid();
        let unread = || failing(OPEN, Errno::EACCES, || runs(pid));
        assert!(runs(pid) && unread());
        cat.kill();
        assert!(!runs(pid) && !unread(), "a zombie");
        cat.reap();
        assert!(!runs(pid) && !unread(), "it is gone");
    }

    #[test]
    fn a_main_thread_that_has_ended_is_no_proof_while_others_may_run() {
        let mut zombie = Started::leader();
        zombie.kill();
        let (us, zombie) = (std::process::id() as i32, zombie.pid());
        for (pid, state, threads, lives) in [
            (us, 'S', 1, true),
            (us, 'Z', 2, true),
            (us, 'Z', 1, false),
            (us, 'X', 1, false),
            (zombie, 'Z', 2, false),
            (zombie, 'R', 1, true),
        ] {
            assert_eq!(stat(state, threads, 0).runs(pid), lives, "{state} with {threads} threads");
        }
    }

    #[test]
    fn a_command_is_its_words_or_its_name_in_brackets() {
        let mut sh = Started::new(Command::new("sh").args(["-c", "read line", "", "two words"]));
        assert_eq!(command(sh.pid(), "sh"), "sh -c read line two words");
        sh.kill();
        assert_eq!(command(sh.pid(), "sh"), "[sh]", "a zombie");
    }

    #[test]
    fn who_may_not_be_signalled_is_listed_as_such() {
        let cat = Started::leader();
        let listed = || members(cat.pid()).unwrap();
        let (all, forbidden) = (listed(), failing(&[libc::SYS_kill], Errno::EPERM, listed));
        let seen = |members: &[Member]| {
            let [cat] = members else { panic!("{members:?}") };
            (cat.pid, cat.command.clone(), cat.signalable)
        };
        let (pid, name) = (cat.pid(), "cat".to_owned());
        assert_eq!((seen(&all), seen(&forbidden)), ((pid, name.clone(), true), (pid, name, false)));
    }

    #[test]
    fn a_start_lies_between_the_times_around_it() {
        let before = since_boot();
        let cat = Started::leader();
        let after = since_boot();
        let started = started_at(cat.pid()).unwrap();
        // Rounded down to a tick, of which there are a hundred in a second or more.
        let tick = Duration::from_millis(10);
        assert!(before <= started + tick && started <= after, "{before:?} {started:?} {after:?}");
        assert!(before > Duration::ZERO);
        assert_eq!(started_at(i32::MAX), None);
    }

    #[test]
    fn what_is_open_of_the_table_is_inherited_by_nobody() {
        walk(|_, _| {}).unwrap();
        let flags = |fd: fs::DirEntry| {
            let is_ours = fs::read_link(fd.path()).is_ok_and(|link| link == Path::new("/proc"));
            let name = fd.file_name().into_string().ok().filter(|_| is_ours)?;
            let info = fs::read_to_string(format!("/proc/self/fdinfo/{name}")).ok()?;
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
            Some(i32::from_str_radix(flags.trim(), 8).unwrap())
        };
        let all: Vec<_> = fs::read_dir("/proc/self/fd").unwrap().flatten().filter_map(flags).collect();
        assert!(!all.is_empty(), "none is kept in spare");
        assert!(all.iter().all(|flags| flags & libc::O_CLOEXEC != 0), "{all:?}");
    }

    #[test]
    fn the_table_is_read_by_the_descriptor_kept_in_reserve() {
        walk(|_, _| {}).unwrap();
        let (us, mut found) = (std::process::id() as i32, 0);
        let seen = failing(OPEN, Errno::EMFILE, || {
            // Twice: the position is put back.
            for _ in 0..2 {
                walk(|pid, _| found += usize::from(pid == us)).unwrap();
            }
            found
        });
        assert_eq!(seen, 2);
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
        let nobody = members_where(|_, _| false).unwrap();
        assert_eq!(nobody, []);
    }
}
