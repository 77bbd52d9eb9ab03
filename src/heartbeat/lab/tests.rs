use std::error::Error;
use std::future::pending;
use std::io;

use super::*;
use crate::heartbeat::config::{ConfigError, Flavor, Heartbeat};
use crate::heartbeat::culprit::Culprit;
use crate::heartbeat::lab::thread::LabMessage;
use crate::heartbeat::pulse::{Pulse, RuntimeShutdown, Watched};

const MS: Duration = Duration::from_millis(1);

#[test]
fn a_report_has_less_time_than_the_documentation_promises() {
    let promised = crate::promised::time(include_str!("../lab.rs"), "is reported within {} more. What");
    assert!((promised / 2..promised).contains(&REPORT), "{REPORT:?}");
}

#[test]
fn a_flavor_is_called_by_its_name_and_how_many_workers_it_has() {
    assert_eq!(Flavor::CurrentThread.to_string(), "current_thread");
    assert_eq!(Flavor::MultiThread(3).to_string(), "multi_thread:3");
}

#[test]
fn what_hangs_is_said_to_be_the_code_or_the_drop_of_its_runtime() {
    let hung = |shutdown| {
        let pulse = Pulse { shutdown, ..Pulse::empty(Heartbeat::new()) };
        let said = LabError::Hung { pulse: Box::new(pulse) }.to_string();
        assert!(said.contains("  verdict  "), "the pulse comes with it: {said}");
        said.lines().next().unwrap().to_owned()
    };
    let shutdown = |cut_short, behind| Some(RuntimeShutdown { took: MS * 70, over: false, cut_short, behind });
    let code = "the code under watch was not over after ";
    for told in [hung(None), hung(shutdown(true, None))] {
        assert!(told.starts_with(code), "{told}");
    }
    let drop = "the code under watch was over, but dropping its runtime had not ended after 70.0ms";
    assert_eq!(hung(shutdown(false, None)), format!("{drop}; behind what, was not seen"));
    let running = Culprit::running_by_the_clocks();
    assert_eq!(hung(shutdown(false, Some(running.clone()))), format!("{drop}, behind a thread {running}"));
}

#[test]
fn a_panic_is_told_with_what_is_different_in_a_lab() {
    let said = LabError::Panicked(PanicPayload::new(Box::new("mine"))).to_string();
    let lines: Vec<_> = said.lines().collect();
    assert_eq!(lines[0], "the future under watch panicked: mine");
    assert!(lines[1].contains("`#[tokio::test]`") && lines[1].contains("order") && lines.len() == 2, "{said}");
}

/// What the docs of a lab say: with tokio's own interval both are put off until there is nothing else to poll.
#[test]
fn a_task_that_yields_is_polled_again_in_another_order_than_by_tokios_own_interval() {
    async fn order() -> Vec<u32> {
        let (sender, mut receiver) = tokio::sync::mpsc::unbounded_channel();
        for task in 0..3 {
            let sender = sender.clone();
            tokio::spawn(async move {
                for round in 0..2 {
                    sender.send(round * 10 + task).unwrap();
                    tokio::task::yield_now().await;
                }
            });
        }
        drop(sender);
        let mut order = Vec::new();
        while let Some(polled) = receiver.recv().await {
            order.push(polled);
        }
        order
    }
    let plain = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(order());
    let lab = Lab::new(Flavor::CurrentThread).run_root(order).unwrap().output;
    assert_eq!(lab, [0, 1, 2, 10, 11, 12], "each yields behind the others");
    assert_ne!(lab, plain, "then there is nothing to explain");
}

#[test]
fn an_error_that_has_a_cause_names_it() {
    let causes = [
        (LabError::Config(ConfigError::NoWorkers), Some("at least one worker")),
        (LabError::Runtime(io::Error::from(io::ErrorKind::OutOfMemory)), Some("out of memory")),
        (LabError::Panicked(PanicPayload::new(Box::new("mine"))), None),
        (LabError::Hung { pulse: Box::new(Pulse::empty(Heartbeat::new())) }, None),
    ];
    for (error, cause) in causes {
        let source = error.source().map(ToString::to_string);
        assert_eq!(source.is_some(), cause.is_some(), "{source:?}");
        if let (Some(source), Some(cause)) = (source, cause) {
            assert!(source.contains(cause) && error.to_string().contains(&source), "{error}");
        }
    }
}

#[test]
fn a_runtime_that_cannot_be_had_is_not_taken_for_a_panic() {
    let refused = beginning::<()>(Ok(LabMessage::NoRuntime(io::Error::from(io::ErrorKind::OutOfMemory))));
    assert!(matches!(refused, Err(LabError::Runtime(error)) if error.kind() == io::ErrorKind::OutOfMemory));
    let nothing = beginning::<()>(Err(RecvError));
    assert!(matches!(nothing, Err(LabError::Panicked(payload)) if payload.text().contains("ended early")));
}

#[test]
fn a_deadline_of_months_is_kept_and_one_beyond_all_clocks_is_as_good_as_none() {
    let began = Instant::now();
    let ends = |deadline| Lab::new(Flavor::CurrentThread).deadline(deadline).ends(began);
    let months = Duration::from_secs(17_000_000);
    assert_eq!(ends(months), began + months);
    assert!(ends(Duration::MAX) > began + months);
}

#[test]
fn the_labs_thread_judges_while_it_is_listened_to() {
    let began = Instant::now();
    let judged_by = |done| Lab::new(Flavor::CurrentThread).deadline(MS * 5).judged_by(began, began + MS * done).end();
    assert!(judged_by(5) >= began + ANSWER, "it was done in time");
    let due = judged_by(6);
    assert!(due > began + MS * 5 && due < reported_by(began + MS * 5).end(), "{:?}", due - began);
}

