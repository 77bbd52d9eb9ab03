//! How long the other threads of this process waited for a CPU or for memory while one of them waited for a lock.
//!
//! A wait for a lock is as long as the thread that holds it takes, and what that thread waited for a CPU or for a page
//! is the machine's share of it. Which thread holds the lock cannot be told from outside, but the one that lets it go
//! wakes the one that waits, and so has a CPU at that moment. A thread that had none from the last look that found the
//! wait to the first that finds it over is not the one. Of the others the longest wait of any one is taken. That may be
//! too much, and then a stall is doubted that was true; it is never called steady.

use std::time::{Duration, Instant};

use crate::heartbeat::observer::sample::Sample;
use crate::heartbeat::reading::this_thread;
use crate::heartbeat::reading::thread::{Account, Clocks, ThreadId, cpu_time, is_a_watchers, others_than};

/// The time between two looks at all other threads, at least.
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);

/// A look may take this part of the time until the next: the observer has other threads to look at.
const SHARE: u32 = 50;

/// Of more threads only the accounts are read, which costs a third: a wait that goes on is not seen then until it ends.
const FEW_THREADS: usize = 32;

/// Of more threads it is not asked at each look whether they have had a CPU: any may have let the lock go.
const MANY_THREADS: usize = 256;

/// The other threads of this process, from the first look at a thread that waits for a lock until its wait is over.
#[derive(Debug)]
pub(crate) struct OtherThreads {
    pub(crate) thread: ThreadId,
    /// Since when the thread has not been back in its scheduler.
    pub(crate) since: Instant,
    /// When it was first seen to wait for a lock.
    pub(crate) begun: Instant,
    next: Instant,
    waits: Vec<(ThreadId, Waits)>,
    /// How often the thread had been given a CPU when it was last seen to wait for the lock: as often as then, and it
    /// is the same wait.
    turns: Option<u64>,
    /// The wait for the lock has ended.
    over: bool,
}

/// What the looks at one thread have shown.
#[derive(Debug)]
struct Waits {
    first: Account,
    last: OtherLook,
    /// Since when it has been ready to run and was given no CPU.
    ready_since: Option<Instant>,
    for_memory: Duration,
    most: Duration,
    /// Its CPU time, read before the look that is going on, and before the last that found the lock waited for.
    asked: Option<Duration>,
    before: Option<Duration>,
    /// It had a CPU when a wait for the lock ended, or may have had.
    ran: bool,
}

/// One look at a thread.
#[derive(Debug, Clone, Copy)]
struct OtherLook {
    at: Instant,
    account: Account,
    doing: OtherDoing,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum OtherDoing {
    /// Running, or ready to.
    Ready,
    /// In a page fault, or in a call in which any code may have to wait for memory.
    ForMemory,
    /// Waiting for events or for work: it holds no lock, so what it has waited for before was not for the one that
    /// does.
    Idle,
    /// Asleep, or not looked at.
    Unknown,
}

impl OtherLook {
    /// With its account alone unless `closely`.
    fn now(thread: ThreadId, closely: bool) -> Option<Self> {
        let at = Instant::now();
        let sample = if closely { Sample::of(thread, false) } else { None };
        let doing = match sample {
            Some(sample) if sample.is_running() => OtherDoing::Ready,
            Some(sample) if sample.waits_for_memory() => OtherDoing::ForMemory,
            Some(sample) if sample.is_idle() => OtherDoing::Idle,
            _ => OtherDoing::Unknown,
        };
        // Read after the look: what was waited for until then is in it, if the wait is over.
        Some(Self { at, account: Clocks::of(thread)?.account()?, doing })
    }
}

impl Waits {
    fn from(first: OtherLook) -> Self {
        let ready_since = (first.doing == OtherDoing::Ready).then_some(first.at);
        let (for_memory, most, ran) = (Duration::ZERO, Duration::ZERO, false);
        Self { first: first.account, last: first, ready_since, for_memory, most, asked: None, before: None, ran }
    }

    /// The wait has ended since `before`. Of a thread that is gone nothing is known but that it ran to its end.
    fn may_have_ended_it(&mut self, now: Option<Duration>) {
        self.ran |= now.is_none() || self.before.is_none() || self.before != now;
    }

