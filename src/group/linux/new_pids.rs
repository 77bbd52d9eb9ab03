//! The pids that the system has handed out in a stretch of time.
//!
//! A walk through `/proc` misses a process that starts in the part already walked; its pid shows that it was there.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

use nix::unistd::{Pid, getpgid};

use super::table::{available, runs};

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

/// How many numbers are asked for at most.
const MOST_PIDS: usize = 4096;

/// The numbers that may have been handed out between these two, the second included; `None` if they are too many.
fn handed_out(before: i32, now: i32, max: fn() -> i32) -> Option<impl Iterator<Item = i32>> {
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
    span_since(until).map_or(Some(Vec::new()), |(before, now)| handed_out_between(before, now))
}

/// Whether a number was handed out since `until`, which is moved on: none was the first time, or where they cannot be
/// told. However many they are, unless the numbers came round to the last one meanwhile.
#[cfg(feature = "cli")]
pub(in crate::group) fn was_handed_out_since(until: &mut Option<i32>) -> impl Fn(i32) -> bool + use<> {
    let (span, max) = (span_since(until), pid_max());
    move |pid| span.is_some_and(|(before, now)| pid != before && is_between(before, pid, now, max))
}

/// The numbers that were handed out last at the time of `until`, which is moved on, and now: none the first time, or
/// where they cannot be told.
fn span_since(until: &mut Option<i32>) -> Option<(i32, i32)> {
    let now = available().then(last_pid).flatten()?;
    Some((until.replace(now)?, now))
}

/// Whether `pid` is `before`, `now` or a number between the two, as they are handed out.
fn is_between(before: i32, pid: i32, now: i32, max: i32) -> bool {
    (pid - before).rem_euclid(max) <= (now - before).rem_euclid(max)
}

/// The processes that were started since a walk began, asked once whether they live, for all groups together.
#[derive(Debug)]
pub(super) struct NewPids {
    groups: HashSet<i32>,
    asked: Option<Asked>,
}

#[derive(Debug)]
struct Asked {
    before: i32,
    /// The number handed out last when they were asked.
    until: i32,
    /// Pid and group of those that lived when they were asked; `None` if they are too many.
    living: Option<Vec<(i32, i32)>>,
}

impl NewPids {
    /// Of these groups.
    pub(super) fn in_groups(groups: impl IntoIterator<Item = i32>) -> NewPids {
        NewPids { groups: groups.into_iter().collect(), asked: None }
    }

    /// As if these had been asked, whatever they were asked since.
    #[cfg(test)]
    pub(super) fn asked(living: Option<Vec<(i32, i32)>>) -> NewPids {
        NewPids { groups: HashSet::new(), asked: Some(Asked { before: 0, until: pid_max() - 1, living }) }
    }

    /// The members of this group that were started since `before` was handed out, and lived when they were asked;
    /// `None` if there are too many new processes to be asked. Where the system does not say what it hands out, there
    /// are none.
    ///
    /// They may include some that are a little older, where they were asked for already.
    pub(super) fn members(&mut self, before: Option<i32>, pgid: i32) -> Option<Vec<i32>> {
        let Some(before) = before else { return Some(Vec::new()) };
        let asked = match self.asked.take() {
            Some(asked) if asked.include(before) => asked,
            _ => Asked::since(before, &self.groups),
        };
        let living = &self.asked.insert(asked).living;
        Some(living.as_ref()?.iter().filter(|(_, group)| *group == pgid).map(|(pid, _)| *pid).collect())
    }
}

impl Asked {
    /// Asks in the order of their birth, until no more are started: so a parent is asked before its child, and a
    /// process that is dead when it is asked has no child that is not asked later.
    fn since(before: i32, groups: &HashSet<i32>) -> Asked {
        let mut asked = Asked { before, until: before, living: Some(Vec::new()) };
        let mut count = 0;
        while let Some(now) = last_pid().filter(|now| *now != asked.until) {
            let numbers = handed_out(asked.until, now, pid_max).filter(|_| count <= MOST_PIDS);
            asked.until = now;
            let (Some(numbers), Some(living)) = (numbers, &mut asked.living) else {
                asked.living = None;
                break;
            };
            for pid in numbers {
                count += 1;
                let group = getpgid(Some(Pid::from_raw(pid))).map(Pid::as_raw);
                living.extend(group.ok().filter(|group| groups.contains(group) && runs(pid)).map(|group| (pid, group)));
            }
        }
        asked
    }

    /// Whether those that were started since `before` are among them: that number was handed out later than ours.
    fn include(&self, before: i32) -> bool {
        is_between(self.before, before, self.until, pid_max())
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
    fn a_process_that_was_started_meanwhile_is_seen_in_its_group() {
        let before = last_pid();
        let leader = Started::leader();
        let pid = leader.pid();
        let mut new = NewPids::in_groups([pid]);
        assert_eq!(new.members(before, pid), Some(vec![pid]));
        assert_eq!(new.members(before, i32::MAX), Some(vec![]), "no group has that number");
        assert_eq!(NewPids::in_groups([pid]).members(None, pid), Some(vec![]), "a system that does not say");
        // It is asked once: a process of a later moment is not among them.
        let mut later = Started::leader();
        assert_eq!(new.members(before, later.pid()), Some(vec![]));
        let again = || NewPids::in_groups([pid, later.pid()]);
        assert_eq!(again().members(before, later.pid()), Some(vec![later.pid()]));
        let (mut again, its) = (again(), later.pid());
        later.kill();
        assert_eq!(again.members(before, its), Some(vec![]), "a zombie");
    }

    #[test]
    fn what_was_asked_since_an_older_number_serves_a_younger_one_and_no_other() {
        let asked = |before, until| Asked { before, until, living: Some(Vec::new()) };
        let max = pid_max();
        for (before, until, number, expected) in [
            (300, 400, 300, true),
            (300, 400, 400, true),
            (300, 400, 299, false),
            (300, 400, 401, false),
            (max - 2, 5, 3, true),
            (max - 2, 5, max - 1, true),
            (max - 2, 5, max - 3, false),
        ] {
            assert_eq!(asked(before, until).include(number), expected, "{number} of {before} to {until}");
        }
    }

    #[test]
    #[cfg(feature = "cli")]
    fn of_any_number_it_is_told_whether_it_was_handed_out_since() {
        let last = last_pid().unwrap();
        let long_ago = (last - 5000).rem_euclid(pid_max());
        let mut until = None;
        assert!(!was_handed_out_since(&mut until)(last), "the first time");
        until = Some(long_ago);
        let was = was_handed_out_since(&mut until);
        let numbers = [long_ago, (long_ago + 1) % pid_max(), last, (long_ago - 1).rem_euclid(pid_max())];
        assert_eq!(numbers.map(was), [false, true, true, false]);
        assert!(until.is_some_and(|until| until != long_ago));
    }

    #[test]
    fn too_many_that_are_started_tell_nothing() {
        let last = last_pid().unwrap();
        let long_ago = (last - 5000).rem_euclid(pid_max());
        assert_eq!(NewPids::in_groups([7]).members(Some(long_ago), 7), None);
    }
}
