//! `/proc/self/task/TID/syscall`, decoded: the call's name and the one argument that tells what it waits for.

use nix::libc;

use super::memory;
use crate::heartbeat::reading::ThreadId;

/// What the kernel says of a thread at this moment.
pub(super) struct State {
    /// `None`: running, or runnable.
    pub(super) call: Option<Call>,
    /// Zero while running.
    #[cfg_attr(not(any(test, fuzzing, feature = "backtrace")), expect(dead_code, reason = "no stack is copied"))]
    pub(super) stack_pointer: usize,
    /// The instruction after the call; zero while running.
    #[cfg_attr(not(any(test, feature = "backtrace")), expect(dead_code, reason = "no stack is copied"))]
    pub(super) program_counter: usize,
}

/// A system call that has not returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Call {
    number: libc::c_long,
    args: [usize; 6],
}

impl State {
    /// `None` where the kernel does not tell, or the thread is gone.
    pub(super) fn of(thread: ThreadId) -> Option<Self> {
        Self::parse(&std::fs::read_to_string(format!("/proc/self/task/{}/syscall", thread.0)).ok()?)
    }

    pub(super) fn parse(line: &str) -> Option<Self> {
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
        Some(Self { call: Some(Call { number, args }), stack_pointer, program_counter })
    }
}

impl Call {
    pub(super) fn name(&self) -> String {
        if self.number < 0 {
            return super::PAGE_FAULT.to_owned();
        }
        let known = NAMES.iter().chain(OLD_NAMES).find(|(number, _)| *number == self.number);
        known.map_or_else(|| format!("system call {}", self.number), |(_, name)| (*name).to_owned())
    }

    pub(super) fn detail(&self) -> Option<String> {
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
    let state = State::parse(line)?;
    Some((state.call.map(|call| (call.name(), call.detail())), state.stack_pointer))
}

/// `timeout` is a pointer, null for a wait that only another thread ends: `futex(2)`.
fn futex(word: usize, operation: usize, value: usize, timeout: usize) -> &'static str {
    // As glibc waits for its low-level locks. The standard library, and others, wait with a bit set.
    let contended = operation & 0x7f == 0 && value == 2;
    match (contended && memory::is_c_librarys(word), timeout) {
        (true, _) => super::C_LIBRARY,
        (false, 0) => super::LOCK,
        (false, _) => super::LOCK_WITH_LIMIT,
    }
}

/// A process or a thread, by the call's flags.
fn started(flags: usize) -> &'static str {
    if flags & libc::CLONE_THREAD as usize != 0 { super::NEW_THREAD } else { "starting a process" }
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

/// Calls that have their descriptor as long as they last. `close(2)` frees its number before it blocks, and so do `dup2`,
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
    (libc::SYS_restart_syscall, "restart_syscall"), (libc::SYS_io_uring_enter, "io_uring_enter"), (libc::SYS_mmap, "mmap"), (libc::SYS_munmap, "munmap"),
    (libc::SYS_mprotect, "mprotect"), (libc::SYS_mremap, "mremap"), (libc::SYS_brk, "brk"), (libc::SYS_madvise, "madvise"), (libc::SYS_exit_group, "exit_group"),
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
mod tests {
    use super::*;

    #[test]
    fn a_running_thread_is_in_no_call() {
        assert!(State::parse("running\n").unwrap().call.is_none());
    }

    #[test]
    fn a_call_is_a_number_six_arguments_and_the_stack() {
        let line = format!("{} 0x7 0x1 0x2 0x3 0x4 0x5 0x7ffd0 0x400\n", libc::SYS_read);
        let state = State::parse(&line).unwrap();
        let call = state.call.unwrap();
        assert_eq!((call.name().as_str(), call.args[0]), ("read", 7));
        assert_eq!((state.stack_pointer, state.program_counter), (0x7ffd0, 0x400));
    }

    #[test]
    fn blocked_outside_any_call_is_a_page_fault() {
        let state = State::parse("-1 0x7ffd0 0x400\n").unwrap();
        assert_eq!((state.call.unwrap().name().as_str(), state.stack_pointer), ("a page fault", 0x7ffd0));
    }

    #[test]
    fn a_sleep_that_goes_on_after_a_stop_has_its_name() {
        let call = Call { number: libc::SYS_restart_syscall, args: [0; 6] };
        assert_eq!(call.name(), "restart_syscall");
        assert!(call.detail().unwrap().contains("goes on after a stop"), "{call:?}");
    }

