//! The observer, a thread beside the subject: it looks at the group until that is gone, and measures how late the
//! machine makes it.

use std::io;
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, TryRecvError};
use std::time::{Duration, Instant};

use nix::time::ClockId;

use super::machine_delays::MachineDelays;
use super::member_times::MemberTimes;
use super::member_waits::MemberWaits;
use crate::fixture::Running;
use crate::fixture::cleanup::DEAD_WITHIN;
use crate::group::{GroupWatch, Member, ProcessGroup, is_dying, pause};

/// Members take some milliseconds to die of SIGKILL: what is left right after the subject has returned is no leftover
/// yet.
const LEFTOVER_JUDGED_AFTER: Duration = Duration::from_secs(1);

/// The time between two looks at the group, if nothing happens there.
const LOOK_AT_GROUP: Duration = Duration::from_millis(20);

/// When the watch began, when the subject was called, and when it returned, which is not known of a program.
#[derive(Default)]
pub(super) struct CallTimes {
    pub(super) began: OnceLock<Instant>,
    pub(super) called: OnceLock<Instant>,
    pub(super) returned: OnceLock<Instant>,
}

impl CallTimes {
    /// How much of this time the subject was at work. The start and the end of the lab do not count.
    fn at_work(&self, from: Instant, to: Instant) -> Duration {
        let Some(called) = self.called.get() else { return Duration::ZERO };
        let to = self.returned.get().map_or(to, |returned| to.min(*returned));
        to.saturating_duration_since(from.max(*called))
    }
}

/// What was seen of the group.
pub(super) struct GroupSeen<'a> {
    /// When the last look began that saw the group alive: it went after that.
    pub(super) alive_at: Instant,
    /// When the look was over that saw the group gone: it went before that.
    pub(super) gone_at: Option<Instant>,
    /// Whether the leader had not ended when the look at `alive_at` began.
    pub(super) leader_stayed: bool,
    /// How late the observer itself was while the subject was at work.
    pub(super) machine_delays: MachineDelays,
    pub(super) waits: MemberWaits,
    pub(super) members: MemberTimes<'a>,
}

impl<'a> GroupSeen<'a> {
    pub(super) fn nothing_yet(running: &'a Running, grace: Duration) -> GroupSeen<'a> {
        GroupSeen {
            alive_at: Instant::now(),
            gone_at: None,
            leader_stayed: false,
            machine_delays: MachineDelays::default(),
            waits: MemberWaits::within(grace),
            members: MemberTimes::of(running),
        }
    }
}

/// Looks at the group until it is gone, or until a moment after the subject has ended, which closes the other end of
/// `ended`.
pub(super) fn observe<'a>(
    mut group: GroupWatch,
    mut seen: GroupSeen<'a>,
    ended: &Receiver<()>,
    times: &CallTimes,
) -> GroupSeen<'a> {
    let mut ended_at = None;
    let mut woken = false;
    let mut looked_at = seen.alive_at;
    loop {
        let begun_at = Instant::now();
        // Asked before the look: a leader that was there is one that the look can have seen.
        let leader_stayed = !group.group().leader_has_exited();
        let gone = group.is_gone();
        let now = Instant::now();
        seen.machine_delays.add(times.at_work(looked_at, now).saturating_sub(LOOK_AT_GROUP));
        looked_at = now;
        if gone {
            seen.members.all_gone(now);
            seen.gone_at = Some(now);
            let group = group.group();
            delays_until(&mut seen.machine_delays, ended, times, move || walk(group));
            return seen;
        }
        (seen.alive_at, seen.leader_stayed) = (begun_at, leader_stayed);
        seen.members.look(woken);
        seen.waits.look(seen.members.living());
        let since_the_end = ended_at.map_or(Duration::ZERO, |at: Instant| at.elapsed());
        if since_the_end >= LEFTOVER_JUDGED_AFTER && (since_the_end >= DEAD_WITHIN || !seen.members.are_dying()) {
            return seen;
        }
        let asleep = Instant::now();
        group.wait(LOOK_AT_GROUP);
        woken = asleep.elapsed() < LOOK_AT_GROUP;
        if ended_at.is_none() && ended.try_recv() == Err(TryRecvError::Disconnected) {
            ended_at = Some(Instant::now());
        }
    }
}

