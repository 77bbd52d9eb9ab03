//! The thread that reads symbols: one, so that no binary is read twice, and apart from all that is measured, since the
//! first read of a large one takes a good part of a second of CPU time.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::time::Instant;

use super::source_line;
use crate::heartbeat::culprit::stack::StackCopies;
use crate::heartbeat::culprit::{Lines, NoLine};
use crate::heartbeat::lines::unwind::modules::Modules;

struct LineRequest {
    evidence: Vec<StackCopies>,
    until: Instant,
    answer: Box<dyn FnOnce(Lines) + Send>,
}

/// Has the line told that each points to. What is not read by `until` is answered with that; where there is no thread
/// to be had, `answer` is dropped.
pub(crate) fn find_lines(evidence: Vec<StackCopies>, until: Instant, answer: impl FnOnce(Lines) + Send + 'static) {
    static THREAD: OnceLock<Option<Sender<LineRequest>>> = OnceLock::new();
    if let Some(thread) = THREAD.get_or_init(start) {
        let _ = thread.send(LineRequest { evidence, until, answer: Box::new(answer) });
    }
}

fn start() -> Option<Sender<LineRequest>> {
    let (sender, requests) = channel::<LineRequest>();
    let thread = std::thread::Builder::new().name("deadbeat-symbols".to_owned());
    thread.spawn(move || requests.into_iter().for_each(LineRequest::serve)).ok().map(|_| sender)
}

impl LineRequest {
    /// Debug info that what reads it cannot stand costs this request its answer, and no other.
    fn serve(self) {
        let _ = catch_unwind(AssertUnwindSafe(|| {
            let modules = Modules::read();
            let line = |evidence: &StackCopies| match Instant::now() < self.until {
                true => source_line::of(evidence, &modules),
                false => Err(NoLine::NotInTime),
            };
            (self.answer)(self.evidence.iter().map(line).collect());
        }));
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_is_answered_in_order_and_what_is_not_read_in_time_is_said_to_be_that() {
        let ask = |until| {
            let (tell, told) = channel();
            find_lines(vec![StackCopies::default(); 2], until, move |lines| tell.send(lines).unwrap());
            told.recv().unwrap()
        };
        let now = Instant::now();
        assert_eq!(ask(now), [Err(NoLine::NotInTime), Err(NoLine::NotInTime)]);
        assert_eq!(ask(now + Duration::from_secs(60)), [Err(NoLine::NotOnStack), Err(NoLine::NotOnStack)]);
    }
}