    #[test]
    fn no_argument_is_too_far_out() {
        let far = usize::MAX;
        for number in [libc::SYS_wait4, libc::SYS_waitid, libc::SYS_ppoll, libc::SYS_clock_nanosleep, libc::SYS_openat]
        {
            for args in [[far; 6], [far, 4, 0, 0, 0, 0], [2, i32::MIN as usize, 0, 0, 0, 0], [i32::MIN as usize; 6]] {
                // What it says of such a call is nobody's concern; that it says something is.
                assert!(!Call { number, args }.name().is_empty());
                let _ = Call { number, args }.detail();
            }
        }
    }

    fn detail(number: libc::c_long, args: &[usize]) -> Option<String> {
        let mut call = Call { number, args: [0; 6] };
        call.args[..args.len()].copy_from_slice(args);
        call.detail()
    }

    #[test]
    fn a_wait_names_whom_it_waits_for() {
        assert_eq!(child(-1), "any child");
        assert_eq!(child(0), "any child of this process group");
        assert_eq!(child(-42), "any child of process group 42");
        let us = std::process::id() as i32;
        let words: Vec<String> = std::env::args().filter(|word| !word.is_empty()).collect();
        let command: String = words.join(" ").chars().take(60).collect();
        assert_eq!(child(us), format!("pid {us} ({command})"));
        assert_eq!(child(i32::MAX), format!("pid {}", i32::MAX), "of one that is gone nobody knows the command");
        assert_eq!(waited_id(0, 42), "any child");
        assert_eq!(waited_id(1, us), child(us));
        assert_eq!(waited_id(2, 42), "any child of process group 42");
        assert_eq!(waited_id(3, -1), "a pidfd");
        assert_eq!(detail(libc::SYS_wait4, &[-42i32 as usize]).as_deref(), Some("any child of process group 42"));
        assert_eq!(detail(libc::SYS_waitid, &[2, 42]).as_deref(), Some("any child of process group 42"));
    }

    #[test]
    fn a_sleep_tells_what_was_asked_for() {
        let timespec = [0i64, 120_000_000];
        assert_eq!(asked(timespec.as_ptr() as usize).as_deref(), Some("120 ms asked for"));
        assert_eq!(asked(8), None, "an address nobody may read");
        let long = [2i64, 500_000];
        let long = long.as_ptr() as usize;
        let told = Some("2000.5 ms asked for".to_owned());
        assert_eq!(detail(libc::SYS_nanosleep, &[long]), told);
        // The clock, the flags, the time.
        assert_eq!(detail(libc::SYS_clock_nanosleep, &[1, 0, long]), told);
        assert_eq!(detail(libc::SYS_clock_nanosleep, &[1, 1, long]), None, "a deadline is no duration");
        assert_eq!(detail(libc::SYS_clock_nanosleep, &[1, 2, long]), told, "another flag");
    }

    #[test]
    fn a_call_on_a_path_tells_the_path() {
        let path = c"/a/path".as_ptr() as usize;
        let told = Some("/a/path".to_owned());
        for number in [libc::SYS_openat, libc::SYS_openat2, libc::SYS_newfstatat, libc::SYS_unlinkat, libc::SYS_mkdirat]
        {
            assert_eq!(detail(number, &[8, path, 8]), told, "{number}");
        }
        assert_eq!(detail(libc::SYS_execve, &[path, 8]), told);
        #[cfg(target_arch = "x86_64")]
        for number in [libc::SYS_open, libc::SYS_stat, libc::SYS_unlink, libc::SYS_rename] {
            assert_eq!(detail(number, &[path, 8]), told, "{number}");
        }
    }

    #[test]
    fn a_call_on_descriptors_tells_what_is_behind_them() {
        use std::os::fd::AsRawFd;
        let (null, zero) = (std::fs::File::open("/dev/null").unwrap(), std::fs::File::open("/dev/zero").unwrap());
        let null_fd = null.as_raw_fd() as usize;
        assert_eq!(detail(libc::SYS_read, &[null_fd]).as_deref(), Some("/dev/null"));
        assert_eq!(detail(libc::SYS_flock, &[null_fd]).as_deref(), Some("/dev/null"));
        assert_eq!(detail(libc::SYS_sched_yield, &[null_fd]), None, "it is on none");
        assert_eq!(waited_id(3, null.as_raw_fd()), "/dev/null");
        // As the kernel has them: a descriptor, and the events asked for and seen.
        let polled =
            [[null.as_raw_fd(), 1], [zero.as_raw_fd(), 1], [-1, 1], [null.as_raw_fd(), 1], [zero.as_raw_fd(), 1]];
        let told = |count| detail(libc::SYS_ppoll, &[polled.as_ptr() as usize, count]);
        assert_eq!(told(0), None);
        assert_eq!(told(2).as_deref(), Some("/dev/null, /dev/zero"));
        assert_eq!(told(5).as_deref(), Some("/dev/null, /dev/zero, /dev/null"), "four are enough");
        #[cfg(target_arch = "x86_64")]
        assert_eq!(detail(libc::SYS_poll, &[polled.as_ptr() as usize, 1]).as_deref(), Some("/dev/null"));
    }

