//! How dropping a runtime went: it waits for every closure that `spawn_blocking` has begun, for as long as that takes.

use std::fmt;
use std::time::{Duration, Instant};

use super::bench::Bench;
use crate::heartbeat::culprit::{Culprit, Sample, Suspect, credible, majority};
use crate::heartbeat::pulse::Ms;
use crate::heartbeat::reading::ThreadId;
use crate::heartbeat::reading::thread::Clocks;

/// How dropping the runtime went.
#[derive(Debug, Clone)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Shutdown {
    /// How long it took, by the clock on the wall; if it was not over at the deadline, how long it had taken then.
    #[cfg_attr(feature = "serde", serde(rename = "took_ms", with = "crate::millis"))]
    pub took: Duration,
    /// Whether it was over.
    pub over: bool,
    /// Whether the future under watch was dropped half way before, since it was not over at the deadline.
    pub cut_short: bool,
    /// What the threads it waited for were in, if there was time to look.
    pub behind: Option<Culprit>,
}

/// So many looks at most are counted, and they are spread evenly over the whole time: the first milliseconds, in which a
/// thread may still wait for a CPU, weigh no more than any others.
const LOOKS: usize = 16;

impl fmt::Display for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let over = if self.over { "" } else { " and was not over" };
        write!(f, "shutdown     took {}{over}", Ms(self.took))?;
        match &self.behind {
            Some(behind) => write!(f, ", behind a thread {behind}"),
            None => Ok(()),
        }
    }
}

/// Waits for the end of a shutdown until `deadline` and looks meanwhile at the threads that it waits for, once at least.
pub(super) fn follow(bench: &Bench, deadline: Instant, mut over: impl FnMut(Instant) -> Option<Duration>) -> Shutdown {
    let begun = Instant::now();
    let mut pause = Duration::from_millis(1);
    let mut looks = Vec::new();
    loop {
        let took = over((Instant::now() + pause).min(deadline));
        if took.is_none() {
            let living = bench.living_threads();
            looks.push(living.into_iter().filter_map(look).collect::<Vec<_>>());
        }
        if took.is_some() || Instant::now() >= deadline {
            let over = took.is_some();
            let took = took.unwrap_or_else(|| begun.elapsed());
            let behind = behind(looks).map(|suspect| suspect.culprit);
            return Shutdown { took, over, cut_short: false, behind };
        }
        if looks.len() == LOOKS {
            thin_out(&mut looks);
            pause *= 2;
        }
    }
}

/// What the threads were in most of the time; each by its own clocks.
fn behind(looks: Vec<Vec<Sample>>) -> Option<Suspect> {
    let mut samples: Vec<_> = looks.into_iter().flatten().collect();
    samples.sort_by_key(|sample| (sample.thread.0, sample.at));
    majority(samples.chunk_by(|one, next| one.thread == next.thread).flat_map(credible), None)
}

fn look(thread: ThreadId) -> Option<Sample> {
    let mut sample = Sample::of(thread, true)?;
    sample.account = Clocks::of(thread).and_then(|clocks| clocks.account());
    Some(sample)
}

/// Every second one goes. The last stays, so that the next comes when it would have come had there never been more.
fn thin_out<T>(looks: &mut Vec<T>) {
    let mut stays = false;
    looks.retain(|_| {
        stays = !stays;
        !stays
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::heartbeat::reading::thread::Account;
    use crate::heartbeat::{Flavor, Heartbeat};

    const MS: Duration = Duration::from_millis(1);

    /// A runtime that nobody has built, so it has no threads to look at.
    fn bench() -> Bench {
        Bench::new(Flavor::CurrentThread, Heartbeat::new())
    }

    #[test]
    fn a_shutdown_says_how_long_it_took_and_whether_it_was_over_and_behind_what() {
        let shutdown = Shutdown { took: MS * 7, over: true, cut_short: false, behind: None };
        assert_eq!(shutdown.to_string(), "shutdown     took 7.0 ms");
        let running = Culprit::running_by_the_clocks();
        let said = Shutdown { over: false, behind: Some(running.clone()), ..shutdown }.to_string();
        assert_eq!(said, format!("shutdown     took 7.0 ms and was not over, behind a thread {running}"));
    }

    #[test]
    fn a_shutdown_that_ends_before_the_deadline_is_over_and_took_as_long_as_it_says() {
        let far = Instant::now() + Duration::from_secs(3600);
        for looks in [0, 1, 3] {
            let mut answers = std::iter::repeat_n(None, looks).chain([Some(MS * 7)]);
            let shutdown = follow(&bench(), far, |_| answers.next().expect("it was over"));
            assert!(shutdown.over && !shutdown.cut_short && answers.next().is_none(), "{looks}: {shutdown}");
            assert_eq!(shutdown.took, MS * 7);
        }
    }

    #[test]
    fn a_shutdown_that_is_not_over_at_the_deadline_is_asked_for_once_all_the_same() {
        let now = Instant::now();
        let mut asked = 0;
        let shutdown = follow(&bench(), now, |until| {
            assert_eq!(until, now);
            asked += 1;
            None
        });
        assert!(!shutdown.over && asked == 1, "{shutdown}, asked {asked} times");
    }

    /// One thread waits for a CPU all the time, and looks as if it ran; the other sleeps.
    #[test]
    fn a_threads_looks_are_held_to_its_own_clocks() {
        let start = Instant::now();
        let account = Account { on_cpu: MS, run_queue: Duration::ZERO, turns: 7 };
        let ready = |at| {
            let mut ready = Sample::running(ThreadId(1), start + MS * at);
            ready.account = Some(account);
            ready
        };
        let asleep = |at| Sample::asleep(ThreadId(2), start + MS * at, account);
        let looks = vec![vec![ready(0), asleep(0)], vec![ready(150)], vec![ready(300), asleep(300)]];
        let culprit = behind(looks).unwrap().culprit;
        assert!(!culprit.is_running() && (culprit.samples, culprit.of) == (2, 2), "{culprit}");
    }

    #[test]
    fn looks_that_are_thinned_out_are_as_even_as_before_and_end_with_the_last() {
        let mut looks: Vec<_> = (1..=6).collect();
        thin_out(&mut looks);
        assert_eq!(looks, [2, 4, 6]);
        thin_out(&mut looks);
        assert_eq!(looks, [4]);
    }

    /// A long shutdown is not looked at all day.
    #[test]
    fn a_shutdown_is_looked_at_ever_more_rarely() {
        let mut asked = Instant::now();
        let far = asked + Duration::from_secs(3600);
        let (few, half) = (LOOKS, LOOKS / 2);
        let mut waits =
            [(1, few), (2, half), (4, half), (8, 2)].into_iter().flat_map(|(wait, n)| std::iter::repeat_n(wait, n));
        follow(&bench(), far, |until| {
            let wait = waits.next();
            assert!(wait.is_none_or(|wait| until >= asked + MS * wait), "{wait:?} ms");
            asked = Instant::now();
            wait.is_none().then_some(Duration::ZERO)
        });
    }
}
