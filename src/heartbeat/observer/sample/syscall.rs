//! `/proc/self/task/TID/syscall`, decoded: the call's name and the one argument that tells what it waits for.

use nix::libc;

use super::memory;
use crate::heartbeat::culprit::{C_LIBRARY, LOCK, NEW_THREAD, PAGE_FAULT};
use crate::heartbeat::observer::sample::LOCK_WITH_LIMIT;
use crate::heartbeat::reading::thread::ThreadId;

/// What the kernel says of a thread at this moment.
pub(crate) struct ThreadState {
    /// `None`: running, or runnable.
    pub(crate) call: Option<SystemCall>,
    /// Zero while running.
    #[cfg_attr(not(any(test, fuzzing, feature = "backtrace")), expect(dead_code, reason = "no stack is copied"))]
    pub(crate) stack_pointer: usize,
    /// The instruction after the call; zero while running.
    #[cfg_attr(not(any(test, feature = "backtrace")), expect(dead_code, reason = "no stack is copied"))]
    pub(crate) program_counter: usize,
}

/// A system call that has not returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SystemCall {
    number: libc::c_long,
    args: [usize; 6],
}

impl ThreadState {
    /// `None` where the kernel does not tell, or the thread is gone.
    pub(crate) fn of(thread: ThreadId) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(format!("/proc/self/task/{}/syscall", thread.0)).ok()?)
    }

    pub(crate) fn parse(line: &str) -> Option<Self> {
        if line.starts_with("running") {
            return Some(Self { call: None, stack_pointer: 0, program_counter: 0 });
        }
        let mut fields = line.split_ascii_whitespace();
        let number: libc::c_long = fields.next()?.parse().ok()?;
        let mut words = fields.map(|word| usize::from_str_radix(word.trim_start_matches("0x"), 16).unwrap_or(0));
        let mut args = [0; 6];
        // Blocked, but in no call (a page fault): only the stack and the program counter follow.
        if number >= 0 {
            args.fill_with(|| words.next().unwrap_or(0));
        }
        let [stack_pointer, program_counter] = [(); 2].map(|()| words.next().unwrap_or(0));
        Some(Self { call: Some(SystemCall { number, args }), stack_pointer, program_counter })
    }
}

impl SystemCall {
    pub(crate) fn name(&self) -> String {
        if self.number < 0 {
            return PAGE_FAULT.to_owned();
        }
        let known = NAMES.iter().chain(OLD_NAMES).find(|(number, _)| *number == self.number);
        known.map_or_else(|| format!("system call {}", self.number), |(_, name)| (*name).to_owned())
    }

    pub(crate) fn detail(&self) -> Option<String> {
        let [first, second, third, fourth, ..] = self.args;
        match self.name().as_str() {
            "wait4" => Some(child(first as i32)),
            "waitid" => Some(waited_id(first as i32, second as i32)),
            "nanosleep" => asked(first),
            // An absolute deadline (flag 1) tells no duration.
            "clock_nanosleep" if second & 1 == 0 => asked(third),
            "open" => memory::c_string(first),
            "openat" | "openat2" | "newfstatat" | "unlinkat" | "mkdirat" => memory::c_string(second),
            "execve" | "stat" | "unlink" | "rename" => memory::c_string(first),
            "poll" | "ppoll" => polled(first, second),
            "futex" => Some(futex(first, second, third, fourth).to_owned()),
            // Of this one the flags are the first of its arguments in memory.
            "clone3" => Some(started(memory::two_words(first).map_or(0, |[flags, _]| flags as usize)).to_owned()),
            "clone" => Some(started(first).to_owned()),
            "vfork" => Some(started(0).to_owned()),
            "restart_syscall" => Some("a sleep, or a wait with a limit, that goes on after a stop".to_owned()),
            "rt_sigtimedwait" | "rt_sigsuspend" | "pause" => Some("a signal".to_owned()),
            name if ON_A_DESCRIPTOR.contains(&name) => descriptor(first as i32),
            _ => None,
        }
    }
}