#[test]
fn a_report_is_due_after_the_deadline_and_within_a_second_of_it() {
    let deadline = Instant::now();
    let due = reported_by(deadline).end();
    assert!(due > deadline && due < deadline + Duration::from_secs(1));
}

#[test]
fn an_error_can_be_shared_between_threads() {
    fn is_shared<E: std::error::Error + Send + Sync + 'static>() {}
    is_shared::<LabError>();
}

#[test]
fn what_the_code_returns_comes_back_with_the_end_of_its_runtime_or_why_it_never_ran() {
    for flavor in [Flavor::CurrentThread, Flavor::MultiThread(2)] {
        let watched = Lab::new(flavor).run_root(|| async { 7 }).unwrap();
        assert_eq!(watched.output, 7, "{flavor}");
        let shutdown = watched.pulse.shutdown.unwrap();
        assert!(shutdown.over && !shutdown.cut_short, "{shutdown}");
    }
    let refused = Lab::new(Flavor::MultiThread(0)).run_root(|| async { 7 });
    assert!(matches!(refused, Err(LabError::Config(ConfigError::NoWorkers))));
}

/// On a machine that is hardly there it may say it too late even so, or in time though it does not judge yet.
#[test]
fn a_thread_that_is_late_because_it_judges_is_waited_for_and_no_other() {
    let shutdown_if_it = |judges: bool| {
        let runtime = WatchedRuntime::new(Flavor::MultiThread(1), Heartbeat::new());
        let state = runtime.begin_watch();
        let mut pulse = state.pulse(state.began.elapsed());
        if judges {
            runtime.close(&mut pulse, TimeBudget::of(Duration::ZERO));
        }
        let (report, messages) = channel();
        let deadline = Instant::now();
        std::thread::scope(|scope| {
            scope.spawn(move || {
                crate::group::pause(left(deadline + REPORT * 6 / 10));
                let _ = report.send(LabMessage::Finished(Box::new(Watched { output: None::<()>, pulse })));
                let _ = report.send(LabMessage::ShutDown(MS * 7));
            });
            let Err(LabError::Hung { pulse }) = (Waiting { runtime, state, messages, stop: None, deadline }).stop()
            else {
                panic!("it was over")
            };
            pulse.shutdown.map(|shutdown| shutdown.took)
        })
    };
    assert!((0..10).any(|_| shutdown_if_it(true) == Some(MS * 7)));
    assert!((0..10).any(|_| shutdown_if_it(false).is_none()));
}

/// What the lab's thread says of a future that was done so long before the deadline or after it, `late` after it.
fn said_late(late: Duration, done: impl FnOnce(Instant) -> Instant) -> Result<Watched<u8>, LabError> {
    let runtime = WatchedRuntime::new(Flavor::CurrentThread, Heartbeat::new());
    let state = runtime.begin_watch();
    let pulse = state.pulse(state.began.elapsed());
    let (report, messages) = channel();
    let deadline = Instant::now();
    let done = done(deadline);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            crate::group::pause(left(deadline + late));
            let finished = LabMessage::Finished(Box::new(Watched { output: Some(7), pulse }));
            for said in [LabMessage::Done(done), LabMessage::Judging, finished, LabMessage::ShutDown(MS)] {
                let _ = report.send(said);
            }
        });
        Waiting { runtime, state, messages, stop: None, deadline }.wait()
    })
}

/// On a machine that is hardly there it may be heard too late even so.
#[test]
fn a_future_that_was_done_in_time_is_not_hung_though_that_is_heard_after_the_deadline() {
    let in_time = || said_late(MS * 20, |deadline| deadline);
    assert!((0..10).any(|_| in_time().is_ok_and(|watched| watched.output == 7)));
    for _ in 0..3 {
        let late = said_late(MS * 20, |deadline| deadline + MS);
        assert!(matches!(late, Err(LabError::Hung { .. })), "it was not over at the deadline");
    }
}

#[test]
fn the_clock_stands_still_while_what_was_seen_is_judged() {
    let runtime = WatchedRuntime::new(Flavor::CurrentThread, Heartbeat::new());
    let state = runtime.begin_watch();
    let pulse = state.pulse(state.began.elapsed());
    let (report, messages) = channel();
    let done = Instant::now();
    // What is left for the shutdown when all is judged.
    let deadline = done + REPORT;
    let _ = (report.send(LabMessage::Done(done)), report.send(LabMessage::Judging));
    let watched = std::thread::scope(|scope| {
        scope.spawn(move || {
            // Longer than a report takes of what is hung.
            crate::group::pause(left(deadline + REPORT * 3 / 2));
            let _ = report.send(LabMessage::Finished(Box::new(Watched { output: Some(7), pulse })));
            let _ = report.send(LabMessage::ShutDown(MS));
        });
        Waiting { runtime, state, messages, stop: None, deadline }.wait().unwrap()
    });
    assert!(watched.pulse.shutdown.unwrap().over);
}

/// On a machine that is hardly there the thread may answer too late; then nothing is known of its runtime's end.
#[test]
fn code_that_merely_waits_is_dropped_at_the_deadline_so_its_shutdown_is_called_cut_short() {
    let lab = Lab::new(Flavor::CurrentThread).deadline(MS * 5);
    let cut_short = || {
        let Err(LabError::Hung { pulse }) = lab.run_root(pending::<()>) else { panic!("it was over") };
        pulse.shutdown.inspect(|shutdown| assert!(shutdown.cut_short, "{shutdown}"))
    };
    assert!((0..20).any(|_| cut_short().is_some_and(|shutdown| shutdown.over)));
}
