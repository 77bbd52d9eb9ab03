//! The table, with Wilson's 95 % intervals.

use crate::trial::{Outcome, SWEEP_BUDGET, Trial};

#[derive(Default)]
pub(crate) struct Tally {
    bad: usize,
    good: usize,
    caught: usize,
    alarms: usize,
    unsure_bad: usize,
    unsure_good: usize,
    class: usize,
    culprit: usize,
    /// Caught, and false alarms, of each rule.
    rules: [(usize, usize); 4],
}

impl Tally {
    pub(crate) fn add(&mut self, trial: &Trial, outcome: &Outcome) {
        let rules = outcome.rules;
        let alarms = [rules.wall, rules.cpu, rules.wall_minus_control, rules.mostly_cpu];
        if outcome.is_inconclusive() && !outcome.is_unsure(trial) {
            return;
        }
        let unsure = usize::from(outcome.is_unsure(trial));
        let wrong = usize::from(outcome.is_wrong(trial));
        if trial.is_bad() {
            self.bad += 1;
            self.unsure_bad += unsure;
            let caught = usize::from(!outcome.is_inconclusive() && wrong == 0);
            self.caught += caught;
            // Of those caught, as they are shown.
            self.class += caught * usize::from(outcome.right_class);
            self.culprit += caught * usize::from(outcome.right_culprit);
        } else {
            self.good += 1;
            self.alarms += wrong;
            self.unsure_good += unsure;
        }
        for ((caught, false_alarms), alarm) in self.rules.iter_mut().zip(alarms) {
            *(if trial.is_bad() { caught } else { false_alarms }) += usize::from(alarm);
        }
    }
}

impl Tally {
    /// Whether at least such a share of the blocks was seen.
    pub(crate) fn sees(&self, share: f64) -> bool {
        self.bad > 0 && self.caught as f64 >= share * self.bad as f64
    }
}

const NAMES: [&str; 4] = ["wall clock", "CPU time", "wall - control", "CPU >= 80 %"];

pub(crate) fn head() {
    println!("| hogs a core | rule | caught | false alarms | inconclusive | right class | right culprit |");
    println!("| --- | --- | --- | --- | --- | --- | --- |");
}

pub(crate) fn row(load: usize, tally: &Tally) {
    let unsure = tally.unsure_bad + tally.unsure_good;
    println!(
        "| {load} | **deadbeat** | {} | {} | {} | {} | {} |",
        share(tally.caught, tally.bad),
        share(tally.alarms, tally.good),
        share(unsure, tally.bad + tally.good),
        share(tally.class, tally.caught),
        share(tally.culprit, tally.caught),
    );
    for (name, (caught, alarms)) in NAMES.iter().zip(tally.rules) {
        println!("| {load} | {name} | {} | {} | | | |", share(caught, tally.bad), share(alarms, tally.good));
    }
}

pub(crate) fn sweep_head() {
    println!("| hogs a core | block | seen | inconclusive |");
    println!("| --- | --- | --- | --- |");
}

pub(crate) fn sweep_row(load: usize, block: u64, tally: &Tally) {
    let below = if block < SWEEP_BUDGET { " (below the budget)" } else { "" };
    println!(
        "| {load} | {block} ms{below} | {} | {} |",
        share(tally.caught, tally.bad),
        share(tally.unsure_bad, tally.bad)
    );
}

pub(crate) fn smallest(load: usize, block: Option<u64>) {
    let seen = block.map_or_else(|| "none of these".to_owned(), |block| format!("{block} ms"));
    println!("Smallest block seen in 99 % of trials, {load} hogs a core: {seen}\n");
}

/// `count of all`, and where the true share is with 95 % confidence (Wilson, 1927).
fn share(count: usize, all: usize) -> String {
    if all == 0 {
        return "-".to_owned();
    }
    let (z, n, p) = (1.96_f64, all as f64, count as f64 / all as f64);
    let centre = (p + z * z / (2.0 * n)) / (1.0 + z * z / n);
    let spread = z / (1.0 + z * z / n) * (p * (1.0 - p) / n + z * z / (4.0 * n * n)).sqrt();
    let percent = |share: f64| 100.0 * share.clamp(0.0, 1.0);
    format!("{count}/{all} ({:.1}–{:.1} %)", percent(centre - spread), percent(centre + spread))
}