/// The call's name, what it waits for, and the stack pointer.
#[cfg(fuzzing)]
pub fn system_call(line: &str) -> Option<(Option<(String, Option<String>)>, usize)> {
    let state = ThreadState::parse(line)?;
    Some((state.call.map(|call| (call.name(), call.detail())), state.stack_pointer))
}

/// `timeout` is a pointer, null for a wait that only another thread ends: `futex(2)`.
fn futex(word: usize, operation: usize, value: usize, timeout: usize) -> &'static str {
    // As glibc waits for its low-level locks. The standard library, and others, wait with a bit set.
    let contended = operation & 0x7f == 0 && value == 2;
    match (contended && memory::is_c_librarys(word), timeout) {
        (true, _) => C_LIBRARY,
        (false, 0) => LOCK,
        (false, _) => LOCK_WITH_LIMIT,
    }
}

/// A process or a thread, by the call's flags.
fn started(flags: usize) -> &'static str {
    if flags & libc::CLONE_THREAD as usize != 0 { NEW_THREAD } else { "starting a process" }
}

fn child(pid: i32) -> String {
    match pid {
        -1 => "any child".to_owned(),
        0 => "any child of this process group".to_owned(),
        group if group < 0 => format!("any child of process group {}", group.unsigned_abs()),
        pid => format!("pid {pid}{}", command(pid)),
    }
}

fn waited_id(kind: i32, id: i32) -> String {
    match kind {
        0 => "any child".to_owned(),
        1 => child(id),
        2 => child(id.wrapping_neg()),
        _ => descriptor(id).unwrap_or_else(|| "a pidfd".to_owned()),
    }
}

/// The command line of a process, in parentheses; of a zombie its short name.
fn command(pid: i32) -> String {
    let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let line: Vec<_> =
        words.split(|byte| *byte == 0).filter(|word| !word.is_empty()).map(String::from_utf8_lossy).collect();
    let mut text = line.join(" ");
    if text.is_empty() {
        text = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default().trim().to_owned();
    }
    let short: String = text.chars().take(60).collect();
    if short.is_empty() { short } else { format!(" ({short})") }
}

fn asked(timespec: usize) -> Option<String> {
    let [seconds, nanos] = memory::two_words(timespec)?;
    let millis = seconds as f64 * 1e3 + nanos as f64 / 1e6;
    Some(format!("{millis} ms asked for"))
}

fn descriptor(fd: i32) -> Option<String> {
    let link = std::fs::read_link(format!("/proc/self/fd/{fd}")).ok()?;
    Some(link.to_string_lossy().into_owned())
}

fn polled(fds: usize, count: usize) -> Option<String> {
    // A pollfd is eight bytes and begins with its descriptor.
    let links = (0..count.min(4)).filter_map(|index| descriptor(memory::int(fds.wrapping_add(index * 8))?));
    let links: Vec<_> = links.collect();
    (!links.is_empty()).then(|| links.join(", "))
}

/// Calls that have their descriptor as long as they last. `close(2)` frees its number before it blocks, and so do
/// `dup2`,
/// `dup3` and `close_range` of what they close: by then it may be the number of another file.
const ON_A_DESCRIPTOR: &[&str] = &[
    "read",
    "write",
    "readv",
    "writev",
    "pread64",
    "pwrite64",
    "recvfrom",
    "recvmsg",
    "sendto",
    "sendmsg",
    "accept",
    "accept4",
    "connect",
    "flock",
    "fcntl",
    "ioctl",
    "fsync",
    "fdatasync",
    "ftruncate",
    "fallocate",
    "getdents64",
    "sendfile",
    "splice",
    "copy_file_range",
    "fstat",
];

