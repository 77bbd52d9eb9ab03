//! What the threads of another process are stuck in, as far as the kernel tells us of it.

use crate::heartbeat::observer::sample::syscall::ThreadState;

/// One entry a thread: its name, and the system call that it waits in. The arguments are not read: they are addresses
/// in another memory.
pub(crate) fn what_its_threads_do(pid: i32) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let threads = tasks.filter_map(|task| {
        let read = |file| std::fs::read_to_string(task.path().join(file)).ok();
        let name = read("comm")?;
        let stopped = read("stat")?.rsplit_once(") ")?.1.starts_with(['T', 't']);
        let doing = match ThreadState::parse(&read("syscall")?)?.call {
            _ if stopped => "stopped".to_owned(),
            Some(call) => format!("waiting in {}", call.name()),
            None => "running".to_owned(),
        };
        Some(format!("{} {doing}", name.trim()))
    });
    threads.collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt;
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};

    use super::*;
    use crate::group::ProcessGroup;
    use crate::signal::Signal;

    #[test]
    fn another_process_is_seen_to_wait_and_to_be_stopped() {
        let mut cat = Command::new("cat").process_group(0).stdin(Stdio::piped()).spawn().unwrap();
        let pid = cat.id() as i32;
        let start = Instant::now();
        // A slow machine makes it late, never wrong.
        let comes_to = |what: &str| {
            while what_its_threads_do(pid) != [what] {
                assert!(start.elapsed() < Duration::from_secs(30), "{what}: {:?}", what_its_threads_do(pid));
                std::thread::yield_now();
            }
        };
        comes_to("cat waiting in read");
        let group = ProcessGroup::new(pid).unwrap();
        group.signal(Signal::STOP).unwrap();
        comes_to("cat stopped");
        group.signal(Signal::CONT).unwrap();
        comes_to("cat waiting in read");
        drop(cat.stdin.take());
        cat.wait().unwrap();
    }
}
