//! What was judged and what was said of it, a line of JSON each: recorded where real threads ran, replayed by the
//! tests.
//!
//! Times are nanoseconds, counted from the beginning of the stretch. The first row of a series of looks has all its
//! numbers. Each other has the time since the row before and then, in pairs, which column has changed and by how much.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::heartbeat::culprit::Culprit;
use crate::heartbeat::evidence::{
    CountersLook, MachineEffects, Observed, Published, TaskLook, WorkerNumbers, WorkersLook,
};
use crate::heartbeat::judge::busy_period::{BusyPeriod, PeriodJudgement};
use crate::heartbeat::reading::Reading;
use crate::heartbeat::stall::Stall;
use crate::heartbeat::stretch::{Origin, Split, Stretch};

/// One stretch, what was observed of it, and the stall that it was judged to be.
pub(crate) fn stretch_judged(
    stretch: &Stretch,
    seen: &Observed,
    began: Instant,
    budget: Duration,
    stall: Option<&Stall>,
) -> Value {
    let clock = Clock(stretch.from);
    json!({
        "budget": ns(budget),
        "began": clock.at(began),
        "stretch": clock.stretch(stretch),
        "machine": seen.machine.as_ref().map(machine),
        "tasks": rows(seen.tasks.iter().map(|look| clock.tasks(look))),
        "workers": rows(seen.workers.iter().map(|look| clock.workers(look))),
        "culprit": seen.culprit.as_ref().map(culprit),
        "stall": stall.map(said),
    })
}

/// One busy period of a worker, the looks at it, and what was found in it.
pub(crate) fn period_judged(period: &BusyPeriod, looks: &[CountersLook], budget: Duration) -> Value {
    let clock = Clock(period.from.at);
    let inside = looks.iter().filter(|look| look.at >= period.from.at && look.at <= period.to.at);
    let mut account = (0, 0, 0);
    json!({
        "budget": ns(budget),
        "period": [clock.reading(&period.from), clock.reading(&period.to)],
        "sleeps": period.sleeps,
        "indices": period.indices,
        "published": [published(&period.published[0]), published(&period.published[1])],
        "overbooked": ns(period.overbooked),
        "blind": period.blind,
        "looks": rows(inside.map(|look| clock.look(look, period, &mut account))),
        "found": clock.found(&period.judge(looks, budget)),
        "lost": period.lost_its_worker(looks).map(|reading| clock.reading(&reading)),
    })
}

/// Appends a line to the file that `DEADBEAT_RECORD` names, if it names one.
#[cfg(deadbeat_record)]
pub(crate) fn keep(judged: &Value) {
    use std::io::Write;

    let Some(path) = std::env::var_os("DEADBEAT_RECORD") else { return };
    let file = std::fs::File::options().append(true).create(true).open(path);
    // One write: other processes append to the same file.
    let written = file.and_then(|mut file| file.write_all(format!("{judged}\n").as_bytes()));
    written.expect("the record is written");
}

fn ns(time: Duration) -> i64 {
    time.as_nanos().try_into().expect("no watch takes centuries")
}

fn flag(is: bool) -> i64 {
    i64::from(is)
}

/// Tells moments by how long after this one they are.
struct Clock(Instant);

impl Clock {
    fn at(&self, at: Instant) -> i64 {
        at.checked_duration_since(self.0).map_or_else(|| -ns(self.0 - at), ns)
    }

    fn reading(&self, reading: &Reading) -> Value {
        json!([self.at(reading.at), reading.thread.0, ns(reading.on_cpu), reading.run_queue.map(ns)])
    }

    fn stretch(&self, stretch: &Stretch) -> Value {
        let Split { wall, on_cpu, run_queue } = stretch.split;
        let since = stretch.since.map(|since| [ns(since.on_cpu), ns(since.run_queue)]);
        json!({
            "thread": stretch.thread.0,
            "from": self.at(stretch.from),
            "to": self.at(stretch.to),
            "split": [Some(ns(wall)), Some(ns(on_cpu)), run_queue.map(ns)],
            "on_cpu_then": ns(stretch.on_cpu_then),
            "since": since,
            "one_poll": stretch.origin == Origin::Poll,
        })
    }

