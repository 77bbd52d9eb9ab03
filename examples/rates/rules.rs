//! What others would have said: a ticker task, and the four rules on what it saw.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::ThreadId;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::bad::cpu;

const INTERVAL: Duration = Duration::from_millis(5);

/// Whether each rule raised an alarm.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Rules {
    pub(crate) wall: bool,
    pub(crate) cpu: bool,
    pub(crate) wall_minus_control: bool,
    pub(crate) mostly_cpu: bool,
}

/// One tick: when, on which thread, at what CPU time.
type Tick = (Instant, ThreadId, Duration);

#[derive(Clone, Default)]
pub(crate) struct Ticker(Arc<Inner>);

#[derive(Default)]
struct Inner {
    over: AtomicBool,
    ticks: Mutex<Vec<Tick>>,
    /// When the control thread ticked.
    control: Mutex<Vec<Instant>>,
}

pub(crate) struct Ticking {
    ticker: Ticker,
    task: JoinHandle<()>,
    control: std::thread::JoinHandle<()>,
}

impl Ticker {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    fn tick(&self) {
        let tick = (Instant::now(), std::thread::current().id(), cpu());
        self.0.ticks.lock().expect("no panic").push(tick);
    }

    /// Ticks in a task of the current runtime and on a thread outside it.
    pub(crate) fn start(self) -> Ticking {
        self.tick();
        let (inside, outside) = (self.clone(), self.clone());
        let task = tokio::spawn(async move {
            loop {
                inside.tick();
                tokio::time::sleep(INTERVAL).await;
            }
        });
        let measures = move || {
            while !outside.0.over.load(Ordering::Relaxed) {
                outside.0.control.lock().expect("no panic").push(Instant::now());
                std::thread::park_timeout(INTERVAL);
            }
        };
        // Named as one that runs no code under test, for no worker waits for it.
        let control =
            std::thread::Builder::new().name("deadbeat-control".to_owned()).spawn(measures).expect("a thread");
        Ticking { ticker: self, task, control }
    }

    pub(crate) fn rules(&self, budget: Duration) -> Rules {
        let ticks = self.0.ticks.lock().expect("no panic");
        let control = self.0.control.lock().expect("no panic");
        let mut rules = Rules::default();
        for pair in ticks.windows(2) {
            let [(from, one, before), (to, two, after)] = pair else {
                continue;
            };
            let gap = *to - *from;
            let on_cpu = if one == two { after.saturating_sub(*before) } else { Duration::ZERO };
            let late = gap.saturating_sub(INTERVAL);
            rules.wall |= late > budget;
            rules.cpu |= on_cpu > budget;
            rules.wall_minus_control |= late.saturating_sub(control_late(&control, *from, *to)) > budget;
            rules.mostly_cpu |= late > budget && on_cpu >= gap * 4 / 5;
        }
        rules
    }
}

/// How late the control was at worst between `from` and `to`.
fn control_late(control: &[Instant], from: Instant, to: Instant) -> Duration {
    let overlapping = control.windows(2).filter(|pair| pair[1] > from && pair[0] < to);
    let late = overlapping.map(|pair| (pair[1] - pair[0]).saturating_sub(INTERVAL));
    late.max().unwrap_or_default()
}

impl Ticking {
    pub(crate) async fn stop(self) {
        // A ticker that is woken at last still gets its tick.
        tokio::task::yield_now().await;
        self.ticker.tick();
        self.ticker.0.over.store(true, Ordering::Relaxed);
        self.task.abort();
        self.control.thread().unpark();
        drop(tokio::task::spawn_blocking(|| drop(self.control.join())).await);
    }
}
