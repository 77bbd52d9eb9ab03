use super::*;
use crate::heartbeat::culprit::{C_LIBRARY, LOCK, LOCK_WITH_LIMIT, Line, NEW_THREAD, NoLine};
use crate::heartbeat::reading::thread::{Account, ThreadId};

fn sample(doing: Doing) -> Sample {
    Sample { doing, ..Sample::running(ThreadId(1), Instant::now()) }
}

fn waiting(syscall: &str, detail: Option<&str>) -> Sample {
    sample(Doing::Waiting { syscall: syscall.to_owned(), detail: detail.map(str::to_owned) })
}

#[test]
fn the_culprit_is_what_most_samples_say() {
    let samples = [waiting("futex", None), sample(Doing::Running), waiting("futex", None)];
    let culprit = majority(samples.iter(), None).unwrap();
    assert_eq!((culprit.syscall.as_deref(), culprit.samples, culprit.of), (Some("futex"), 2, 3));
}

#[test]
fn an_idle_worker_before_and_after_does_not_outvote_the_stall() {
    let samples = [waiting("epoll_wait", None), waiting("epoll_wait", None), waiting("wait4", Some("pid 7"))];
    assert_eq!(majority(samples.iter(), None).unwrap().to_string(), "waiting in wait4: pid 7 (1 of 1 samples)");
}

#[test]
fn who_waits_for_events_by_hand_is_seen_to() {
    let mut samples = vec![waiting("epoll_wait", None); 40];
    samples.push(sample(Doing::Running));
    assert_eq!(majority(samples.iter(), None).unwrap().syscall.as_deref(), Some("epoll_wait"));
}

#[test]
fn who_is_asleep_has_been_blocked_for_what_it_has_not_spent_on_a_cpu_or_waiting_for_one() {
    let (start, ms) = (Instant::now(), Duration::from_millis(1));
    let since = Spent { on_cpu: ms * 1000, run_queue: ms * 2000 };
    let slept = |at: u32, on_cpu: u32, queued: u32| {
        let account = Account { on_cpu: ms * (1000 + on_cpu), run_queue: ms * (2000 + queued), turns: 7 };
        Sample::asleep(ThreadId(1), start + ms * at, account)
    };
    let looks = |samples: &[Sample], since| looks(samples.iter(), (start, start + ms * 200), (since, None)).blocked;
    let blocked = |samples: &[Sample]| looks(samples, Some(since));
    assert_eq!(blocked(&[]), Duration::ZERO);
    assert_eq!(blocked(&[slept(100, 10, 20)]), ms * 70);
    assert_eq!(blocked(&[slept(50, 10, 20), slept(100, 10, 20), slept(160, 50, 90)]), ms * 70, "the most of them");
    assert_eq!(blocked(&[slept(20, 10, 20)]), Duration::ZERO, "some of it was before");
    // Ready to run, it may be waiting for a CPU, and nothing of that is booked yet.
    assert_eq!(blocked(&[Sample { doing: Doing::Running, ..slept(100, 10, 20) }]), Duration::ZERO);
    assert_eq!(blocked(&[Sample { account: None, ..slept(100, 10, 20) }]), Duration::ZERO);
    assert_eq!(looks(&[slept(100, 10, 20)], None), Duration::ZERO, "it was never read before");
}

#[test]
fn a_lock_of_the_c_library_is_a_wait_for_memory_and_any_other_is_not() {
    let samples = [
        waiting("futex", Some(C_LIBRARY)),
        waiting("mmap", None),
        waiting("clone3", Some(NEW_THREAD)),
        waiting("futex", Some("a lock")),
        sample(Doing::Running),
    ];
    let at = samples[0].at;
    let looks = looks(samples.iter().take(3), (at, samples[2].at), (None, None));
    assert_eq!((looks.all, looks.waiting, looks.for_memory), (3, 3, samples[2].at - at));
    let looks = super::looks(samples.iter().skip(3), (samples[3].at, samples[4].at), (None, None));
    assert_eq!((looks.all, looks.waiting, looks.for_memory), (2, 1, Duration::ZERO));
}

