//! What a series of samples of one thread says: what it was in most, and for how long at most or at least.

use std::time::{Duration, Instant};

use crate::heartbeat::culprit::Culprit;
use crate::heartbeat::culprit::stack::StackCopies;
use crate::heartbeat::evidence::SampleCounts;
use crate::heartbeat::observer::sample::{Doing, Sample};
use crate::heartbeat::observer::yielded::yielded;
use crate::heartbeat::reading::booked;
use crate::heartbeat::stretch::Spent;

/// The majority among `samples`. Waiting for events counts only if it is nearly all there is to see: else it was the
/// runtime's own, right before the stall or after it. One lone look at a call that workers idle in may have been just
/// that, and names no culprit.
///
/// `waited`: whether the clocks say that it waited rather than computed, if they do. They are exact, and a thread that
/// has to wait for a CPU after its block looks as if it ran; so only looks that agree with them count.
pub(crate) fn majority<'a>(samples: impl Iterator<Item = &'a Sample>, waited: Option<bool>) -> Option<Culprit> {
    let agrees = |sample: &&Sample| waited.is_none_or(|waited| sample.is_running() != waited);
    let all: Vec<&Sample> = samples.filter(agrees).collect();
    let busy: Vec<&Sample> = all.iter().copied().filter(|sample| !sample.is_parked()).collect();
    let seen = if busy.len() <= all.len() / 8 { all } else { busy };
    let winner = most_frequent(seen.iter().copied(), |one, other| one.doing.same_call(&other.doing))?;
    let for_it: Vec<&Sample> = seen.iter().copied().filter(|sample| sample.doing.same_call(&winner.doing)).collect();
    let (syscall, detail) = match &winner.doing {
        Doing::Running => (None, None),
        Doing::Waiting { syscall, .. } => {
            let often =
                most_frequent(for_it.iter().filter_map(|sample| sample.doing.detail()), |one, other| one == other);
            (Some(syscall.clone()), often.map(str::to_owned))
        }
    };
    if for_it.len() == 1 && winner.may_idle() {
        return None;
    }
    let count = |samples: &[&Sample]| samples.len().try_into().unwrap_or(u32::MAX);
    let (samples, of) = (count(&for_it), count(&seen));
    let evidence = StackCopies::of(for_it.iter().filter_map(|sample| sample.stack.clone()));
    Some(Culprit::seen(syscall, detail, (samples, of), evidence))
}

/// Those of one thread, in order, that its clocks do not contradict: a thread that has to wait for a CPU looks as if it
/// ran, and on a busy machine that may take longer than its block.
pub(crate) fn credible(samples: &[Sample]) -> impl Iterator<Item = &Sample> {
    let waited = || {
        let (first, last) = (samples.first()?, samples.last()?);
        let (then, now) = (first.account?, last.account?);
        let on_cpu = now.on_cpu.checked_sub(then.on_cpu)?;
        let queued = now.run_queue.checked_sub(then.run_queue)?;
        // Blocked, or waiting for a CPU that it has not got yet.
        let off_cpu = (last.at - first.at).checked_sub(on_cpu + queued)?;
        Some(off_cpu > on_cpu + booked::BY_ANY_KERNEL)
    };
    let waited = waited().unwrap_or_default();
    samples.iter().filter(move |sample| !(waited && sample.is_running()))
}

/// A hanging thread is looked at thousands of times, in hardly more than one call.
pub(crate) fn most_frequent<T: Copy>(all: impl Iterator<Item = T>, same: impl Fn(T, T) -> bool) -> Option<T> {
    let mut counts: Vec<(T, usize)> = Vec::new();
    for one in all {
        match counts.iter_mut().find(|(other, _)| same(one, *other)) {
            Some((_, count)) => *count += 1,
            None => counts.push((one, 1)),
        }
    }
    counts.into_iter().max_by_key(|(_, count)| *count).map(|(one, _)| one)
}

