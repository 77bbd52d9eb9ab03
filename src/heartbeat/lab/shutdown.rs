//! How dropping a runtime went: it waits for every closure that `spawn_blocking` has begun, for as long as that takes.

use std::time::{Duration, Instant};

use crate::heartbeat::culprit::Culprit;
use crate::heartbeat::lab::runtime::WatchedRuntime;
use crate::heartbeat::observer::sample::Sample;
use crate::heartbeat::observer::summary::{credible, majority};
use crate::heartbeat::pulse::RuntimeShutdown;
use crate::heartbeat::reading::thread::{Account, Clocks, ThreadId};

/// So many looks at most are counted, and they are spread evenly over the whole time: the first milliseconds, in which
/// a thread may still wait for a CPU, weigh no more than any others.
const LOOKS: usize = 16;

/// So much time a shutdown is given that waits for nothing but CPUs, and its threads must have had none for `NO_CPU`.
const FOR_THE_MACHINE: Duration = Duration::from_millis(400);
const NO_CPU: Duration = Duration::from_millis(200);

/// How the wait for a shutdown ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ShutdownEnd {
    Over,
    /// The deadline passed.
    Late,
    /// The machine has no CPU for the threads that are to end.
    NoCpu,
}

/// Waits for the end of a shutdown until `deadline`, or until the machine alone is in its way, and looks meanwhile at
/// the threads that it waits for, once at least.
pub(crate) fn follow(
    runtime: &WatchedRuntime,
    deadline: Instant,
    mut over: impl FnMut(Instant) -> Option<Duration>,
) -> (RuntimeShutdown, ShutdownEnd) {
    let begun = Instant::now();
    let mut pause = Duration::from_millis(1);
    let (mut looks, mut waiting) = (Vec::new(), WithoutCpu::default());
    loop {
        let took = over((Instant::now() + pause).min(deadline));
        if took.is_none() {
            let seen = runtime.living_threads().into_iter().filter_map(look).collect::<Vec<_>>();
            waiting.look(&seen, runtime.root().and_then(look));
            looks.push(seen);
        }
        let end = if took.is_some() {
            ShutdownEnd::Over
        } else if Instant::now() >= deadline {
            ShutdownEnd::Late
        } else if begun.elapsed() >= FOR_THE_MACHINE && waiting.time() >= NO_CPU {
            ShutdownEnd::NoCpu
        } else {
            if looks.len() == LOOKS {
                thin_out(&mut looks);
                pause *= 2;
            }
            continue;
        };
        let took = took.unwrap_or_else(|| begun.elapsed());
        let behind = behind(looks);
        return (RuntimeShutdown { took, over: end == ShutdownEnd::Over, cut_short: false, behind }, end);
    }
}

/// For how long each of the threads that are to end has been ready to run and was given no CPU.
#[derive(Debug, Default)]
struct WithoutCpu {
    accounts: Vec<(ThreadId, Account)>,
    since: Option<Instant>,
    until: Option<Instant>,
}

impl WithoutCpu {
    /// `threads`: those of the runtime. Once there is none, `root` is the one that drops what is left; while there are,
    /// it waits for them.
    fn look(&mut self, threads: &[Sample], root: Option<Sample>) {
        let all = if threads.is_empty() { root.as_slice() } else { threads };
        let account = |sample: &Sample| Some((sample.thread, sample.account.filter(|_| sample.is_running())?));
        let accounts: Vec<_> = all.iter().filter_map(account).collect();
        let at = all.iter().map(|sample| sample.at).min();
        let (same, all_wait) = (accounts == self.accounts, !all.is_empty() && accounts.len() == all.len());
        self.since = if same && all_wait { self.since.or(at) } else { at.filter(|_| all_wait) };
        (self.accounts, self.until) = (accounts, at);
    }

    fn time(&self) -> Duration {
        self.since.zip(self.until).map_or(Duration::ZERO, |(since, until)| until.saturating_duration_since(since))
    }
}

