//! What a watch saw: the verdict follows from these fields and from nothing else.

use std::time::Duration;

mod text;

use crate::heartbeat::beats_over_time::BeatsOverTime;
use crate::heartbeat::config::Heartbeat;
use crate::heartbeat::culprit::Culprit;
use crate::heartbeat::lateness::Lateness;
use crate::heartbeat::stall::Stall;
use crate::heartbeat::verdict::{Verdict, Why};

/// The output of a watched future and what was seen meanwhile.
#[derive(Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Watched<T> {
    /// What the future returned.
    pub output: T,
    /// What the watch saw.
    pub pulse: Pulse,
}

/// What a watch saw.
#[derive(Debug, Clone)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Pulse {
    /// How many beats the runtime's driver delivered during the watch.
    pub beats: u64,
    /// Every stretch that was charged more than the budget, in order.
    pub stalls: Vec<Stall>,
    /// The longest charged stretch, whether above the budget or not. In a [`Lab`](super::Lab) of several workers, where
    /// polls are told apart from outside, several short ones may be taken for one; not a long one for a short one.
    #[cfg_attr(feature = "serde", serde(rename = "longest_ms", with = "crate::millis"))]
    pub longest: Duration,
    /// The longest a beat waited behind other tasks after it was delivered, waits for a CPU excluded. Not charged:
    /// many short tasks make a queue, not a stall.
    #[cfg_attr(feature = "serde", serde(rename = "queue_delay_ms", with = "crate::millis"))]
    pub queue_delay: Duration,
    /// How long the watch lasted.
    #[cfg_attr(feature = "serde", serde(rename = "watched_ms", with = "crate::millis"))]
    pub watched: Duration,
    /// What a stretch may be charged before it is a stall.
    #[cfg_attr(feature = "serde", serde(rename = "budget_ms", with = "crate::millis"))]
    pub budget: Duration,
    /// The time between beats.
    #[cfg_attr(feature = "serde", serde(rename = "interval_ms", with = "crate::millis"))]
    pub interval: Duration,
    /// When the beats came, roughly.
    pub rhythm: BeatsOverTime,
    /// How late the beats were, by the clock on the wall.
    pub lateness: Lateness,
    /// How long trivial `spawn_blocking` closures waited for a thread; `None` if that was not asked for.
    pub blocking_pool: Option<PoolPulse>,
    /// How dropping the runtime went; a [`Lab`](super::Lab) knows.
    pub shutdown: Option<RuntimeShutdown>,
    /// Why the watch did not cover what could have stalled, if so.
    pub uncovered: Option<Why>,
}

impl Pulse {
    /// What this proves, in this order: a stall charged above the budget is [`Starved`](Verdict::Starved) however few
    /// beats came, unless the machine may have caused it; a watch that did not cover the threads that could stall is
    /// [`Inconclusive`](Verdict::Inconclusive); one shorter than the budget is [`Steady`](Verdict::Steady); so is one
    /// that beats overlapped to its end; the rest is inconclusive.
    ///
    /// How many beats makes no difference, as long as none is overdue at the end: each accounts for all the time since
    /// the one before.
    pub fn verdict(&self) -> Verdict {
        if self.stalls.iter().any(|stall| stall.doubt.is_none()) {
            return Verdict::Starved;
        }
        let doubt = self.stalls.iter().find_map(|stall| stall.doubt.clone()).or_else(|| self.uncovered.clone());
        match doubt {
            Some(why) => Verdict::Inconclusive { why },
            None if self.watched < self.budget || self.beats > 0 => Verdict::Steady,
            None => Verdict::Inconclusive { why: Why::TooFewBeats { beats: self.beats } },
        }
    }

    /// All that are named in it.
    pub(super) fn culprits(&mut self) -> impl Iterator<Item = &mut Culprit> {
        let root = match &mut self.uncovered {
            Some(Why::RootBlocked { culprit, .. }) => culprit.as_mut(),
            _ => None,
        };
        let behind = self.shutdown.as_mut().and_then(|shutdown| shutdown.behind.as_mut());
        self.stalls.iter_mut().filter_map(|stall| stall.culprit.as_mut()).chain(root).chain(behind)
    }

    pub(super) fn empty(config: Heartbeat) -> Self {
        Self {
            beats: 0,
            stalls: Vec::new(),
            longest: Duration::ZERO,
            queue_delay: Duration::ZERO,
            watched: Duration::ZERO,
            budget: config.budget,
            interval: config.interval,
            rhythm: BeatsOverTime::new(config.interval),
            lateness: Lateness::default(),
            blocking_pool: None,
            shutdown: None,
            uncovered: None,
        }
    }

