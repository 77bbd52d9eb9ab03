//! One trial: a kind, a place, a runtime, and what each rule says of it.

use std::fmt;
use std::time::Duration;

use deadbeat::heartbeat::{Flavor, Heartbeat, Lab, Pulse, Verdict, Watched};
use tokio::time::sleep;

use crate::bad::{self, Bad};
use crate::good::{self, Good};
use crate::rules::{Rules, Ticker};

/// In milliseconds; a shorter block is no stall, and not to be seen.
pub(crate) const SWEEP_BUDGET: u64 = 10;

#[derive(Clone, Copy)]
pub(crate) enum Kind {
    Bad(&'static Bad, Place),
    Good(&'static Good),
}

/// Where in the code under watch the block is.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Place {
    /// In the first poll, and nothing else ever happens: no beat falls into the watch.
    Alone,
    /// Between two awaits.
    Between,
    /// In a task that the watched future does not wait for in time.
    Sibling,
    /// In one branch of a select, beside others.
    Branch,
    /// While something is dropped.
    Drop,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Runtime {
    /// `Heartbeat::watch` in a current_thread runtime like that of `#[tokio::test]`.
    Watch,
    /// `Heartbeat::watch` in a task of a runtime with two workers. Never steady, so it has no part in the rates.
    WatchTask,
    Lab(Flavor),
}

#[derive(Clone, Copy)]
pub(crate) struct Trial {
    pub(crate) kind: Kind,
    pub(crate) runtime: Runtime,
    pub(crate) block: Duration,
    budget: Duration,
}

pub(crate) struct Outcome {
    steady: bool,
    starved: bool,
    pub(crate) rules: Rules,
    pub(crate) right_class: bool,
    pub(crate) right_culprit: bool,
    report: String,
}

/// Before the line that tells an outcome.
const TELLS: &str = "outcome ";

/// xorshift64*, good enough to deal kinds and places.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % sides
    }
}

const RUNTIMES: [Runtime; 4] = [
    Runtime::Watch,
    Runtime::Lab(Flavor::CurrentThread),
    Runtime::Lab(Flavor::MultiThread(2)),
    Runtime::Lab(Flavor::MultiThread(4)),
];
const PLACES: [Place; 5] = [Place::Alone, Place::Between, Place::Sibling, Place::Branch, Place::Drop];

/// So many bad trials and as many good ones, spread evenly over the kinds. `in_tasks`: every fourth of them in a task.
pub(crate) fn mixed(trials: usize, seed: u64, only: Option<&str>, in_tasks: bool) -> Vec<Trial> {
    let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let block = Duration::from_millis(120);
    let budget = Duration::from_millis(50);
    let wanted = |name: &str| only.is_none_or(|only| only == name);
    let bads: Vec<_> = bad::ALL.iter().filter(|bad| wanted(bad.name)).collect();
    let goods: Vec<_> = good::ALL.iter().filter(|good| wanted(good.name)).collect();
    let mut all = Vec::new();
    for nth in 0..trials {
        if let Some(bad) = bads.get(nth % bads.len().max(1)) {
            let (kind, runtime) = (Kind::Bad(bad, PLACES[dice.roll(PLACES.len())]), RUNTIMES[dice.roll(4)]);
            all.push(Trial { kind, runtime, block, budget });
        }
        if let Some(good) = goods.get(nth % goods.len().max(1)) {
            let runtime = RUNTIMES[if good.multi_thread_only { 2 + dice.roll(2) } else { dice.roll(4) }];
            all.push(Trial { kind: Kind::Good(good), runtime, block, budget });
        }
    }
    if in_tasks {
        all.chunks_mut(2).step_by(4).flatten().for_each(|trial| trial.runtime = Runtime::WatchTask);
    }
    all
}

/// Blocks of one length, which none but the blocked thread itself ends: on a busy machine another thread comes late.
pub(crate) fn sweep(trials: usize, block: Duration, seed: u64) -> Vec<Trial> {
    let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let kinds = ["sleep", "spin", "park", "poll", "hashing", "epoll by hand"];
    let kinds: Vec<_> = bad::ALL.iter().filter(|bad| kinds.contains(&bad.name)).collect();
    let budget = Duration::from_millis(SWEEP_BUDGET);
    let trial = |nth| {
        let kind = Kind::Bad(kinds[nth % kinds.len()], PLACES[dice.roll(PLACES.len())]);
        Trial { kind, runtime: RUNTIMES[dice.roll(4)], block, budget }
    };
    (0..trials).map(trial).collect()
}

