//! Out of descriptors or processes it ends with 125 and a message, or runs as ever; and leaves nothing behind.

use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use nix::libc;
use rustix::process::{Resource, Rlimit, setrlimit};

use crate::support::{Tool, eventually, text};

#[expect(unsafe_code, reason = "what is called between fork and exec are system calls only")]
fn limit(command: &mut Command, resource: fn() -> Resource, most: u64) {
    let hook = move || {
        // The caller of the tests may lend them descriptors, as make does for its job server: they would count.
        // SAFETY: it closes nothing before the exec, and nothing has those descriptors after it.
        unsafe { libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
        Ok(setrlimit(resource(), Rlimit { current: Some(most), maximum: Some(most) })?)
    };
    // SAFETY: see `reason`.
    unsafe { command.pre_exec(hook) };
}

#[test]
fn without_descriptors_nothing_is_begun() {
    let mut refused = 0;
    // With fewer the loader finds no libraries. A run that has begun must see the end of what the command leaves
    // behind.
    for (most, script) in (4..40).flat_map(|most| [(most, "exit 4"), (most, "sleep 300 >&- 2>&- & exit 4")]) {
        let mut command = Tool::Deadbeat.command(&["-v", "300", "sh", "-c", script]);
        limit(&mut command, || Resource::Nofile, most);
        let output = command.output().unwrap();
        let stderr = text(&output.stderr);
        match output.status.code() {
            // A kill that cannot see the end of the group takes all of its time, and calls it survived.
            Some(4) => assert!(stderr.is_empty() || stderr.ends_with(": terminated (SIGTERM, SIGCONT)\n"), "{stderr}"),
            Some(125) => {
                refused += 1;
                assert!(
                    stderr.starts_with("deadbeat timeout: ") && stderr.ends_with("Too many open files\n"),
                    "{stderr}"
                );
            }
            other => panic!("{most} descriptors: {other:?} {stderr}"),
        }
    }
    assert!((1..72).contains(&refused), "{refused} of 72 were refused");
}

#[test]
fn without_processes_nothing_is_left() {
    if !rustix::process::getuid().is_root() {
        eprintln!("skipped: only root can become a user of its own");
        return;
    }
    // A user of its own: the limit counts all of a user's processes.
    let user = 0x4000_0000 + std::process::id();
    let mut refused = 0;
    for most in 1..8 {
        let mut command = Tool::Deadbeat.command(&["300", "sh", "-c", "sleep 300 & exit 4"]);
        command.uid(user).current_dir("/").stdin(Stdio::null());
        limit(&mut command, || Resource::Nproc, most);
        let output = match command.output() {
            Ok(output) => output,
            Err(error) => {
                eprintln!("skipped: another user may not run the program: {error}");
                return;
            }
        };
        let stderr = text(&output.stderr);
        match output.status.code() {
            // The shell itself may find no process for its child.
            Some(2 | 4 | 254) => {}
            Some(125) => {
                refused += 1;
                assert!(stderr.ends_with("Resource temporarily unavailable\n"), "{stderr}");
            }
            other => panic!("{most} processes: {other:?} {stderr}"),
        }
        eventually("no process of that user to be left", || !some_process_of(user));
    }
    assert!(refused > 0);
}

fn some_process_of(user: u32) -> bool {
    use std::os::unix::fs::MetadataExt;
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    processes.filter(|entry| entry.metadata().is_ok_and(|data| data.uid() == user)).any(|entry| {
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
    })
}
