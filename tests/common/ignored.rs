//! What this process was started to ignore, by `nohup`, say, or as a shell's background job.

use nix::sys::signal::Signal;

pub(crate) fn is_ignored(signal: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:")).unwrap().trim();
    u64::from_str_radix(ignored, 16).unwrap() & (1 << (signal as i32 - 1)) != 0
}
