use super::*;

#[test]
fn a_running_thread_is_in_no_call() {
    assert!(ThreadState::parse("running\n").unwrap().call.is_none());
}

#[test]
fn a_call_is_a_number_six_arguments_and_the_stack() {
    let line = format!("{} 0x7 0x1 0x2 0x3 0x4 0x5 0x7ffd0 0x400\n", libc::SYS_read);
    let state = ThreadState::parse(&line).unwrap();
    let call = state.call.unwrap();
    assert_eq!((call.name().as_str(), call.args[0]), ("read", 7));
    assert_eq!((state.stack_pointer, state.program_counter), (0x7ffd0, 0x400));
}

#[test]
fn blocked_outside_any_call_is_a_page_fault() {
    let state = ThreadState::parse("-1 0x7ffd0 0x400\n").unwrap();
    assert_eq!((state.call.unwrap().name().as_str(), state.stack_pointer), ("a page fault", 0x7ffd0));
}

#[test]
fn a_sleep_that_goes_on_after_a_stop_has_its_name() {
    let call = SystemCall { number: libc::SYS_restart_syscall, args: [0; 6] };
    assert_eq!(call.name(), "restart_syscall");
    assert!(call.detail().unwrap().contains("goes on after a stop"), "{call:?}");
}

#[test]
fn no_argument_is_too_far_out() {
    let far = usize::MAX;
    for number in [libc::SYS_wait4, libc::SYS_waitid, libc::SYS_ppoll, libc::SYS_clock_nanosleep, libc::SYS_openat] {
        for args in [[far; 6], [far, 4, 0, 0, 0, 0], [2, i32::MIN as usize, 0, 0, 0, 0], [i32::MIN as usize; 6]] {
            // What it says of such a call does not matter; that it says something does.
            assert!(!SystemCall { number, args }.name().is_empty());
            let _ = SystemCall { number, args }.detail();
        }
    }
}

fn detail(number: libc::c_long, args: &[usize]) -> Option<String> {
    let mut call = SystemCall { number, args: [0; 6] };
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
    assert_eq!(child(i32::MAX), format!("pid {}", i32::MAX), "of one that is gone the command is not known");
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
    assert_eq!(asked(8), None, "an address that cannot be read");
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
    for number in [libc::SYS_openat, libc::SYS_openat2, libc::SYS_newfstatat, libc::SYS_unlinkat, libc::SYS_mkdirat] {
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
    let polled = [[null.as_raw_fd(), 1], [zero.as_raw_fd(), 1], [-1, 1], [null.as_raw_fd(), 1], [zero.as_raw_fd(), 1]];
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
    let told = |number, args: &[usize]| (SystemCall { number, args: [0; 6] }.name(), detail(number, args));
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
        ([arena, 0x80, 2, 0], C_LIBRARY),
        ([arena, 0, 2, 0], C_LIBRARY),
        ([arena, 0x80, 1, 0], LOCK),
        // With a bit set.
        ([arena, 0x89, 2, 0], LOCK),
        ([ours, 0x80, 2, 0], LOCK),
        ([ours, 0x80, 2, ours], LOCK_WITH_LIMIT),
    ] {
        assert_eq!(detail(libc::SYS_futex, &args).as_deref(), Some(expected), "{args:x?}");
    }
}

#[test]
fn a_call_without_a_telling_argument_says_what_it_waits_for_or_nothing() {
    let (process, thread) = (Some("starting a process".to_owned()), Some(NEW_THREAD.to_owned()));
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
    let own = ThreadState::of(ThreadId::here()).unwrap();
    // What asks is in the call it asks by.
    assert!(own.call.is_none_or(|call| call.name() == "read"), "{:?}", own.call);
    assert!(ThreadState::of(ThreadId(u32::MAX)).is_none());
}

#[test]
fn a_descriptor_is_named_by_what_is_behind_it() {
    let file = std::fs::File::open("/dev/null").unwrap();
    let fd = std::os::fd::AsRawFd::as_raw_fd(&file);
    assert_eq!(descriptor(fd).as_deref(), Some("/dev/null"));
}
