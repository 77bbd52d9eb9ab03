//! A kill for which no thread can be started: a task of the runtime looks at the group, and never blocks between looks.

use std::time::{Duration, Instant};

use tokio::runtime::Handle;

use super::batch::{Batch, OnDone};
use super::in_progress::Kill;
use super::kill_thread::begin_anywhere;
use crate::error::{KillError, KillErrorKind};

/// The longest time between two looks: no exit wakes a task.
const TASK_INTERVAL: Duration = Duration::from_millis(20);

/// Begins the kill in the current runtime. It goes on when the future that wanted it is dropped.
///
/// # Errors
///
/// [`KillErrorKind::NoRuntime`]: there is none, and nothing was signalled.
pub(super) fn begin(kill: Kill, on_done: OnDone) -> Result<(), KillError> {
    let pgid = kill.pgid();
    let runtime = Handle::try_current().map_err(|_| KillError::new(pgid, KillErrorKind::NoRuntime))?;
    tracing::warn!(pgid, "no thread can be started for a kill: a task of the runtime makes it");
    let mut kills = Batch::default();
    kills.add(kill, on_done);
    drop(runtime.spawn(KillTask(kills).run()));
    Ok(())
}

/// A kill that is not lost with its task: a runtime drops its tasks when it is shut down.
struct KillTask(Batch);

impl KillTask {
    async fn run(mut self) {
        loop {
            self.0.make_due();
            self.0.step();
            let Some(time) = self.0.until_due() else { return };
            wait(time.min(TASK_INTERVAL)).await;
        }
    }
}

impl Drop for KillTask {
    fn drop(&mut self) {
        std::mem::take(&mut self.0).into_kills().for_each(|(kill, on_done)| begin_anywhere(kill, on_done));
    }
}

/// In a runtime without a timer tokio's sleep panics. Where that ends the task, the kill is handed on; where it would
/// end the process, no timer is asked for.
async fn wait(time: Duration) {
    match cfg!(panic = "unwind") {
        true => tokio::time::sleep(time).await,
        false => turns(time).await,
    }
}

/// Gives way to all other tasks of the runtime, again and again, for this long. Needs no timer, and keeps a CPU busy.
async fn turns(time: Duration) {
    let begun = Instant::now();
    while begun.elapsed() < time {
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::{Builder, Runtime};
    use tokio::sync::oneshot;

    use super::*;
    use crate::group::{Backend, backend};
    use crate::kill::report::KillResult;
    use crate::kill::testing::{eventually, kill_of_no_group, start};
    use crate::kill::{KillPolicy, Outcome};

    const HOUR: Duration = Duration::from_secs(3600);

    fn runtime() -> Runtime {
        Builder::new_current_thread().enable_time().build().unwrap()
    }

    fn begin_in(runtime: &Runtime, kill: Kill) -> oneshot::Receiver<KillResult> {
        let (told, result) = oneshot::channel();
        let _entered = runtime.enter();
        begin(kill, Box::new(move |result| drop(told.send(result)))).unwrap();
        result
    }

    #[test]
    fn a_task_makes_the_kill_and_looks_more_often_than_it_was_told_to() {
        if backend() != Backend::Proc {
            return;
        }
        let (runtime, running) = (runtime(), start("fast-exit"));
        // An hour from the first look to the second would be the end of this test.
        let policy = KillPolicy::default().grace(HOUR).poll_interval(HOUR);
        let result = begin_in(&runtime, Kill::new(running.group(), &policy));
        assert_eq!(runtime.block_on(result).unwrap().unwrap().outcome, Outcome::Terminated);
    }

    #[test]
    fn a_runtime_that_ends_hands_on_what_its_tasks_have_not_finished() {
        let running = start("ignore-term");
        let policy = KillPolicy::default().grace(Duration::from_millis(100));
        let runtime = runtime();
        let mut result = begin_in(&runtime, Kill::new(running.group(), &policy));
        runtime.block_on(tokio::task::yield_now());
        assert!(result.try_recv().is_err(), "it ended within its grace");
        drop(runtime);
        result.blocking_recv().expect("it was lost").unwrap();
        eventually("the group is dead", || running.has_ended());
    }

    #[test]
    fn a_runtime_without_a_timer_loses_no_kill_either() {
        let running = start("ignore-term");
        let runtime = Builder::new_current_thread().build().unwrap();
        let policy = KillPolicy::default().grace(Duration::from_millis(100));
        let result = begin_in(&runtime, Kill::new(running.group(), &policy));
        assert_eq!(runtime.block_on(result).expect("it was lost").unwrap().outcome, Outcome::Killed);
    }

    #[test]
    fn without_a_runtime_nothing_is_begun() {
        let error = begin(kill_of_no_group(), Box::new(|_| unreachable!("it was begun"))).unwrap_err();
        assert_eq!(error.kind(), KillErrorKind::NoRuntime);
    }

    #[test]
    fn turns_take_their_time_and_leave_the_worker_to_others() {
        let runtime = Builder::new_current_thread().build().unwrap();
        let time = Duration::from_millis(20);
        let others = std::rc::Rc::new(std::cell::Cell::new(0));
        let local = tokio::task::LocalSet::new();
        let count = others.clone();
        local.spawn_local(async move {
            loop {
                count.set(count.get() + 1);
                tokio::task::yield_now().await;
            }
        });
        // A machine that gives this test no CPU leaves room for a few turns only; a single one each time is too few.
        for _ in 0..10 {
            let begun = Instant::now();
            local.block_on(&runtime, turns(time));
            assert!(begun.elapsed() >= time, "{:?}", begun.elapsed());
        }
        assert!(others.get() > 10, "{} turns", others.get());
    }
}