impl Trial {
    pub(crate) fn run(&self) -> Outcome {
        let heartbeat = Heartbeat::new().budget(self.budget);
        let ticker = Ticker::new();
        let (theirs, this) = (ticker.clone(), *self);
        let watched: Result<Watched<()>, String> = match self.runtime {
            Runtime::Watch => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
                Ok(runtime.expect("a runtime").block_on(heartbeat.watch(async move {
                    let ticking = theirs.start();
                    this.act().await;
                    ticking.stop().await;
                })))
            }
            Runtime::WatchTask => {
                let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
                let watched = heartbeat.watch(async move {
                    let ticking = theirs.start();
                    this.act().await;
                    ticking.stop().await;
                });
                let runtime = runtime.expect("a runtime");
                Ok(runtime.block_on(async { tokio::spawn(watched).await.expect("no panic") }))
            }
            Runtime::Lab(flavor) => {
                let lab = Lab::new(flavor).heartbeat(heartbeat).deadline(Duration::from_secs(120));
                let watched = lab.run_root(move || async move {
                    let ticking = theirs.start();
                    tokio::spawn(async move { this.act().await }).await.expect("no panic");
                    ticking.stop().await;
                });
                watched.map_err(|error| error.to_string())
            }
        };
        match watched {
            Ok(watched) => self.outcome(&watched.pulse, ticker.rules(self.budget)),
            Err(error) => panic!("{self}: {error}"),
        }
    }

    async fn act(self) {
        let block = self.block;
        match self.kind {
            Kind::Good(good) => (good.run)(block).await,
            Kind::Bad(bad, Place::Alone) => (bad.block)(block),
            Kind::Bad(bad, Place::Between) => {
                sleep(Duration::from_millis(13)).await;
                (bad.block)(block);
                sleep(Duration::from_millis(7)).await;
            }
            Kind::Bad(bad, Place::Sibling) => {
                let sibling = tokio::spawn(async move { (bad.block)(block) });
                sleep(Duration::from_millis(3)).await;
                sibling.await.expect("no panic");
            }
            Kind::Bad(bad, Place::Branch) => {
                let blocks = async {
                    sleep(Duration::from_millis(4)).await;
                    (bad.block)(block);
                };
                tokio::select! {
                    () = blocks => {}
                    () = sleep(Duration::from_secs(3600)) => {}
                }
            }
            Kind::Bad(bad, Place::Drop) => {
                struct Slow(&'static Bad, Duration);
                impl Drop for Slow {
                    fn drop(&mut self) {
                        (self.0.block)(self.1);
                    }
                }
                let slow = Slow(bad, block);
                sleep(Duration::from_millis(1)).await;
                drop(slow);
            }
        }
    }

    fn outcome(&self, pulse: &Pulse, rules: Rules) -> Outcome {
        let culprit = pulse.worst().and_then(|stall| stall.culprit.as_ref());
        let calls = if let Kind::Bad(bad, _) = self.kind { bad.calls } else { &[] };
        let verdict = pulse.verdict();
        Outcome {
            steady: verdict == Verdict::Steady,
            starved: verdict == Verdict::Starved,
            rules,
            right_class: culprit.is_some_and(|culprit| culprit.is_running() == calls.is_empty()),
            right_culprit: culprit.is_some_and(|culprit| match &culprit.syscall {
                Some(syscall) => calls.contains(&syscall.as_str()),
                None => calls.is_empty(),
            }),
            report: format!("{verdict}\n{pulse}"),
        }
    }

    /// Whether only one verdict is right: a block near the budget may be judged either way.
    pub(crate) fn is_clear(&self) -> bool {
        !self.is_bad() || self.block >= self.budget * 2
    }

    /// Whether a doubt is as right as the verdict.
    fn may_be_doubted(&self) -> bool {
        match self.kind {
            Kind::Bad(bad, _) => bad.may_be_doubted(),
            Kind::Good(good) => good.may_be_doubted(),
        }
    }

    pub(crate) fn is_bad(&self) -> bool {
        matches!(self.kind, Kind::Bad(..))
    }
}

impl Outcome {
    pub(crate) fn is_wrong(&self, trial: &Trial) -> bool {
        if trial.is_bad() { self.steady } else { self.starved }
    }

    pub(crate) fn is_inconclusive(&self) -> bool {
        !self.steady && !self.starved
    }

    /// As one process tells it to another: a line of ones and zeros, and the report.
    pub(crate) fn told(&self) -> String {
        let Rules { wall, cpu, wall_minus_control, mostly_cpu } = self.rules;
        let all = [
            self.steady,
            self.starved,
            wall,
            cpu,
            wall_minus_control,
            mostly_cpu,
            self.right_class,
            self.right_culprit,
        ];
        let digits: String = all.map(|one| if one { '1' } else { '0' }).iter().collect();
        format!("{TELLS}{digits}\n{}", self.report)
    }

    pub(crate) fn heard(told: &str) -> Option<Self> {
        let (digits, report) = told.split_once(TELLS)?.1.split_once('\n')?;
        let mut all = digits.chars().map(|digit| digit == '1');
        let mut next = || all.next();
        Some(Self {
            steady: next()?,
            starved: next()?,
            rules: Rules { wall: next()?, cpu: next()?, wall_minus_control: next()?, mostly_cpu: next()? },
            right_class: next()?,
            right_culprit: next()?,
            report: report.to_owned(),
        })
    }

    /// Inconclusive where a verdict could be had.
    pub(crate) fn is_unsure(&self, trial: &Trial) -> bool {
        self.is_inconclusive() && !trial.may_be_doubted()
    }
}

impl fmt::Display for Trial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (runtime, block) = (self.runtime, self.block);
        match self.kind {
            Kind::Bad(bad, place) => write!(f, "bad {:?} {place:?} for {block:?} in {runtime:?}", bad.name),
            Kind::Good(good) => write!(f, "good {:?} in {runtime:?}", good.name),
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.report)
    }
}