    /// Adds what was judged.
    pub(super) fn add(&mut self, findings: Findings) {
        self.stalls.extend(findings.stalls);
        self.stalls.sort_by_key(|stall| stall.at);
        self.longest = self.stalls.iter().map(Stall::charged).fold(self.longest.max(findings.longest), Duration::max);
        self.uncovered = self.uncovered.take().or(findings.uncovered);
    }

    /// # Panics
    ///
    /// Unless the verdict is [`Steady`](Verdict::Steady), with a report that says what to do.
    #[track_caller]
    pub fn assert_steady(&self) {
        match self.verdict() {
            Verdict::Steady => {}
            Verdict::Starved => panic!("the runtime was starved\n{self}"),
            Verdict::Inconclusive { .. } => panic!("the watch proves nothing\n{self}"),
        }
    }

    /// The stall that was charged most.
    pub fn worst(&self) -> Option<&Stall> {
        self.stalls.iter().max_by_key(|stall| (stall.doubt.is_none(), stall.charged()))
    }
}

/// What judging adds to a pulse.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) stalls: Vec<Stall>,
    /// The most that anything was charged which is no stall.
    pub(super) longest: Duration,
    /// Why something could not be judged, the first reason of all.
    pub(super) uncovered: Option<Why>,
}

/// How long trivial `spawn_blocking` closures waited for a thread of the blocking pool.
#[derive(Debug, Clone, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct PoolPulse {
    /// How many closures ran.
    pub probes: u64,
    /// The longest wait, without the time that the machine had no CPU for the pool's thread. One that has not ended
    /// counts as far as it got.
    #[cfg_attr(feature = "serde", serde(rename = "longest_ms", with = "crate::millis"))]
    pub longest: Duration,
    /// Whether the last closure was still waiting when the watch ended.
    pub pending: bool,
    /// Whether `spawn_blocking` panicked, for want of a thread (a process limit), instead of taking the closure.
    pub refused: bool,
    /// The longest wait by the clock on the wall, for a CPU too: what is handed to the pool is not begun earlier.
    #[cfg_attr(feature = "serde", serde(skip))]
    pub(crate) on_the_wall: Duration,
}

impl PoolPulse {
    /// Whether the pool kept a trivial closure waiting for longer than `budget`, or refused it.
    ///
    /// That keeps tasks waiting that read a file or resolve a name, but starves no worker: neither
    /// [`Pulse::verdict`](super::Pulse::verdict) nor [`Pulse::assert_steady`](super::Pulse::assert_steady) looks at it,
    /// so assert on it beside them.
    pub fn is_starved(&self, budget: Duration) -> bool {
        self.refused || self.longest > budget
    }
}