    fn see(&mut self, seen: OtherLook) {
        // One that may have let the lock go can be idle by now.
        if seen.doing == OtherDoing::Idle && !self.ran {
            *self = Self { asked: self.asked, before: self.before, ..Self::from(seen) };
            return;
        }
        let same = |doing| seen.doing == doing && self.last.doing == doing;
        if same(OtherDoing::ForMemory) {
            self.for_memory += seen.at - self.last.at;
        }
        // A wait for a CPU is booked when it ends. One that goes on shows in an account that stands still.
        if !(same(OtherDoing::Ready) && seen.account == self.last.account) {
            self.ready_since = (seen.doing == OtherDoing::Ready).then_some(seen.at);
        }
        let unbooked = self.ready_since.map_or(Duration::ZERO, |since| seen.at - since);
        let booked = seen.account.run_queue.saturating_sub(self.first.run_queue);
        self.most = self.most.max(booked + self.for_memory + unbooked);
        self.last = seen;
    }
}

impl OtherThreads {
    /// From here on, for `thread`, which has not been back in its scheduler `since` then.
    pub(crate) fn of(thread: ThreadId, since: Instant) -> Self {
        let begun = Instant::now();
        let others = others_than(&[thread, this_thread()]);
        let closely = others.len() <= FEW_THREADS;
        let seen = |other| OtherLook::now(other, closely).map(|seen| (other, Waits::from(seen)));
        let waits = others.into_iter().filter_map(seen).collect();
        Self { thread, since, begun, next: next_look(begun), waits, turns: None, over: false }
    }

    /// The thread is about to be looked at. Whatever ends its wait after that look runs after this.
    pub(crate) fn before_look(&mut self) {
        if self.waits.len() <= MANY_THREADS && !self.over {
            self.waits.iter_mut().for_each(|(thread, waits)| waits.asked = cpu_time(*thread));
        }
    }

    /// The thread was looked at and waits for a lock; `turns`: how often it had been given a CPU then, if that is
    /// known.
    pub(crate) fn still_waits(&mut self, turns: Option<u64>, now: Instant) {
        if self.turns.is_some() && (self.turns != turns || self.over) {
            self.ask_who_ran();
        }
        (self.turns, self.over) = (turns, false);
        self.waits.iter_mut().for_each(|(_, waits)| waits.before = waits.asked);
        if now >= self.next {
            self.look_now();
        }
    }

    /// It waits no more: by now the wait of the thread that held the lock has ended and is booked.
    pub(crate) fn is_over(&mut self) {
        if !std::mem::replace(&mut self.over, true) {
            self.ask_who_ran();
            self.look_now();
        }
    }

    fn ask_who_ran(&mut self) {
        let many = self.waits.len() > MANY_THREADS;
        let now = |thread| if many { None } else { cpu_time(thread) };
        self.waits.iter_mut().for_each(|(thread, waits)| waits.may_have_ended_it(now(*thread)));
    }

    /// Looks again, unless the wait is over and so all is known of it.
    pub(crate) fn look_again(&mut self) {
        if !self.over {
            self.look_now();
        }
    }

    fn look_now(&mut self) {
        let (begun, closely) = (Instant::now(), self.waits.len() <= FEW_THREADS);
        for (thread, waits) in &mut self.waits {
            // One that has ended is as it was seen last.
            OtherLook::now(*thread, closely).into_iter().for_each(|seen| waits.see(seen));
        }
        self.next = next_look(begun);
    }