#[test]
fn a_look_at_a_wait_for_memory_speaks_for_the_time_from_the_look_before_to_the_next() {
    let (ms, from) = (Duration::from_millis(1), Instant::now());
    let for_memory = |seen: &[(u32, &str)]| {
        let sample = |(at, call): &(u32, &str)| Sample { at: from + ms * *at, ..waiting(call, None) };
        let samples: Vec<Sample> = seen.iter().map(sample).collect();
        looks(samples.iter(), (from, from + ms * 120), (None, None)).for_memory
    };
    assert_eq!(for_memory(&[(10, "flock"), (12, "mmap"), (13, "mmap"), (15, "flock"), (17, "flock")]), ms * 5);
    // SampleCounts are close to each other at first, so most of them say little of a long stall.
    assert_eq!(for_memory(&[(10, "mmap"), (11, "mmap"), (12, "mmap"), (14, "flock")]), ms * 14);
    assert_eq!(for_memory(&[(60, "mmap")]), ms * 120, "it was not seen elsewhere");
    // When in between it began, or was over, is not known.
    assert_eq!(for_memory(&[(1, "flock"), (100, "mmap")]), ms * 119);
    assert_eq!(for_memory(&[(1, "mmap"), (100, "flock")]), ms * 100);
    assert_eq!(for_memory(&[]), Duration::ZERO);
}

#[test]
fn a_look_at_a_runnable_thread_speaks_neither_for_a_wait_for_memory_nor_against_one() {
    let (ms, from) = (Duration::from_millis(1), Instant::now());
    let for_memory = |seen: &[(u32, Option<&str>)]| {
        let sample = |(at, call): &(u32, Option<&str>)| {
            let sample = call.map_or_else(|| sample(Doing::Running), |call| waiting(call, None));
            Sample { at: from + ms * *at, ..sample }
        };
        let samples: Vec<Sample> = seen.iter().map(sample).collect();
        looks(samples.iter(), (from, from + ms * 442), (None, None)).for_memory
    };
    // It got no CPU after its wait, and was in the next one when it was looked at again.
    let seen = [(15, Some("mprotect")), (60, None), (140, None), (300, Some("mprotect")), (400, None)];
    assert_eq!(for_memory(&seen), ms * 442);
    assert_eq!(for_memory(&[(15, Some("mprotect")), (60, None), (140, Some("flock"))]), ms * 140);
    assert_eq!(for_memory(&[(60, None), (140, None)]), Duration::ZERO);
}

#[test]
fn what_lies_between_two_looks_is_unseen_unless_they_show_one_call_or_it_was_spent_on_a_cpu_or_waiting_for_one() {
    let (ms, from) = (Duration::from_millis(1), Instant::now());
    let look = |at: u32, call, spent: u32| {
        let account = Account { on_cpu: ms * spent, run_queue: Duration::ZERO, turns: 7 };
        Sample { at: from + ms * at, account: Some(account), ..waiting(call, None) }
    };
    let unseen = |samples: &[Sample], spent: u32| {
        let until = Some(Spent { on_cpu: ms * spent, run_queue: Duration::ZERO });
        looks(samples.iter(), (from, from + ms * 120), (None, until)).unseen
    };
    assert_eq!(unseen(&[look(12, "futex", 0), look(115, "futex", 0)], 0), Duration::ZERO, "one call");
    assert_eq!(unseen(&[look(12, "mmap", 0), look(90, "futex", 0), look(115, "futex", 0)], 0), ms * 78);
    assert_eq!(unseen(&[look(12, "mmap", 0), look(90, "futex", 70), look(115, "futex", 70)], 70), Duration::ZERO);
    assert_eq!(unseen(&[look(12, "futex", 0)], 0), ms * 108, "until its end");
    assert_eq!(unseen(&[look(12, "futex", 0)], 100), Duration::ZERO, "it computed");
    assert_eq!(unseen(&[look(80, "futex", 0), look(115, "futex", 0)], 0), ms * 80, "from its beginning");
    assert_eq!(unseen(&[], 0), ms * 120);
}

#[test]
fn a_call_keeps_the_words_it_was_first_seen_with_while_the_thread_has_no_cpu() {
    let look = |call, detail, turns| {
        let account = Account { on_cpu: Duration::ZERO, run_queue: Duration::ZERO, turns };
        Sample { account: Some(account), ..waiting(call, Some(detail)) }
    };
    let before = look("read", "pipe:[7]", 3).call_seen().unwrap();
    let words = |mut sample: Sample| {
        sample.keeps_to(&before);
        sample.doing.detail().map(str::to_owned)
    };
    assert_eq!(words(look("read", "/another/file", 3)).as_deref(), Some("pipe:[7]"));
    assert_eq!(words(look("read", "/another/file", 4)).as_deref(), Some("/another/file"), "it may be another call");
    assert_eq!(words(look("write", "/another/file", 3)).as_deref(), Some("/another/file"));
    assert!(Sample { doing: Doing::Running, ..look("read", "", 3) }.call_seen().is_none());
}

