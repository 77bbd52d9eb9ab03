//! The pids that the system has handed out in a stretch of time.
//!
//! A walk through `/proc` misses a process that starts in the part already walked; its pid shows that it was there.

use std::fs;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

use nix::unistd::{Pid, getpgid};

use super::table::available;

/// The pid handed out last in this namespace, to processes and threads alike: the last field of `proc_loadavg(5)`. Kept
/// open, so that it can be read when no descriptor is left.
pub(in crate::group) fn last_pid() -> Option<i32> {
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

/// The limit up to which numbers go before they begin anew: `proc_sys_kernel(5)`. If it cannot be read, the largest
/// possible one.
fn pid_max() -> i32 {
    const LARGEST_PID_MAX: i32 = 1 << 22;
    let text = fs::read_to_string("/proc/sys/kernel/pid_max");
    text.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(LARGEST_PID_MAX)
}

/// The numbers that may have been handed out between these two, the second included; `None` if they are too many.
fn handed_out(before: i32, now: i32, max: fn() -> i32) -> Option<impl Iterator<Item = i32>> {
    const MOST_PIDS: usize = 4096;
    // The maximum itself is never handed out.
    let (until_the_end, anew) =
        if now < before { (before + 1..max(), 1..now + 1) } else { (before + 1..now + 1, 0..0) };
    let count = until_the_end.len() + anew.len();
    (count <= MOST_PIDS).then(|| until_the_end.chain(anew))
}

/// The numbers that may have been handed out between these two, the second included; `None` if they are too many.
pub(in crate::group) fn handed_out_between(before: i32, now: i32) -> Option<Vec<i32>> {
    handed_out(before, now, pid_max).map(Iterator::collect)
}

/// The numbers handed out since `until`, which is moved on: none the first time, or where they cannot be told; `None`
/// if they are too many.
pub(in crate::group) fn handed_out_since(until: &mut Option<i32>) -> Option<Vec<i32>> {
    let Some(last) = available().then(last_pid).flatten() else { return Some(Vec::new()) };
    until.replace(last).map_or(Some(Vec::new()), |before| handed_out_between(before, last))
}

/// The pids handed out in a stretch of time, by the groups that they are in.
pub(super) enum NewPids {
    /// The groups; and whether some pid is in no group any more: its process has ended, and may have been in any.
    Known { groups: Vec<i32>, vanished: bool },
    /// Too many to ask for.
    TooMany,
}

impl NewPids {
    /// The pids handed out since the one that was last `before`. Where the system does not show them, none.
    pub(super) fn since(before: Option<i32>) -> NewPids {
        let (mut groups, mut vanished) = (Vec::new(), false);
        if let (Some(before), Some(now)) = (before, last_pid()) {
            let Some(numbers) = handed_out(before, now, pid_max) else { return NewPids::TooMany };
            for pid in numbers {
                match getpgid(Some(Pid::from_raw(pid))) {
                    Ok(pgid) => groups.push(pgid.as_raw()),
                    Err(_) => vanished = true,
                }
            }
        }
        NewPids::Known { groups, vanished }
    }

    /// Whether a new pid was seen in the group, or so many came that it cannot be told.
    pub(super) fn include(&self, pgid: i32) -> bool {
        match self {
            NewPids::Known { groups, .. } => groups.contains(&pgid),
            NewPids::TooMany => true,
        }
    }

    /// Whether a new pid may have been of the group, if only for a moment.
    pub(super) fn may_include(&self, pgid: i32) -> bool {
        match self {
            NewPids::Known { groups, vanished } => *vanished || groups.contains(&pgid),
            NewPids::TooMany => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use nix::errno::Errno;

    use super::super::super::testing::{OPEN, Started, failing};
    use super::*;

    fn numbers(before: i32, now: i32) -> Option<Vec<i32>> {
        handed_out(before, now, || 32_768).map(Iterator::collect)
    }

    #[test]
    fn the_numbers_begin_anew_after_the_last() {
        assert_eq!(numbers(300, 300), Some(vec![]));
        assert_eq!(numbers(300, 302), Some(vec![301, 302]));
        assert_eq!(numbers(32_765, 2), Some(vec![32_766, 32_767, 1, 2]));
        assert_eq!(numbers(32_767, 1), Some(vec![1]));
    }

    #[test]
    fn too_many_are_not_asked_for() {
        assert_eq!(numbers(1000, 1000 + 4096).map(|all| all.len()), Some(4096));
        assert_eq!(numbers(1000, 1000 + 4097), None);
        assert_eq!(numbers(32_000, 4000), None);
    }

    #[test]
    fn the_system_says_how_far_its_numbers_go() {
        assert!((300..=1 << 22).contains(&pid_max()), "{}", pid_max());
        assert!(last_pid().unwrap() < pid_max());
        assert_eq!(failing(OPEN, Errno::EACCES, pid_max), 4_194_304, "it is taken for the largest there is");
    }

    #[test]
    fn a_new_pid_is_seen_in_its_group() {
        let before = last_pid();
        let leader = Started::leader();
        let new = NewPids::since(before);
        assert!(new.include(leader.pid()) && new.may_include(leader.pid()));
        assert!(!new.include(i32::MAX), "no group has that number");
        // Where the system does not show them there are none.
        let unknown = NewPids::since(None);
        assert!(!unknown.include(leader.pid()) && !unknown.may_include(leader.pid()));
    }

    #[test]
    fn one_that_vanished_may_have_been_in_any_group_and_so_may_each_of_too_many() {
        let new = |vanished| NewPids::Known { groups: vec![7, 9], vanished };
        for (new, group, is_seen, may_be) in [
            (new(false), 9, true, true),
            (new(false), 8, false, false),
            (new(true), 8, false, true),
            (new(true), 7, true, true),
            (NewPids::TooMany, 8, true, true),
        ] {
            assert_eq!((new.include(group), new.may_include(group)), (is_seen, may_be), "{group}");
        }
    }
}
