//! Every case of the record is judged again and must be judged alike, field by field.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::*;
use crate::heartbeat::evidence::{SampleCounts, WorkerNumbers};
use crate::heartbeat::judge::judge;
use crate::heartbeat::reading::thread::{Account, ThreadId};
use crate::heartbeat::stretch::{Origin, Spent};

const RECORD: &str = include_str!("../../../../tests/heartbeat/judged.jsonl");

#[test]
fn what_was_judged_once_is_judged_alike_again() {
    let mut differ = Vec::new();
    for line in RECORD.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        let again = if case.get("period").is_some() { period_again(&case) } else { stretch_again(&case) };
        if again != case {
            differ.push(format!("judged  {case}\nnow     {again}"));
        }
    }
    assert!(differ.is_empty(), "{} of {} differ, first\n{}", differ.len(), RECORD.lines().count(), differ[0]);
}

/// A record in which nothing was ever found, or nothing was ever doubted, would hold no rule.
#[test]
fn the_record_has_cases_of_every_answer() {
    let count = |wanted: &str| RECORD.lines().filter(|line| line.contains(wanted)).count();
    for (answer, at_least) in [
        (r#""stall":null"#, 20),
        (r#""doubt":null"#, 150),
        (r#""doubt":""#, 20),
        (r#""found":{"stalls""#, 50),
        (r#""found":{"fair""#, 100),
        (r#""found":{"undecided""#, 3),
        (r#""found":{"handed_over""#, 3),
        (r#""lost":["#, 2),
    ] {
        assert!(count(answer) >= at_least, "{answer}: {}", count(answer));
    }
}

fn stretch_again(case: &Value) -> Value {
    let (clock, budget) = (Clock(base()), time(&case["budget"]));
    let began = clock.moment(&case["began"]);
    let stretch = clock.read_stretch(&case["stretch"]);
    let seen = Observed {
        culprit: maybe(&case["culprit"], read_culprit),
        machine: maybe(&case["machine"], read_machine),
        tasks: read_rows(&case["tasks"]).iter().map(|row| clock.read_tasks(row)).collect(),
        workers: read_rows(&case["workers"]).iter().map(|row| clock.read_workers(row)).collect(),
    };
    let stall = judge(&stretch, seen.clone(), began, budget);
    stretch_judged(&stretch, &seen, began, budget, stall.as_ref())
}

fn period_again(case: &Value) -> Value {
    let clock = Clock(base());
    let period = BusyPeriod {
        from: clock.read_reading(&case["period"][0]),
        to: clock.read_reading(&case["period"][1]),
        sleeps: case["sleeps"].as_u64().unwrap(),
        indices: case["indices"].as_u64().unwrap(),
        published: [read_published(&case["published"][0]), read_published(&case["published"][1])],
        overbooked: time(&case["overbooked"]),
        blind: case["blind"].as_bool().unwrap(),
    };
    let looks: Vec<CountersLook> =
        read_rows(&case["looks"]).iter().map(|row| clock.read_look(row, period.thread())).collect();
    period_judged(&period, &looks, time(&case["budget"]))
}

/// Late enough that what lies before it is a moment too, on a machine that was started just now.
fn base() -> Instant {
    Instant::now() + Duration::from_secs(24 * 60 * 60)
}

fn number(value: &Value) -> i64 {
    value.as_i64().unwrap()
}

fn nanos(number: i64) -> Duration {
    Duration::from_nanos(number.try_into().unwrap())
}

fn time(value: &Value) -> Duration {
    nanos(number(value))
}

fn maybe<T>(value: &Value, read: impl FnOnce(&Value) -> T) -> Option<T> {
    (!value.is_null()).then(|| read(value))
}

impl Clock {
    fn after(&self, ns: i64) -> Instant {
        if ns < 0 { self.0 - nanos(-ns) } else { self.0 + nanos(ns) }
    }

    fn moment(&self, value: &Value) -> Instant {
        self.after(number(value))
    }

    fn read_reading(&self, value: &Value) -> Reading {
        Reading {
            at: self.moment(&value[0]),
            thread: read_thread(&value[1]),
            on_cpu: time(&value[2]),
            run_queue: maybe(&value[3], time),
        }
    }

    fn read_stretch(&self, value: &Value) -> Stretch {
        let split = &value["split"];
        Stretch {
            thread: read_thread(&value["thread"]),
            from: self.moment(&value["from"]),
            to: self.moment(&value["to"]),
            split: Split { wall: time(&split[0]), on_cpu: time(&split[1]), run_queue: maybe(&split[2], time) },
            on_cpu_then: time(&value["on_cpu_then"]),
            since: maybe(&value["since"], |since| Spent { on_cpu: time(&since[0]), run_queue: time(&since[1]) }),
            origin: if value["one_poll"] == true { Origin::Poll } else { Origin::DriverTurns },
        }
    }

    fn read_tasks(&self, row: &[i64]) -> TaskLook {
        TaskLook {
            at: self.after(row[0]),
            alive: row[1].try_into().unwrap(),
            on_cpu: nanos(row[2]),
            turns: row[3].try_into().unwrap(),
            waiting: row[4] == 1,
        }
    }

    fn read_workers(&self, row: &[i64]) -> WorkersLook {
        WorkersLook { at: self.after(row[0]), workers: read_numbers(&row[2..]), begins: row[1] == 1 }
    }

    fn read_look(&self, row: &[i64], thread: ThreadId) -> CountersLook {
        let account = Account { on_cpu: nanos(row[2]), run_queue: nanos(row[3]), turns: row[4].try_into().unwrap() };
        let accounts = if row[1] == 1 { vec![(thread, account)] } else { Vec::new() };
        CountersLook { at: self.after(row[0]), workers: read_numbers(&row[5..]), accounts }
    }
}

fn read_thread(value: &Value) -> ThreadId {
    ThreadId(number(value).try_into().unwrap())
}

fn read_numbers(row: &[i64]) -> Vec<WorkerNumbers> {
    row.chunks(2).map(|worker| WorkerNumbers { parks: worker[0].try_into().unwrap(), busy: nanos(worker[1]) }).collect()
}

fn read_published(value: &Value) -> Published {
    let row: Vec<i64> = value.as_array().unwrap().iter().map(number).collect();
    Published { workers: read_numbers(&row[1..]), settled: row[0] == 1 }
}

fn read_machine(value: &Value) -> MachineEffects {
    let looks = SampleCounts {
        all: number(&value["looks"][0]).try_into().unwrap(),
        waiting: number(&value["looks"][1]).try_into().unwrap(),
        for_memory: time(&value["for_memory"]),
        for_lock: time(&value["for_lock"][0]),
        before_lock: time(&value["for_lock"][1]),
        blocked: time(&value["blocked"]),
        tracer: maybe(&value["traced"][0], |pid| number(pid).try_into().unwrap()),
        traced: time(&value["traced"][1]),
        yielded: time(&value["yielded"]),
        unseen: time(&value["unseen"]),
    };
    MachineEffects {
        stood_still: time(&value["stood_still"][0]),
        stood_still_at_most: time(&value["stood_still"][1]),
        control: time(&value["control"]),
        stolen: time(&value["stolen"]),
        asleep: maybe(&value["asleep"], time),
        tracer: maybe(&value["tracer"], |pid| number(pid).try_into().unwrap()),
        looks,
        overlooked: value["overlooked"].as_bool().unwrap(),
    }
}

fn read_culprit(value: &Value) -> Culprit {
    let text = |value: &Value| maybe(value, |text| text.as_str().unwrap().to_owned());
    let counts = [&value[2], &value[3]].map(|count| number(count).try_into().unwrap());
    Culprit::seen(text(&value[0]), text(&value[1]), (counts[0], counts[1]), Default::default())
}

fn read_rows(value: &Value) -> Vec<Vec<i64>> {
    let mut before: Vec<i64> = Vec::new();
    let row = |changes: &Value| {
        let changes: Vec<i64> = changes.as_array().unwrap().iter().map(number).collect();
        if before.is_empty() {
            before = changes;
        } else {
            before[0] += changes[0];
            changes[1..].chunks(2).for_each(|pair| before[usize::try_from(pair[0]).unwrap()] += pair[1]);
        }
        before.clone()
    };
    value.as_array().unwrap().iter().map(row).collect()
}