/// What the threads were in most of the time; each by its own clocks.
fn behind(looks: Vec<Vec<Sample>>) -> Option<Culprit> {
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
    use crate::heartbeat::config::{Flavor, Heartbeat};

    const MS: Duration = Duration::from_millis(1);

    /// A runtime that is not built, so it has no threads to look at.
    fn runtime() -> WatchedRuntime {
        WatchedRuntime::new(Flavor::CurrentThread, Heartbeat::new())
    }

    #[test]
    fn a_shutdown_says_how_long_it_took_and_whether_it_was_over_and_behind_what() {
        let shutdown = RuntimeShutdown { took: MS * 7, over: true, cut_short: false, behind: None };
        assert_eq!(shutdown.to_string(), "shutdown     took 7.0 ms");
        let running = Culprit::running_by_the_clocks();
        let said = RuntimeShutdown { over: false, behind: Some(running.clone()), ..shutdown }.to_string();
        assert_eq!(said, format!("shutdown     took 7.0 ms and was not over, behind a thread {running}"));
    }

    #[test]
    fn a_shutdown_that_ends_before_the_deadline_is_over_and_took_as_long_as_it_says() {
        let far = Instant::now() + Duration::from_secs(3600);
        for looks in [0, 1, 3] {
            let mut answers = std::iter::repeat_n(None, looks).chain([Some(MS * 7)]);
            let (shutdown, end) = follow(&runtime(), far, |_| answers.next().expect("it was over"));
            assert_eq!(end, ShutdownEnd::Over);
            assert!(shutdown.over && !shutdown.cut_short && answers.next().is_none(), "{looks}: {shutdown}");
            assert_eq!(shutdown.took, MS * 7);
        }
    }

    #[test]
    fn a_shutdown_that_is_not_over_at_the_deadline_is_asked_for_once_all_the_same() {
        let now = Instant::now();
        let mut asked = 0;
        let (shutdown, end) = follow(&runtime(), now, |until| {
            assert_eq!(until, now);
            asked += 1;
            None
        });
        assert!(!shutdown.over && end == ShutdownEnd::Late && asked == 1, "{shutdown}, asked {asked} times");
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
        let culprit = behind(looks).unwrap();
        assert!(!culprit.is_running() && (culprit.samples, culprit.of) == (2, 2), "{culprit}");
    }

    /// Computing or waiting for a CPU looks alike; its account tells.
    #[test]
    fn threads_that_get_no_cpu_are_told_from_those_that_compute_sleep_or_have_ended() {
        let start = Instant::now();
        let sample = |thread: u32, at: u32, on_cpu: u32, asleep: bool| {
            let account = Account { on_cpu: MS * on_cpu, run_queue: Duration::ZERO, turns: u64::from(on_cpu) };
            let (thread, at) = (ThreadId(thread), start + MS * at);
            let mut sample = if asleep { Sample::asleep(thread, at, account) } else { Sample::running(thread, at) };
            sample.account = Some(account);
            sample
        };
        // At each look, of two threads: how long it has been on a CPU, and whether it is asleep.
        let waited = |looks: &[[(u32, bool); 2]]| {
            let mut waiting = WithoutCpu::default();
            for (at, look) in (0..).step_by(50).zip(looks) {
                let threads =
                    [1, 2].map(|thread| sample(thread, at, look[thread as usize - 1].0, look[thread as usize - 1].1));
                waiting.look(&threads, Some(sample(3, at, 0, true)));
            }
            waiting.time().as_millis()
        };
        let ready = (7, false);
        assert_eq!(waited(&[[ready, ready]; 4]), 150);
        assert_eq!(
            waited(&[[ready, ready], [ready, ready], [ready, (8, false)], [ready, (8, false)]]),
            50,
            "it had one"
        );
        assert_eq!(waited(&[[ready, (7, true)]; 4]), 0, "it sleeps in code of its own");
        assert_eq!(waited(&[[ready, ready], [ready, ready], [ready, (7, true)]]), 0);
        for (asleep, expected) in [(false, 100), (true, 0)] {
            let mut waiting = WithoutCpu::default();
            [0, 100].into_iter().for_each(|at| waiting.look(&[], Some(sample(3, at, 7, asleep))));
            assert_eq!(waiting.time().as_millis(), expected, "only the lab's own thread is left");
        }
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
        follow(&runtime(), far, |until| {
            let wait = waits.next();
            assert!(wait.is_none_or(|wait| until >= asked + MS * wait), "{wait:?} ms");
            asked = Instant::now();
            wait.is_none().then_some(Duration::ZERO)
        });
    }
}
