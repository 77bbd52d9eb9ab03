//! How often the heartbeat is right, measured: known-bad and known-good futures, quiet and under load, beside the rules
//! that others use on the same trials.
//!
//! `cargo run --release --example rates -- [--trials 300] [--loads 0,4,16] [--sweep 400] [--jobs 4] [--seed 1]
//! [--record FILE]`; the last needs `--cfg deadbeat_record` in RUSTFLAGS.

mod bad;
mod good;
mod hogs;
mod process;
mod record;
mod rules;
mod table;
mod tracer;
mod trial;

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hogs::Hogs;
use table::Tally;
use trial::{Outcome, Trial};

#[derive(Clone)]
struct Options {
    trials: usize,
    loads: Vec<usize>,
    sweep: usize,
    jobs: usize,
    seed: u64,
    kind: Option<String>,
    record: Option<String>,
    verbose: bool,
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.first().is_some_and(|arg| arg == "--hog") {
        hogs::be_one();
    }
    if args.first().is_some_and(|arg| arg == "--tracer") {
        tracer::be_one(&args[1..]);
    }
    let options = options(&args);
    if let Some((block, nth)) = process::asked_for(&args) {
        return println!("{}", options.trials(block)[nth].run().told());
    }
    options.record.iter().for_each(|path| record::start(path));
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let begun = Instant::now();
    println!(
        "budget 50 ms, block 120 ms, beat every 5 ms; \
         {} blocking trials of {} kinds and as many good ones of {} a load\n",
        options.trials,
        bad::ALL.len(),
        good::ALL.len()
    );
    table::head();
    for &load in &options.loads {
        let _hogs = Hogs::start(load * cores);
        let tally = run(&args, None, &options, load);
        table::row(load, &tally);
    }
    if options.sweep > 0 {
        println!("\nbudget 10 ms, beat every 5 ms; blocks seen of {} each\n", options.sweep);
        table::sweep_head();
        let loaded = options.loads.iter().copied().max().unwrap_or(0);
        let mut smallest = Vec::new();
        for load in [0, loaded.min(4)] {
            let _hogs = Hogs::start(load * cores);
            let mut seen = None;
            for block in [5, 10, 20, 50, 200] {
                let tally = run(&args, Some(block), &options, load);
                table::sweep_row(load, block, &tally);
                seen = seen.or_else(|| tally.sees(0.99).then_some(block));
            }
            smallest.push((load, seen));
        }
        println!();
        for (load, seen) in smallest {
            table::smallest(load, seen);
        }
    }
    options.record.iter().for_each(|path| record::thin_out(path));
    println!("\n{:.0} s in all, on {cores} cores", begun.elapsed().as_secs_f64());
}

/// Runs every trial, some at a time when the machine is loaded anyway.
fn run(args: &[String], block: Option<u64>, options: &Options, load: usize) -> Tally {
    let trials: Vec<Trial> = options.trials(block);
    let jobs = if load == 0 { 1 } else { options.jobs };
    let (next, tally) = (AtomicUsize::new(0), Mutex::new(Tally::default()));
    std::thread::scope(|scope| {
        for _ in 0..jobs {
            scope.spawn(|| {
                loop {
                    let nth = next.fetch_add(1, Ordering::Relaxed);
                    let Some(trial) = trials.get(nth) else { return };
                    let outcome: Outcome = process::run(args, options.record.as_deref(), block, nth)
                        .unwrap_or_else(|said| panic!("{trial}: {said}"));
                    let off = trial.is_clear() && (outcome.is_wrong(trial) || outcome.is_unsure(trial));
                    if options.verbose || off {
                        eprintln!("load {load}: {trial}: {outcome}");
                    }
                    tally.lock().expect("no trial panics").add(trial, &outcome);
                }
            });
        }
    });
    tally.into_inner().expect("no trial panics")
}

impl Options {
    /// Those of the sweep with blocks of so many milliseconds, or the mixed ones.
    fn trials(&self, block: Option<u64>) -> Vec<Trial> {
        match block {
            Some(block) => trial::sweep(self.sweep, Duration::from_millis(block), self.seed),
            None => trial::mixed(self.trials, self.seed, self.kind.as_deref(), self.record.is_some()),
        }
    }
}

fn options(args: &[String]) -> Options {
    let value = |name: &str| {
        let at = args.iter().position(|arg| arg == name)?;
        Some(args.get(at + 1).unwrap_or_else(|| panic!("{name} needs a value")).clone())
    };
    let number = |name: &str, default| value(name).map_or(default, |text| text.parse().expect("a number"));
    let loads = value("--loads").unwrap_or_else(|| "0,4,16".to_owned());
    Options {
        trials: number("--trials", 300),
        loads: loads.split(',').map(|load| load.parse().expect("hogs a core")).collect(),
        sweep: number("--sweep", 400),
        jobs: number("--jobs", 4),
        seed: number("--seed", 1) as u64,
        kind: value("--kind"),
        record: value("--record"),
        verbose: args.iter().any(|arg| arg == "--verbose"),
    }
}