/// How dropping the runtime went.
#[derive(Debug, Clone)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct RuntimeShutdown {
    /// How long it took, by the clock on the wall; if it was not over at the deadline, how long it had taken then.
    #[cfg_attr(feature = "serde", serde(rename = "took_ms", with = "crate::millis"))]
    pub took: Duration,
    /// Whether it was over. If it was not, though the code was in time: its threads had had no CPU for a while, and had
    /// only that to wait for. It goes on without the lab, which does not wait for the machine.
    pub over: bool,
    /// Whether the future under watch was dropped half way before, since it was not over at the deadline.
    pub cut_short: bool,
    /// What the threads it waited for were in, if there was time to look.
    pub behind: Option<Culprit>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Duration = Duration::from_millis(50);

    fn pulse(beats: u64, watched: Duration) -> Pulse {
        Pulse { beats, watched, ..Pulse::empty(Heartbeat::new().budget(BUDGET)) }
    }

    fn stall(doubt: Option<Why>) -> Stall {
        let (at, on_cpu, run_queue) = (Duration::ZERO, Duration::ZERO, Some(Duration::ZERO));
        Stall { at, wall: BUDGET * 2, on_cpu, run_queue, blocked: Some(BUDGET * 2), culprit: None, doubt }
    }

    #[test]
    fn a_watch_without_a_beat_proves_nothing_unless_it_was_shorter_than_the_budget() {
        let why = Why::TooFewBeats { beats: 0 };
        assert_eq!(pulse(0, BUDGET).verdict(), Verdict::Inconclusive { why });
        assert_eq!(pulse(0, BUDGET - Duration::from_nanos(1)).verdict(), Verdict::Steady);
        assert_eq!(pulse(1, BUDGET * 100).verdict(), Verdict::Steady);
    }

    #[test]
    fn one_beat_is_no_beats() {
        let report = |beats| pulse(beats, BUDGET).to_string();
        assert!(report(1).contains(": 1 beat in"), "{}", report(1));
        assert!(report(2).contains(": 2 beats in"), "{}", report(2));
    }

    fn starved() -> Pulse {
        Pulse { stalls: vec![stall(None)], ..pulse(9, BUDGET * 2) }
    }

    fn uncovered() -> Pulse {
        Pulse { uncovered: Some(Why::MultiThread), ..pulse(9, BUDGET * 2) }
    }

    #[test]
    fn only_a_steady_pulse_is_asserted_to_be() {
        let message = |pulse: Pulse| {
            let panic = std::panic::catch_unwind(|| pulse.assert_steady()).err()?;
            panic.downcast_ref::<String>().cloned()
        };
        assert_eq!(message(pulse(9, BUDGET * 2)), None);
        assert_eq!(message(starved()), Some(format!("the runtime was starved\n{}", starved())));
        assert_eq!(message(uncovered()), Some(format!("the watch proves nothing\n{}", uncovered())));
    }

    #[test]
    fn the_worst_stall_is_the_one_charged_most_of_those_without_a_doubt() {
        let charged = |doubt, times| Stall { blocked: Some(BUDGET * times), ..stall(doubt) };
        let worst = |stalls: Vec<Stall>| Pulse { stalls, ..pulse(9, BUDGET) }.worst().map(Stall::charged);
        assert_eq!(worst(Vec::new()), None);
        let doubted = [charged(Some(Why::Memory), 4), charged(Some(Why::Memory), 5)];
        assert_eq!(worst(doubted.to_vec()), Some(BUDGET * 5));
        let certain = [charged(None, 2), charged(None, 3), charged(None, 2)];
        assert_eq!(worst([&doubted[..], &certain].concat()), Some(BUDGET * 3));
    }

    #[test]
    fn a_report_says_what_there_is_to_say_and_no_more() {
        let waited = |longest| Some(PoolPulse { longest, ..PoolPulse::default() });
        let took = |took| Some(RuntimeShutdown { took, over: true, cut_short: false, behind: None });
        let doubted = Pulse { stalls: vec![stall(Some(Why::Memory))], ..pulse(9, BUDGET * 2) };
        let mut late = Lateness::default();
        late.record(BUDGET, BUDGET);
        let (base, below) = (pulse(9, BUDGET * 2), BUDGET - Duration::from_nanos(1));
        let all = ["reason", "longest", "stall", "lateness", "queue delay", "pool", "shutdown", "doubt", "to do"];
        for (pulse, says) in [
            (base.clone(), vec!["longest"]),
            (uncovered(), vec!["reason", "longest"]),
            (starved(), vec!["stall", "to do"]),
            (doubted, vec!["stall", "doubt"]),
            (Pulse { lateness: late, ..base.clone() }, vec!["longest", "lateness"]),
            (Pulse { queue_delay: BUDGET, ..base.clone() }, vec!["longest", "queue delay"]),
            (Pulse { queue_delay: below, ..base.clone() }, vec!["longest"]),
            (Pulse { blocking_pool: waited(BUDGET), ..base.clone() }, vec!["longest", "pool"]),
            (Pulse { blocking_pool: waited(below), ..base.clone() }, vec!["longest"]),
            (Pulse { shutdown: took(BUDGET), ..base.clone() }, vec!["longest", "shutdown"]),
            (Pulse { shutdown: took(below), ..base }, vec!["longest"]),
        ] {
            let report = pulse.to_string();
            let said: Vec<_> = all.into_iter().filter(|head| report.contains(&format!("\n  {head} "))).collect();
            assert_eq!(said, says, "\n{report}");
        }
        let report = starved().to_string();
        assert!(report.contains("of wall time") && report.contains("100.0 ms"), "{report}");
    }

    #[test]
    fn a_stall_outranks_what_was_not_covered_and_a_doubt_does_not_outrank_a_stall() {
        let uncovered = uncovered();
        assert_eq!(uncovered.verdict(), Verdict::Inconclusive { why: Why::MultiThread });
        let doubted = Pulse { stalls: vec![stall(Some(Why::Memory))], ..uncovered.clone() };
        assert_eq!(doubted.verdict(), Verdict::Inconclusive { why: Why::Memory });
        let starved = Pulse { stalls: vec![stall(Some(Why::Memory)), stall(None)], ..uncovered };
        assert_eq!(starved.verdict(), Verdict::Starved);
    }
}