/// Where the thread was in `samples`, which are all there are from `from` to `to`, and what it had spent `since`
/// before, and
/// `until` the end.
pub(crate) fn looks<'a>(
    samples: impl Iterator<Item = &'a Sample>,
    (from, to): (Instant, Instant),
    (since, until): (Option<Spent>, Option<Spent>),
) -> SampleCounts {
    let all: Vec<&Sample> = samples.collect();
    // A thread that is ready to run is blocked nowhere: a look at it says nothing of where it was blocked before or
    // after.
    let waiting: Vec<&Sample> = all.iter().copied().filter(|sample| !sample.is_running()).collect();
    let blocked = |since| waiting.iter().filter_map(|sample| sample.blocked(from, since)).max();
    let count = |samples: &[&Sample]| samples.len().try_into().unwrap_or(u32::MAX);
    SampleCounts {
        all: count(&all),
        waiting: count(&waiting),
        for_memory: time_in(&waiting, (from, to), Sample::waits_for_memory),
        for_lock: time_in(&waiting, (from, to), Sample::waits_for_lock),
        before_lock: Duration::ZERO,
        blocked: since.and_then(blocked).unwrap_or_default(),
        tracer: all.iter().find_map(|sample| sample.tracer()),
        traced: time_in(&all, (from, to), |sample| sample.tracer().is_some()),
        yielded: yielded(&all),
        unseen: unseen(&all, &waiting, (from, to), until),
    }
}

/// How long the thread may have waited so, at most: a look speaks for the time from the look before it to the one
/// after.
fn time_in(samples: &[&Sample], (from, to): (Instant, Instant), waits: fn(&Sample) -> bool) -> Duration {
    let mut time = Duration::ZERO;
    let (mut last, mut waited) = (from, false);
    for sample in samples {
        let waits = waits(sample);
        if waits || waited {
            time += sample.at - last;
        }
        (last, waited) = (sample.at, waits);
    }
    if waited { time + (to - last) } else { time }
}

/// SampleCounts come closer to each other than this as long as the observer is given a CPU.
const HELD_UP: Duration = Duration::from_millis(10);

/// How long the thread may have been blocked while the observer, held up itself, did not look. Where it was in one call
/// before and after, it is taken to have been there in between.
fn unseen(all: &[&Sample], waiting: &[&Sample], (from, to): (Instant, Instant), until: Option<Spent>) -> Duration {
    let (Some(first), Some(last)) = (waiting.first(), waiting.last()) else {
        return to - from;
    };
    let between = waiting.windows(2).filter(|pair| !pair[0].doing.same_call(&pair[1].doing));
    let spent =
        |sample: &Sample| sample.account.map(|account| Spent { on_cpu: account.on_cpu, run_queue: account.run_queue });
    let between = between.map(|pair| lost(pair[1].at - pair[0].at, spent(pair[0]), spent(pair[1])));
    // The first look comes when the thread is overdue, which is a small part of any stall.
    let before = Some(first.at - from).filter(|time| *time > (to - from) / 2);
    let after = lost(to - last.at, spent(last), until);
    let pause = HELD_UP.max(Duration::from_millis(u64::try_from(all.len() / 16).unwrap_or(u64::MAX)));
    let beside = between.filter(|time| *time > HELD_UP).chain(before).sum::<Duration>();
    (beside + if after > pause { after } else { Duration::ZERO }).min(to - from)
}

/// What a thread did not spend on a CPU or waiting for one, of a time at whose beginning and end that is known.
fn lost(time: Duration, then: Option<Spent>, now: Option<Spent>) -> Duration {
    let Some((then, now)) = then.zip(now) else { return time };
    let spent = now.on_cpu.saturating_sub(then.on_cpu) + now.run_queue.saturating_sub(then.run_queue);
    time.saturating_sub(spent)
}

#[cfg(test)]
mod tests;