/// Calls that block, or are worth naming; the numbers are the architecture's.
#[rustfmt::skip]
const NAMES: &[(libc::c_long, &str)] = &[
    (libc::SYS_read, "read"), (libc::SYS_write, "write"), (libc::SYS_readv, "readv"), (libc::SYS_writev, "writev"),
    (libc::SYS_pread64, "pread64"), (libc::SYS_pwrite64, "pwrite64"), (libc::SYS_recvfrom, "recvfrom"),
    (libc::SYS_recvmsg, "recvmsg"), (libc::SYS_sendto, "sendto"), (libc::SYS_sendmsg, "sendmsg"),
    (libc::SYS_accept, "accept"), (libc::SYS_accept4, "accept4"), (libc::SYS_connect, "connect"),
    (libc::SYS_flock, "flock"), (libc::SYS_fcntl, "fcntl"), (libc::SYS_ioctl, "ioctl"), (libc::SYS_fsync, "fsync"),
    (libc::SYS_fdatasync, "fdatasync"), (libc::SYS_ftruncate, "ftruncate"), (libc::SYS_fallocate, "fallocate"),
    (libc::SYS_getdents64, "getdents64"), (libc::SYS_sendfile, "sendfile"), (libc::SYS_splice, "splice"),
    (libc::SYS_copy_file_range, "copy_file_range"), (libc::SYS_fstat, "fstat"), (libc::SYS_close, "close"),
    (libc::SYS_dup3, "dup3"), (libc::SYS_close_range, "close_range"),
    (libc::SYS_wait4, "wait4"), (libc::SYS_waitid, "waitid"), (libc::SYS_nanosleep, "nanosleep"),
    (libc::SYS_clock_nanosleep, "clock_nanosleep"), (libc::SYS_openat, "openat"), (libc::SYS_openat2, "openat2"),
    (libc::SYS_newfstatat, "newfstatat"), (libc::SYS_unlinkat, "unlinkat"), (libc::SYS_mkdirat, "mkdirat"),
    (libc::SYS_execve, "execve"), (libc::SYS_ppoll, "ppoll"), (libc::SYS_pselect6, "pselect6"),
    (libc::SYS_epoll_pwait, "epoll_pwait"), (libc::SYS_epoll_pwait2, "epoll_pwait2"), (libc::SYS_futex, "futex"),
    (libc::SYS_clone, "clone"), (libc::SYS_clone3, "clone3"), (libc::SYS_rt_sigtimedwait, "rt_sigtimedwait"),
    (libc::SYS_rt_sigsuspend, "rt_sigsuspend"), (libc::SYS_sched_yield, "sched_yield"), (libc::SYS_sync, "sync"),
    (libc::SYS_msync, "msync"), (libc::SYS_kill, "kill"), (libc::SYS_tgkill, "tgkill"),
    (libc::SYS_restart_syscall, "restart_syscall"), (libc::SYS_io_uring_enter, "io_uring_enter"),
    (libc::SYS_mmap, "mmap"), (libc::SYS_munmap, "munmap"), (libc::SYS_mprotect, "mprotect"),
    (libc::SYS_mremap, "mremap"), (libc::SYS_brk, "brk"), (libc::SYS_madvise, "madvise"),
    (libc::SYS_exit_group, "exit_group"),
];

/// Calls that younger architectures have no more.
#[cfg(target_arch = "x86_64")]
#[rustfmt::skip]
const OLD_NAMES: &[(libc::c_long, &str)] = &[
    (libc::SYS_open, "open"), (libc::SYS_stat, "stat"), (libc::SYS_unlink, "unlink"), (libc::SYS_rename, "rename"),
    (libc::SYS_poll, "poll"), (libc::SYS_select, "select"), (libc::SYS_epoll_wait, "epoll_wait"),
    (libc::SYS_vfork, "vfork"), (libc::SYS_pause, "pause"), (libc::SYS_dup2, "dup2"),
];

#[cfg(not(target_arch = "x86_64"))]
const OLD_NAMES: &[(libc::c_long, &str)] = &[];

#[cfg(test)]
mod tests;
