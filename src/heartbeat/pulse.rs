//! What a watch saw: the verdict follows from these fields and from nothing else.

use std::fmt;
use std::time::{Duration, Instant};

use super::Heartbeat;
use super::culprit::Culprit;
use super::histogram::Lateness;
use super::lab::Shutdown;
use super::pool::PoolPulse;
use super::rhythm::Rhythm;
use super::stall::Stall;
use super::verdict::{Verdict, Why};

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
    pub rhythm: Rhythm,
    /// How late the beats were, by the clock on the wall.
    pub lateness: Lateness,
    /// How long trivial `spawn_blocking` closures waited for a thread; `None` if that was not asked for.
    pub blocking_pool: Option<PoolPulse>,
    /// How dropping the runtime went; a [`Lab`](super::Lab) knows.
    pub shutdown: Option<Shutdown>,
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

    pub(super) fn empty(config: Heartbeat, began: Instant) -> Self {
        Self {
            beats: 0,
            stalls: Vec::new(),
            longest: Duration::ZERO,
            queue_delay: Duration::ZERO,
            watched: began.elapsed(),
            budget: config.budget,
            interval: config.interval,
            rhythm: Rhythm::new(config.interval),
            lateness: Lateness::default(),
            blocking_pool: None,
            shutdown: None,
            uncovered: None,
        }
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

impl fmt::Display for Pulse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict() {
            Verdict::Steady => "steady",
            Verdict::Starved => "starved",
            Verdict::Inconclusive { .. } => "inconclusive",
        };
        let (watched, interval) = (Ms(self.watched), Ms(self.interval));
        let beats = if self.beats == 1 { "1 beat".to_owned() } else { format!("{} beats", self.beats) };
        writeln!(f, "  verdict      {verdict}: {beats} in {watched}, one every {interval}")?;
        let doubt = self.worst().and_then(|stall| stall.doubt.as_ref());
        match self.verdict() {
            Verdict::Inconclusive { why } if doubt != Some(&why) => writeln!(f, "  reason       {why}")?,
            _ => {}
        }
        writeln!(f, "  budget       {}", Ms(self.budget))?;
        match self.worst() {
            Some(stall) => {
                let more = match self.stalls.len() {
                    1 => String::new(),
                    all => format!(", the worst of {all}"),
                };
                writeln!(f, "  stall        {} charged, at {}{more}", Ms(stall.charged()), Ms(stall.at))?;
                write!(f, "{stall}")?;
            }
            None => writeln!(f, "  longest      {} between returns to the scheduler", Ms(self.longest))?,
        }
        if !self.lateness.is_empty() {
            writeln!(f, "  lateness     {}", self.lateness)?;
        }
        if self.queue_delay >= self.budget {
            writeln!(f, "  queue delay  {} behind other tasks, not charged", Ms(self.queue_delay))?;
        }
        if let Some(pool) = self.blocking_pool.as_ref().filter(|pool| pool.longest >= self.budget) {
            writeln!(f, "  {pool}")?;
        }
        if let Some(shutdown) = self.shutdown.as_ref().filter(|shutdown| shutdown.took >= self.budget) {
            writeln!(f, "  {shutdown}")?;
        }
        if self.verdict() == Verdict::Starved {
            f.write_str(
                "  to do        move a blocking call into `tokio::task::spawn_blocking` or await\n               an async equivalent; break up a long computation with\n               `tokio::task::yield_now`\n",
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for Stall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = |part: Option<Duration>| part.map_or_else(|| "unknown".to_owned(), |part| Ms(part).to_string());
        let (wall, on_cpu) = (Ms(self.wall), Ms(self.on_cpu));
        writeln!(f, "               {wall} of wall time: {on_cpu} on a CPU, {} blocked,", known(self.blocked))?;
        writeln!(f, "               {} waiting for a CPU (not charged)", known(self.run_queue))?;
        match &self.culprit {
            Some(culprit) => writeln!(f, "  culprit      {culprit}")?,
            None => writeln!(f, "  culprit      not seen: it was over before anyone could look")?,
        }
        match &self.doubt {
            Some(doubt) => writeln!(f, "  doubt        {doubt}"),
            None => Ok(()),
        }
    }
}

/// Milliseconds, one decimal.
pub(super) struct Ms(pub(super) Duration);

impl fmt::Display for Ms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} ms", self.0.as_secs_f64() * 1e3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BUDGET: Duration = Duration::from_millis(50);

    fn pulse(beats: u64, watched: Duration) -> Pulse {
        Pulse { beats, watched, ..Pulse::empty(Heartbeat::new().budget(BUDGET), Instant::now()) }
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
        let took = |took| Some(Shutdown { took, over: true, cut_short: false, behind: None });
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