/// Measures how late the machine makes what any kill does: wake up, get a thread, walk through the process table in it.
///
/// Called when the group is gone. If the subject still does not return, either it takes its time, or the machine delays
/// it as it delays these passes.
fn delays_until(
    delays: &mut MachineDelays,
    ended: &Receiver<()>,
    times: &CallTimes,
    walk: impl Fn() -> Duration + Copy + Send + 'static,
) {
    loop {
        let asleep = Instant::now();
        let over =
            ended.recv_timeout(LOOK_AT_GROUP) != Err(RecvTimeoutError::Timeout) || times.returned.get().is_some();
        // A thread that cannot be had is no delay.
        let walker = if over { None } else { std::thread::Builder::new().spawn(walk).ok() };
        let worked = walker.and_then(|walker| walker.join().ok()).unwrap_or_default();
        delays.add(times.at_work(asleep, Instant::now()).saturating_sub(LOOK_AT_GROUP + worked));
        if over {
            return;
        }
    }
}

/// Looks for the group's members, and returns the CPU time of this thread.
fn walk(group: ProcessGroup) -> Duration {
    let _ = group.members();
    ClockId::CLOCK_THREAD_CPUTIME_ID.now().map_or(Duration::ZERO, Duration::from)
}

/// The processes that have left the group, without the dying ones that end soon.
pub(super) fn escaped(running: &Running) -> io::Result<Vec<Member>> {
    let deadline = Instant::now() + DEAD_WITHIN;
    loop {
        let escaped = running.escaped()?;
        if Instant::now() >= deadline || !escaped.iter().any(is_dying) {
            return Ok(escaped);
        }
        pause(LOOK_AT_GROUP);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::sync::mpsc;

    use super::*;

    const GRACE: Duration = Duration::from_secs(5);

    #[test]
    fn what_is_left_over_is_judged_when_the_documentation_promises_it() {
        use crate::promised::{CONFORMANCE, are_kept, time};
        are_kept(&[
            ("docs/conformance", time(CONFORMANCE, "What is still there {} after it returned"), LEFTOVER_JUDGED_AFTER),
            ("report", time(include_str!("../report.rs"), "up to {} after the subject had"), LEFTOVER_JUDGED_AFTER),
        ]);
    }

    #[test]
    fn the_machine_is_watched_until_the_subject_has_ended() {
        let fixture = crate::fixture::ALL.iter().find(|fixture| fixture.name == "already-gone").unwrap();
        let running = fixture.setup().start().unwrap();
        let (over, ended) = mpsc::channel::<()>();
        let start = Instant::now();
        let watched = std::thread::scope(|scope| {
            scope.spawn(move || {
                pause(LOOK_AT_GROUP * 3);
                drop(over);
            });
            let seen = GroupSeen::nothing_yet(&running, GRACE);
            let seen = observe(GroupWatch::new(running.group()), seen, &ended, &CallTimes::default());
            let watched = start.elapsed();
            assert!(seen.gone_at.is_some_and(|at| at - start <= watched));
            watched
        });
        assert!(watched >= LOOK_AT_GROUP * 3, "{watched:?}");
        running.finish().unwrap();
    }

    #[test]
    fn only_the_time_in_which_the_subject_was_at_work_counts() {
        let begun = Instant::now();
        let at = |ms| begun + Duration::from_millis(ms);
        let times = CallTimes::default();
        assert_eq!(times.at_work(at(0), at(900)), Duration::ZERO);
        times.called.set(at(100)).unwrap();
        assert_eq!(times.at_work(at(0), at(50)), Duration::ZERO);
        assert_eq!(times.at_work(at(0), at(900)), Duration::from_millis(800));
        times.returned.set(at(600)).unwrap();
        assert_eq!(times.at_work(at(0), at(900)), Duration::from_millis(500));
        assert_eq!(times.at_work(at(300), at(500)), Duration::from_millis(200));
        assert_eq!(times.at_work(at(700), at(900)), Duration::ZERO);
    }

    #[test]
    fn a_walk_that_waits_for_the_machine_is_a_delay_of_the_subject() {
        const WAIT: Duration = Duration::from_millis(50);
        static WALKS: AtomicU32 = AtomicU32::new(0);
        let delayed = |times: &CallTimes| {
            let mut delays = MachineDelays::default();
            let (over, ended) = mpsc::channel::<()>();
            let walks = WALKS.load(Ordering::SeqCst);
            std::thread::scope(|scope| {
                scope.spawn(move || {
                    while WALKS.load(Ordering::SeqCst) == walks {
                        pause(Duration::from_millis(1));
                    }
                    drop(over);
                });
                delays_until(&mut delays, &ended, times, || {
                    pause(WAIT);
                    WALKS.fetch_add(1, Ordering::SeqCst);
                    Duration::ZERO
                });
            });
            delays.of(1)
        };
        let times = CallTimes::default();
        assert_eq!(delayed(&times), Duration::ZERO);
        times.called.set(Instant::now()).unwrap();
        assert!(delayed(&times) >= WAIT);
    }
}