#[test]
fn who_waited_for_a_cpu_after_its_block_did_not_compute() {
    let samples = [waiting("flock", None), sample(Doing::Running), sample(Doing::Running)];
    let culprit = |waited| Some(majority(samples.iter(), Some(waited))?.to_string());
    assert_eq!(culprit(true).as_deref(), Some("waiting in flock (1 of 1 samples)"));
    assert_eq!(culprit(false).as_deref(), Some("running: a computation or a spin (2 of 2 samples)"));
    assert!(majority(samples[1..].iter(), Some(true)).is_none(), "it was not seen to wait");
}

#[test]
fn who_waited_for_a_cpu_before_its_block_did_not_compute() {
    let (start, ms) = (Instant::now(), Duration::from_millis(1));
    let account = |on_cpu: u32, queued: u32| Account { on_cpu: ms * on_cpu, run_queue: ms * queued, turns: 7 };
    let runs = |at: u32, on_cpu, queued| Sample {
        account: Some(account(on_cpu, queued)),
        ..Sample::running(ThreadId(1), start + ms * at)
    };
    let sleeps = |at: u32, on_cpu, queued| Sample::asleep(ThreadId(1), start + ms * at, account(on_cpu, queued));
    let credible = |samples: &[Sample]| {
        let seen = credible(samples).map(Sample::is_running);
        seen.collect::<Vec<_>>()
    };
    // It got its CPU after 95 ms, and slept from then on.
    assert_eq!(credible(&[runs(0, 1, 0), runs(50, 1, 0), runs(90, 1, 0), sleeps(200, 2, 95)]), [false]);
    // It computed for as long.
    assert_eq!(credible(&[runs(0, 1, 0), runs(50, 50, 0), sleeps(200, 101, 0)]), [true, true, false]);
    // What it waits for a CPU since is not booked yet.
    assert_eq!(credible(&[sleeps(0, 0, 0), sleeps(20, 0, 0), runs(300, 0, 0)]), [false, false]);
    assert_eq!(credible(&[runs(0, 1, 0), runs(300, 1, 0)]), [false; 0], "it was not seen asleep");
    assert_eq!(credible(&[runs(0, 1, 0), runs(10, 1, 0)]), [true, true], "not booked yet");
    let untold = |sample| Sample { account: None, ..sample };
    assert_eq!(credible(&[untold(runs(0, 1, 0)), sleeps(200, 2, 95)]), [true, false]);
    assert_eq!(credible(&[runs(0, 1, 0), untold(sleeps(200, 2, 95))]), [true, false]);
    assert_eq!(credible(&[]), [false; 0]);
}

#[test]
fn one_look_at_what_workers_idle_in_names_nobody() {
    let seen = |syscall, times| majority(vec![waiting(syscall, None); times].iter(), Some(true)).is_some();
    for idle in ["epoll_wait", "futex"] {
        assert_eq!((seen(idle, 1), seen(idle, 2)), (false, true), "{idle}");
    }
    assert!(seen("wait4", 1), "no worker idles there");
}

#[test]
fn a_thread_is_idle_that_waits_for_events_or_with_a_limit_for_work() {
    let idle = [waiting("epoll_wait", None), waiting("futex", Some(LOCK_WITH_LIMIT))];
    assert!(idle.iter().all(Sample::is_idle));
    let busy = [waiting("futex", Some(LOCK)), waiting("flock", None), sample(Doing::Running)];
    assert!(!busy.iter().any(Sample::is_idle));
}

#[test]
fn what_an_eighth_of_the_looks_shows_beside_a_wait_for_events_is_the_runtimes_own() {
    let call = |busy, parked| {
        let mut samples = vec![waiting("wait4", None); busy];
        samples.extend(vec![waiting("epoll_wait", None); parked]);
        majority(samples.iter(), None).unwrap().syscall.unwrap()
    };
    assert_eq!([call(1, 7), call(2, 14), call(3, 22)], ["epoll_wait"; 3]);
    assert_eq!([call(1, 6), call(3, 13), call(3, 20)], ["wait4"; 3]);
}

#[test]
fn the_detail_is_what_most_of_its_looks_show() {
    for (details, most) in
        [(["pid 7", "pid 8", "pid 7", "pid 9"], "pid 7"), (["pid 7", "pid 8", "pid 8", "pid 9"], "pid 8")]
    {
        let samples = details.map(|detail| waiting("wait4", Some(detail)));
        assert_eq!(majority(samples.iter(), None).unwrap().detail.as_deref(), Some(most));
    }
}