    /// The number may be another file's by then.
    #[test]
    fn a_call_that_has_given_its_descriptor_up_names_none() {
        use std::os::fd::AsRawFd;
        let null = std::fs::File::open("/dev/null").unwrap();
        let fd = null.as_raw_fd() as usize;
        let told = |number, args: &[usize]| (Call { number, args: [0; 6] }.name(), detail(number, args));
        assert_eq!(told(libc::SYS_close, &[fd]), ("close".to_owned(), None));
        assert_eq!(told(libc::SYS_dup3, &[fd, fd, 0]), ("dup3".to_owned(), None));
        assert_eq!(told(libc::SYS_close_range, &[fd, fd, 0]), ("close_range".to_owned(), None));
        #[cfg(target_arch = "x86_64")]
        assert_eq!(told(libc::SYS_dup2, &[fd, fd]), ("dup2".to_owned(), None));
    }

    #[test]
    fn a_lock_is_the_c_librarys_if_it_is_its_own_and_waited_for_as_it_does() {
        let (arena, ours) = (0x7ff9_2000_0030, 0u32);
        let ours = &raw const ours as usize;
        for (args, expected) in [
            ([arena, 0x80, 2, 0], super::super::C_LIBRARY),
            ([arena, 0, 2, 0], super::super::C_LIBRARY),
            ([arena, 0x80, 1, 0], super::super::LOCK),
            // With a bit set.
            ([arena, 0x89, 2, 0], super::super::LOCK),
            ([ours, 0x80, 2, 0], super::super::LOCK),
            ([ours, 0x80, 2, ours], super::super::LOCK_WITH_LIMIT),
        ] {
            assert_eq!(detail(libc::SYS_futex, &args).as_deref(), Some(expected), "{args:x?}");
        }
    }

    #[test]
    fn a_call_without_a_telling_argument_says_what_it_waits_for_or_nothing() {
        let (process, thread) = (Some("starting a process".to_owned()), Some(super::super::NEW_THREAD.to_owned()));
        assert_eq!(
            [libc::SYS_clone, libc::SYS_clone3].map(|number| detail(number, &[])),
            [process.clone(), process.clone()]
        );
        let flags = libc::CLONE_VM | libc::CLONE_THREAD;
        assert_eq!(detail(libc::SYS_clone, &[flags as usize]), thread);
        // It takes no flags.
        #[cfg(target_arch = "x86_64")]
        assert_eq!(detail(libc::SYS_vfork, &[flags as usize]), process);
        // As the kernel has them: the flags, a place for a pidfd, and more.
        let args = [i64::from(flags), 0];
        assert_eq!(detail(libc::SYS_clone3, &[args.as_ptr() as usize]), thread);
        let signal = Some("a signal".to_owned());
        let waits = [libc::SYS_rt_sigtimedwait, libc::SYS_rt_sigsuspend];
        assert_eq!(waits.map(|number| detail(number, &[])), [signal.clone(), signal]);
        assert_eq!(detail(libc::SYS_epoll_pwait, &[]), None);
    }

    #[test]
    fn who_looks_at_a_thread_sees_its_call_and_at_one_that_is_gone_nothing() {
        let own = State::of(ThreadId::here()).unwrap();
        // What asks is in the call it asks by.
        assert!(own.call.is_none_or(|call| call.name() == "read"), "{:?}", own.call);
        assert!(State::of(ThreadId(u32::MAX)).is_none());
    }

    #[test]
    fn a_descriptor_is_named_by_what_is_behind_it() {
        let file = std::fs::File::open("/dev/null").unwrap();
        let fd = std::os::fd::AsRawFd::as_raw_fd(&file);
        assert_eq!(descriptor(fd).as_deref(), Some("/dev/null"));
    }
}
