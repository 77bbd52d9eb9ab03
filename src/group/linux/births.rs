//! Whom the system has given birth to in a stretch of time, by the pids that were handed out.
//!
//! A walk through `/proc` misses who is born behind its back; their number tells that they were there.

use std::fs;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

use nix::unistd::{Pid, getpgid};

/// The pid handed out last in this namespace, to processes and threads alike: the last field of `proc_loadavg(5)`. Kept
/// open, for the day when no descriptor is to be had.
pub(super) fn last_pid() -> Option<i32> {
    static LOADAVG: OnceLock<fs::File> = OnceLock::new();
    let file = match LOADAVG.get() {
        Some(file) => file,
        None => {
            let file = fs::File::open("/proc/loadavg").ok()?;
            LOADAVG.get_or_init(|| file)
        }
    };
    let mut line = [0; 128];
    let length = file.read_at(&mut line, 0).ok()?;
    std::str::from_utf8(&line[..length]).ok()?.split_ascii_whitespace().last()?.parse().ok()
}

/// Whom the system has given birth to in a stretch of time.
pub(super) enum Born {
    /// By group; a pid that is in no group any more has died meanwhile, and may have been anybody's.
    Known { groups: Vec<i32>, vanished: bool },
    /// Too many, or the numbers have wrapped.
    Anybody,
}

impl Born {
    /// Where the system does not say what it hands out, nobody counts as born.
    pub(super) fn since(before: Option<i32>) -> Born {
        const MANY: i32 = 4096;
        let (mut groups, mut vanished) = (Vec::new(), false);
        if let (Some(before), Some(now)) = (before, last_pid()) {
            if now < before || now - before > MANY {
                return Born::Anybody;
            }
            for pid in before + 1..=now {
                match getpgid(Some(Pid::from_raw(pid))) {
                    Ok(pgid) => groups.push(pgid.as_raw()),
                    Err(_) => vanished = true,
                }
            }
        }
        Born::Known { groups, vanished }
    }

    /// Whether a newborn was seen in the group, or so many came that nobody can tell.
    pub(super) fn is_seen_in(&self, pgid: i32) -> bool {
        match self {
            Born::Known { groups, .. } => groups.contains(&pgid),
            Born::Anybody => true,
        }
    }

    /// Whether a newborn may have been of the group, if only for the moment that it lived.
    pub(super) fn may_be_in(&self, pgid: i32) -> bool {
        match self {
            Born::Known { groups, vanished } => *vanished || groups.contains(&pgid),
            Born::Anybody => true,
        }
    }
}