    /// The most that any one of them waited that may have ended the wait, or may end it yet. The threads of this
    /// crate's own that run no code under test do not count.
    pub(crate) fn waited(&self) -> Duration {
        let may_be = self.waits.iter().filter(|(_, waits)| waits.ran || !self.over);
        let mut most: Vec<_> = may_be.map(|(thread, waits)| (waits.most, *thread)).collect();
        most.sort_by_key(|(most, _)| std::cmp::Reverse(*most));
        most.into_iter().find(|(_, thread)| !is_a_watchers(*thread)).map_or(Duration::ZERO, |(most, _)| most)
    }
}

/// When the look after one that has begun then and ends now is due.
fn next_look(begun: Instant) -> Instant {
    let now = Instant::now();
    now + BETWEEN_LOOKS.max((now - begun) * SHARE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn account(on_cpu: u32, run_queue: u32) -> Account {
        Account { on_cpu: MS * on_cpu, run_queue: MS * run_queue, turns: 0 }
    }

    /// The most that a thread waited which looked so at these times: ms, doing, on-CPU, run queue.
    fn most(looks: &[(u32, OtherDoing, u32, u32)]) -> Duration {
        let start = Instant::now();
        let mut seen = looks.iter().map(|(at, doing, on_cpu, run_queue)| OtherLook {
            at: start + MS * *at,
            account: account(*on_cpu, *run_queue),
            doing: *doing,
        });
        let mut waits = Waits::from(seen.next().unwrap());
        seen.for_each(|seen| waits.see(seen));
        waits.most
    }

    #[test]
    fn a_thread_that_is_asleep_or_runs_waits_for_nothing() {
        assert_eq!(most(&[(0, OtherDoing::Unknown, 5, 7), (100, OtherDoing::Unknown, 5, 7)]), Duration::ZERO);
        assert_eq!(most(&[(0, OtherDoing::Ready, 5, 7), (100, OtherDoing::Ready, 105, 7)]), Duration::ZERO);
    }

    #[test]
    fn a_wait_for_a_cpu_counts_when_it_is_booked_and_before() {
        let booked = [(0, OtherDoing::Ready, 5, 7), (100, OtherDoing::Unknown, 8, 87)];
        assert_eq!(most(&booked), MS * 80);
        let going_on = [(0, OtherDoing::Unknown, 5, 7), (10, OtherDoing::Ready, 5, 7), (50, OtherDoing::Ready, 5, 7)];
        assert_eq!(most(&going_on), MS * 40);
        // The two are the same wait.
        let both = [(0, OtherDoing::Ready, 5, 7), (50, OtherDoing::Ready, 5, 7), (60, OtherDoing::Ready, 6, 62)];
        assert_eq!(most(&both), MS * 55);
    }

    #[test]
    fn a_page_that_is_waited_for_counts_while_it_is_seen_to_be() {
        let looks =
            [(0, OtherDoing::ForMemory, 5, 7), (30, OtherDoing::ForMemory, 5, 7), (90, OtherDoing::Unknown, 6, 7)];
        assert_eq!(most(&looks), MS * 30);
    }

    #[test]
    fn what_a_thread_waited_before_it_was_idle_is_forgotten() {
        let looks = [
            (0, OtherDoing::Ready, 5, 7),
            (80, OtherDoing::Unknown, 6, 80),
            (90, OtherDoing::Idle, 6, 90),
            (120, OtherDoing::Unknown, 7, 110),
        ];
        assert_eq!(most(&looks), MS * 20);
        let seen = |at: u32, run_queue, doing| OtherLook {
            at: Instant::now() + MS * at,
            account: account(5, run_queue),
            doing,
        };
        let mut let_it_go = Waits { ran: true, ..Waits::from(seen(0, 7, OtherDoing::Ready)) };
        let_it_go.see(seen(90, 80, OtherDoing::Idle));
        assert_eq!(let_it_go.most, MS * 73, "it has become idle since");
    }

    #[test]
    fn the_waits_of_one_thread_are_taken_and_not_the_sum_of_all() {
        let (at, doing) = (Instant::now(), OtherDoing::Unknown);
        let waits = [20, 50, 30].map(|waited| {
            let mut waits = Waits::from(OtherLook { at, account: account(0, 0), doing });
            waits.see(OtherLook { at: at + MS * 60, account: account(0, waited), doing });
            (ThreadId(waited), waits)
        });
        let waits: Vec<_> = waits.into();
        let (thread, turns) = (ThreadId(1), None);
        let mut others = OtherThreads { thread, since: at, begun: at, next: at, waits, turns, over: false };
        assert_eq!(others.waited(), MS * 50);
        // Two of them had a CPU when it ended.
        (others.over, others.waits[0].1.ran, others.waits[2].1.ran) = (true, true, true);
        assert_eq!(others.waited(), MS * 30);
    }

    #[test]
    fn a_thread_that_had_no_cpu_when_the_wait_ended_did_not_end_it() {
        let seen = OtherLook { at: Instant::now(), account: account(0, 0), doing: OtherDoing::Unknown };
        let may_be = |before: Option<u32>, now: Option<u32>| {
            let mut waits = Waits { before: before.map(|ms| MS * ms), ..Waits::from(seen) };
            waits.may_have_ended_it(now.map(|ms| MS * ms));
            waits.ran
        };
        assert!(!may_be(Some(7), Some(7)));
        assert!(may_be(Some(7), Some(8)) && may_be(Some(7), None) && may_be(None, Some(7)) && may_be(None, None));
    }

    /// The one that lets the lock go is this thread; the other sleeps.
    #[test]
    #[cfg(all(target_os = "linux", not(deadbeat_portable)))]
    fn who_ends_a_wait_is_told_from_who_sleeps_meanwhile() {
        let (tell, told) = std::sync::mpsc::channel();
        let (stop, stopped) = std::sync::mpsc::channel::<()>();
        let sleeper = std::thread::spawn(move || {
            tell.send(ThreadId::here()).unwrap();
            stopped.recv().unwrap_err();
        });
        let (asleep, here) = (told.recv().unwrap(), this_thread());
        let status = || std::fs::read_to_string(format!("/proc/self/task/{}/stat", asleep.0)).unwrap();
        while !status().contains(") S ") {
            std::thread::yield_now();
        }
        let now = Instant::now();
        let mut others = OtherThreads::of(ThreadId(0), now);
        others.waits.retain(|(thread, _)| *thread == asleep);
        let mine = Waits::from(OtherLook { at: now, account: account(0, 0), doing: OtherDoing::Unknown });
        others.waits.push((here, mine));
        let ran = |others: &OtherThreads| others.waits.iter().map(|(_, waits)| waits.ran).collect::<Vec<_>>();
        for turns in [3, 3] {
            others.before_look();
            others.still_waits(Some(turns), now);
            assert_eq!(ran(&others), [false, false], "it waits");
        }
        others.is_over();
        assert_eq!(ran(&others), [false, true]);
        drop(stop);
        sleeper.join().unwrap();
    }
}