    fn tasks(&self, look: &TaskLook) -> Vec<i64> {
        let (alive, turns) = (look.alive.try_into().expect("few"), look.turns.try_into().expect("few"));
        vec![self.at(look.at), alive, ns(look.on_cpu), turns, flag(look.waiting)]
    }

    fn workers(&self, look: &WorkersLook) -> Vec<i64> {
        let numbers = look.workers.iter().flat_map(numbers_of);
        [self.at(look.at), flag(look.begins)].into_iter().chain(numbers).collect()
    }

    /// Of a thread that is not looked at, the last account there was is repeated.
    fn look(&self, look: &CountersLook, period: &BusyPeriod, last: &mut (i64, i64, i64)) -> Vec<i64> {
        let account = look.accounts.iter().find(|(thread, _)| *thread == period.thread()).map(|(_, account)| account);
        if let Some(account) = account {
            *last = (ns(account.on_cpu), ns(account.run_queue), account.turns.try_into().expect("few"));
        }
        let numbers = look.workers.iter().flat_map(numbers_of);
        let mine = [self.at(look.at), flag(account.is_some()), last.0, last.1, last.2];
        mine.into_iter().chain(numbers).collect()
    }

    fn found(&self, judgement: &PeriodJudgement) -> Value {
        match judgement {
            PeriodJudgement::Stalls(stretches) => {
                json!({ "stalls": stretches.iter().map(|stretch| self.stretch(stretch)).collect::<Vec<_>>() })
            }
            PeriodJudgement::Fair { longest } => json!({ "fair": ns(*longest) }),
            PeriodJudgement::Undecided(stretch) => json!({ "undecided": self.stretch(stretch) }),
            PeriodJudgement::HandedOver(stretch) => json!({ "handed_over": self.stretch(stretch) }),
        }
    }
}

fn numbers_of(worker: &WorkerNumbers) -> [i64; 2] {
    [worker.parks.try_into().expect("few"), ns(worker.busy)]
}

fn published(published: &Published) -> Value {
    let numbers = published.workers.iter().flat_map(numbers_of);
    json!(std::iter::once(flag(published.settled)).chain(numbers).collect::<Vec<i64>>())
}

fn machine(seen: &MachineEffects) -> Value {
    let looks = &seen.looks;
    json!({
        "stood_still": [ns(seen.stood_still), ns(seen.stood_still_at_most)],
        "control": ns(seen.control),
        "stolen": ns(seen.stolen),
        "asleep": seen.asleep.map(ns),
        "tracer": seen.tracer,
        "overlooked": seen.overlooked,
        "looks": [looks.all, looks.waiting],
        "for_memory": ns(looks.for_memory),
        "for_lock": [ns(looks.for_lock), ns(looks.before_lock)],
        "blocked": ns(looks.blocked),
        "traced": [looks.tracer.map(i64::from), Some(ns(looks.traced))],
        "yielded": ns(looks.yielded),
        "unseen": ns(looks.unseen),
    })
}

fn culprit(culprit: &Culprit) -> Value {
    json!([culprit.syscall, culprit.detail, culprit.samples, culprit.of])
}

fn said(stall: &Stall) -> Value {
    json!({
        "at": ns(stall.at),
        "wall": ns(stall.wall),
        "on_cpu": ns(stall.on_cpu),
        "run_queue": stall.run_queue.map(ns),
        "blocked": stall.blocked.map(ns),
        "culprit": stall.culprit.as_ref().map(culprit),
        "doubt": stall.doubt.as_ref().map(|doubt| format!("{doubt:?}")),
    })
}

fn rows(all: impl Iterator<Item = Vec<i64>>) -> Value {
    let mut before: Vec<i64> = Vec::new();
    let changes = all.map(|row| {
        if before.is_empty() {
            before.clone_from(&row);
            return row;
        }
        let changed = (1..row.len()).filter(|column| row[*column] != before[*column]);
        let pairs = changed.flat_map(|column| [column.try_into().expect("few"), row[column] - before[column]]);
        let changes = std::iter::once(row[0] - before[0]).chain(pairs).collect();
        before = row;
        changes
    });
    json!(changes.collect::<Vec<_>>())
}

#[cfg(test)]
mod tests;