#[test]
#[cfg(all(target_os = "linux", not(deadbeat_portable), feature = "backtrace"))]
fn a_culprits_stacks_are_those_of_its_own_looks_that_have_one() {
    use std::sync::Arc;

    use crate::heartbeat::culprit::stack::{Registers, Stack};

    let stack = |word: usize| Arc::new(Stack::new(Registers::of_wait(0, 0), vec![word]));
    let with_stack = |word, sample| Sample { stack: Some(stack(word)), ..sample };
    let samples = [
        with_stack(1, waiting("flock", None)),
        with_stack(2, sample(Doing::Running)),
        waiting("flock", None),
        with_stack(4, waiting("flock", None)),
    ];
    let mut culprit = majority(samples.iter(), None).unwrap();
    assert_eq!(culprit.evidence().stacks(), [stack(1), stack(4)]);
    culprit.is_at(Err(NoLine::NotInTime));
    assert!(culprit.evidence().is_empty(), "they have served");
}

#[test]
fn one_look_that_is_certain_says_it_all() {
    let culprit = waiting("flock", Some("/a/lock")).culprit();
    assert_eq!(culprit.to_string(), "waiting in flock: /a/lock (1 of 1 samples)");
    let culprit = sample(Doing::Running).culprit();
    assert_eq!(culprit.to_string(), "running: a computation or a spin (1 of 1 samples)");
}

#[test]
fn what_the_clocks_alone_say_claims_no_look() {
    let culprit = Culprit::running_by_the_clocks();
    assert_eq!(culprit.to_string(), "running: a computation or a spin");
    assert!(culprit.is_running());
    let culprit = Culprit { syscall: Some("flock".to_owned()), ..culprit };
    assert!(!culprit.is_running());
}

#[test]
fn a_line_is_said_to_be_a_guess_if_it_is_one_and_where_it_is_missing_why() {
    let said = |line| {
        let mut culprit = Culprit { syscall: Some("flock".to_owned()), ..Culprit::running_by_the_clocks() };
        culprit.is_at(line);
        (culprit.line.is_some(), culprit.to_string())
    };
    let line = |guessed| Ok(Line { text: "src/job.rs:7".to_owned(), guessed });
    assert_eq!(said(line(false)), (true, "waiting in flock, at src/job.rs:7".to_owned()));
    assert_eq!(said(line(true)), (true, "waiting in flock, probably at src/job.rs:7".to_owned()));
    assert_eq!(said(Err(NoLine::NotInTime)), (false, "waiting in flock; source line not read in time".to_owned()));
    for (why, what) in [
        (NoLine::NoDebugInfo, "line-tables-only"),
        (NoLine::Stripped, "stripped"),
        (NoLine::Replaced, "replaced"),
        (NoLine::NotOnStack, "no call"),
        (NoLine::NotCopied, "no copy"),
        (NoLine::Unreadable, "could not be read"),
    ] {
        assert!(said(Err(why)).1.contains(what), "{what}");
    }
}

#[test]
fn a_thread_that_runs_or_waits_for_memory_may_not_have_come_to_what_it_was_started_for() {
    let begins = [sample(Doing::Running), waiting("mprotect", None), waiting("futex", Some(C_LIBRARY))];
    assert!(begins.iter().all(Sample::begins));
    let has_come = [waiting("futex", Some("a lock")), waiting("epoll_wait", None)];
    assert!(!has_come.iter().any(Sample::begins));
}

#[test]
#[cfg(all(target_os = "linux", not(deadbeat_portable)))]
fn a_look_shows_the_call_and_a_deep_one_the_stack_where_its_line_can_be_told() {
    let (tell, told) = std::sync::mpsc::channel();
    let (stop, stopped) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        tell.send(ThreadId::here()).unwrap();
        stopped.recv().unwrap_err();
    });
    let (id, start) = (told.recv().unwrap(), Instant::now());
    // Until it has come to its wait.
    let look = |deep| loop {
        let sample = Sample::of(id, deep).unwrap();
        if sample.may_idle() {
            break sample;
        }
        assert!(start.elapsed() < Duration::from_secs(30), "{sample:?}");
        std::thread::yield_now();
    };
    assert!(look(false).stack.is_none());
    assert_eq!(look(true).stack.is_none(), !cfg!(feature = "backtrace"));
    drop(stop);
    thread.join().unwrap();
}

#[test]
fn no_samples_no_culprit() {
    assert!(majority([].iter(), None).is_none());
}
