//! How a pulse reads on a terminal.

use std::fmt;

use crate::heartbeat::ms::InMs;
use crate::heartbeat::pulse::{PoolPulse, Pulse, RuntimeShutdown};
use crate::heartbeat::verdict::Verdict;

impl fmt::Display for Pulse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verdict = match self.verdict() {
            Verdict::Steady => "steady",
            Verdict::Starved => "starved",
            Verdict::Inconclusive { .. } => "inconclusive",
        };
        let (watched, interval) = (InMs(self.watched), InMs(self.interval));
        let beats = if self.beats == 1 { "1 beat".to_owned() } else { format!("{} beats", self.beats) };
        writeln!(f, "  verdict      {verdict}: {beats} in {watched}, one every {interval}")?;
        let doubt = self.worst().and_then(|stall| stall.doubt.as_ref());
        match self.verdict() {
            Verdict::Inconclusive { why } if doubt != Some(&why) => writeln!(f, "  reason       {why}")?,
            _ => {}
        }
        writeln!(f, "  budget       {}", InMs(self.budget))?;
        match self.worst() {
            Some(stall) => {
                let more = match self.stalls.len() {
                    1 => String::new(),
                    all => format!(", the worst of {all}"),
                };
                writeln!(f, "  stall        {} charged, at {}{more}", InMs(stall.charged()), InMs(stall.at))?;
                write!(f, "{stall}")?;
            }
            None => writeln!(f, "  longest      {} between returns to the scheduler", InMs(self.longest))?,
        }
        if !self.lateness.is_empty() {
            writeln!(f, "  lateness     {}", self.lateness)?;
        }
        if self.queue_delay >= self.budget {
            writeln!(f, "  queue delay  {} behind other tasks, not charged", InMs(self.queue_delay))?;
        }
        if let Some(pool) = self.blocking_pool.as_ref().filter(|pool| pool.longest >= self.budget) {
            writeln!(f, "  {pool}")?;
        }
        if let Some(shutdown) = self.shutdown.as_ref().filter(|shutdown| shutdown.took >= self.budget) {
            writeln!(f, "  {shutdown}")?;
        }
        if self.verdict() == Verdict::Starved {
            f.write_str(
                "  to do        move a blocking call into `tokio::task::spawn_blocking` or await\n               an \
                async equivalent; break up a long computation with\n               `tokio::task::yield_now`\n",
            )?;
        }
        Ok(())
    }
}

impl fmt::Display for PoolPulse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.refused {
            return f.write_str("pool         spawn_blocking could not start a thread");
        }
        let until = if self.pending { "and was still waiting" } else { "for a thread" };
        write!(f, "pool         a trivial spawn_blocking waited {} {until}", InMs(self.longest))
    }
}

impl fmt::Display for RuntimeShutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let over = if self.over { "" } else { " and was not over" };
        write!(f, "shutdown     took {}{over}", InMs(self.took))?;
        match &self.behind {
            Some(behind) => write!(f, ", behind a thread {behind}"),
            None => Ok(()),
        }
    }
}
